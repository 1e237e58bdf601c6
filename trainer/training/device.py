"""Where and how a run computes: the device, CPU threads, precision, and torch's global switches."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch

from trainer.cli.processes import local_rank
from trainer.rundir.errors import Refused
from trainer.training.settings import Precision, TrainSettings

# Read before any run sets it, so that the jobs of a sweep in one process do not inherit it from each other.
TORCH_THREADS = torch.get_num_threads()
# Multiply-adds of a step's forward pass from which one more thread gains time. Measured (`python -m bench threads`):
# below, starting a thread in each operation takes as long as it saves, and far longer beside a busy process.
WORK_OF_A_THREAD = 450_000


def pick_device(name: str, before: str | None, *, several: bool = False) -> torch.device:
    """The device. `auto` is that of the run `before`, else the GPU if any, else the CPU; each of `several` has its own.

    Raises:
        Refused: the name is unknown, or this machine lacks the device.
    """
    if several and re.fullmatch(r"cuda:\d+", name):
        raise Refused(f"train.device={name}: each process takes a GPU of its own; use auto, cuda or cpu")
    if several and before:  # of the first process
        before = before.partition(":")[0]
    name = before or name if name == "auto" else name
    if name == "auto":
        if torch.cuda.is_available():
            return pick_device("cuda", None)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise Refused(f"train.device={name}: must be auto, cpu, cuda, cuda:N or mps")
    if name == "mps" and not torch.backends.mps.is_available():
        raise Refused("train.device=mps: this machine has no Apple GPU that torch can use; use auto or cpu")
    if name.startswith("cuda"):
        index, count = int(name.partition(":")[2] or local_rank()), torch.cuda.device_count()
        if count == 0:
            raise Refused(f"train.device={name}: torch finds no CUDA device on this machine; use auto or cpu")
        if index >= count and several:
            raise Refused(f"train.device={name}: there are more processes than GPUs ({count}) on this machine")
        if index >= count:
            raise Refused(f"train.device={name}: this machine has cuda:0 to cuda:{count - 1}")
        return torch.device("cuda", index)
    return torch.device(name)


def set_default_threads(threads: int) -> None:
    """Sets the meaning of `auto` in this process: fewer threads if several runs share the cores."""
    global TORCH_THREADS
    TORCH_THREADS = threads
    torch.set_num_threads(threads)


def pick_threads(wanted: int | Literal["auto"], before: int | None, work: int, device: torch.device) -> int:
    """The CPU threads: `wanted`, or for `auto` as many as the run had `before`, else by the work of a step.

    Sums are split over threads, so a resumed run needs the same number for the same bits; and a rule over the
    configuration gives it on every start, which a trial would not.

    Args:
        work: the multiply-adds of a step's forward pass that threads can share.
    """
    if isinstance(wanted, int):
        return wanted
    if before or device.type != "cpu":
        return before or TORCH_THREADS
    return min(TORCH_THREADS, max(1, work // WORK_OF_A_THREAD))


def autocast(precision: Precision, device: torch.device) -> Callable[[], contextlib.AbstractContextManager]:
    """A context for forward passes: autocast to 16 bits, or nothing.

    Raises:
        ValueError: this device does not support the precision.
    """
    if precision == "fp16" and device.type == "cpu" and not has_fp16():
        raise ValueError("precision=fp16: this CPU cannot compute in fp16; use bf16 or float32")
    if precision == "float64" and device.type == "mps":
        raise ValueError("precision=float64: an Apple GPU has no float64; use float32")
    if precision in ("float32", "float64"):
        return contextlib.nullcontext
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return functools.partial(torch.autocast, device.type, dtype=dtype)


def has_fp16() -> bool:
    """Whether this CPU computes in 16-bit floating point; without, torch would be very slow."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_fp16_supported()


def check_compiler(device: torch.device) -> None:
    """Raises ValueError if torch.compile needs a C++ compiler (on a CPU) and there is none."""
    names = (os.environ.get("CXX"), "g++", "clang++")
    if device.type == "cpu" and not any(shutil.which(name) for name in names if name):
        raise ValueError("compile=true: needs a C++ compiler, such as g++; none found")


@contextlib.contextmanager
def switches(settings: TrainSettings, device: torch.device) -> Iterator[None]:
    """Inside, torch's global switches are as a run needs them."""
    matmul, deterministic = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
    with warnings.catch_warnings():
        # If the first gradients of fp16 overflow, the schedule steps before the optimizer.
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        try:
            if device.type == "cuda":
                torch.set_float32_matmul_precision("high")
            if device.type == "cuda" and settings.deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS
            set_deterministic(settings.deterministic)
            yield
        finally:
            torch.set_float32_matmul_precision(matmul)
            set_deterministic(deterministic)


def set_deterministic(wanted: bool) -> None:
    """Sets the switch if it changes; torch imports its compiler for that."""
    if wanted != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(wanted)


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of the random generators of training."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Restores the state of the random generators, except those of another kind of device."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"].cpu())


@contextlib.contextmanager
def drawing(device: torch.device, *seeds: int | str) -> Iterator[None]:
    """Inside, random numbers are a function of `seeds`; the random state is restored afterwards."""
    before = random_state(device)
    words = np.frombuffer(repr(seeds).encode(), np.uint8)
    torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]) >> 1)
    try:
        yield
    finally:
        set_random_state(before, device)


def wait_for(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
