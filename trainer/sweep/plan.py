"""What a search keeps of its beginning, in ``search.json``: where it looks, and what all of its runs are composed of.

So a change of YAML after the start changes no later run, and a search can be gone on with from its directory alone.
"""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from trainer.errors import Refused, one_line
from trainer.files import YamlLoader, to_yaml, write_whole
from trainer.run_dir import located, shown
from trainer.sweep.folder import SEARCH
from trainer.sweep.grid import Composer
from trainer.sweep.space import Dimension


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
        bases: for each combination of group choices, what they compose to, as YAML: `choices`, `config`, `hydra`.
    """

    dimensions: list[Dimension]
    constants: list[str]
    metric: str
    maximize: bool
    epochs: int
    suspects: list[list[str]]
    bases: list[dict[str, Any]]

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
            content = json.loads((folder / SEARCH).read_bytes())
            return cls(**content | {"dimensions": [Dimension.plain(d) for d in content["dimensions"]]})
        except FileNotFoundError:
            raise Refused(f"{shown(folder)}: holds no search ({SEARCH} is missing); give its command again") from None
        except (ValueError, TypeError, KeyError) as error:
            raise Refused(f"{folder / SEARCH}: not readable ({one_line(error)})") from error

    def check_same(self, folder: Path, dimensions: list[Dimension], constants: list[str]) -> None:
        """Raises Refused where a command asks for another search than the one that the directory has."""
        here, there = set(constants), set(self.constants)
        if self.dimensions != dimensions or here != there:
            other = [d.key for d in dimensions if d not in self.dimensions] + sorted(here - there)
            other += [d.key for d in self.dimensions if d not in dimensions] + sorted(there - here)
            raise Refused(
                f"{shown(folder)}: holds another search ({other[0]} differs); choose another hydra.sweep.dir, "
                f"or go on with that one: python -m trainer.sweep resume {shlex.quote(shown(folder))}"
            )

    def check_place(self, folder: Path) -> None:
        """Raises Refused where paths of its runs mean other files in this folder than in the one where it was begun."""
        first = [d.override(d.choices[0] if d.choices else d.low) for d in self.dimensions]
        job = self.composer().job([*self.constants, *first], ())
        home = from_yaml(job.hydra)["hydra"]["runtime"]["cwd"]
        if Path(home) != Path.cwd() and located(job.config) != job.config:
            raise Refused(
                f"{shown(folder)}: its relative paths are those of {home}; give the command there, "
                f"or go on with it: python -m trainer.sweep resume {shlex.quote(shown(folder))}"
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


class Kept(Composer):
    """Composes from bases that a plan keeps."""

    def __init__(self, bases: Sequence[dict[str, Any]]):
        self.texts = {tuple(base["choices"]): base for base in bases}
        self.made: dict[tuple[str, ...], tuple[DictConfig, DictConfig]] = {}
        groups = {o.key_or_group for lines in self.texts for o in parsed(lines)}
        self.is_group, self.base = groups.__contains__, self._base

    def _base(self, choices: tuple[str, ...]) -> tuple[DictConfig, DictConfig]:
        if choices not in self.made:
            text = self.texts[choices]
            self.made[choices] = tuple(OmegaConf.create(from_yaml(text[part])) for part in ("config", "hydra"))
            for config in self.made[choices]:
                OmegaConf.set_struct(config, True)  # a key that is not there is a mistake
        return self.made[choices]


def compose_bases(
    composer: Composer, dimensions: Sequence[Dimension], constants: Sequence[str]
) -> list[dict[str, Any]]:
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
        choices = tuple(o.input_line for o in lines if not isinstance(o.value(), dict))
        config, hydra = (OmegaConf.to_container(part, enum_to_str=True) for part in composer.base(choices))
        bases.append({"choices": list(choices), "config": to_yaml(config), "hydra": to_yaml(hydra)})
    return bases


def from_yaml(text: str) -> Any:
    """What `to_yaml` wrote."""
    return yaml.load(text, YamlLoader)


def parsed(lines: Sequence[str]) -> list[Any]:
    """Overrides, without those that Hydra has to look up."""
    return OverridesParser.create().parse_overrides(list(lines))
