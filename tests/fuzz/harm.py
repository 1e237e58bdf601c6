"""Damages files."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml

from trainer.rundir.files import YamlLoader

HARMS = ("flip", "flip", "cut", "other", "empty", "gone", "pipe", "folder", "endless", "loop", *("value",) * 3)
WRONG = (
    *(None, True, False, 0, -1, 1, 2**70, 0.5, 1e300, float("inf"), "", "x", "\x1b[31mred", "../..", "/dev/zero"),
    *([], {}, [1, "a"], {"a": 1}, {"_target_": "os.getcwd"}, [[[[[]]]]], "é" * 500, "2026-01-01", "${seed}", "1,2"),
    "a\nb",
)  # fmt: skip


def harm(path: Path, how: str, number: int, other: Path) -> None:
    """Does it; `number` says where, `other` is the same file of another run."""
    rng = random.Random(number)
    if how == "value":
        return change_value(path, rng)
    content = path.read_bytes() if path.is_file() else b""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if how == "flip" and content:
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 1, 3))):
            changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
    elif how == "cut":
        path.write_bytes(content[: rng.randrange(len(content) + 1)])
    elif how == "other":
        path.write_bytes(other.read_bytes() if other.is_file() else content[::-1])
    elif how == "empty":
        path.touch()
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "endless":
        path.symlink_to("/dev/zero")
    elif how == "loop":
        path.symlink_to(path.name)


def change_value(path: Path, rng: random.Random) -> None:
    """Puts a wrong value into a file that stays JSON, YAML, a table or a checkpoint."""
    wrong = rng.choice(WRONG)
    if not path.is_file():  # harmed before: a pipe, say
        return
    try:
        if path.suffix == ".json":
            path.write_text(json.dumps(changed(json.loads(path.read_text()), rng, wrong)))
        elif path.suffix == ".yaml":
            path.write_text(yaml.safe_dump(changed(yaml.load(path.read_text(), YamlLoader), rng, wrong)))
        elif path.suffix == ".pt":
            torch.save(changed(torch.load(path, weights_only=True), rng, wrong), path)
        else:
            rows = [line.split(",") for line in path.read_text().split("\n")]
            cells = rng.choice(rows)
            cells[rng.randrange(len(cells))] = str(wrong)
            path.write_text("\n".join(",".join(cells) for cells in rows))
    except Exception:  # harmed before, so that nothing reads it: whatever the readers raise, it stays so
        return


def changed(value: Any, rng: random.Random, wrong: Any) -> Any:
    """The same with a value, at whatever depth, replaced or gone."""
    if rng.random() < 0.3 or not isinstance(value, dict | list) or not value:
        return wrong
    if isinstance(value, list):
        i = rng.randrange(len(value))
        return [changed(v, rng, wrong) if j == i else v for j, v in enumerate(value)]
    key = rng.choice(list(value))
    if rng.random() < 0.2:
        return {k: v for k, v in value.items() if k != key}
    return value | {key: changed(value[key], rng, wrong)}
