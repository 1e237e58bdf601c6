"""What ``--help`` prints: all groups and choices, or the keys of those that were typed.

This module does not import torch.
"""

from __future__ import annotations

import itertools
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_origin

from omegaconf import DictConfig

from trainer.cli import source
from trainer.cli.commands import COMMANDS
from trainer.cli.composing import plain
from trainer.cli.signatures import BESIDE, MISSING, describe, show
from trainer.cli.source import Argument
from trainer.rundir.stored import parse_yaml
from trainer.rundir.trust import CONF

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
  python -m trainer resume outputs/2026-01-31/12-00-00_cnn_digits_cgd    resume after a stop
  python -m trainer model=cnn --cfg job                        print the configuration, train nothing
  python -m trainer optim=sfw --help                           the keys of a choice: types, ranges, meaning

Sweeps (-m): hydra/sweeper=grid or optuna; hydra/launcher=workers, submitit_slurm, submitit_local or ray.
Flags: --hydra-help lists Hydra's own; conga -sc install=bash installs shell completion.

Commands, python -m trainer COMMAND --help:
{commands}
"""


Row = tuple[str, str]  # a key and its meaning, or no key and a text

NOTHING = Argument(Any, "", "", None)  # is known of an argument
WIDEST = 120  # columns of a page of keys,
WIDEST_KEY = 32  # of a key beside its text,
LONGEST_VALUE = 40  # and of a value


def help_page(*, _root_: DictConfig) -> str:
    """The text of ``--help``: of the keys of the groups that were typed, else of all groups and choices.

    Args:
        _root_: the composed configuration, which OmegaConf gives.
    """
    if "hydra" not in _root_:  # somebody wrote ${help:} into a value
        return HELP
    text = keys_page(_root_) or groups_page(folders_of(_root_))
    return text.replace("$", "$$")  # Hydra substitutes in it


def keys_page(config: DictConfig) -> str:
    """The keys of the groups that the command line names, and of those that these change; empty if it names none."""
    runtime, width = config.hydra.runtime, min(shutil.get_terminal_size().columns, WIDEST)
    folders = folders_of(config)
    words = [re.split(r"[=.@/]", word.lstrip("+~"))[0] for word in config.hydra.overrides.task]
    named = [word for word in dict.fromkeys(words) if word in EXAMPLES]
    if not named:
        return ""
    choices = {group: runtime.choices.get(group) for group in EXAMPLES if group in config}
    usual = usual_choices()
    changed = [group for group, choice in choices.items() if choice not in (None, usual.get(group))]
    shown = [group for group in dict.fromkeys([*named, *changed]) if group in choices]
    parts = [titled("experiment", runtime.choices.experiment, folders)] if "experiment" in named else []
    for group in shown:
        node = plain(config[group])
        several = {name: (f"{group}.{name}", child) for name, child in node.items()} if group == "logger" else None
        for choice, (key, own) in (several or {choices[group]: (group, node)}).items():
            rows = list(described(key, own, arguments_of(group, own), comments(file_of(group, choice, folders))))
            parts.append(titled(group, choice, folders) + (rows or [("", f"{key} has no keys")]))
    others = [f"{group}={choice}" for group, choice in choices.items() if group not in shown and choice is not None]
    parts.append([("", f"Not shown: {', '.join(others)}. Name a group to see its keys, and none to see all choices.")])
    return "\n\n".join("\n".join(lines_of(rows, width)) for rows in parts)


def usual_choices() -> dict[str, Any]:
    """Group -> its choice where none is typed."""
    defaults = parse_yaml((CONF / "config.yaml").read_text(), "conf/config.yaml")["defaults"]
    return {group: choice for each in defaults if isinstance(each, dict) for group, choice in each.items()}


def file_of(group: str, choice: str, folders: list[Path]) -> str:
    """The text of the file of a choice; empty if it is in no folder."""
    file = next((f for folder in folders if (f := folder / group / f"{choice}.yaml").is_file()), None)
    return "" if file is None else file.read_text()


def titled(group: str, choice: str, folders: list[Path]) -> list[Row]:
    """A choice, and the comment at the top of its file."""
    comment = itertools.takewhile(lambda line: line.startswith("#"), file_of(group, choice, folders).splitlines())
    text = " ".join(line.lstrip("# ") for line in comment if "@package" not in line)
    return [("", f"{group}={choice}: {text}" if text else f"{group}={choice}")]


def comments(text: str) -> dict[str, str]:
    """Key -> the comment behind it in a YAML file."""
    return dict(re.findall(r"^(\w+):.*? # *(.+?)\s*$", text, re.MULTILINE))


def arguments_of(group: str, node: Mapping[str, Any]) -> dict[str, Argument]:
    """The arguments of the constructors that get the keys of a node."""
    target = node.get("_target_")
    own = source.arguments_of(target) if isinstance(target, str) else {}
    return own | (source.arguments_of(BESIDE[group][1]) if group in BESIDE else {})


def described(
    key: str, node: Mapping[str, Any], arguments: Mapping[str, Argument], otherwise: Mapping[str, str]
) -> Iterator[Row]:
    """KEY=VALUE and the meaning of each key below `key`; those of a mapping for a dataclass one by one.

    Args:
        otherwise: the meaning of keys about which the constructor's docstring says nothing.
    """
    for name, value in sorted(node.items(), key=lambda item: item[1] != MISSING):  # what must be given comes first
        argument = arguments.get(name, NOTHING)
        if argument.parts is not None and isinstance(value, dict):
            yield from described(f"{key}.{name}", value, source.arguments(argument.parts), {})
        elif not name.startswith("_"):
            kind = "" if argument.hint is Any else describe(argument.hint)
            limits = "" if get_origin(argument.hint) is Literal else argument.limits  # the choices say it
            must = "must be given" if value == MISSING else ""
            line = argument.line or otherwise.get(name, "")
            meaning = ": ".join(filter(None, [", ".join(filter(None, [must, kind, limits])), line]))
            yield f"{key}.{name}={typed_value(value)}", meaning


def typed_value(value: Any) -> str:
    """A value as on the command line; … for a long one."""
    if isinstance(value, list):
        value = f"[{','.join(map(typed_value, value))}]"
    elif isinstance(value, dict):
        value = f"{{{','.join(f'{k}:{typed_value(v)}' for k, v in value.items())}}}"
    return show(value) if len(show(value)) <= LONGEST_VALUE else "…"


def lines_of(rows: list[Row], width: int) -> Iterator[str]:
    """Rows as lines: a text alone fills the width, a key stands beside its text or above it."""
    column = 4 + min(max(len(key) for key, _ in rows), WIDEST_KEY)
    for key, text in rows:
        first, rest = (f"  {key}".ljust(column), " " * column) if key else ("", "")
        if len(key) + 4 > column:
            yield f"  {key}"
            first = rest
        filled = textwrap.fill(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
        yield filled or first.rstrip()


def folders_of(config: DictConfig) -> list[Path]:
    """The folders that choices come from: conf/, and those of ``--config-dir``."""
    return [Path(each.path) for each in config.hydra.runtime.config_sources if each.schema == "file"]


def groups_page(folders: Sequence[Path]) -> str:
    """All groups and choices, read from the folders."""
    choices: dict[str, list[str]] = {}
    for each in (each for folder in folders for each in folder.iterdir() if each.is_dir()):
        choices[each.name] = sorted({*choices.get(each.name, ()), *(file.stem for file in each.glob("*.yaml"))})
    order = [*EXAMPLES, *sorted(choices.keys() - EXAMPLES.keys())]
    rows = [(g, ", ".join(choices[g]), EXAMPLES.get(g, f"{g}={choices[g][0]}")) for g in order if choices.get(g)]
    indent, lines = " " * 14, []
    for group, names, example in rows:
        wrapped = textwrap.fill(names, 100, initial_indent=f"  {group:<11} ", subsequent_indent=indent)
        lines += [wrapped, f"{indent}e.g. {example}"] if "\n" in wrapped else [f"{wrapped:<60} e.g. {example}"]
    commands = [f"  {name:<11} {command.line}" for name, command in COMMANDS.items()]
    return HELP.format(groups="\n".join(lines), commands="\n".join(commands))
