"""Images that do not fit into memory: decoded batch by batch in worker processes, while the device computes."""

from __future__ import annotations

import atexit
import signal
import weakref
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data.augment import Augment
from data.dataset import Batch, Dataset, Facts
from data.pictures import Undecodable
from data.storage import one_line


class StreamedDataset(Dataset):
    """A dataset whose inputs are file names.

    Batches come in the order asked for, whatever the number of workers; augmentation happens on the device, in the
    main process. So a run is as reproducible as one whose images are in memory.

    Args:
        splits: name -> (file names (N,), targets (N, ...)).
        decode: file name -> (C, H, W), or why there is none.
        workers: processes; 0 decodes in this one.
    """

    def __init__(
        self,
        splits: dict[str, tuple[np.ndarray, Tensor]],
        facts: Facts,
        batch_size: int,
        augment: Augment | None,
        decode: Callable[[str], np.ndarray | Undecodable],
        workers: int,
    ):
        super().__init__(splits, facts, batch_size, augment)
        self.takes_index = False
        self.workers, self.device = workers, torch.device("cpu")
        self._files = _Files(
            np.concatenate([files for files, _ in splits.values()]), torch.cat([y for _, y in splits.values()]), decode
        )
        starts = np.cumsum([0, *(len(y) for _, y in splits.values())])
        self._starts = dict(zip(splits, map(int, starts), strict=False))
        self._loader: DataLoader | None = None

    def to(self, device: torch.device, dtype: torch.dtype | None = None, *, channels_last: bool = False) -> Dataset:
        """Batches will be moved to `device`; the files stay where they are."""
        splits, self.splits = self.splits, {}
        super().to(device, dtype, channels_last=channels_last)
        self.splits, self.device = splits, device
        return self

    def batches(
        self, split: str, indices: Sequence[Tensor | slice], seed: int | None = None, start: int = 0
    ) -> Iterator[Batch]:
        loader = self._workers_loader()
        shares = self._listed(split, [self._shared(index) for index in indices[start:]])
        loader.batch_sampler.indices = [share for share in shares if share]  # an evaluation may leave a process none
        for number, (x, y) in enumerate(loader, start):
            x, y = self._arrived(x, y)
            if self.augment is None or seed is None:
                yield self.transform((x, y))
            else:
                yield self._blended(self._made(x, self._draws(seed, number, len(indices[number]))), y)

    def batch(self, split: str, index: Tensor | slice, generator: torch.Generator | None = None) -> Batch:
        return self.transform(self._arrived(*self._files.__getitems__(self._listed(split, [index])[0])), generator)

    def _listed(self, split: str, indices: Sequence[Tensor | slice]) -> list[list[int]]:
        """Where the samples at each of `indices` stand among all files."""
        whole = torch.arange(self.facts.sizes[split]) + self._starts[split]
        if all(isinstance(index, Tensor) for index in indices) and len(indices):
            sizes = [len(index) for index in indices]  # one transfer for all of them
            return [part.tolist() for part in whole[torch.cat(list(indices)).cpu()].split(sizes)]
        return [whole[index].tolist() for index in indices]

    def _arrived(self, x: Tensor | str, y: Tensor) -> Batch:
        """A batch on the device.

        Raises:
            OSError: it is the name of a file that could not be decoded.
        """
        if isinstance(x, str):
            raise OSError(one_line(f"{x}: could be decoded when the run started, and cannot any more"))
        return x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)

    def _workers_loader(self) -> DataLoader:
        """The workers, started with the first batch and kept."""
        if self._loader is None:
            self._loader = DataLoader(
                self._files,
                batch_sampler=_Indices(),
                num_workers=self.workers,
                collate_fn=_as_is,
                pin_memory=self.device.type == "cuda",
                worker_init_fn=_leave_signals_to_the_run,
                persistent_workers=self.workers > 0,
                generator=torch.Generator(),  # workers draw nothing; without one, a seed would be drawn from the run's
            )
            # Before multiprocessing's own, which would wait for workers that heed no signal.
            atexit.register(_end_workers, weakref.ref(self))
        return self._loader


def _end_workers(dataset: weakref.ref[StreamedDataset]) -> None:
    loader = None if dataset() is None else dataset()._loader
    if loader is not None and loader._iterator is not None:
        loader._iterator._shutdown_workers()


class _Indices:
    """What the next pass over a loader asks for."""

    indices: list[list[int]]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.indices)


class _Files(torch.utils.data.Dataset):
    def __init__(self, files: np.ndarray, targets: Tensor, decode: Callable[[str], np.ndarray | Undecodable]):
        self.files, self.targets, self.decode = files, targets, decode

    def __getitems__(self, index: list[int]) -> tuple[Tensor | str, Tensor]:
        """Images and targets; or the name of a file that cannot be decoded: a worker's error would lose its line."""
        images = [self.decode(file) for file in self.files[index]]
        pairs = zip(self.files[index], images, strict=True)
        bad = [f"{file} ({image.why})" for file, image in pairs if isinstance(image, Undecodable)]
        return bad[0] if bad else torch.from_numpy(np.stack(images)), self.targets[index]


def _as_is(batch: Batch) -> Batch:
    return batch


def _leave_signals_to_the_run(worker: int) -> None:
    """A Ctrl-C reaches every process of a terminal; the run finishes its step, for which it needs its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
