"""From the command line to the configuration of every job of a grid."""

from __future__ import annotations

import copy
import functools
import itertools
import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString, RangeSweep, Transformer
from omegaconf import DictConfig, OmegaConf, open_dict

from trainer.cli.composing import plain, typed
from trainer.cli.explain import explain
from trainer.rundir.errors import Refused, one_line
from trainer.rundir.files import to_yaml
from trainer.rundir.typed import is_plain


@dataclass(frozen=True)
class Job:
    """A planned run without a directory.

    Args:
        swept: the overrides in which the jobs differ.
        overrides: these, and those of all jobs.
        config: the resolved configuration.
        hydra: Hydra's part of it, as YAML.
    """

    swept: tuple[str, ...]
    overrides: tuple[str, ...]
    config: dict[str, Any]
    hydra: str


@dataclass(frozen=True)
class Grid:
    """The overrides of a sweep: those of each job, and the keys with several values."""

    swept: tuple[str, ...]
    combinations: list[tuple[str, ...]]

    def differences(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """The overrides of swept keys among those of a job."""
        return tuple(o for o in overrides if o.partition("=")[0] in self.swept)


def expand(overrides: Sequence[Override], order: Iterable[str] = ()) -> Grid:
    """Every combination of the values, the last key fastest; an override with one value stays as typed.

    Args:
        order: swept keys that come first, such as those of an experiment.

    Raises:
        Refused: an interval, which has infinitely many values; several values for a key of the sweep itself.
    """
    kept = in_effect(overrides)
    for o in kept:
        if o.is_sweep_override() and not o.is_discrete_sweep():
            raise Refused(
                f"{o.input_line}: a grid takes values such as 1,2 or range(1,9); hydra/sweeper=optuna, intervals"
            )
        if o.key_or_group == "train.resume":
            raise Refused(f"{o.input_line}: resumes one run; leave out -m, or an experiment that is a sweep")
        if o.is_sweep_override() and o.key_or_group.split(".")[0] == "sweep":
            raise Refused(f"{o.input_line}: applies to the whole sweep, so it takes one value")
    place = {key: i for i, key in enumerate(order)}
    sweeps = [i for i, o in enumerate(kept) if o.is_sweep_override()]
    sweeps.sort(key=lambda i: place.get(kept[i].get_key_element(), len(place)))
    combinations = []
    for combination in itertools.product(*(values(kept[i]) for i in sweeps)):
        lines = [typed(o) for o in kept]
        for i, value in zip(sweeps, combination, strict=True):
            lines[i] = f"{kept[i].get_key_element()}={value}"
        combinations.append(tuple(lines))
    return Grid(tuple(dict.fromkeys(kept[i].get_key_element() for i in sweeps)), combinations)


def in_effect(overrides: Sequence[Override]) -> list[Override]:
    """The overrides without sweeps that a later override of the same key replaces.

    Mappings replace nothing, since Hydra merges them. Overrides with one value all stay, since Hydra also applies them
    one after the other in a single run.
    """
    kept, void = [], set()
    for o in reversed(overrides):
        key = o.key_or_group, o.package
        if not (o.is_sweep_override() and key in void):
            kept.append(o)
        if not has_mapping(o):
            void.add(key)
    return kept[::-1]


def has_mapping(override: Override) -> bool:
    """Whether a value of the override is a mapping."""
    value = override.value()
    return any(isinstance(v, dict) for v in (value.list if isinstance(value, ChoiceSweep) else [value]))


def values(override: Override) -> list[str]:
    """The values of a choice or a range, as typed."""
    value = override.value()
    if not isinstance(value, RangeSweep):
        return list(map(str, override.sweep_iterator(in_grammar)))
    numbers = numbers_of(value, typed(override))
    if value.shuffle:
        random.shuffle(numbers)
    return list(map(str, numbers))


def numbers_of(span: RangeSweep, line: str) -> list[int] | list[float]:
    """The numbers of a range without its end; added as decimals, since in binary 0.1 + 0.1 + 0.1 is not 0.3.

    Raises:
        Refused: a step of 0, or infinitely many numbers.
    """
    ends = [x for x in (span.start, span.stop, span.step) if x is not None and math.isfinite(x)]
    if len(ends) < 3 or span.step == 0:
        raise Refused(f"{line}: needs a start, another end, and a step other than 0")
    whole = all(isinstance(number, int) for number in ends)
    # A sum of Hydra's sort() may have a wrong last digit.
    start, stop, step = (Decimal(x if isinstance(x, int) else f"{x:.15g}") for x in ends)
    count = max(0, math.ceil((stop - start) / step))
    return [(int if whole else float)(start + i * step) for i in range(count)]


def parse(loader: ConfigLoader, params: dict[str, Any] | None, arguments: Sequence[str]) -> list[Override]:
    """The overrides of `hydra.sweeper.params`, then those of the command line, which replace them.

    Raises:
        Refused: a decimal comma.
    """
    for word in arguments:
        if comma := re.fullmatch(r"[^=]+=([+-]?\d+),(0\d+)", word):
            raise Refused(f"{word}: {comma[1]},{comma[2]} means two values; write {comma[1]}.{comma[2]}")
    parser = OverridesParser.create(config_loader=loader)
    typed = parser.parse_overrides(list(arguments))
    wins = {(o.key_or_group, o.package) for o in typed if not has_mapping(o)}
    given = parser.parse_overrides([f"{key}={as_typed(value)}" for key, value in (params or {}).items()])
    return [*(o for o in given if (o.key_or_group, o.package) not in wins), *typed]


def as_typed(value: Any) -> str:
    """A value of `hydra.sweeper.params` in the command line's grammar; a text stays as it is."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    return value if isinstance(value, str) else in_grammar(value)


def in_grammar(value: Any) -> str:
    """A parsed value as text that parses to the same value; Hydra's function loses quotes."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: kept(v) for k, v in value.items()}
        if isinstance(value, list):
            return [kept(v) for v in value]
        if isinstance(value, str) and not is_plain(value):
            return QuotedString(value, Quote.double)
        return value

    return Transformer.str(kept(value))


class Composer:
    """Composes the configurations of jobs.

    Hydra reads YAML once for each set of group choices (70 ms); the values are then set on copies (5 ms).
    """

    is_group: Callable[[str], bool]
    base: Callable[[tuple[str, ...]], tuple[DictConfig, DictConfig]]

    def __init__(self, loader: ConfigLoader, master: DictConfig):
        self.loader, self.master = loader, master
        self.is_group = functools.cache(lambda key: bool(loader.get_group_options(key)))
        self.base = functools.cache(self._base)

    def job(self, overrides: Sequence[str], swept: Sequence[str]) -> Job:
        """The job of these overrides; `swept` are those that differ.

        Raises:
            Refused: they cannot be composed.
        """
        try:
            parsed = OverridesParser.create().parse_overrides(list(overrides))
            choices = [o for o in parsed if self.is_group(o.key_or_group) and not isinstance(o.value(), dict)]
            base, hydra = self.base(tuple(typed(o) for o in choices))
            HydraConfig.instance().cfg = cast(HydraConf, hydra)  # for ${hydra:…}
            own = plain(hydra.hydra, resolve=False)
            config = copy.deepcopy(base)
            ConfigLoaderImpl._apply_overrides_to_config([o for o in parsed if o not in choices], config)
            own = own | {"overrides": own["overrides"] | {"task": [typed(o) for o in parsed]}}
            resolved = plain(config)
            del resolved["sweep"]  # of no run, but of all together
            return Job(tuple(swept), tuple(overrides), resolved, to_yaml({"hydra": own}))
        except Exception as error:
            line = explain(error, overrides)
            raise Refused(line or f"{type(error).__name__}: {one_line(error)}") from error

    def _base(self, choices: tuple[str, ...]) -> tuple[DictConfig, DictConfig]:
        """The composed configuration of group choices: the runs' part, and Hydra's."""
        config = self.loader.load_sweep_config(self.master, list(choices))
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        return config, cast(DictConfig, HydraConfig.instance().cfg)
