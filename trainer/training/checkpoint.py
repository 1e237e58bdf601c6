"""Checkpoints: tensors and plain data in one dict, written whole, checked and never unpickled when read.

last.pt  everything that a resume needs, bit for bit
best.pt  the model and the facts of its dataset, for use of the model
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from data.fingerprint import difference
from trainer.rundir import configuration
from trainer.rundir.errors import Damaged, Refused, one_line
from trainer.rundir.files import finite, write_whole
from trainer.rundir.moved import up_to_date
from trainer.rundir.seal import check_seal, seal
from trainer.rundir.stored import opened

FORMAT = "conga checkpoint 2"
UNSEALED = "conga checkpoint 1"  # of earlier versions: read, with a note
# Facts that checkpoints of earlier versions lack.
LATER = (
    *("steps", "kinds", "units", "fill", "fingerprint"),
    *("vocabulary", "pad", "start", "end", "between", "target_shape"),
)


def save(path: Path, kind: str, state: dict[str, Any], *, settle: bool = True) -> None:
    """Writes `state` (tensors and plain data) to `path`, marked as of `kind` (``last`` or ``best``).

    Args:
        settle: as of :func:`trainer.rundir.files.write_whole`.

    Raises:
        OSError: the disk is full or fails; the old file stays.
    """

    def write(file: BinaryIO) -> None:
        sink = Sink(file)
        try:
            torch.save({"format": FORMAT, "kind": kind, **state}, cast(BinaryIO, sink))  # which is only written to
        finally:
            if sink.error:
                raise sink.error from None
        seal(file)

    write_whole(path, write, settle=settle)


class Sink:
    """A file for torch.save that keeps the error of a write; torch.save loses its reason."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.error: BaseException | None = None  # a full disk, a second Ctrl-C

    def write(self, data: bytes | memoryview) -> int:
        """Writes to the file."""
        try:
            return self.file.write(data)
        except BaseException as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Does nothing: the opener of the file flushes it."""


def load(path: Path, kind: str | None, device: torch.device | str) -> dict[str, Any]:
    """The state in `path`, its tensors on `device`.

    Args:
        kind: what it must be of: ``last``, ``best`` or ``epoch``; None: any of them.

    Raises:
        Refused: it is missing, damaged (every byte is checked before torch sees the file), or no checkpoint of conga.
    """
    try:
        with opened(path) as file:
            sealed = check_seal(file)
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise Refused(f"{path}: no such checkpoint") from None
    except Damaged:  # a pipe, a device, a folder
        raise
    except Exception as error:  # damage raises a dozen types, from zipfile's and torch's to KeyError
        raise Refused(f"{path}: not a readable checkpoint ({one_line(error)})") from error
    if not isinstance(state, dict) or state.get("format") not in (FORMAT, UNSEALED):
        raise Refused(f"{path}: a PyTorch file, but not a checkpoint of conga ({FORMAT})")
    if state["format"] == FORMAT and not sealed:
        raise Refused(f"{path}: not a readable checkpoint (its last bytes are damaged)")
    if state.get("kind") not in (PARTS if kind is None else (kind,)):
        raise Refused(f"{path}: holds the content of {state.get('kind')}.pt")
    check_parts(path, state)
    return state | {"config": up_to_date(state["config"])}


def notes(state: Mapping[str, Any]) -> tuple[str, ...]:
    """Notes about what a checkpoint of an earlier version lacks."""
    lacks = []
    if state["format"] == UNSEALED:
        lacks.append("a seal: its tensors are checked, its headers are not")
    if state["facts"].get("fingerprint") is None:
        lacks.append("a fingerprint: sizes and statistics of the data agree")
    return tuple(f"the checkpoint is of an earlier version, without {what}" for what in lacks)


def other_run(state: Mapping[str, Any], config: Mapping[str, Any], summary: Mapping[str, Any]) -> str | None:
    """What in a checkpoint contradicts the run's configuration or summary, in words; None if nothing.

    Args:
        summary: read before the checkpoint, which may be newer, as after a kill.
    """
    if other := configuration.difference(config, state["config"]):
        return other
    if state["kind"] == "best":
        name, mine, theirs = "best", state["best"], summary.get("best")
    elif state["kind"] == "last":
        name, mine, theirs = "final", state["progress"]["final"], summary.get("final")
    else:
        return None
    if not theirs or (mine and mine["epoch"] > theirs["epoch"]):
        return None
    shared = {key: value for key, value in theirs.items() if key != "note"}
    return configuration.difference(finite({key: (mine or {}).get(key) for key in shared}), shared, name)


# Dotted keys that every checkpoint has.
ALWAYS: dict[str, Any] = {"config": dict, "facts": dict, "model": dict}
BEST = {"metric": str, "value": float | int, "epoch": int}
PARTS: dict[str, dict[str, Any]] = {
    "last": ALWAYS
    | {"optimizer": dict, "processes": list, "progress": dict, "progress.epoch": int, "progress.step": int}
    | {"progress.position": int, "progress.best": dict | None, "progress.final": dict | None},
    "best": ALWAYS | {"best": dict} | {f"best.{key}": kind for key, kind in BEST.items()},
    "epoch": ALWAYS | {"epoch": int},
}


def check_parts(path: Path, state: dict[str, Any]) -> None:
    """Raises Refused if a whole file lacks a key: something other than a run wrote it."""
    for key, kind in PARTS[state["kind"]].items():
        outer, _, inner = key.rpartition(".")
        node = state[outer] if outer else state
        if inner not in node or not isinstance(node[inner], kind):
            raise Refused(f"{path}: lacks {key}, which a run writes there; something else wrote the file")


@contextlib.contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Raises Refused if the content of a checkpoint does not fit the run."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except KeyError as error:
        raise Refused(f"{path}: lacks {error}, which a run writes there; something else wrote the file") from error
    except (Refused, RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise Refused(f"{path}: does not fit this run ({one_line(error)})") from error


def changed_fact(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """What changed in the data since the run began, in words; statistics may differ by rounding.

    The fingerprint says most, and is compared after sizes and shapes.
    """
    skipped = {"notes"}
    if before.get("fingerprint") and now.get("fingerprint"):  # then a file may have another name
        skipped |= {"name"}
    ordered = sorted(now, key=lambda key: isinstance(now[key], torch.Tensor))  # statistics say least: last
    for key in ordered:
        value, old = now[key], before.get(key)
        if key in skipped or (key in LATER and old is None):
            continue
        if key == "fingerprint":
            changed = difference(old, value) if old and value else None
            if changed:
                return changed
        elif isinstance(value, torch.Tensor):
            if not isinstance(old, torch.Tensor) or value.shape != old.shape:
                return f"another {key} of the training split"
            if not torch.allclose(value, old.to(value.device), rtol=1e-4, atol=1e-7):
                return f"another {key} of the training split"
        elif key == "value_range" and value != old:
            return "its pictures have 16 bits, of which an earlier version read 8"
        elif value != old:
            return f"{key} was {old}, is {value}"
    return None
