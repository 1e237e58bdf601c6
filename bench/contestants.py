"""The contestants of timed steps: a run as assembled by the command line, and loops written by hand.

Both train on the same random samples, N of them, in batches of B.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn

from trainer.cli.config import register_resolvers
from trainer.cli.display import Display, Logged
from trainer.cli.signatures import check_config
from trainer.rundir.summary import Summary
from trainer.rundir.trust import CONF
from trainer.training.assembly import assemble
from trainer.training.device import switches, wait_for
from trainer.training.distributed import World
from trainer.training.loop import train_epoch
from trainer.training.parts import GIVEN
from trainer.training.state import Training
from trainer.training.stop import StopRequest

SGD = ("optim=sgd", "optim.lr=1e-3", "optim.momentum=0")
PLAIN = ("data=npz", "data.val_size=0", "data.test_fraction=0", "train.epochs=1000", "train.device=cpu", *SGD)


def random_images(n: int, *shape: int) -> tuple[Tensor, Tensor]:
    """Bytes (N, C, H, W) and their labels, ten classes in turn."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator), torch.arange(n) % 10


def standardized(images: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over all values, computed once."""
    x = images.float()
    return (x - x.mean()) / x.std(correction=0)


@contextlib.contextmanager
def assembled(
    images: Tensor, labels: Tensor, *overrides: str, show: type[Display] = Logged, plain: Sequence[str] = PLAIN
) -> Iterator[Training]:
    """A run over these samples as ``python -m trainer`` builds it with `overrides`, in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "random.npz"
        np.savez(file, x_train=images.numpy(), y_train=labels.numpy())
        with run_of(*plain, f"data.path={file}", *overrides, show=show) as t:
            yield t


@contextlib.contextmanager
def run_of(*overrides: str, show: type[Display] = Logged) -> Iterator[Training]:
    """A run as ``python -m trainer`` builds it with `overrides`, in a temporary folder."""
    register_resolvers([])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("config", list(overrides))
        config = OmegaConf.to_container(cfg, resolve=True)
        del config["sweep"]  # of the sweep, not of a run
        check_config(config, assemble, GIVEN)
        given = {"frozen": config, "path": folder, "summary": Summary(folder / "summary.json"), "show": show}
        t = assemble(**config, **given, stop=StopRequest(), world=World())
        for logger in t.loggers:
            logger.start(folder, t.columns(), t.group_columns(), 0)
        with switches(t.settings, t.device):
            yield t


def steps(t: Training) -> None:
    """The steps of one epoch, from its start; bars are removed afterwards, so that others run without them."""
    t.progress.position, t.progress.sums = 0, {}
    train_epoch(t, None)
    t.display.stop()


def by_hand(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    batch_size: int,
    *,
    normalize: Callable[[Tensor], Tensor] = lambda x: x,
    metrics: bool = True,
    cast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> Callable[[], None]:
    """One epoch as in a script, over tensors on the device."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)

    def epoch() -> None:
        network.train()
        loss_sum, correct = torch.zeros((), device=x.device), torch.zeros((), dtype=torch.long, device=x.device)
        for index in torch.randperm(len(x), device=x.device).split(batch_size):
            inputs, targets = normalize(x[index]), y[index]
            with cast():
                logits = network(inputs)
                loss = F.cross_entropy(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if metrics:
                with torch.no_grad():
                    loss_sum += loss * len(targets)
                    correct += (logits.argmax(1) == targets).sum()
        wait_for(x.device)

    return epoch


def mlp() -> nn.Module:
    """784-300-100-10 as in a script."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )


def resnet18() -> nn.Module:
    """torchvision's for ten classes, with the small stem for images of 32 x 32."""
    import torchvision

    network = torchvision.models.resnet18(num_classes=10)
    network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return network


class Rows(nn.Module):
    """An LSTM of 128 units over the rows of an image, and a dense layer over its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.dense = nn.LSTM(28, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.lstm(x.squeeze(1))[0][:, -1])
