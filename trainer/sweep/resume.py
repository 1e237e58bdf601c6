"""Resumes a sweep: ``python -m trainer resume SWEEP [sweep.KEY=VALUE …]``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from trainer.cli.composing import Loader
from trainer.cli.config import register_resolvers
from trainer.rundir import trust
from trainer.rundir.errors import Refused
from trainer.rundir.trust import CONF
from trainer.sweep.folder import ASKED, asked
from trainer.sweep.job import run_job


def resume(folder: Path, overrides: Sequence[str], trusted: bool = False) -> None:
    """Does the remaining jobs of the sweep in a directory.

    Args:
        trusted: whether its files may name commands and classes that are not part of conga.

    Raises:
        Refused: no sweep, it names such, or an override is none of `sweep.*`.
        Ended: a job failed, or the sweep was stopped.
    """
    given = asked(folder)["config"]
    if not trusted:
        trust.check_sweep(folder / ASKED, given)
    config = changed(OmegaConf.create(given), overrides)
    config.hydra.sweep.dir = str(folder.absolute())
    register_resolvers([])
    setup_globals()
    loader = Loader(create_config_search_path(str(CONF)))
    context = HydraContext(config_loader=loader, callbacks=Callbacks(config))
    sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=run_job, config=config)
    if not isinstance(sweeper, Resumable):
        raise Refused(f"{folder / ASKED}: its sweeper ({type(sweeper).__name__}) cannot resume")
    sweeper.resume(trusted)


@runtime_checkable
class Resumable(Protocol):
    """A sweeper that can resume a sweep from its directory."""

    def resume(self, trusted: bool) -> None:
        """Does the remaining jobs."""


def changed(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The configuration of the sweep, with changes.

    Raises:
        Refused: an override is none of `sweep.*`.
    """
    OmegaConf.set_struct(config, True)
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if not override.key_or_group.startswith("sweep.") or override.is_sweep_override():
            raise Refused(f"{override.input_line}: a sweep keeps its jobs; only sweep.KEY=VALUE may change")
        ConfigLoaderImpl._apply_overrides_to_config([override], config)
    return config
