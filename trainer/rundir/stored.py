"""Safe reading of the files of runs, sweeps and searches, whatever they hold.

Only regular files of limited size are read, so that nothing waits or fills the memory. No YAML tag makes an object.
Anything that a run does not write is ``Damaged``, in one line that names the file.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from trainer.rundir.errors import Damaged
from trainer.rundir.files import YamlLoader

WAITLESS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)  # neither flag exists on Windows
# Bytes of a file: a configuration has a few thousand, a search many; a million take the parser seconds.
MOST_YAML, MOST_JSON, MOST_TABLE, MOST_NOTE = 10**6, 64 * 10**6, 256 * 10**6, 1000
LEVELS = 100  # of nested mappings and lists; Python's limit is near 1,000
NESTED, PLAIN = (dict, list), frozenset({str, float, bool, type(None)})
BITS = 13_000  # of a whole number: Python prints at most 4,300 digits


def opened(path: Path) -> BinaryIO:
    """A regular file, open for reading.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it is a folder, a pipe or a device, or unreadable.
    """
    try:
        file = open(path, "rb", opener=_waitless)  # noqa: SIM115 (the caller closes it)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(f"{path}: {error.strerror or error}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Damaged(f"{path}: not a regular file")
    return file


def _waitless(name: str, flags: int) -> int:
    return os.open(name, flags | WAITLESS)


def read_bytes(path: Path, most: int) -> bytes | None:
    """The content of a file, or None if missing.

    Raises:
        Damaged: it is no regular file, has more than `most` bytes, or cannot be read.
    """
    try:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > most:
                raise Damaged(f"{path}: has {size:,} bytes; the limit is {most:,}")
            return file.read(size) or b""
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Damaged(f"{path}: {error.strerror or error}") from error


def read_text(path: Path, most: int) -> str | None:
    """The same, as text.

    Raises:
        Damaged: also what is not UTF-8.
    """
    content = read_bytes(path, most)
    return None if content is None else as_text(content, path)


def as_text(content: bytes, name: Path | str) -> str:
    """UTF-8 as text.

    Raises:
        Damaged: it is not UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Damaged(f"{name}: not text in UTF-8") from error


def read_mapping(path: Path) -> dict[str, Any] | None:
    """The mapping in a YAML file, or None if missing; Damaged if it holds anything else."""
    text = read_text(path, MOST_YAML)
    return None if text is None else as_mapping(parse_yaml(text, path), path)


def read_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None if missing; Damaged if it holds anything else."""
    content = read_bytes(path, MOST_JSON)
    return None if content is None else as_mapping(parse_json(content, path), path, "an object")


def as_mapping(value: Any, name: Path | str, called: str = "a mapping") -> dict[str, Any]:
    """The value if it is a mapping; raises Damaged otherwise."""
    if not isinstance(value, dict):
        kind = "nothing" if value is None else f"a {type(value).__name__}"
        raise Damaged(f"{name}: should hold {called}, and holds {kind}")
    return value


def parse_yaml(text: str, name: Path | str) -> Any:
    """Plain values of YAML. Aliases are refused, since a few lines with aliases can expand to billions.

    Raises:
        Damaged: it is no YAML, or no run writes it; the text begins with `name`.
    """
    try:
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, YamlLoader)):
            raise Damaged(f"{name}: has an alias (*), which no run writes")
        value = yaml.load(text, YamlLoader)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise Damaged(f"{name}: not readable as YAML ({getattr(error, 'problem', None) or 'damaged'}{line})") from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        # PyYAML's errors about 5,000 digits, `!!timestamp x`, `!!int ''`, 1:1:1:… and the like.
        raise Damaged(f"{name}: not readable as YAML ({type(error).__name__})") from error
    _check_plain(value, name)
    return value


def parse_json(content: bytes, name: Path | str) -> Any:
    """Plain values of JSON; halves of surrogate pairs, which cannot be printed, are replaced.

    Raises:
        Damaged: it is no JSON, or no run writes it; the text begins with `name`.
    """
    try:
        text = content.decode()
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_twins)
        if "\\ud" in text.lower():
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except UnicodeDecodeError as error:
        raise Damaged(f"{name}: not readable as JSON (not text in UTF-8)") from error
    except (ValueError, RecursionError) as error:
        what = f"not readable as JSON ({_first_line(error)})" if content.strip() else "empty"
        raise Damaged(f"{name}: {what}") from error
    _check_plain(value, name)
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"has {next(name for name in names if names.count(name) > 1)[:40]!r} twice")
    return found


def _check_plain(value: Any, name: Path | str, level: int = 0) -> None:
    """Raises Damaged for values that no run writes: bytes, dates, sets, huge numbers, a hundred nested lists."""
    if isinstance(value, NESTED):
        if level == LEVELS:
            raise Damaged(f"{name}: more than {LEVELS} levels deep")
        if isinstance(value, dict):
            for key in _beyond_plain(value):
                _check_plain(key, name, LEVELS)
            value = value.values()
        for inner in _beyond_plain(value):
            _check_plain(inner, name, level + 1)
    elif isinstance(value, int):
        if value.bit_length() > BITS:
            raise Damaged(f"{name}: has a whole number of {value.bit_length():,} bits")
    elif type(value) not in PLAIN:
        raise Damaged(f"{name}: has a value of the type {type(value).__name__}, which no run writes")


def _beyond_plain(values: Iterable[Any]) -> Iterator[Any]:
    """Those to look into; a call for each of the others would take half a second for 3,000 runs."""
    return (value for value in values if type(value) not in PLAIN)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:100]
