"""Texts as tokens: pieces of a text, vocabularies, and sources whose inputs are texts.

Shapes: N texts, T tokens of the longest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
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


def as_rows(texts: Iterable[Sequence[str]], vocabulary: Sequence[str], length: int, *, end: bool) -> np.ndarray:
    """Tokens (N, length) of the pieces of each text, filled up with ``PAD``; with `end`, ``END`` follows the last.

    A piece that the vocabulary lacks is ``[unk]``.

    Raises:
        ValueError: a text is longer, or has a piece that the vocabulary lacks without an ``[unk]``.
    """
    index = {word: k for k, word in enumerate(vocabulary)}
    unknown = index.get(UNKNOWN)
    texts = list(texts)
    rows = np.full((len(texts), length), PAD, np.int64)
    for row, pieces in zip(rows, texts, strict=True):
        if not pieces:
            raise ValueError("is empty")
        if len(pieces) + end > length:
            raise ValueError(f"has {len(pieces)} tokens; the longest may have {length - end}")
        for k, piece in enumerate(pieces):
            token = index.get(piece, unknown)
            if token is None:
                raise ValueError(f"has {piece!r}, which is none of the {len(index) - len(MARKS)} known tokens")
            row[k] = token
        if end:
            row[len(pieces)] = END
    return rows


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
