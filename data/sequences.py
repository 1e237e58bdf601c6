"""Generated sequences: digits to be reversed, sorted or copied, and sums as texts.

Run: ``python -m trainer data=sequences model=transformer``, ``data=addition model=transformer``
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data.gate import Raw
from data.source import check_count
from data.text import MARKS, TextSource, as_rows

RULES: dict[str, Callable[[str], str]] = {
    "reverse": lambda text: text[::-1],
    "sort": lambda text: "".join(sorted(text)),
    "copy": lambda text: text,
}


@dataclass(kw_only=True)
class GeneratedTexts(TextSource):
    """Settings of generated pairs of texts, each a question and its answer; no question comes twice.

    Args:
        samples: pairs in all.
        generator_seed: fixes them, at least 0.
    """

    samples: int
    generator_seed: int

    generated = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("samples", self.samples, 10)
        check_count("generator_seed", self.generator_seed, 0)

    def raw(self, name: str, pairs: list[tuple[str, str]], symbols: str) -> Raw:
        """The pairs as tokens, one for each character."""
        words = (*MARKS, *symbols)
        longest = [max(map(len, side)) for side in zip(*pairs, strict=True)]
        x = as_rows([question for question, _ in pairs], words, longest[0], end=False)
        y = as_rows([answer for _, answer in pairs], words, longest[1] + 1, end=True)
        return Raw(
            name=name,
            task="sequence",
            parts={"train": (x, y)},
            num_outputs=len(words),
            class_names=words,
            vocabulary=words,
            between="",
        )

    def refuse_too_many(self, possible: int) -> None:
        """Raises ValueError if there are hardly as many different questions."""
        if self.samples > possible // 2:
            raise ValueError(f"samples={self.samples}: must be at most half of the {possible:,} different ones")


@dataclass(kw_only=True)
class Sequences(GeneratedTexts):
    """Digits, and the same ones in another order: 3141 -> 1413.

    Args:
        rule: ``reverse``, ``sort`` or ``copy``.
        shortest, longest: digits of a sequence; each length between them is as likely.
        symbols: the first so many of the ten digits, at least 2.
    """

    rule: Literal["reverse", "sort", "copy"]
    shortest: int
    longest: int
    symbols: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("shortest", self.shortest, 1)
        check_count("longest", self.longest, self.shortest, 2**10)
        if not 2 <= self.symbols <= 10:
            raise ValueError(f"symbols={self.symbols}: must be from 2 to 10")
        self.refuse_too_many(sum(self.symbols**n for n in range(self.shortest, self.longest + 1)))

    def read(self) -> Raw:
        rng = np.random.default_rng(self.generator_seed)
        found: dict[str, str] = {}
        while len(found) < self.samples:
            n = int(rng.integers(self.shortest, self.longest + 1))
            text = "".join(map(str, rng.integers(0, self.symbols, n).tolist()))
            found[text] = RULES[self.rule](text)
        return self.raw(self.rule, list(found.items()), "0123456789"[: self.symbols])


@dataclass(kw_only=True)
class Addition(GeneratedTexts):
    """Sums of two numbers: 12+988 -> 1000. No sum comes twice, in either order.

    Source: the example Sequence to sequence learning for performing number addition of Keras.

    Args:
        digits: of a number at most; each number of digits is as likely.
    """

    digits: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("digits", self.digits, 1, 2**4)
        self.refuse_too_many(10**self.digits * (10**self.digits + 1) // 2)

    def read(self) -> Raw:
        rng = np.random.default_rng(self.generator_seed)
        seen: set[frozenset[int]] = set()
        pairs: list[tuple[str, str]] = []
        while len(pairs) < self.samples:
            a, b = (int(rng.integers(0, 10**n)) for n in rng.integers(1, self.digits + 1, 2).tolist())
            if frozenset((a, b)) not in seen:
                seen.add(frozenset((a, b)))
                pairs.append((f"{a}+{b}", str(a + b)))
        return self.raw("addition", pairs, "0123456789+")
