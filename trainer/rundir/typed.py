"""What a person types: texts in the grammar of the command line, arguments in a shell, and ~.

This module imports neither torch nor Hydra: it is on the way of ``--help``.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from trainer.rundir.errors import Refused

# What the grammar takes for a number, a truth or nothing, though only characters that need no quotes are in it.
NO_TEXT = re.compile(
    r"[+-]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(e[+-]?\d[\d_]*)?|[+-]?(inf|nan)|null|true|false", re.I | re.A
)


def is_plain(text: str) -> bool:
    """Whether a text is that text without quotes, for Hydra's grammar and for a shell."""
    return bool(re.fullmatch(r"[\w./+-]+", text, re.ASCII)) and not NO_TEXT.fullmatch(text)


def quoted(text: str) -> str:
    """A text as the value in KEY=VALUE: in quotes of Hydra's grammar if it needs them."""
    if is_plain(text):
        return text
    text = text.replace("${", r"\${")  # else a reference to another key
    return '"' + re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + m[2].replace('"', r"\""), text) + '"'


def argument(key: str, text: str) -> str:
    """KEY=TEXT as it is pasted into a shell."""
    return shlex.quote(f"{key}={quoted(text)}")


def typed_path(text: str) -> Path:
    """A path with ~ as somebody's home.

    Raises:
        Refused: there is nobody of that name.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise Refused(f"{text}: there is no such home; a folder of this name is ./{text}") from None


def check_count(name: str, value: int, low: int, high: int = 2**31) -> None:
    """Raises ValueError unless low <= value < high."""
    if not low <= value < high:
        bound = f"at least {low}" if value < low else f"less than 2**{high.bit_length() - 1}"
        raise ValueError(f"{name}={value}: must be {bound}")
