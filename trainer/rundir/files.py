"""Files that survive a power cut: at any instant either the old or the new version is whole.

Links are not followed: a whole write replaces a link by a file, and nothing is appended through one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from omegaconf._utils import get_yaml_loader

ALONE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # neither flag exists on Windows


FastLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # if PyYAML was built with libyaml
FastDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class YamlLoader(FastLoader):
    """Plain values by OmegaConf's rules (1e-3 is a number, a date is text), ten times as fast as OmegaConf's loader."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """A duplicate key is an error, as in OmegaConf."""
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"{twice[1]!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


YamlLoader.yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers


class YamlDumper(FastDumper):
    """Quotes texts that OmegaConf would read as something else; writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always: an alias such as *id001 is hard to read, and counts as damage when a run is read."""
        return True


YamlDumper.yaml_implicit_resolvers = YamlLoader.yaml_implicit_resolvers


def to_yaml(value: Any) -> str:
    """Plain values as OmegaConf.to_yaml writes them, ten times as fast."""
    return yaml.dump(value, Dumper=YamlDumper, sort_keys=False, allow_unicode=True)


def write_whole(
    path: Path, content: bytes | Callable[[BinaryIO], object], *, shared: bool = False, settle: bool = True
) -> None:
    """Replaces the file at `path`: temporary file beside it, flush to the disk, rename, flush of the folder.

    Args:
        content: the content, or a function that writes it into an open file.
        shared: whether another process may write the same file at the same time; then the last one wins.
        settle: whether to flush the folder. Before any write does so, a power cut may restore the old file, whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp" if shared else f".{path.name}.tmp")
    with _named(path):
        try:
            if path.exists() and not path.is_file() and not path.is_dir():  # a device or a pipe would be replaced
                raise FileExistsError(errno.EEXIST, "is not a regular file")
            temporary.unlink(missing_ok=True)  # left by a kill, or a link
            with open(temporary, "x+b") as file:
                content(file) if callable(content) else file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)  # a full disk or a second Ctrl-C: remove the unfinished file
            raise
        if settle:
            _sync_folder(path.parent)


def write_json(path: Path, value: Any, *, settle: bool = True) -> None:
    """Replaces the JSON file at `path`, as :func:`write_whole` does."""
    write_whole(path, json.dumps(finite(value), indent=2, allow_nan=False).encode() + b"\n", settle=settle)


def append_line(path: Path, line: str, *, settle: bool = True) -> None:
    """Adds one line to the file at `path`; ends an unfinished line that a power cut left.

    Args:
        settle: whether to flush it to the disk; otherwise a power cut may lose it.

    Raises:
        OSError: also for a link or another special file.
    """
    with _named(path), open(path, "ab+", buffering=0, opener=at_end) as file:
        start = file.tell()
        content = line.encode() + b"\n"
        if start > 0:
            file.seek(start - 1)
            content = content if file.read(1) == b"\n" else b"\n" + content
        try:
            while content:  # a full disk takes a part before the error
                content = content[file.write(content) :]
            if settle:
                os.fsync(file.fileno())
        except OSError:
            os.truncate(file.fileno(), start)
            raise
        if start == 0 and settle:
            _sync_folder(path.parent)


def at_end(path: str | os.PathLike[str], flags: int) -> int:
    """An opener for appending that takes only regular files, no links, and does not wait.

    Raises:
        OSError: something else is there.
    """
    try:
        handle = os.open(path, flags | ALONE, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            error.strerror = "is a link, and conga writes through none"
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return handle


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Adds the file's name to an OSError; that of a full disk has none."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _sync_folder(folder: Path) -> None:
    """Flushes the folder; otherwise a power cut may undo a rename (POSIX only)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
