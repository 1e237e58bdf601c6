"""One line about a mistake on the command line, in YAML, or with a file.

This module does not import torch: ``--help`` imports it.
"""

from __future__ import annotations

import difflib
import errno
import inspect
import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import _locate as locate
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from trainer.cli.signatures import show, unknown_key
from trainer.rundir import configuration
from trainer.rundir.errors import Refused, one_line
from trainer.rundir.text import LONGEST, cut, printable
from trainer.rundir.trust import CONF
from trainer.rundir.typed import argument, quoted

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of a disk
TRIED = 30  # overrides that are composed one by one to find the wrong one
ELSEWHERE = "choose a writable place for the run: hydra.run.dir=DIR"


def explain(error: BaseException, overrides: Sequence[str], otherwise: str | None = None) -> str | None:
    """One line for a person's mistake, or None if the error is not one.

    Args:
        overrides: the words of the command line.
        otherwise: the line for an unknown kind of error, if only a mistake can be its cause.
    """
    line = _line(error, overrides)
    if line is None and otherwise is not None:
        line = _accused(otherwise, overrides)
    for override in overrides:
        value = override.partition("=")[2]
        line = line and line.replace(value, cut(value)) if len(value) > LONGEST else line
    line = line and re.sub(rf"[^\s/]{{{2 * LONGEST},}}", lambda word: cut(word[0]), line)  # from a resolved reference
    return line and "\n  ".join(map(printable, line.split("\n  ")))  # lines of jobs; those in values are escaped


def _line(error: BaseException, overrides: Sequence[str]) -> str | None:
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, Refused):
            return _say_where_from(str(cause), overrides)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        options = error.options or sorted(f.stem for f in (CONF / group).glob("*.yaml"))  # none for one of a list
        if group and options:
            near = difflib.get_close_matches(choice, options, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            return f"{group}={choice}: no such choice; {hint}{group} can be {', '.join(options)}"
    if isinstance(error, MissingConfigException):
        return _accused(one_line(error).partition("'. Check that")[0] + "'", overrides)
    if "Config group override must be" in str(error):  # a null or a number; Hydra does not name the group
        for override in overrides:
            key, _, value = override.lstrip("+~").partition("=")
            if (CONF / key).is_dir() and not (CONF / key / f"{value}.yaml").exists():
                return _say_choices(override)
    if isinstance(error, OverrideParseException):
        return _say_how_to_quote(error.override, str(error))
    if several := re.search(r"Ambiguous value for argument '(.*)'$", str(error), re.MULTILINE):
        return _say_several(several[1])
    if isinstance(error, ConfigCompositionException) and any(o.startswith("train.resume=") for o in overrides):
        for override in overrides:  # compared with the defaults, a key of the run's choices may look unknown
            key = override.lstrip("+~").partition("=")[0]
            if key not in ("train.resume", *configuration.RESUMABLE) and not key.startswith("hydra"):
                return configuration.not_resumable(override)
    if isinstance(error, ConfigCompositionException):
        for cause in chain:
            if isinstance(cause, ConfigAttributeError | ConfigKeyError) and OmegaConf.is_dict(cause.parent_node):
                return _explain_key(cause, overrides)
    for cause in chain:
        if isinstance(cause, OSError):
            return explain_os_error(cause)
    if "Could not override 'experiment/tuned'" in str(error):
        return "experiment/tuned: belongs to experiment=fashion_sfw; name both"
    if isinstance(error, OmegaConfBaseException):
        return _accused(f"{error.full_key}: {one_line(error)}" if error.full_key else one_line(error), overrides)
    if isinstance(error, HydraException):
        return _accused(" ".join(str(error).partition(" : Override(")[0].split()), overrides)
    return None


def _accused(line: str, overrides: Sequence[str]) -> str:
    """The line, with the wrong override in front unless it names one."""
    typed = [override for override in overrides if not override.startswith("-")]
    own = next((f for f in overrides if re.match("--config-(name|dir|path)|-c[ndp]", f)), None)
    if own is not None:
        return f"{cut(own)}: {line}"
    if any(re.search(rf"(?<![\w.]){re.escape(_key(override))}(?![\w.])", line) for override in typed):
        return line
    at_fault = [override for override in typed[:TRIED] if not _composes(override)][:1]
    if at_fault and (CONF / _key(at_fault[0])).is_dir():  # Hydra's message is about its internals
        return _say_choices(at_fault[0])
    of_hydra = [override for override in typed if _key(override).startswith("hydra")]  # seen when it is used
    names = ", ".join(map(cut, (at_fault or of_hydra or typed)[:3])) or "the configuration"
    return f"{names}: {line}"


def _say_choices(override: str) -> str:
    """The line about an override whose value is no choice of its group."""
    choices = sorted(file.stem for file in (CONF / _key(override)).glob("*.yaml"))
    return f"{cut(override)}: must be one of {', '.join(choices)}"


def _composes(override: str) -> bool:
    """Whether the defaults can be composed with an override alone."""
    try:
        loader = ConfigLoaderImpl(create_config_search_path(str(CONF)))
        config = loader.load_configuration("config", [override], RunMode.MULTIRUN)
        with open_dict(config):
            del config["hydra"]  # to resolve it would make a directory
        OmegaConf.to_container(config, resolve=True)
    except Exception:  # any error of Hydra or OmegaConf
        return False
    return True


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def _say_how_to_quote(override: str, why: str) -> str:
    """The line about an override that Hydra cannot parse, with what to type in a shell."""
    key, equal, value = override.partition("=")
    if not equal:
        return f"{override or repr(override)}: must be KEY=VALUE"
    of_function = re.search(r"while evaluating .*?: (.*)", why)
    line = f"{override}: cannot be parsed as KEY=VALUE" + (f" ({of_function[1]})" if of_function else "")
    if not _parses(key, quoted(value)):  # the key is at fault
        return f"{line}; {key} is not the name of a key"
    items = re.fullmatch(r"\[([^\[\]{}'\"]*)\]", value) or re.fullmatch(r"([^\[\]{}'\"]*,[^\[\]{}'\"]*)", value)
    if items:
        typed = [item.strip() for item in items[1].split(",")]
        as_list = ",".join(item if item and _parses(key, item) else quoted(item) for item in typed)
        as_list = shlex.quote(f"{key}=[{as_list}]")
        return f"{line}; write {as_list} for a list, {argument(key, value)} for a text"
    return f"{line}; if it is a text, write {argument(key, value)}"


def _parses(key: str, value: str) -> bool:
    """Whether Hydra can parse KEY=VALUE."""
    try:
        OverridesParser.create().parse_override(f"{key}={value}")
    except HydraException:
        return False
    return True


def _say_several(override: str) -> str:
    """The line about commas in the value of a single run."""
    key, _, value = override.partition("=")
    as_list, as_text = shlex.quote(f"{key}=[{value}]"), argument(key, value)
    if re.fullmatch(r"[+-]?\d+,\d+", value):
        point = f"{key}={value.replace(',', '.')}"
        return (
            f"{override}: {value} means two values; write {point}, {as_list} for a list, or add -m to try each of them"
        )
    return (
        f"{override}: several values; add -m to try each of them, or write {as_list} for a list, {as_text} for a text"
    )


def _say_where_from(text: str, overrides: Sequence[str]) -> str:
    """Adds to lines about unknown keys that were not typed: which experiment sets them, and how to leave them out."""
    experiment = next((o for o in overrides if o.startswith("experiment=")), None)
    if experiment is None:
        return text
    typed = [key for key in (o.lstrip("+~").partition("=")[0] for o in overrides) if not (CONF / key).is_dir()]

    def longer(line: re.Match[str]) -> str:
        if any(f"{line[1]}.".startswith((f"{key}.", f"{key}[")) for key in typed):
            return line[0]
        return f"{line[0]}; {experiment} sets it, and '~{line[1]}' leaves it out"

    return re.sub(r"([\w.\[\]]+)=.*: unknown key; .*", longer, text)


def explain_os_error(error: OSError) -> str:
    """The line about a file that the system cannot read or write."""
    text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if error.errno in FULL:
        return f"{text}; files written before are whole; free some space"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
        return f"{text}; {ELSEWHERE}"
    return text


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes; OmegaConf keeps a cause as the context."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (error.__context__ if isinstance(error, OmegaConfBaseException) else None)


def _explain_key(error: OmegaConfBaseException, overrides: Sequence[str]) -> str:
    key = error.full_key or ""
    given = next((o for o in overrides if re.split("=", o.lstrip("+~"), maxsplit=1)[0] == key), None)
    value = given.partition("=")[2] if given else "…"
    options = _options(error.parent_node.get("_target_"))
    name = key.rpartition(".")[2]
    if name in options:
        return _not_listed(key, value, options[name], overrides)
    known = [k for k in map(str, error.parent_node) if k not in ("hydra", "_target_")] or list(options)
    deeper = [f"{k}.{name}" for k in known for name in _names(error.parent_node, k)] if "." not in key else []
    return unknown_key(key, value, known, deeper)


def _options(target: object) -> dict[str, object]:
    """The arguments of a class that have a default, with it; none of a class that cannot be imported."""
    try:
        arguments = inspect.signature(locate(str(target))).parameters.values()
    except Exception:  # whatever the import raises: such a class is refused elsewhere
        return {}
    return {argument.name: argument.default for argument in arguments if argument.default is not argument.empty}


def _not_listed(key: str, value: str, default: object, overrides: Sequence[str]) -> str:
    """The line about an argument of a class that the YAML of its choice does not list."""
    group, _, name = key.rpartition(".")
    choice = next((o.partition("=")[2] for o in overrides if o.partition("=")[0] == group), None)
    folders = [o.partition("=")[2] for o in overrides if o.startswith("--config-dir=")]
    folders += [after for o, after in itertools.pairwise(overrides) if o in ("--config-dir", "-cd")]
    files = [f"{folder}/{group}/{choice}.yaml" for folder in (*folders, "conf")]
    file = next((file for file in files if Path(file).is_file()), files[-1]) if choice else f"the YAML of {group}"
    line = f"`{name}: {show(default)}`"
    return f"{key}={value}: {file} does not list it; write +{key}={value}, or add the line {line} there"


def _names(node: DictConfig, key: str) -> list[str]:
    """The keys below a key that has any."""
    child = OmegaConf.select(node, key, throw_on_resolution_failure=False)
    return list(map(str, child)) if OmegaConf.is_dict(child) else []
