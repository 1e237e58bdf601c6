"""The plan of a search in ``search.json``: its space, and the configuration of all its runs.

So a later change of YAML files changes no run, and a search can be resumed from its directory alone.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from trainer.cli.composing import typed
from trainer.cli.signatures import check_call
from trainer.rundir.configuration import OVERRIDES, located
from trainer.rundir.errors import Damaged, Refused, one_line
from trainer.rundir.files import to_yaml, write_whole
from trainer.rundir.moved import up_to_date
from trainer.rundir.run_dir import shown
from trainer.rundir.stored import MOST_YAML, as_mapping, parse_yaml, read_object, read_text
from trainer.sweep.folder import SEARCH, jobs_of, number_of, resume_command
from trainer.sweep.grid import Composer
from trainer.sweep.space import Dimension

SEED = "seed"


@dataclass(frozen=True)
class Base:
    """The composed configuration of group choices, as YAML: the runs' part, and Hydra's."""

    choices: list[str]
    config: str
    hydra: str


@dataclass(frozen=True)
class Plan:
    """A search, without the number of trials, the sampler and the pruner.

    Args:
        dimensions: its space.
        constants: overrides of all runs.
        metric: column of metrics.csv, or test/NAME.
        maximize: whether higher values are better.
        epochs: of its longest run.
        suspects: combinations of choices that cannot run with some or all numbers.
        bases: the composed configuration of each combination of group choices.
        seeds: runs of each trial.
    """

    dimensions: list[Dimension]
    constants: list[str]
    metric: str
    maximize: bool
    epochs: int
    suspects: list[list[str]]
    bases: list[Base]
    seeds: int = 1

    def write(self, folder: Path) -> None:
        """Writes it to the search's directory."""
        write_whole(folder / SEARCH, json.dumps(asdict(self), indent=1).encode() + b"\n")

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan in the directory of a search.

        Raises:
            Refused: the file is missing or damaged.
        """
        try:
            content = read_object(folder / SEARCH)
            if content is None:
                raise Refused(f"{shown(folder)}: holds no search ({SEARCH} is missing); give its command again")
            try:
                return cls.parsed(content)
            except (Refused, ValueError) as error:
                raise Damaged(f"{folder / SEARCH}: not readable ({one_line(error)})") from error
        except Damaged as error:
            raise Damaged(f"{error}; remove it and give the search's command again: its runs are kept") from error

    @classmethod
    def parsed(cls, content: dict[str, Any]) -> Plan:
        """The plan in the file's content.

        Raises:
            Refused, ValueError: the content is damaged.
        """
        check_call("", content, cls, ())
        for node in content["dimensions"]:
            check_call("dimensions", node, Dimension, ())
        for node in content["bases"]:
            check_call("bases", node, Base, ())
            for text in (node["config"], node["hydra"]):
                as_mapping(parse_yaml(text, "bases"), "bases")
        dimensions = [Dimension.plain(node) for node in content["dimensions"]]
        for dimension in dimensions:
            dimension.distribution()  # raises for wrong ends and the like
        bases = [Base(**node) for node in content["bases"]]
        return cls(**content | {"dimensions": dimensions, "bases": bases})

    def check_same(self, folder: Path, dimensions: list[Dimension], constants: list[str]) -> None:
        """Raises Refused if the directory has another search than the command's."""
        here, there = set(constants), set(self.constants)
        if self.dimensions != dimensions or here != there:
            other = [d.key for d in dimensions if d not in self.dimensions] + sorted(here - there)
            other += [d.key for d in self.dimensions if d not in dimensions] + sorted(there - here)
            raise Refused(
                f"{shown(folder)}: holds another search ({other[0]} differs); choose another hydra.sweep.dir, "
                f"or resume that one: {resume_command(folder, trusted=False)}"
            )

    def check_jobs(self, folder: Path) -> None:
        """Raises Refused if the plan is missing and the directory has runs of another search."""
        trials: dict[int, list[Path]] = {}
        for path in jobs_of(folder):
            trials.setdefault(number_of(path), []).append(path)
        for runs in trials.values():
            first = any(self.is_of_ours(overrides_of(run)) for run in runs)
            if not first or len(runs) > self.seeds:
                raise Refused(f"{shown(folder)}: {SEARCH} is gone, and {runs[0].name} is a run of another search")

    def is_of_ours(self, words: Sequence[str]) -> bool:
        """Whether these may be the overrides of a trial's first run."""
        return set(self.constants) <= set(words) and len(words) == len(self.constants) + len(self.dimensions)

    def check_place(self, folder: Path) -> None:
        """Raises Refused if relative paths of its runs would be other files from this working directory."""
        first = [d.override(d.choices[0] if d.choices else d.low) for d in self.dimensions]
        job = self.composer().job([*self.constants, *first], ())
        home = parse_yaml(job.hydra, SEARCH)["hydra"]["runtime"]["cwd"]
        if Path(home) != Path.cwd() and located(job.config) != job.config:
            raise Refused(
                f"{shown(folder)}: its relative paths are relative to {home}; give the command there, "
                f"or resume it: {resume_command(folder, trusted=False)}"
            )

    def overrides(self, params: dict[str, Any]) -> list[str]:
        """The overrides of a trial in which the trials differ."""
        return [d.override(params[d.key]) for d in self.dimensions]

    def words(self, params: dict[str, Any], seed: int | None = None) -> list[str]:
        """All overrides of a run of a trial; `seed` None: the first one, with the search's own."""
        constants = self.constants if seed is None else [*seedless(self.constants), f"{SEED}={seed}"]
        return [*constants, *self.overrides(params)]

    def choices(self, params: dict[str, Any]) -> list[str]:
        """The values of a trial that are no numbers."""
        return [d.override(params[d.key]) for d in self.dimensions if d.choices]

    def composer(self) -> Composer:
        """A composer from the kept bases, which does not read YAML files."""
        return Kept(self.bases)


def seedless(words: Sequence[str]) -> list[str]:
    """Overrides without that of the seed."""
    return [word for word in words if word.partition("=")[0] != SEED]


def overrides_of(run: Path) -> list[str]:
    """The overrides of a run.

    Raises:
        Damaged: the file is not a summary.
    """
    path = run / OVERRIDES
    text = read_text(path, MOST_YAML)
    words = None if text is None else parse_yaml(text, path)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise Damaged(f"{path}: must be a list of words")
    return words


class Kept(Composer):
    """Composes from the bases of a plan."""

    def __init__(self, bases: Sequence[Base]):
        self.texts = {tuple(base.choices): base for base in bases}
        self.made: dict[tuple[str, ...], tuple[DictConfig, DictConfig]] = {}
        groups = {o.key_or_group for lines in self.texts for o in parsed(lines)}
        self.is_group, self.base = groups.__contains__, self._base

    def _base(self, choices: tuple[str, ...]) -> tuple[DictConfig, DictConfig]:
        if choices not in self.made:
            base = self.texts[choices]
            self.made[choices] = _node(base.config), _node(base.hydra)
        return self.made[choices]


def _node(text: str) -> DictConfig:
    """A part of a base as an OmegaConf node that refuses unknown keys."""
    config = OmegaConf.create(up_to_date(as_mapping(parse_yaml(text, SEARCH), SEARCH)))
    OmegaConf.set_struct(config, True)
    return config


def compose_bases(composer: Composer, dimensions: Sequence[Dimension], constants: Sequence[str]) -> list[Base]:
    """Every combination of group choices, composed.

    Raises:
        Refused: Hydra cannot compose one of them.
    """
    groups = [
        d for d in dimensions if d.choices and composer.is_group(parsed([d.override(d.choices[0])])[0].key_or_group)
    ]
    bases = []
    for combination in itertools.product(*([d.override(c) for c in d.choices] for d in groups)):
        try:
            composer.job([*constants, *combination], ())  # one line about the mistake
        except Refused as error:
            raise Refused(f"{error} ({','.join(combination)})" if combination else str(error)) from error
        lines = [o for o in parsed([*constants, *combination]) if composer.is_group(o.key_or_group)]
        choices = tuple(typed(o) for o in lines if not isinstance(o.value(), dict))
        config, hydra = (OmegaConf.to_container(part, enum_to_str=True) for part in composer.base(choices))
        bases.append(Base(list(choices), to_yaml(config), to_yaml(hydra)))
    return bases


def parsed(lines: Sequence[str]) -> list[Override]:
    """Overrides, without those that Hydra has to look up."""
    return OverridesParser.create().parse_overrides(list(lines))
