"""Texts as tokens: pieces of a text, vocabularies, and sources whose inputs are texts.

Shapes: N texts, T tokens of the longest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from data.source import Source
from data.storage import file_error, nfc

Tokens = Literal["words", "characters"]

PAD, START, END = range(3)
MARKS = ("[pad]", "[start]", "[end]")  # the first words of each vocabulary; no piece of a text is one of them
UNKNOWN = "[unk]"  # the word after them, if there may be unknown words

WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")  # don't and well-known are one word; a mark is one, too


@dataclass(kw_only=True)
class TextSource(Source):
    """A source whose inputs and targets are texts."""

    def pieces(self, text: str) -> list[str]:
        """The pieces of a text that are tokens."""
        return list(nfc(text).strip())


def words_of(text: str, *, lower: bool) -> list[str]:
    """Words and marks of a text, in small letters if `lower`."""
    return WORD.findall(text.lower() if lower else text)


def as_rows(texts: Sequence[Sequence[str]], vocabulary: Sequence[str], length: int, *, end: bool) -> np.ndarray:
    """Tokens (N, length) of the pieces of each text, as :func:`as_row` makes them."""
    index = index_of(vocabulary)
    return np.stack([as_row(pieces, index, length, end=end) for pieces in texts])


def index_of(vocabulary: Sequence[str]) -> dict[str, int]:
    """Word -> its token."""
    return {word: k for k, word in enumerate(vocabulary)}


def as_row(pieces: Sequence[str], index: Mapping[str, int], length: int, *, end: bool) -> np.ndarray:
    """Tokens (length,) of the pieces of a text, filled up with ``PAD``; with `end`, ``END`` follows the last.

    A piece that the vocabulary lacks is ``[unk]``.

    Raises:
        ValueError: the text is empty or longer, or has a piece that the vocabulary lacks without an ``[unk]``.
    """
    if not pieces:
        raise ValueError("is empty")
    if len(pieces) + end > length:
        raise ValueError(f"has {len(pieces)} tokens; the longest may have {length - end}")
    unknown = index.get(UNKNOWN)
    row = np.full(length, PAD, np.int64)
    for k, piece in enumerate(pieces):
        token = index.get(piece, unknown)
        if token is None:
            raise ValueError(f"has {piece!r}, which is none of the {len(index) - len(MARKS)} known tokens")
        row[k] = token
    if end:
        row[len(pieces)] = END
    return row


def lines_of(path: Path) -> list[str]:
    """The lines of a text file in UTF-8, without their ends.

    Raises:
        ValueError: it is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise file_error(path, f"is no text in UTF-8 (byte {error.start:,})") from error
    if "\0" in text:
        raise file_error(path, "is no text: it holds a byte 0")
    return text.removesuffix("\n").split("\n")
