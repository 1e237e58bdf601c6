"""Hydra's composing, extended by keys that only swept choices have, by data that moved, and by ~.

This module does not import torch: ``--help`` imports it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

import hydra._internal.hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.cli.display import tell
from trainer.rundir import configuration, run_dir
from trainer.rundir.errors import Refused
from trainer.rundir.typed import typed_path


class Loader(ConfigLoaderImpl):
    """Composes the shared part of a sweep's jobs without checking that each key exists.

    Hydra composes a sweep's first configuration with the default choices of swept groups, so it would refuse a key that
    only the swept choices have. Such a key is checked when the job is composed. Likewise, the default data may lack the
    key for the place of a resumed run's data.
    """

    made: ClassVar[list[str]] = []  # collects the missing directories that Hydra will make for a run
    known: tuple[list[str], DictConfig] | None = None  # overrides of a run, and its configuration, composed already

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        how = (run_mode, from_shell, validate_sweep_overrides)
        if self.known is not None and (run_mode, overrides) == (RunMode.RUN, self.known[0]):
            (_, config), self.known = self.known, None
            return config
        if any(override.startswith("train.resume=") for override in overrides):
            overrides = [f"++{o}" if o.partition("=")[0] in configuration.MOVABLE else o for o in overrides]
        if run_mode != RunMode.MULTIRUN:
            return self.placed(super().load_configuration(config_name, overrides, *how))
        parsed = OverridesParser.create().parse_overrides(overrides)
        of_jobs = [o for o in parsed if not o.is_sweep_override() and self.is_of_jobs(o)]
        shared = [typed(o) for o in parsed if o not in of_jobs]
        config = super().load_configuration(config_name, shared, *how)
        for override in of_jobs:  # Hydra's own settings may refer to them
            with contextlib.suppress(ConfigCompositionException):
                self._apply_overrides_to_config([override], config)
        config.hydra.overrides.task = [typed(o) for o in parsed if not o.is_hydra_override()]
        return self.placed(config)

    def placed(self, config: DictConfig) -> DictConfig:
        """Expands ~ in the directories that Hydra makes; it would make one called ~."""
        for node in (config.hydra.run, config.hydra.sweep):
            text = plain(node, resolve=False)["dir"]
            if not isinstance(text, str) or text.startswith("${run_dir:"):  # resolving it would make the directory
                continue
            if text.startswith("${"):
                with contextlib.suppress(OmegaConfBaseException):
                    text = node.dir
            if text.startswith("~"):
                node.dir = text = str(typed_path(text))
            if "${" not in text:
                self.made.extend(run_dir.missing(Path(text).absolute()))
        return config

    def is_choice(self, override: Override) -> bool:
        """Whether an override chooses a file of a group instead of setting a key."""
        return bool(self.get_group_options(override.key_or_group)) and not isinstance(override.value(), dict)

    def is_of_jobs(self, override: Override) -> bool:
        """Whether an override sets a key of a run, not of the sweep or of Hydra."""
        own = override.is_hydra_override() or override.key_or_group.split(".")[0] in ("hydra", "sweep")
        return not own and not self.is_choice(override)


def typed(override: Override) -> str:
    """The override as typed on the command line."""
    assert override.input_line is not None  # Hydra's parser keeps it
    return override.input_line


def first_of(override: Override) -> str:
    """The override with the first of its values, if it has several."""
    if not override.is_sweep_override():
        return typed(override)
    values = override.value()
    value = values.start if isinstance(values, IntervalSweep) else next(override.sweep_string_iterator())
    return f"{override.get_key_element()}={value}"


def plain(config: DictConfig, *, resolve: bool = True) -> dict[str, Any]:
    """A configuration as plain dicts, lists and values; enumerations by their names."""
    found = OmegaConf.to_container(config, resolve=resolve, enum_to_str=True)
    assert isinstance(found, dict)
    return cast(dict[str, Any], found)


class Program(Hydra):
    """Hydra that keeps the sweeper's return value, and can refuse a sweep."""

    came: ClassVar[Any] = None  # what the sweeper returned
    may_sweep: ClassVar[bool] = True

    def get_mode(self, config_name: str | None, overrides: list[str]) -> Any:
        """Whether the configuration itself says that it is a run or a sweep; None if it does not.

        Hydra composes a configuration for this answer, and again for the run. Ours keeps it for the run, which saves a
        tenth of a second.
        """
        loader = cast(Loader, self.config_loader)
        try:
            config = loader.load_configuration(config_name, overrides, RunMode.RUN)
        except Exception:  # swept keys, or a mistake, which composing the run or the sweep reports
            return super().get_mode(config_name, overrides)
        mode = config.hydra.mode
        if mode is None:
            config.hydra.mode = RunMode.RUN
            config.hydra.overrides.hydra.append("hydra.mode=RUN")  # as Hydra adds it to the overrides of a run
            loader.known = [*overrides, "hydra.mode=RUN"], config
        return mode

    def app_help(self, config_name: str | None, args_parser: Any, args: Any) -> None:
        """The help page; of keys with several values it shows the first."""
        if args.multirun:
            parsed = OverridesParser.create().parse_overrides(args.overrides)
            args.overrides = [first_of(override) for override in parsed]
        super().app_help(config_name, args_parser, args)
        if args.multirun and (several := [typed(o) for o in parsed if o.is_sweep_override()]):
            tell(f"Of several values ({', '.join(several)}) the first is shown.")

    def multirun(self, *args: Any, **kwargs: Any) -> Any:
        if not self.may_sweep:
            words = [word for word in kwargs["overrides"] if word.startswith(("experiment=", "hydra.mode="))]
            raise Refused(f"{', '.join(words)}: is a sweep, many runs; conga.sweep does it")
        Program.came = super().multirun(*args, **kwargs)
        return Program.came


@contextlib.contextmanager
def installed(made: list[str], may_sweep: bool) -> Iterator[type[Program]]:
    """Makes Hydra use :class:`Loader` and :class:`Program`, for which it has no setting.

    Args:
        made: collects the directories that Hydra makes.
        may_sweep: whether a sweep is carried out; otherwise it is refused.
    """
    theirs, parts = hydra._internal.hydra, ("ConfigLoaderImpl", "Hydra")
    before = [getattr(theirs, name) for name in parts]
    Loader.made, Program.came, Program.may_sweep = made, None, may_sweep
    try:
        for name, ours in zip(parts, (Loader, Program), strict=True):
            setattr(theirs, name, ours)
        yield Program
    finally:
        for name, part in zip(parts, before, strict=True):
            setattr(theirs, name, part)
