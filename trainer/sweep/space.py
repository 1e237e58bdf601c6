"""The space of a search: one dimension for each key with several values in Hydra's grammar.

optim=sgd,cgd                           one of the choices
data.batch_size=16,32,64                one of the choices, without an order
'model.width=range(16,65,step=16)'      16, 32, 48 or 64: without the end, as in a grid
'optim.momentum=interval(0,0.99)'       any number between
'optim.lr=tag(log,interval(1e-4,1))'    any number between, on a logarithmic scale
'model.depth=int(interval(1,8))'        any whole number from 1 to 8
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Sweep

from trainer.cli.composing import typed
from trainer.rundir.errors import Refused
from trainer.sweep.grid import in_effect, numbers_of, values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MOST = 64  # combinations of choices that are all checked before a search


@dataclass(frozen=True)
class Dimension:
    """A key with its values: choices, as Hydra writes them, or numbers from `low` to `high`."""

    key: str
    choices: tuple[str, ...] = ()
    low: float | int = 0
    high: float | int = 0
    step: float | int | None = None
    log: bool = False

    @classmethod
    def of(cls, override: Override) -> Dimension:
        """The dimension of an override.

        Raises:
            Refused: it cannot be searched.
        """
        key, value, line = override.get_key_element(), override.value(), typed(override)
        assert isinstance(value, Sweep)
        if value.tags - {"log"}:
            raise Refused(f"{line}: the only tag of a search is log")
        if value.tags and not isinstance(value, IntervalSweep):
            raise Refused(f"{line}: log goes with an interval, such as tag(log,interval(1e-4,1))")
        if isinstance(value, IntervalSweep):
            low, high, log = value.start, value.end, "log" in value.tags
            if low is None or high is None or not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise Refused(f"{line}: must go from a number to a larger one")
            if log and low <= 0:
                raise Refused(f"{line}: must begin above 0 on a logarithmic scale")
            return cls(key, low=low, high=high, log=log)
        texts = tuple(dict.fromkeys(values(override)))
        if not texts:
            raise Refused(f"{line}: has no value")
        if not isinstance(value, RangeSweep):
            return cls(key, choices=texts)
        numbers = sorted(numbers_of(value, line))
        return cls(key, low=numbers[0], high=numbers[-1], step=abs(value.step))

    @classmethod
    def plain(cls, content: dict[str, Any]) -> Dimension:
        """The dimension from the dict of `dataclasses.asdict`, after JSON."""
        return cls(**content | {"choices": tuple(content["choices"])})

    def distribution(self) -> BaseDistribution:
        """The Optuna distribution."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if isinstance(self.low, int):
            return IntDistribution(self.low, int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def override(self, value: str | float | int) -> str:
        """A value as an override."""
        if self.step is not None and isinstance(value, float):  # 0.3, and not 0.30000000000000004
            value = float(f"{value:.12g}")
        return f"{self.key}={value}"

    def short(self, value: str | float | int) -> str:
        """The same, with four digits: for names."""
        return f"{self.key}={value:.4g}" if isinstance(value, float) else f"{self.key}={value}"


def space_of(overrides: Sequence[Override]) -> tuple[list[Dimension], list[str]]:
    """The dimensions of a search, and the overrides of all runs.

    Raises:
        Refused: nothing to search, or several values for a key of the sweep itself.
    """
    kept = in_effect(overrides)
    swept: dict[str, Override] = {}
    for o in kept:
        if o.is_sweep_override() and swept.setdefault(o.get_key_element(), o) is not o:
            raise Refused(f"{o.input_line}: {o.key_or_group} has values twice; give all of them in one override")
    dimensions = [Dimension.of(o) for o in swept.values()]
    if not dimensions:
        raise Refused("hydra/sweeper=optuna: no key has several values; give one such as optim.lr=interval(1e-4,1)")
    for d in dimensions:
        if d.key.lstrip("+").split(".")[0] in ("sweep", "hydra"):
            raise Refused(f"{swept[d.key].input_line}: applies to the whole search, so it takes one value")
    return dimensions, [typed(o) for o in kept if not o.is_sweep_override()]


def every_combination(dimensions: Sequence[Dimension]) -> bool:
    """Whether the combinations of choices are few enough to check them all."""
    return math.prod(len(d.choices) for d in dimensions if d.choices) <= MOST


def corners(dimensions: Sequence[Dimension]) -> list[tuple[str, ...]]:
    """Overrides to check before a search: every combination of choices with all numbers lowest, and all highest.

    If there are too many combinations, a selection with each choice.
    """
    chosen = [[d.override(choice) for choice in d.choices] for d in dimensions if d.choices]
    numbers = [d for d in dimensions if not d.choices]
    if every_combination(dimensions):
        combinations = list(itertools.product(*chosen))
    else:
        most = max(map(len, chosen))
        combinations = [tuple(texts[i % len(texts)] for texts in chosen) for i in range(most)]
    ends = dict.fromkeys(tuple(d.override(getattr(d, end)) for d in numbers) for end in ("low", "high"))
    return [(*choices, *end) for choices in combinations for end in ends]
