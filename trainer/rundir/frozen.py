"""The configuration of a run from its ``.hydra/``, fast enough for a thousand runs and safe on any file.

A thousand runs of a sweep differ in few lines, so each top-level block of ``config.yaml`` is parsed once for each text
that it has.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainer.rundir.errors import Damaged
from trainer.rundir.moved import renamed
from trainer.rundir.run_dir import CONFIG, HYDRA, MOVABLE, RESUMED
from trainer.rundir.stored import MOST_YAML, as_mapping, as_text, parse_yaml, read_bytes

# A line that begins a key of the file itself; what is indented, or an item of a list, belongs to the one before.
BLOCK = re.compile(r"^(?=[^\s#-])", re.MULTILINE)
CHOICES = re.compile(r"^(?P<indent> +)choices:\s*\n(?P<block>(?:(?P=indent) +.*\n?)+)", re.MULTILINE)


def load_config(folder: Path) -> dict[str, Any]:
    """Dotted key -> value, with what resumes changed, and one key a config group with its choice.

    Raises:
        Damaged: a file is not readable, or not the configuration of a run.
    """
    text = _text(folder, CONFIG)
    if text is None:
        raise Damaged(f"{CONFIG}: gone")
    config = _blocks(text, CONFIG)
    if "train.epochs" not in config:
        raise Damaged(f"{CONFIG}: not the configuration of a run (it has no train.epochs)")
    if (text := _text(folder, RESUMED)) is not None:
        changes = _blocks(text, RESUMED)
        if not changes:
            raise Damaged(f"{RESUMED}: should hold a mapping, and holds nothing")
        config |= {key: value for key, value in changes.items() if key not in MOVABLE}  # the same data elsewhere
    if (text := _text(folder, HYDRA)) is not None:
        found = CHOICES.search(text, max(0, text.find("\n  runtime:")))
        if found is None:
            raise Damaged(f"{HYDRA}: does not say which choices were made (hydra.runtime.choices)")
        config |= _choices(found["block"])
    return config


@lru_cache(maxsize=1 << 10)
def _choices(block: str) -> dict[str, Any]:
    """Group -> choice, without those that say how jobs are made, which is no part of a run."""
    chosen = _parse(block, HYDRA)
    return {
        group.partition("@")[0]: choice
        for group, choice in chosen
        if not group.startswith("hydra/") and group != "sweep"
    }


def _text(folder: Path, name: str) -> str | None:
    content = read_bytes(folder / name, MOST_YAML)
    return None if content is None else as_text(content, name)


def _blocks(text: str, name: str) -> dict[str, Any]:
    """The dotted keys of a mapping in YAML."""
    blocks = [block for block in BLOCK.split(text) if block]
    heads = Counter(block.partition(":")[0] for block in blocks)
    if twice := [head for head, n in heads.items() if n > 1]:
        raise Damaged(f"{name}: has {twice[0].splitlines()[0]!r} twice")
    try:
        return dict(item for block in blocks for item in _parse(block, name))
    except Damaged:  # blocks that mean something only together, or a damaged file: the whole text will tell
        return dict(_parse(text, name))


@lru_cache(maxsize=1 << 14)
def _parse(text: str, name: str) -> tuple[tuple[str, Any], ...]:
    """Dotted keys and values of a mapping in YAML."""
    items = _flat(as_mapping(parse_yaml(text, name), name), "")
    return tuple((key, renamed(value) if key.endswith("._target_") else value) for key, value in items)


def _flat(value: dict, prefix: str) -> list[tuple[str, Any]]:
    items = []
    for key, inner in value.items():
        items += _flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) and inner else [(f"{prefix}{key}", inner)]
    return items
