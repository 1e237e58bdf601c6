"""Images that do not fit into memory: decoded batch by batch in worker processes, while the device computes."""

from __future__ import annotations

import atexit
import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from data.augment import Augment
from data.dataset import Batch, Dataset, Facts, Index, are_tensors
from data.pictures import Undecodable
from data.storage import one_line


class StreamedDataset(Dataset):
    """A dataset whose inputs are files.

    Batches come in order for any number of workers; augmentation happens on the device, in the main process. So a run
    is as reproducible as with images in memory.

    Args:
        splits: name -> (file names (N,), targets (N, ...)).
        decode: file name -> (C, H, W), or why it cannot be decoded.
        workers: processes; 0 decodes in this one.
    """

    streamed = True

    def __init__(
        self,
        splits: dict[str, tuple[np.ndarray, Tensor]],
        facts: Facts,
        batch_size: int,
        augment: Augment | None,
        decode: Callable[[str], np.ndarray | Undecodable],
        workers: int,
    ):
        files, targets = zip(*splits.values(), strict=True)
        numbers = torch.arange(sum(map(len, files))).split([len(part) for part in files])
        numbered: dict[str, Batch] = {name: (x, y) for name, x, y in zip(splits, numbers, targets, strict=True)}
        super().__init__(numbered, facts, batch_size, augment)
        self.takes_index = False
        self.workers = workers
        self.files = np.concatenate(files)
        self._files = _Files(self.files, torch.cat(targets), decode)
        self._asked = _Indices()
        self._loader: DataLoader | None = None

    def to(self, device: torch.device, dtype: torch.dtype | None = None, *, channels_last: bool = False) -> Dataset:
        """Sets the `device` of batches; the files stay on disk."""
        splits, self.splits = self.splits, {}
        super().to(device, dtype, channels_last=channels_last)
        self.splits = splits
        return self

    def batches(self, split: str, indices: Sequence[Index], seed: int | None = None, start: int = 0) -> Iterator[Batch]:
        loader = self._workers_loader()
        shares = self._file_indices(split, [self._shared(index) for index in indices[start:]])
        self._asked.indices = [share for share in shares if share]  # in an evaluation a process may get no samples
        for number, (x, y) in enumerate(loader, start):
            x, y = self._arrived(x, y)
            if self.augment.active and seed is not None:
                index = indices[number]
                assert isinstance(index, Tensor)  # slices are for evaluations
                yield self._blended(self._made(x, self._draws(seed, number, len(index))), y)
            else:
                yield self.transform((x, y))

    def batch(self, split: str, index: Index, generator: torch.Generator | None = None) -> Batch:
        return self.transform(
            self._arrived(*self._files.__getitems__(self._file_indices(split, [index])[0])), generator
        )

    def _file_indices(self, split: str, indices: Sequence[Index]) -> list[list[int]]:
        """The file indices of the samples at each of `indices`."""
        whole = self.splits[split][0]
        if len(indices) and are_tensors(indices):
            sizes = [len(index) for index in indices]  # one transfer for all of them
            return [part.tolist() for part in whole[torch.cat(list(indices)).cpu()].split(sizes)]
        return [whole[index].tolist() for index in indices]

    def _arrived(self, x: Tensor | str, y: Tensor) -> Batch:
        """A batch on the device.

        Raises:
            OSError: a file could not be decoded.
        """
        if isinstance(x, str):
            raise OSError(one_line(f"{x}: could be decoded when the run started, but not now"))
        return x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)

    def _workers_loader(self) -> DataLoader:
        """The workers, started with the first batch and kept."""
        if self._loader is None:
            self._loader = DataLoader(
                self._files,
                batch_sampler=self._asked,
                num_workers=self.workers,
                collate_fn=_as_is,
                pin_memory=self.device.type == "cuda",
                worker_init_fn=_leave_signals_to_the_run,
                persistent_workers=self.workers > 0,
                generator=torch.Generator(),  # without one, a seed would be drawn from the run's
            )
            # Before multiprocessing's exit handler, which would wait for workers that ignore signals.
            atexit.register(_end_workers, weakref.ref(self))
        return self._loader


def _end_workers(dataset: weakref.ref[StreamedDataset]) -> None:
    left = dataset()
    loader = None if left is None else left._loader
    if loader is not None and isinstance(loader._iterator, _MultiProcessingDataLoaderIter):
        loader._iterator._shutdown_workers()


class _Indices:
    """The indices of the next pass over a loader."""

    indices: list[list[int]]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.indices)


class _Files(torch.utils.data.Dataset):
    def __init__(self, files: np.ndarray, targets: Tensor, decode: Callable[[str], np.ndarray | Undecodable]):
        self.files, self.targets, self.decode = files, targets, decode

    def __getitems__(self, index: list[int]) -> tuple[Tensor | str, Tensor]:
        """Images and targets; or the name of a file that cannot be decoded, which a worker's error would lose."""
        images = []
        for file in self.files[index]:
            image = self.decode(file)
            if isinstance(image, Undecodable):
                return f"{file} ({image.why})", self.targets[index]
            images.append(image)
        return torch.from_numpy(np.stack(images)), self.targets[index]


def _as_is(batch: Any) -> Any:
    return batch


def _leave_signals_to_the_run(worker: int) -> None:
    """Makes a worker ignore Ctrl-C, since the run needs its workers to finish its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
