"""The study of a search, kept by optuna in one file, which a kill at any time leaves whole.

The samplers and pruners of conf/hydra/sweeper/ are here; others of optuna's can be named by their class:

    hydra.sweeper.sampler._target_=optuna.samplers.GPSampler '~hydra.sweeper.sampler.startup'
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.cli.signatures import check_node
from trainer.rundir.errors import Damaged, Refused, one_line
from trainer.rundir.files import at_end
from trainer.rundir.stored import MOST_TABLE
from trainer.sweep.folder import STUDY
from trainer.training.parts import build

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import JournalStorage

LOG, NAME = STUDY, "search"
MEND = (
    "the runs beside it are whole; put it back, or search anew in another hydra.sweep.dir; "
    "without it, resume RUN continues and prunes nothing"
)
PRUNER, SAMPLER = "hydra.sweeper.pruner", "hydra.sweeper.sampler"


def needs_optuna() -> None:
    """Raises Refused where optuna is missing."""
    spec = importlib.util.find_spec("optuna")
    if spec is None or spec.origin is None:  # a folder of that name is found, too
        raise Refused("hydra/sweeper=optuna: needs optuna: pip install -e '.[optuna]'")


class Lock:
    """Of a journal, while a line is added; the lock goes with the process, however it ends.

    Optuna's own is a file, for which others wait half a minute after its process was killed.
    """

    def __init__(self, path: Path):
        self.path = path

    def acquire(self) -> bool:
        """Waits for the lock; then cuts off half a line that somebody who was killed, or a full disk, left."""
        self.handle = at_end(self.path, os.O_RDWR | os.O_CREAT)
        with contextlib.suppress(ImportError, OSError):  # no such locks here: appending is safe without, too
            import fcntl

            fcntl.flock(self.handle, fcntl.LOCK_EX)
        size = os.lseek(self.handle, 0, os.SEEK_END)
        if size:
            os.lseek(self.handle, size - 1, os.SEEK_SET)
            if os.read(self.handle, 1) != b"\n":
                os.ftruncate(self.handle, self.path.read_bytes()[:size].rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Lets go."""
        os.close(self.handle)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna without its lines about each trial, and about what it calls experimental."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def is_there(folder: Path) -> bool:
    """Whether the directory of a search has a file that may hold its study."""
    path = folder / LOG
    return path.exists() and path.stat().st_size > 0


def storage_in(folder: Path) -> JournalStorage:
    """Where the study in a sweep's directory is kept.

    Raises:
        Refused: the file is damaged.
    """
    path = folder / LOG
    os.close(at_end(path, os.O_RDWR | os.O_CREAT))  # a regular file; optuna would wait for a pipe
    if path.stat().st_size > MOST_TABLE:
        raise Damaged(f"{path}: has more than {MOST_TABLE:,} bytes; {MEND}")
    lock: Any = Lock(path)  # as the base class of Optuna's, which it does not export
    with quiet(), telling_damage(folder):
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def open_study(folder: Path, pruner: BasePruner, *, maximize: bool | None = None) -> Study:
    """The study in a sweep's directory.

    Args:
        maximize: what a study that is made now seeks; None: it is there already.

    Raises:
        Refused: the file is damaged.
    """
    import optuna

    storage = storage_in(folder)
    with quiet(), telling_damage(folder):
        if maximize is not None and not storage.get_all_studies():
            return optuna.create_study(
                study_name=NAME, storage=storage, pruner=pruner, direction="maximize" if maximize else "minimize"
            )
        return optuna.load_study(study_name=NAME, storage=storage, pruner=pruner)


@contextlib.contextmanager
def telling_damage(folder: Path) -> Iterator[None]:
    """Raises Refused for what optuna makes of a damaged file."""
    try:
        yield
    except (OSError, Refused):
        raise
    except Exception as error:  # KeyError, AssertionError, …
        raise Damaged(f"{folder / LOG}: damaged ({one_line(error)}); {MEND}") from error


def make_sampler(node: dict[str, Any], number: int) -> BaseSampler:
    """The sampler of one trial, with a seed of its own: a search that was stopped goes on as if it had not been.

    Raises:
        Refused: a key or a value that it does not take.
    """
    import numpy as np

    check(SAMPLER, node, ())
    seed = node.get("seed")
    if seed is not None:
        if not isinstance(seed, int) or seed < 0:
            raise Refused(f"{SAMPLER}.seed={seed}: must be a whole number, at least 0, or null")
        node = node | {"seed": int(np.random.SeedSequence((seed, number)).generate_state(1)[0])}
    return make(SAMPLER, node)


def make_pruner(node: dict[str, Any], epochs: int) -> BasePruner:
    """The pruner of a search whose longest run has so many epochs.

    Raises:
        Refused: a key or a value that it does not take.
    """
    import optuna

    check(PRUNER, node, ("epochs",))
    return make(PRUNER, node, **({"epochs": epochs} if ours(node) else {})) or optuna.pruners.NopPruner()


def ours(node: dict[str, Any]) -> bool:
    """Whether a node names something of this module."""
    return str(node["_target_"]).startswith(f"{__name__}.")


def check(key: str, node: dict[str, Any], given: tuple[str, ...]) -> None:
    """Raises Refused for a key or type that is not ours; other classes check theirs when they are made."""
    if ours(node) or node["_target_"] is None:
        check_node(key, node, given)


def make(key: str, node: dict[str, Any], **given: Any) -> Any:
    """What a node says.

    Raises:
        Refused: its class does not take a key or a value.
    """
    with quiet():
        try:
            return build(key, node, **given)
        except (ImportError, TypeError) as error:
            raise Refused(f"{key}: {' '.join(str(error).split())}") from error
        except Exception as error:
            if "Error locating target" in str(error):  # Hydra's own, of no public type
                raise Refused(f"{key}._target_={node['_target_']}: no such class") from error
            raise


def at_least(name: str, value: int, least: int) -> int:
    """Raises ValueError for a number that is too small."""
    if value < least:
        raise ValueError(f"{name}={value}: must be at least {least}")
    return value


def tpe(*, seed: int | None, startup: int) -> BaseSampler:
    """See conf/hydra/sweeper/sampler/tpe.yaml. Runs that are under way count as bad ones: no two look at one place."""
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, n_startup_trials=at_least("startup", startup, 0), constant_liar=True)


def random(*, seed: int | None) -> BaseSampler:
    """See conf/hydra/sweeper/sampler/random.yaml."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def median(*, startup: int, warmup: int, epochs: int) -> BasePruner:
    """See conf/hydra/sweeper/pruner/median.yaml."""
    from optuna.pruners import MedianPruner

    warmup = at_least("warmup", warmup, 0) + 1  # optuna's first epoch is 0
    return MedianPruner(n_startup_trials=max(1, at_least("startup", startup, 0)), n_warmup_steps=warmup)


def hyperband(*, min_epochs: int, factor: int, epochs: int) -> BasePruner:
    """See conf/hydra/sweeper/pruner/hyperband.yaml."""
    from optuna.pruners import HyperbandPruner

    if not 1 <= min_epochs <= epochs:
        raise ValueError(f"min_epochs={min_epochs}: must be from 1 to train.epochs={epochs}")
    return HyperbandPruner(min_epochs, epochs, at_least("factor", factor, 2))
