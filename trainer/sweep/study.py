"""The study of a search, which Optuna keeps in one file; a kill leaves it whole.

The samplers and pruners of conf/hydra/sweeper/ are here; other classes of Optuna can be named:

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
    "the runs are whole; put it back, or start a new search in another hydra.sweep.dir; "
    "without it, resume RUN continues and prunes nothing"
)
PRUNER, SAMPLER = "hydra.sweeper.pruner", "hydra.sweeper.sampler"


def needs_optuna() -> None:
    """Raises Refused if Optuna is missing."""
    spec = importlib.util.find_spec("optuna")
    if spec is None or spec.origin is None:  # find_spec alone also finds a folder of this name
        raise Refused("hydra/sweeper=optuna: needs optuna: pip install -e '.[optuna]'")


class Lock:
    """The lock of a journal while a line is added; the end of the process releases it.

    Optuna's lock is a file; after a kill, other processes wait half a minute for it.
    """

    def __init__(self, path: Path):
        self.path = path

    def acquire(self) -> bool:
        """Waits for the lock; then cuts off an unfinished line that a kill or a full disk left."""
        self.handle = at_end(self.path, os.O_RDWR | os.O_CREAT)
        with contextlib.suppress(ImportError, OSError):  # no locks on this file system: appending is still safe
            import fcntl

            fcntl.flock(self.handle, fcntl.LOCK_EX)
        size = os.lseek(self.handle, 0, os.SEEK_END)
        if size:
            os.lseek(self.handle, size - 1, os.SEEK_SET)
            if os.read(self.handle, 1) != b"\n":
                os.ftruncate(self.handle, self.path.read_bytes()[:size].rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Releases the lock."""
        os.close(self.handle)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, Optuna prints no lines about trials and experimental features."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def is_there(folder: Path) -> bool:
    """Whether the directory of a search has a file for its study."""
    path = folder / LOG
    return path.exists() and path.stat().st_size > 0


def storage_in(folder: Path) -> JournalStorage:
    """The storage of the study in a sweep's directory.

    Raises:
        Refused: the file is damaged.
    """
    path = folder / LOG
    os.close(at_end(path, os.O_RDWR | os.O_CREAT))  # only a regular file; Optuna would wait for a pipe
    if path.stat().st_size > MOST_TABLE:
        raise Damaged(f"{path}: has more than {MOST_TABLE:,} bytes; {MEND}")
    lock: Any = Lock(path)  # Optuna does not export the base class
    with quiet(), telling_damage(folder):
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def open_study(folder: Path, pruner: BasePruner, *, maximize: bool | None = None) -> Study:
    """The study in a sweep's directory.

    Args:
        maximize: the direction of a new study; None: the study exists.

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
    """Turns Optuna's errors about a damaged file into a refusal."""
    try:
        yield
    except (OSError, Refused):
        raise
    except Exception as error:  # KeyError, AssertionError, …
        raise Damaged(f"{folder / LOG}: damaged ({one_line(error)}); {MEND}") from error


def make_sampler(node: dict[str, Any], number: int) -> BaseSampler:
    """The sampler of one trial, with its own seed, so that a resumed search equals an undisturbed one.

    Raises:
        Refused: an invalid key or value.
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
        Refused: an invalid key or value.
    """
    import optuna

    check(PRUNER, node, ("epochs",))
    return make(PRUNER, node, **({"epochs": epochs} if ours(node) else {})) or optuna.pruners.NopPruner()


def ours(node: dict[str, Any]) -> bool:
    """Whether a node names a function of this module."""
    return str(node["_target_"]).startswith(f"{__name__}.")


def check(key: str, node: dict[str, Any], given: tuple[str, ...]) -> None:
    """Raises Refused for a wrong key or type of this module's functions; other classes check theirs when called."""
    if ours(node) or node["_target_"] is None:
        check_node(key, node, given)


def make(key: str, node: dict[str, Any], **given: Any) -> Any:
    """Calls the class of a node.

    Raises:
        Refused: its class does not take a key or a value.
    """
    with quiet():
        try:
            return build(key, node, **given)
        except (ImportError, TypeError) as error:
            raise Refused(f"{key}: {' '.join(str(error).split())}") from error
        except Exception as error:
            if "Error locating target" in str(error):  # an error of Hydra without a public type
                raise Refused(f"{key}._target_={node['_target_']}: no such class") from error
            raise


def at_least(name: str, value: int, least: int) -> int:
    """Raises ValueError for a number that is too small."""
    if value < least:
        raise ValueError(f"{name}={value}: must be at least {least}")
    return value


def tpe(*, seed: int | None, startup: int) -> BaseSampler:
    """See conf/hydra/sweeper/sampler/tpe.yaml. Running trials count as bad ones, so that trials differ."""
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, n_startup_trials=at_least("startup", startup, 0), constant_liar=True)


def random(*, seed: int | None) -> BaseSampler:
    """See conf/hydra/sweeper/sampler/random.yaml."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def median(*, startup: int, warmup: int, epochs: int) -> BasePruner:
    """See conf/hydra/sweeper/pruner/median.yaml."""
    from optuna.pruners import MedianPruner

    warmup = at_least("warmup", warmup, 0) + 1  # Optuna's first epoch is 0
    return MedianPruner(n_startup_trials=max(1, at_least("startup", startup, 0)), n_warmup_steps=warmup)


def hyperband(*, min_epochs: int, factor: int, epochs: int) -> BasePruner:
    """See conf/hydra/sweeper/pruner/hyperband.yaml."""
    from optuna.pruners import HyperbandPruner

    if not 1 <= min_epochs <= epochs:
        raise ValueError(f"min_epochs={min_epochs}: must be from 1 to train.epochs={epochs}")
    return HyperbandPruner(min_epochs, epochs, at_least("factor", factor, 2))
