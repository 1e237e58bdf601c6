"""Typed words: quotes of Hydra and of a shell, ~, and ranges of numbers.

This module imports neither torch nor Hydra: ``--help`` imports it.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from trainer.rundir.errors import Refused

# Numbers, booleans and null, whose characters need no quotes.
NO_TEXT = re.compile(
    r"[+-]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(e[+-]?\d[\d_]*)?|[+-]?(inf|nan)|null|true|false", re.I | re.A
)


def is_plain(text: str) -> bool:
    """Whether Hydra and a shell read the text as the same text without quotes."""
    return bool(re.fullmatch(r"[\w./+-]+", text, re.ASCII)) and not NO_TEXT.fullmatch(text)


def quoted(text: str) -> str:
    """A text as the value in KEY=VALUE: in Hydra's quotes if it needs them."""
    if is_plain(text):
        return text
    text = text.replace("${", r"\${")  # else Hydra reads a reference to another key
    return '"' + re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + m[2].replace('"', r"\""), text) + '"'


def argument(key: str, text: str) -> str:
    """KEY=TEXT to paste into a shell."""
    return shlex.quote(f"{key}={quoted(text)}")


def typed_path(text: str) -> Path:
    """A path with ~ expanded.

    Raises:
        Refused: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise Refused(f"{text}: no such user; for a folder of this name write ./{text}") from None


def looked_for(path: Path) -> str:
    """The end of a line about a path that does not exist: where it was looked for, if the line does not say."""
    # Path.exists raises for a name that is too long.
    return "" if path.is_absolute() or os.path.exists(path) else f"; looked for {path.absolute()}"


def check_count(name: str, value: int, low: int, high: int = 2**31) -> None:
    """Raises ValueError unless low <= value < high."""
    if not low <= value < high:
        bound = f"at least {low}" if value < low else f"less than 2**{high.bit_length() - 1}"
        raise ValueError(f"{name}={value}: must be {bound}")
