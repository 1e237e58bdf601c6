"""Files that survive a power cut: at any instant either the old or the new version is whole.

What is at a name is never followed elsewhere: a link is replaced by a file, and nothing is added through one.
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


FastLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # where PyYAML was built with libyaml
FastDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class YamlLoader(FastLoader):
    """Plain values by OmegaConf's rules (1e-3 is a number, a date is text), ten times as fast as its own loader."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Also by its rules: no key stands twice."""
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"{twice[1]!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


YamlLoader.yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers


class YamlDumper(FastDumper):
    """Quotes what OmegaConf would not read as the text that it is, and writes twice what is there twice."""

    def ignore_aliases(self, data: Any) -> bool:
        """Yes: *id001 is for no person to read, and what reads runs takes it for damage."""
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
        content: what it is to hold, or a function that writes that into the open file it is given.
        shared: whether another process may write the same file at the same time; then the last one's stays.
        settle: whether to flush the folder. Until that is done, by whichever write, a power cut may bring the old file
            back, as whole as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp" if shared else f".{path.name}.tmp")
    with _named(path):
        try:
            if path.exists() and not path.is_file() and not path.is_dir():  # a device or a pipe would be replaced
                raise FileExistsError(errno.EEXIST, "is not a regular file")
            temporary.unlink(missing_ok=True)  # what a kill left, or a link that somebody put there
            with open(temporary, "x+b") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)  # a full disk or a second Ctrl-C: leave nothing half-written behind
            raise
        if settle:
            _sync_folder(path.parent)


def write_json(path: Path, value: Any, *, settle: bool = True) -> None:
    """Replaces the JSON file at `path`, as :func:`write_whole` does."""
    write_whole(path, json.dumps(finite(value), indent=2, allow_nan=False).encode() + b"\n", settle=settle)


def append_line(path: Path, line: str, *, settle: bool = True) -> None:
    """Adds one line to the file at `path`; half a line that a power cut left is ended.

    Args:
        settle: whether to flush it to the disk; otherwise a power cut may take it.

    Raises:
        OSError: also where a link is, or no regular file.
    """
    with _named(path), open(path, "ab+", buffering=0, opener=at_end) as file:
        start = file.tell()
        content = line.encode() + b"\n"
        if start > 0:
            file.seek(start - 1)
            content = content if file.read(1) == b"\n" else b"\n" + content
        try:
            while content:  # a disk that fills up takes a part, then says so
                content = content[file.write(content) :]
            if settle:
                os.fsync(file.fileno())
        except OSError:
            os.truncate(file.fileno(), start)
            raise
        if start == 0 and settle:
            _sync_folder(path.parent)


def at_end(path: str | os.PathLike[str], flags: int) -> int:
    """An opener for what is added to: of a regular file, which a link is not, and without waiting.

    Raises:
        OSError: something else is there.
    """
    try:
        handle = os.open(path, flags | ALONE, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            error.strerror = "is a link, and nothing is written through one"
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
    """Makes an OSError name the file that was meant, which a full disk's error does not."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _sync_folder(folder: Path) -> None:
    """Flushes the folder itself, without which a rename may be lost in a power cut (POSIX only)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
