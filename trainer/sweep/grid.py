"""From the words on the command line to the configuration of every job of a grid."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from trainer.config import explain
from trainer.errors import Refused, one_line
from trainer.files import to_yaml


@dataclass(frozen=True)
class Job:
    """A run that is planned, and has no directory yet.

    Args:
        swept: the overrides in which the jobs differ.
        overrides: these, and those that all have.
        config: what they compose to, resolved.
        hydra: Hydra's own part of it, as YAML.
    """

    swept: tuple[str, ...]
    overrides: tuple[str, ...]
    config: dict[str, Any]
    hydra: str


@dataclass(frozen=True)
class Grid:
    """The overrides of a sweep: those of each job, and which keys take several values."""

    swept: tuple[str, ...]
    combinations: list[tuple[str, ...]]

    def differences(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """Of a job's overrides, those of swept keys."""
        return tuple(o for o in overrides if o.partition("=")[0] in self.swept)


def expand(overrides: Sequence[Override]) -> Grid:
    """Every combination of the values given, the last key's fastest.

    Raises:
        Refused: an interval, of which there is no end of values; a key of the sweep itself.
    """
    last = {o.get_key_element(): o for o in overrides}  # of two for a key, the second wins
    swept = tuple(key for key, o in last.items() if o.is_sweep_override())
    for o in last.values():
        if o.is_sweep_override() and not o.is_discrete_sweep():
            raise Refused(
                f"{o.input_line}: a grid takes values such as 1,2 or range(1,9); hydra/sweeper=optuna, intervals"
            )
        if o.key_or_group == "train.resume":
            raise Refused(f"{o.input_line}: goes on with one run; leave out -m, or an experiment that is a sweep")
        if o.is_sweep_override() and o.key_or_group.split(".")[0] == "sweep":
            raise Refused(f"{o.input_line}: holds for the whole sweep, so it takes one value")
    [jobs] = BasicSweeper.split_arguments(list(last.values()), max_batch_size=None)
    return Grid(swept, [tuple(job) for job in jobs])


def parse(loader: ConfigLoader, params: dict[str, Any] | None, arguments: Sequence[str]) -> list[Override]:
    """What `hydra.sweeper.params` says, then the command line, which wins."""
    given = [f"{key}={value}" for key, value in (params or {}).items()]
    return OverridesParser.create(config_loader=loader).parse_overrides([*given, *arguments])


class Composer:
    """Composes the configurations of jobs.

    Hydra reads YAML once for each set of group choices (70 ms); the values are then set on copies (5 ms).
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig):
        self.loader, self.master = loader, master
        self.is_group = functools.cache(lambda key: bool(loader.get_group_options(key)))
        self.base = functools.cache(self._base)

    def job(self, overrides: Sequence[str], swept: Sequence[str]) -> Job:
        """The job of these overrides, of which `swept` are its own.

        Raises:
            Refused: they compose to nothing.
        """
        try:
            parsed = OverridesParser.create().parse_overrides(list(overrides))
            choices = [o for o in parsed if self.is_group(o.key_or_group) and not isinstance(o.value(), dict)]
            base, hydra = self.base(tuple(o.input_line for o in choices))
            HydraConfig.instance().cfg = hydra  # what ${hydra:…} refers to
            own = OmegaConf.to_container(hydra.hydra, resolve=False, enum_to_str=True)
            config = copy.deepcopy(base)
            ConfigLoaderImpl._apply_overrides_to_config([o for o in parsed if o not in choices], config)
            own = own | {"overrides": own["overrides"] | {"task": [o.input_line for o in parsed]}}
            plain = OmegaConf.to_container(config, resolve=True)
            del plain["sweep"]  # of no run, but of all together
            return Job(tuple(swept), tuple(overrides), plain, to_yaml({"hydra": own}))
        except Exception as error:
            line = explain(error, overrides)
            raise Refused(line or f"{type(error).__name__}: {one_line(error)}") from error

    def _base(self, choices: tuple[str, ...]) -> tuple[DictConfig, DictConfig]:
        """What Hydra composes of group choices: the runs' part of it, and Hydra's own."""
        config = self.loader.load_sweep_config(self.master, list(choices))
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        return config, HydraConfig.instance().cfg
