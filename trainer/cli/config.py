"""Between the command line and the constructors: flags, resolvers, help, and the check of a configuration.

The constructors' signatures are the schema: a key that is no argument is unknown, and a value must be of the
argument's annotated type. This module does not import torch: ``--help`` imports it.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import functools
import inspect
import itertools
import os
import re
import shlex
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, is_dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from hydra._internal.utils import _locate, get_args_parser
from omegaconf import OmegaConf

from trainer.cli.begin import signals_wait
from trainer.cli.commands import COMMANDS
from trainer.cli.processes import other_process
from trainer.rundir import configuration, run_dir
from trainer.rundir.errors import Refused
from trainer.rundir.names import job_name, safe
from trainer.rundir.text import cut
from trainer.rundir.trust import CONF
from trainer.rundir.typed import typed_path

MISSING = "???"  # OmegaConf's mark of a value that must be given


# An example for each group on the help page; the choices are read from conf/.
EXAMPLES = {
    "data": "data=wine data.batch_size=64",
    "model": "model=mlp model.widths=[100]",
    "constraint": "constraint=linf constraint.radius=0.5",
    "optim": "optim=cgd optim.lr=1e-3",
    "schedule": "schedule=cosine",
    "objective": "objective=cross_entropy objective.l2=1e-4",
    "train": "train.epochs=10 train.precision=bf16",
    "logger": "logger=[pictures,tensorboard]",
    "sweep": "sweep.workers=4",
    "experiment": "experiment=digits_cnn_cgd",
}

HELP = """\
conga trains neural networks with gradient descent and with conditional gradients (stochastic Frank-Wolfe).

Usage: python -m trainer [GROUP=CHOICE | KEY=VALUE] ...

Groups, their choices, and an example of each:
{groups}

More examples:
  python -m trainer model=cnn optim=cgd                        train; the run goes to outputs/
  python -m trainer -m optim=sgd,cgd 'seed=range(0,3)'         one run for each combination
  python -m trainer resume outputs/2026-01-31/12-00-00_cnn_digits_cgd    go on after a stop
  python -m trainer model=cnn --cfg job                        print the configuration, train nothing

Sweeps (-m): hydra/sweeper=grid or optuna; hydra/launcher=workers, submitit_slurm, submitit_local or ray.
Flags: --hydra-help lists Hydra's own; conga -sc install=bash installs shell completion.

Commands, python -m trainer COMMAND --help:
{commands}
"""


def register_resolvers(made: list[str]) -> None:
    """Registers the resolvers of conf/config.yaml; directories that they make are added to `made`."""

    def new_run_dir(resume: str | None, place: str, *names: Any) -> str:
        if resume is None and other_process():
            return "."  # the first process makes the directory and sends its name to the others
        if resume is None:
            with signals_wait():  # else a signal could come between making and recording it
                path = "_".join([place, *(safe(str(name)) for name in names)])
                made.extend(run_dir.missing(Path(path).parent))
                made.append(run_dir.claim(path))
            return made[-1]
        if not (typed_path(str(resume)) / configuration.CONFIG).is_file():
            raise Refused(f"train.resume={resume}: must be the directory of a run, with {configuration.CONFIG} in it")
        return str(typed_path(str(resume)))

    # Cached: Hydra asks more than once, and each claim would be another directory.
    OmegaConf.register_new_resolver("run_dir", new_run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver(
        "job_dir", lambda n, text: job_name(n, text.split(",") if text else []), replace=True
    )
    OmegaConf.register_new_resolver("help", help_page, replace=True)


def help_page() -> str:
    """The text of ``--help``, its groups and choices read from conf/."""
    choices = {g.name: sorted(f.stem for f in g.glob("*.yaml")) for g in CONF.iterdir() if g.is_dir()}
    order = [*EXAMPLES, *sorted(choices.keys() - EXAMPLES.keys())]
    rows = [(g, ", ".join(choices[g]), EXAMPLES.get(g, f"{g}={choices[g][0]}")) for g in order if choices.get(g)]
    indent, lines = " " * 14, []
    for group, names, example in rows:
        wrapped = textwrap.fill(names, 100, initial_indent=f"  {group:<11} ", subsequent_indent=indent)
        lines += [wrapped, f"{indent}e.g. {example}"] if "\n" in wrapped else [f"{wrapped:<60} e.g. {example}"]
    commands = [f"  {name:<11} {command.line}" for name, command in COMMANDS.items()]
    return HELP.format(groups="\n".join(lines), commands="\n".join(commands)).replace(
        "$", "$$"
    )  # Hydra substitutes in it


class _Flags(argparse.ArgumentParser):
    """The parser of Hydra's flags; it raises Refused."""

    given: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        _refuse_flag(self.given, message)


def flags_first(arguments: list[str]) -> list[str]:
    """The command line with its flags before its overrides; argparse refuses flags between overrides.

    Raises:
        Refused: an unknown flag, or something that would harm a run.
    """
    for text in (*arguments, os.getcwd()):  # both are written to the run directory
        if any("\udc80" <= c <= "\udcff" for c in text):  # bytes that Python could not decode
            raise Refused(f"{text}: {_undecoded(text)}")
    parser = _Flags(parents=[get_args_parser()], add_help=False)
    parser.given = arguments
    parsed = parser.parse_intermixed_args(arguments)
    if parsed.experimental_rerun is not None:
        raise Refused("--experimental-rerun: would unpickle a file; use resume RUN_DIR")
    flags = list(arguments)
    for override in parsed.overrides:
        flags.remove(override)
        key, _, value = override.lstrip("+").partition("=")
        if key == "hydra.output_subdir":
            raise Refused(f"{override}: Hydra would overwrite a frozen configuration; the run writes .hydra itself")
        if key == "hydra.run.dir" and not value:
            raise Refused(f"{override}: must be a directory; . is this one")
        if key == "train.resume" and parsed.multirun:
            raise Refused(f"{override}: resumes one run; leave out -m")
    # ~ in a flag that names a folder, such as --config-dir=~/own.
    flags = [re.sub(r"^(--[\w-]+=)?(~.*)", lambda m: f"{m[1] or ''}{typed_path(m[2])}", flag) for flag in flags]
    return [*flags, *parsed.overrides]


def _undecoded(text: str) -> str:
    """The line about a name whose bytes this process could not decode."""
    try:
        name = os.fsencode(text).decode()
    except UnicodeDecodeError:
        return "this name is not UTF-8, and no configuration can hold it; rename the file or folder"
    return f"to read the name {name}, set PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8"


def only_answers(arguments: list[str]) -> bool:
    """Whether a command line only prints something, as with --help or --cfg job."""
    asked = get_args_parser().parse_intermixed_args(arguments)
    flags = (asked.help, asked.hydra_help, asked.cfg, asked.info, asked.shell_completion)
    return any(flags)


def _refuse_flag(arguments: Sequence[str], message: str) -> NoReturn:
    """Raises Refused about an unknown flag; suggests KEY=VALUE if it is a key of a group."""
    of_all_data = OmegaConf.load(CONF / "config.yaml").data
    for word, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        flag, _, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        for group in EXAMPLES if flag.startswith("--") and flag in message else ():
            files = (file.read_text() for file in (CONF / group).glob("*.yaml"))
            if any(re.search(rf"^{re.escape(name)}:", text, re.MULTILINE) for text in files) or (
                group == "data" and name in of_all_data
            ):
                raise Refused(f"{word}: no such flag; write {shlex.quote(f'{group}.{name}={value or following}')}")
    raise Refused(f"{message}; --hydra-help lists the flags")


def check_config(config: Mapping[str, Any], root: Callable[..., Any], given: Mapping[str, Sequence[str]]) -> None:
    """Checks every key and type of `config` against the signatures that will be called with it.

    Args:
        config: plain dicts, interpolations resolved.
        root: the function whose arguments are the root's keys.
        given: group -> names of arguments that the runner adds.

    Raises:
        Refused: the first key that is unknown or missing, or whose value has the wrong type.
    """
    check_call("", config, root, given[""])
    for group, node in config.items():
        if isinstance(node, Mapping):
            check_node(group, node, given.get(group, ()))


def check_node(key: str, node: Mapping[str, Any], given: Sequence[str]) -> None:
    """Checks one group, as :func:`check_config` does.

    Raises:
        Refused: the first key that is unknown or missing, or whose value has the wrong type.
    """
    if "_target_" not in node:
        for name, child in node.items():
            if not isinstance(child, Mapping):
                raise Refused(unknown_key(f"{key}.{name}", child, [k for k in node if k != name]))
            check_node(f"{key}.{name}", child, given)
    elif node["_target_"] is not None:
        if not isinstance(node["_target_"], str):
            raise Refused(f"{key}._target_={show(node['_target_'])}: must be the name of a class or a function")
        try:
            target = _locate(node["_target_"])  # get_object logs what it raises, in several lines
        except Exception as error:  # Hydra wraps whatever the import raises
            line, module = " ".join(str(error).split()), node["_target_"].partition(".")[0]
            line = line.replace(node["_target_"], show(node["_target_"]))
            if getattr(error.__cause__, "name", None) == module:
                line = f"cannot import {module}; looked in {Path.cwd()}; start where it is, or set PYTHONPATH"
            raise Refused(f"{key}._target_={show(node['_target_'])}: {line}") from error
        if not callable(target):
            raise Refused(f"{key}._target_={node['_target_']}: must be a class or a function")
        check_call(key, {k: v for k, v in node.items() if k != "_target_"}, target, given)
    elif len(node) > 1:
        unknown = next(k for k in node if k != "_target_")
        raise Refused(unknown_key(f"{key}.{unknown}", node[unknown], ()))


def check_call(key: str, values: Mapping[str, Any], target: Callable[..., Any], given: Sequence[str]) -> None:
    """Checks that `target` can be called with `values` beside the arguments `given`, and their types.

    Raises:
        Refused: naming `key`.NAME and the value.
    """
    prefix = f"{key}." if key else ""
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # a built-in without a signature
        return
    named = [n for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    own = [name for name in named if name not in given]
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    hints = argument_types(target)
    for name, value in values.items():
        if name in given or (name not in own and not takes_any):
            raise Refused(unknown_key(f"{prefix}{name}", value, own))
        hint = hints.get(name, Any)
        if value == MISSING:
            continue
        if not conforms(value, hint):
            raise Refused(f"{prefix}{name}={show(value)}: must be {describe(hint)}")
        if inspect.isclass(hint) and is_dataclass(hint):
            check_call(f"{prefix}{name}", value, hint, ())
    for name in own:
        given_value = values.get(name, parameters[name].default)
        if given_value is inspect.Parameter.empty or given_value == MISSING:
            raise Refused(f"{prefix}{name}: missing; must be {describe(hints.get(name, Any))}")


def argument_types(target: Callable[..., Any]) -> dict[str, Any]:
    """The annotated types of the arguments of a function or class, except those that cannot be resolved."""
    while isinstance(target, functools.partial):
        target = target.func
    written = []  # (annotations, where their names are looked up)
    if inspect.isclass(target):
        for base in reversed(target.__mro__) if is_dataclass(target) else ():  # fields may come from other modules
            written.append((vars(base).get("__annotations__", {}), vars(sys.modules[base.__module__])))
        called = inspect.unwrap(target.__new__ if target.__init__ is object.__init__ else target.__init__)
    else:
        called = inspect.unwrap(target if inspect.isroutine(target) else type(target).__call__)
    written.append((getattr(called, "__annotations__", {}), getattr(called, "__globals__", {})))
    hints = {}
    for texts, names in written:
        for name, annotation in texts.items():
            # Evaluating an annotation can raise anything, mostly for names imported under TYPE_CHECKING: not checked.
            with contextlib.suppress(Exception):
                one = types.SimpleNamespace(__annotations__={name: annotation})
                hint = get_type_hints(one, globalns=names)[name]
                hints[name] = hint.type if isinstance(hint, InitVar) else hint
    return hints


def conforms(value: Any, hint: Any) -> bool:
    """Whether a value from YAML (null, bool, number, text, list, mapping) is of the annotated type."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is None or hint is type(None):
        return value is None
    if origin in (Union, types.UnionType):
        return any(conforms(value, a) for a in args)
    if origin is Literal:
        return any(type(value) is type(a) and value == a for a in args)
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        number = isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
        return number and value == value  # not NaN
    if hint is str:
        return isinstance(value, str)
    if origin in (list, tuple, Sequence) or hint in (list, tuple):
        return isinstance(value, list) and all(conforms(v, args[0]) for v in value if args)
    if origin in (dict, Mapping) or hint is dict or is_dataclass(hint):
        return isinstance(value, Mapping)
    return True  # YAML cannot write other types


def describe(hint: Any) -> str:
    """The annotated type in a user's words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(a) for a in args)
    if origin is Literal:
        return ("one of " if len(args) > 1 else "") + ", ".join(map(str, args))
    if origin in (list, tuple, Sequence):
        plural = {int: "whole numbers such as [1,2]", float: "numbers such as [1,2]", str: "texts such as [a,b]"}
        return f"a list of {plural.get(args[0], 'values')}" if args else "a list"
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        dict: "a mapping",
        list: "a list",
    }
    if hint is None or hint is type(None):
        return "null"
    if is_dataclass(hint):
        return "a mapping"
    return names.get(hint, names.get(origin, str(hint)))


def show(value: Any) -> str:
    """A value as typed on the command line; a long one is cut."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return cut(str(value))


def unknown_key(key: str, value: Any, known: Iterable[str], deeper: Iterable[str] = ()) -> str:
    """The line about a key that does not exist.

    Args:
        known: the keys at the same level.
        deeper: keys of groups, for a key that was typed without its group.
    """
    group, _, name = key.rpartition(".")
    names = [k for k in known if not k.startswith("_")]
    near = [f"{group}.{k}" if group else k for k in difflib.get_close_matches(name, names, n=1)]
    near += [k for k in deeper if k.rpartition(".")[2] == name]
    listed = f"{group or 'the configuration'} has {', '.join(names)}" if names else f"{group} here has no keys"
    if group == "constraint" and not names:
        listed = "constraint is none; choose one, e.g. constraint=linf"
    return f"{key}={show(value)}: unknown key; " + (f"did you mean {near[0]}? " if near else "") + listed
