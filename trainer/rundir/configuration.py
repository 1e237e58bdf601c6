"""The configuration of a run, as its directory keeps it in ``.hydra/``.

    config.yaml      the configuration at the start, written once; a directory that has this file is a run
    resumed.yaml     the keys that resumes changed
    hydra.yaml, overrides.yaml   Hydra's settings, and the words of the command line

All readers use this module: it is fast enough for a thousand runs, and safe on any file. It imports neither torch nor
Hydra.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from trainer.rundir.errors import Damaged, Refused
from trainer.rundir.files import to_yaml, write_whole
from trainer.rundir.moved import up_to_date
from trainer.rundir.stored import MOST_YAML, as_mapping, parse_yaml, read_mapping, read_text
from trainer.rundir.text import cut
from trainer.rundir.typed import looked_for

CONFIG, HYDRA, OVERRIDES, RESUMED = (f".hydra/{name}.yaml" for name in ("config", "hydra", "overrides", "resumed"))
MOVABLE = ("data.path", "data.root")  # the place of the data, which stay the same
# Keys that a resume may change: how long and where the run trains, not what it trains.
RESUMABLE = ("train.epochs", "train.device", "train.threads", "train.checkpoint_steps", "train.max_minutes", *MOVABLE)
PLACES = (*MOVABLE, "model.pretrained", "train.init_from")  # keys that name a file

T = TypeVar("T")
# A line with a top-level key; indented lines and items of lists belong to the key before.
BLOCK = re.compile(r"^(?=[^\s#-])", re.MULTILINE)
CHOICES = re.compile(r"^(?P<indent> +)choices:\s*\n(?P<block>(?:(?P=indent) +.*\n?)+)", re.MULTILINE)


def check_run(path: Path, key: str = "", otherwise: str = "") -> None:
    """Raises Refused unless `path` is the directory of a run.

    Args:
        key: what stands before the path on the command line, such as ``train.resume=``.
        otherwise: what else it might be, to end the line.
    """
    if not (path / CONFIG).is_file():
        raise Refused(f"{key}{path}: must be the directory of a run, with {CONFIG} in it{otherwise}{looked_for(path)}")


def freeze(path: Path, config: dict, hydra_yaml: str, overrides: list[str]) -> None:
    """Writes .hydra/*.yaml; config.yaml last, since a directory that has it is a run."""
    write_whole(path / HYDRA, hydra_yaml.encode())
    write_whole(path / OVERRIDES, to_yaml(overrides).encode())
    write_whole(path / CONFIG, to_yaml(config).encode())


def frozen(path: Path) -> dict[str, Any] | None:
    """The configuration with which the run in `path` started, or None if there is no run.

    Raises:
        Refused: the file is damaged, or missing beside other files of a run.
    """
    blocks = _read(path, CONFIG)
    if blocks is None:
        left = [name for name in ("summary.json", "metrics.csv", "train.log", "checkpoints") if (path / name).exists()]
        if left:
            raise Refused(f"{path}: holds {left[0]} but no {CONFIG}, so it is not a run; choose another directory")
        return None
    config = {key: deepcopy(value) for block in blocks for key, value in block.nested.items()}
    if not isinstance(config.get("train"), dict) or not isinstance(config["train"].get("epochs"), int):
        raise Damaged(f"{path / CONFIG}: not the configuration of a run (it has no train.epochs)")
    for group in {place.partition(".")[0] for place in PLACES}:
        if not isinstance(config.get(group), dict):
            raise Damaged(f"{path / CONFIG}: not the configuration of a run ({group} is no mapping)")
    return config


def of_run(path: Path) -> dict[str, Any]:
    """The configuration that the run in `path` started with.

    Raises:
        Refused: as of :func:`frozen`, or no run has started there.
    """
    config = frozen(path)
    if config is None:
        raise Damaged(f"{path / CONFIG}: gone")
    return config


def flat(path: Path) -> dict[str, Any]:
    """Dotted key -> value, with the changes of resumes, and the choice of each config group under the group's name.

    Raises:
        Damaged: a file is not readable, or not the configuration of a run.
    """
    blocks = _read(path, CONFIG)
    if blocks is None:
        raise Damaged(f"{path / CONFIG}: gone")
    config = {key: value for block in blocks for key, value in block.dotted}
    if "train.epochs" not in config:
        raise Damaged(f"{path / CONFIG}: not the configuration of a run (it has no train.epochs)")
    changes = [item for block in _read(path, RESUMED) or () for item in block.dotted]
    config |= {key: value for key, value in changes if key not in MOVABLE}  # the same data elsewhere
    return config | choices(path)


def choices(path: Path) -> dict[str, str]:
    """Config group -> the choice that the run in `path` was started with; {} if Hydra's file is missing.

    Raises:
        Damaged: the file does not hold the choices.
    """
    text = read_text(path / HYDRA, MOST_YAML)
    if text is None:
        return {}
    found = CHOICES.search(text, max(0, text.find("\n  runtime:")))  # the whole file is long
    if found is None:
        raise Damaged(f"{path / HYDRA}: does not say which choices were made (hydra.runtime.choices)")
    chosen = _of(path, lambda: _parse(found["block"], HYDRA)).dotted
    return {
        group.partition("@")[0]: choice
        for group, choice in chosen
        if not group.startswith("hydra/") and group != "sweep"  # how jobs are launched is no part of a run
    }


def effective(config: dict, path: Path, changes: dict[str, Any] | None = None) -> dict:
    """The configuration of the run in `path` as it applies now: with the changes of resumes, and absolute paths.

    Args:
        changes: those of a resume that are not recorded yet.

    Raises:
        Refused: a damaged file in `path`, or a key that a resumed run cannot change.
    """
    return located(with_changes(config, resumed_changes(path) | (changes or {})), path)


def located(config: dict, run: Path | None = None) -> dict:
    """`config` with the relative paths of files made absolute, as a new dict.

    They are relative to the directory where the run in `run` was started; for a new run, to the working directory.

    Raises:
        Refused: the file of `run` that holds this directory is damaged.
    """
    config, home = dict(config), None
    for group, _, name in (key.partition(".") for key in PLACES):
        value = config.get(group, {}).get(name)
        if isinstance(value, str) and not value.startswith("~") and not os.path.isabs(value):
            home = home or (run and started_in(run)) or Path.cwd()
            config[group] = config[group] | {name: str(home / value)}
    return config


def started_in(path: Path) -> Path | None:
    """The working directory of the run in `path` when it started.

    Raises:
        Refused: the file that holds it is damaged.
    """
    try:
        return Path((read_mapping(path / HYDRA) or {})["hydra"]["runtime"]["cwd"])
    except (KeyError, TypeError):
        return None


def resumed_changes(path: Path) -> dict[str, Any]:
    """The changes of earlier resumes: dotted key -> value."""
    blocks = _read(path, RESUMED)
    return {key: value for block in blocks or () for key, value in block.nested.items()}


def record_changes(path: Path, changes: dict[str, Any]) -> None:
    """Records the changes of a resume; the frozen configuration is not rewritten."""
    merged = resumed_changes(path) | changes
    if merged != resumed_changes(path):
        write_whole(path / RESUMED, to_yaml(merged).encode())


def with_changes(config: dict, changes: dict[str, Any]) -> dict:
    """`config` with dotted keys replaced, as a new dict.

    Raises:
        Refused: a key that a resumed run cannot change.
    """
    config = dict(config)
    for key, value in changes.items():
        if key not in RESUMABLE:
            raise Refused(not_resumable(f"{key}={value}"))
        group, _, name = key.partition(".")
        config[group] = config[group] | {name: value}
    return config


def not_resumable(override: str) -> str:
    """The line about an override that a resume cannot change."""
    return f"{override}: a resumed run keeps its configuration; only {', '.join(RESUMABLE)} may change"


def difference(new: Any, old: Any, key: str = "") -> str | None:
    """The first dotted key in which two configurations differ, with both values; None if equal."""
    if isinstance(new, dict) and isinstance(old, dict):
        for k in [*old, *(k for k in new if k not in old)]:
            found = difference(new.get(k, "(absent)"), old.get(k, "(absent)"), f"{key}.{k}" if key else str(k))
            if found:
                return found
        return None
    same = new == old and isinstance(new, bool) == isinstance(old, bool)  # 1 equals 1.0, but not true
    return None if same else f"{key} is {cut(str(old))} there and {cut(str(new))} here"


class Block(NamedTuple):
    """A mapping of a YAML file, nested and flat. Do not change it: many runs share it."""

    nested: dict[str, Any]
    dotted: tuple[tuple[str, Any], ...]


def _read(run: Path, name: str) -> list[Block] | None:
    """The top-level keys of a mapping in YAML; None if the file is missing.

    The runs of a sweep differ in few lines, so each block is parsed once for each text that it has.

    Raises:
        Damaged: it cannot be read, or is no mapping.
    """
    text = read_text(run / name, MOST_YAML)
    return None if text is None else _of(run, lambda: _blocks(text, name))


def _of(run: Path, read: Callable[[], T]) -> T:
    """The result of `read`; errors about a text that many runs share name the file of this run."""
    try:
        return read()
    except Damaged as error:
        raise Damaged(f"{run}/{error}") from error


def _blocks(text: str, name: str) -> list[Block]:
    parts = [part for part in BLOCK.split(text) if part]
    heads = Counter(part.partition(":")[0] for part in parts)
    if twice := [head for head, n in heads.items() if n > 1]:
        raise Damaged(f"{name}: has {twice[0].splitlines()[0]!r} twice")
    try:
        return [_parse(part, name) for part in parts] or [_parse(text, name)]
    except Damaged:  # blocks that belong together, or a damaged file: parse the whole text
        return [_parse(text, name)]


@lru_cache(maxsize=1 << 14)
def _parse(text: str, name: str) -> Block:
    nested = up_to_date(as_mapping(parse_yaml(text, name), name))
    return Block(nested, tuple(_flat(nested, "")))


def _flat(value: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    items = []
    for key, inner in value.items():
        items += _flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) and inner else [(f"{prefix}{key}", inner)]
    return items
