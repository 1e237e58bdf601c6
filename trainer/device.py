"""Where a run computes: the device, and how many CPU threads."""

from __future__ import annotations

import re

import torch

from trainer.errors import Refused

# Read before any run sets it: the jobs of a sweep in one process must not inherit each other's choice.
TORCH_THREADS = torch.get_num_threads()


def pick_device(name: str, before: str | None) -> torch.device:
    """`auto` is where the run was `before`, else the GPU if there is one, else the CPU.

    Raises:
        Refused: an unknown name, or a device that this machine lacks.
    """
    name = before or name if name == "auto" else name
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise Refused(f"train.device={name}: must be auto, cpu, cuda, cuda:N or mps")
    if name == "mps" and not torch.backends.mps.is_available():
        raise Refused("train.device=mps: this machine has no Apple GPU that torch can use; use auto or cpu")
    if name.startswith("cuda"):
        index, count = int(name.partition(":")[2] or 0), torch.cuda.device_count()
        if count == 0:
            raise Refused(f"train.device={name}: torch finds no CUDA device on this machine; use auto or cpu")
        if index >= count:
            raise Refused(f"train.device={name}: this machine has cuda:0 to cuda:{count - 1}")
        return torch.device("cuda", index)
    return torch.device(name)


def set_threads(wanted: int | str, before: int | None) -> int:
    """Sets the CPU threads: those `wanted`, or for `auto` as many as the run had `before`, else torch's own choice.

    Sums are split over threads, so a resumed run needs the same number for the same bits.
    """
    threads = wanted if isinstance(wanted, int) else before or TORCH_THREADS
    torch.set_num_threads(threads)
    return threads
