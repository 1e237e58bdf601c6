"""Files of datasets: ``data.root``, and downloads through torchvision."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import socket
import sys
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

FORMS = ", in two Unicode forms (NFC and another); rename one"
TIMEOUT_S = 30.0  # without an answer from a server
NETWORK_ERRORS = (OSError, RuntimeError, http.client.HTTPException)  # the second is torchvision's for a wrong checksum


class Missing(ValueError):
    """A file or folder that a setting names does not exist."""


def expand(name: str, path: str) -> Path:
    """The existing path of setting `name`, with ~ expanded.

    Raises:
        Missing: it does not exist.
    """
    found = home(name, path)
    if not found.exists():
        tried = "" if found.is_absolute() and str(found) == path else f"; looked for {found.absolute()}"
        raise Missing(one_line(f"{name}={path}: no such file or folder{tried}"))
    return found


def home(name: str, path: str) -> Path:
    """The path with ~ expanded.

    Raises:
        ValueError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{name}={path}: {one_line(error)}") from None


def one_line(text: object) -> str:
    """A text without line breaks, and with ? for bytes of file names that are not UTF-8."""
    return " ".join(str(text).encode("utf-8", "replace").decode().split())


def nfc(text: str) -> str:
    """A text in Unicode's form NFC: each accented letter is one character; macOS writes some as two."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def file_error(path: Path | str, why: object) -> ValueError:
    """An error about a file, in one line."""
    return ValueError(one_line(f"{path}: {why}"))


def check_labels(path: Path | str, y: np.ndarray, classes: int) -> None:
    """Raises ValueError unless all of `y` are in [0, classes)."""
    bad = np.flatnonzero((y < 0) | (y >= classes))
    if len(bad):
        raise label_error(path, y.flat[bad[0]], bad[0] + 1, classes)


def label_error(path: Path | str, label: int, number: int, classes: int) -> ValueError:
    """The error about the label that is `number` (from 1) in a file."""
    return file_error(
        path, f"the label {label} (number {number}) is out of range, there are {classes} classes: 0 to {classes - 1}"
    )


def download(name: str, folder: Path, files: Sequence[tuple[str, str]], mirrors: Sequence[str]) -> None:
    """Brings those of `files` (name, MD5) that are not in `folder` from the first of `mirrors` that has them.

    Each file is fetched under another name, its checksum compared, then renamed.

    Raises:
        ValueError: the download failed; the text says which files to put into which folder, and their source.
    """
    missing = [(file, md5) for file, md5 in files if not (folder / file).exists()]
    wanted = ", ".join(file for file, _ in missing)
    if sys.stderr.isatty():
        print(f"conga: downloading {name} to {folder}: {wanted}", file=sys.stderr)
    new = [f for f in (folder, *folder.parents) if not f.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, md5 in missing:
            with fetched(file, md5, mirrors, folder) as path:
                os.replace(path, folder / file)
    except NETWORK_ERRORS as error:
        for made in new:  # a mistyped root leaves no folder
            with contextlib.suppress(OSError):
                made.rmdir()
        reason = one_line(error) or type(error).__name__
        source = " or ".join(mirrors)
        put = f"put {wanted} from {source} into {folder}, or give data.root=FOLDER"
        raise ValueError(f"{name}: cannot be downloaded ({reason}); {put}") from error


@contextlib.contextmanager
def fetched(file: str, md5: str, mirrors: Sequence[str], folder: Path) -> Iterator[Path]:
    """A downloaded file whose checksum is right, in a folder beside its destination that is removed afterwards.

    Raises:
        NETWORK_ERRORS: no mirror has it, or the checksum is wrong.
    """
    before = socket.getdefaulttimeout()
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
        try:
            socket.setdefaulttimeout(TIMEOUT_S)
            from_mirrors(file, md5, mirrors, temporary)
        finally:
            socket.setdefaulttimeout(before)
        yield Path(temporary) / file


def from_mirrors(file: str, md5: str, mirrors: Sequence[str], folder: str) -> None:
    """Downloads a file into a folder from the first mirror that has it; raises NETWORK_ERRORS if none does."""
    from torchvision.datasets.utils import download_url

    # torchvision's progress bar is only for terminals.
    bar = contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO())
    for i, mirror in enumerate(mirrors):
        try:
            with bar:
                return download_url(mirror + file, folder, file, md5)
        except NETWORK_ERRORS:
            if i == len(mirrors) - 1:
                raise
