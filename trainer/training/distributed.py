"""Several processes that train one model: ``torchrun --nproc-per-node=2 -m trainer model=cnn``.

Each process takes its share of every batch; gradients are summed, so a step is that of one process on the whole batch.
``DistributedDataParallel`` averages, but shares may be uneven, samples may have weights, and methods with two gradients
need gradients that a backward pass does not store. Only process 0 prints and writes.

Nothing here imports torch before a run of several processes needs it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from trainer.rundir.errors import Lost

if TYPE_CHECKING:
    from torch import Tensor

COUNT = "conga/ended"  # how many processes have printed why they end


@dataclass(frozen=True)
class World:
    """The processes of a run, and the rank of this one."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def gathered(self, value: Any) -> list[Any]:
        """The values of all processes by rank; plain data or CPU tensors."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        with passing_on_losses():
            dist.all_gather_object(values, value)
        return values

    def of_main(self, value: Any) -> Any:
        """The value of process 0."""
        return self.gathered(value)[0]

    def agreed(self, reason: int | None) -> int | None:
        """The largest reason of all processes (numbers from 0 on); None if no process has one."""
        if self.size == 1:
            return reason
        import torch
        import torch.distributed as dist

        tensor = torch.tensor(-1 if reason is None else reason)
        with passing_on_losses():
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return None if tensor < 0 else int(tensor)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over the processes; one exchange per dtype."""
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
        with torch.no_grad():
            for same in by_dtype.values():
                flat = torch.cat([tensor.reshape(-1) for tensor in same])
                with passing_on_losses():
                    dist.all_reduce(flat)
                for tensor, total in zip(same, flat.split([t.numel() for t in same]), strict=True):
                    tensor.copy_(total.view(tensor.shape))

    def barrier(self) -> None:
        """Waits for all processes."""
        self.gathered(None)

    def first_to_say(self) -> bool:
        """Whether no other process has printed yet why the run ends."""
        if self.size == 1:
            return True
        import torch.distributed as dist

        try:
            return dist.distributed_c10d._get_default_store().add(COUNT, 1) == 1
        except RuntimeError:  # the store went with its process
            return self.main


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """Joins the processes of torchrun; a single process without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    import torch
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=timedelta(minutes=30))
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def passing_on_losses() -> Iterator[None]:
    """Turns a backend's error about a lost process into Lost."""
    from torch import OutOfMemoryError

    try:
        yield
    except OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise Lost from error
