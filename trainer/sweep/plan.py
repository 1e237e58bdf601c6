"""What a search keeps of its beginning, in ``search.json``: where it looks, and what all of its runs are composed of.

So a change of YAML after the start changes no later run, and a search can be gone on with from its directory alone.
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
from trainer.sweep.folder import SEARCH, jobs_of, resume_command
from trainer.sweep.grid import Composer
from trainer.sweep.space import Dimension


@dataclass(frozen=True)
class Base:
    """What group choices compose to, as YAML: the runs' part of it, and Hydra's own."""

    choices: list[str]
    config: str
    hydra: str


@dataclass(frozen=True)
class Plan:
    """A search, but for how many trials it has, and who proposes and prunes them.

    Args:
        dimensions: where it looks.
        constants: overrides that all runs have.
        metric: column of metrics.csv, or test/NAME.
        maximize: whether high values are good.
        epochs: of its longest run.
        suspects: choices that go together badly with some numbers, or with all.
        bases: for each combination of group choices, what they compose to.
    """

    dimensions: list[Dimension]
    constants: list[str]
    metric: str
    maximize: bool
    epochs: int
    suspects: list[list[str]]
    bases: list[Base]

    def write(self, folder: Path) -> None:
        """Keeps it in the search's directory."""
        write_whole(folder / SEARCH, json.dumps(asdict(self), indent=1).encode() + b"\n")

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """What the directory of a search keeps.

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
            raise Damaged(f"{error}; remove it and give the search's command again: its runs stay") from error

    @classmethod
    def parsed(cls, content: dict[str, Any]) -> Plan:
        """The plan that the file's content describes.

        Raises:
            Refused, ValueError: something in it is not what a search writes.
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
            dimension.distribution()  # raises for ends in the wrong order, and the like
        bases = [Base(**node) for node in content["bases"]]
        return cls(**content | {"dimensions": dimensions, "bases": bases})

    def check_same(self, folder: Path, dimensions: list[Dimension], constants: list[str]) -> None:
        """Raises Refused where a command asks for another search than the one that the directory has."""
        here, there = set(constants), set(self.constants)
        if self.dimensions != dimensions or here != there:
            other = [d.key for d in dimensions if d not in self.dimensions] + sorted(here - there)
            other += [d.key for d in self.dimensions if d not in dimensions] + sorted(there - here)
            raise Refused(
                f"{shown(folder)}: holds another search ({other[0]} differs); choose another hydra.sweep.dir, "
                f"or resume that one: {resume_command(folder, trusted=False)}"
            )

    def check_jobs(self, folder: Path) -> None:
        """Raises Refused where a search whose plan is gone has left runs that are not of this one."""
        for path in jobs_of(folder):
            missing = set(self.constants) - set(overrides_of(path))
            if missing or len(overrides_of(path)) != len(self.constants) + len(self.dimensions):
                raise Refused(f"{shown(folder)}: {SEARCH} is gone, and {path.name} is a run of another search")

    def check_place(self, folder: Path) -> None:
        """Raises Refused where paths of its runs mean other files in this folder than in the one where it was begun."""
        first = [d.override(d.choices[0] if d.choices else d.low) for d in self.dimensions]
        job = self.composer().job([*self.constants, *first], ())
        home = parse_yaml(job.hydra, SEARCH)["hydra"]["runtime"]["cwd"]
        if Path(home) != Path.cwd() and located(job.config) != job.config:
            raise Refused(
                f"{shown(folder)}: its relative paths are those of {home}; give the command there, "
                f"or resume it: {resume_command(folder, trusted=False)}"
            )

    def overrides(self, params: dict[str, Any]) -> list[str]:
        """Of a trial: those in which the trials differ."""
        return [d.override(params[d.key]) for d in self.dimensions]

    def choices(self, params: dict[str, Any]) -> list[str]:
        """Of a trial: those that are no numbers."""
        return [d.override(params[d.key]) for d in self.dimensions if d.choices]

    def composer(self) -> Composer:
        """Composes of what is kept, without reading YAML."""
        return Kept(self.bases)


def overrides_of(run: Path) -> list[str]:
    """The words that a run was composed of.

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
    """Composes from bases that a plan keeps."""

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
    """A part of a base as OmegaConf has it; a key that is not there is a mistake."""
    config = OmegaConf.create(up_to_date(as_mapping(parse_yaml(text, SEARCH), SEARCH)))
    OmegaConf.set_struct(config, True)
    return config


def compose_bases(composer: Composer, dimensions: Sequence[Dimension], constants: Sequence[str]) -> list[Base]:
    """Every combination of group choices, composed.

    Raises:
        Refused: one that Hydra cannot compose.
    """
    groups = [
        d for d in dimensions if d.choices and composer.is_group(parsed([d.override(d.choices[0])])[0].key_or_group)
    ]
    bases = []
    for combination in itertools.product(*([d.override(c) for c in d.choices] for d in groups)):
        try:
            composer.job([*constants, *combination], ())  # says what is wrong in one line
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
