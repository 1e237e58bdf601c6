"""``python -m trainer.sweep``: goes on with a sweep, or shows what came out of it so far.

python -m trainer.sweep resume outputs/2026-01-31/12-00-00_sweep
python -m trainer.sweep resume outputs/2026-01-31/12-00-00_sweep sweep.rerun_failed=true sweep.workers=1
python -m trainer.sweep show outputs/2026-01-31/12-00-00_sweep
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from trainer import trust
from trainer.command import add_trust, one_line_mistakes, refuse_arguments, shown
from trainer.composing import Loader
from trainer.config import CONF, register_resolvers
from trainer.errors import Refused
from trainer.run import train
from trainer.sweep.folder import ASKED, asked
from trainer.typed import typed_path


def main() -> None:
    """The command line; ends the process with the exit status that the README lists."""
    parser = argparse.ArgumentParser(prog="python -m trainer.sweep", description=__doc__.partition("\n")[0])
    parser.error = refuse_arguments
    what = parser.add_subparsers(dest="what", required=True)
    again = what.add_parser("resume", help="does what is left: finished jobs are skipped, interrupted ones go on")
    again.add_argument("folder", type=typed_path, help="the directory of a sweep")
    again.add_argument("overrides", nargs="*", help="changes, such as sweep.workers=1 or sweep.rerun_failed=true")
    show = what.add_parser(
        "show", help="writes sweep.csv and sweep.png, and says what is done, what failed, and the best"
    )
    show.add_argument("folder", type=typed_path, help="the directory of a sweep")
    add_trust(again)
    for one in (again, show):
        one.error = refuse_arguments
    with one_line_mistakes(shown):
        given, more = parser.parse_known_args()  # overrides may stand behind a flag
        if any(word.startswith("-") for word in more) or (more and given.what != "resume"):
            parser.error(f"unrecognized arguments: {' '.join(more)}")
        if given.what == "resume":
            resume(given.folder, [*given.overrides, *more], given.trusted)
        else:
            from trainer.sweep.results import show_all

            show_all(given.folder)


def resume(folder: Path, overrides: Sequence[str], trusted: bool = False) -> None:
    """Does what is left of the sweep in a directory.

    Args:
        trusted: whether its files may name classes that are not this program's own, and commands.

    Raises:
        Refused: no sweep, it names such, or an override that is none of `sweep.*`.
        SystemExit: something failed, or stopped the sweep.
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
    sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=train, config=config)
    sweeper.resume(trusted)


def changed(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """How the sweep was launched, with changes.

    Raises:
        Refused: an override that is none of `sweep.*`.
    """
    OmegaConf.set_struct(config, True)
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if not override.key_or_group.startswith("sweep.") or override.is_sweep_override():
            raise Refused(f"{override.input_line}: a sweep keeps its jobs; only sweep.KEY=VALUE may change")
        ConfigLoaderImpl._apply_overrides_to_config([override], config)
    return config


if __name__ == "__main__":
    main()
