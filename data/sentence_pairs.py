"""Your own pairs of sentences, such as a language and its translation, from a file with a tab between the two.

Run: ``python -m trainer data=sentence_pairs data.path=spa.txt model=transformer``

Shapes: N pairs, S and T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.gate import Arrays, Raw
from data.source import check_count
from data.storage import expand, file_error, nfc
from data.text import MARKS, UNKNOWN, TextSource, Tokens, as_rows, lines_of, words_of

Pairs = list[tuple[list[str], list[str]]]
SPECIAL = (*MARKS, UNKNOWN)


@dataclass(kw_only=True)
class SentencePairs(TextSource):
    """Lines of a text file, UTF-8, such as those of the Tatoeba project: a sentence, a tab, what it becomes.

    The words are those of the training split, the most frequent first; others are ``[unk]``. Equal first sentences stay
    in one split.

    Args:
        path: the file.
        columns: numbers of the two columns, from 1 on, which tabs separate; [2, 1] goes the other way.
        length: tokens of a sentence at most, of the second one with its end; longer pairs are left out, and counted.
        vocabulary: words of either side at most, with the four of ``[pad]``, ``[start]``, ``[end]`` and ``[unk]``.
        tokens: ``words``, and marks, each one token; or ``characters``.
        lower: whether to read all letters as small ones.
    """

    path: str
    columns: list[int]
    length: int
    vocabulary: int
    tokens: Tokens
    lower: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("length", self.length, 2, 2**15)
        check_count("vocabulary", self.vocabulary, len(SPECIAL) + 1)
        if len(self.columns) != 2 or min(self.columns) < 1:
            raise ValueError(f"columns={self.columns}: must be the numbers of two columns, from 1 on, such as [1,2]")

    def pieces(self, text: str) -> list[str]:
        if self.tokens == "words":
            return words_of(nfc(text), lower=self.lower)
        return list(nfc(text.lower() if self.lower else text).strip())

    def read(self) -> Raw:
        path = expand("path", self.path)
        pairs, notes = self._pairs(path)
        if self.like is None:
            longest = (self.length, self.length)
            sides = [(*SPECIAL, *dict.fromkeys(word for s in side for word in s)) for side in zip(*pairs, strict=True)]
        else:
            longest = self.like.input_shape[0], self.like.target_shape[0]
            sides = [self.like.vocabulary or (), self.like.class_names or ()]
        kept = [(a, b) for a, b in pairs if len(a) <= longest[0] and len(b) < longest[1]]
        if not kept:
            raise file_error(path, f"every pair is longer than data.length={self.length}")
        if len(kept) < len(pairs):
            n = len(pairs) - len(kept)
            notes.append(f"left out {n:,} of {len(pairs):,} pairs, longer than data.length={self.length}")
        x, y = (as_rows([pair[k] for pair in kept], sides[k], longest[k], end=k == 1) for k in range(2))
        first: dict[tuple[str, ...], int] = {}
        groups = np.array([first.setdefault(tuple(source), len(first)) for source, _ in kept])
        raw = Raw(
            name=path.stem,
            task="sequence",
            parts={"train": (x, y)},
            num_outputs=len(sides[1]),
            class_names=sides[1],
            vocabulary=sides[0],
            between=" " if self.tokens == "words" else "",
            groups=groups,
            where=lambda part, what: str(path),
            notes=tuple(notes),
        )
        if self.like is not None:
            raw.notes += self._unknown({"new": (x, y)})
        return raw

    def split(self, raw: Raw) -> dict[str, Arrays]:
        """The vocabulary becomes that of the training split."""
        splits = super().split(raw)
        assert raw.vocabulary is not None  # set by read()
        assert raw.class_names is not None
        raw.vocabulary, to_x = self._frequent(raw.vocabulary, splits["train"][0])
        raw.class_names, to_y = self._frequent(raw.class_names, splits["train"][1])
        raw.num_outputs = len(raw.class_names)
        splits = {name: (to_x[x], to_y[y]) for name, (x, y) in splits.items()}
        words = [len(side) - len(SPECIAL) for side in (raw.vocabulary, raw.class_names)]
        raw.notes += (f"{words[0]:,} and {words[1]:,} different words", *self._unknown(splits))
        return splits

    def _frequent(self, words: tuple[str, ...], train: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        """The most frequent words of the training split, and old -> new number of each word."""
        count = np.bincount(train.ravel(), minlength=len(words))
        order = sorted(range(len(SPECIAL), len(words)), key=lambda k: (-count[k], words[k]))
        kept = [k for k in order if count[k]][: self.vocabulary - len(SPECIAL)]
        new = np.full(len(words), SPECIAL.index(UNKNOWN))
        new[: len(SPECIAL)] = range(len(SPECIAL))
        new[kept] = range(len(SPECIAL), len(SPECIAL) + len(kept))
        return (*SPECIAL, *(words[k] for k in kept)), new

    def _unknown(self, splits: dict[str, Arrays]) -> tuple[str, ...]:
        """A note about the words that are unknown."""
        told = []
        for name, arrays in splits.items():
            there = np.concatenate([side[side >= len(MARKS)] for side in arrays])
            n = int((there == SPECIAL.index(UNKNOWN)).sum())
            told += [f"{n:,} of {len(there):,} in {name}"] if n else []
        return (f"words that are {UNKNOWN}: {', '.join(told)}",) if told else ()

    def _pairs(self, path: Path) -> tuple[Pairs, list[str]]:
        """The pieces of each pair in the file, and notes.

        Raises:
            ValueError: it is no text, or a line has no two sentences.
        """
        pairs: Pairs = []
        more = blank = 0
        for number, line in enumerate(lines_of(path), 1):
            if not line.strip():
                blank += 1
                continue
            cells = line.split("\t")
            if len(cells) < max(self.columns):
                what = f"line {number:,} has {len(cells)} column{'s' * (len(cells) > 1)}"
                raise file_error(path, f"{what}, and data.columns={self.columns} needs {max(self.columns)}, with tabs")
            source, target = (self.pieces(cells[column - 1]) for column in self.columns)
            if not source or not target:
                raise file_error(path, f"line {number:,} has an empty sentence")
            pairs.append((source, target))
            more += len(cells) > 2
        if not pairs:
            raise file_error(path, "holds no pair of sentences")
        notes = [f"columns that are not used, in {more:,} lines"] if more else []
        return pairs, notes + ([f"{blank:,} empty lines"] if blank else [])
