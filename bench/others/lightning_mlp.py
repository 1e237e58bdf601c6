"""Fashion-MNIST with Lightning, one epoch: ``transforms0``, ``transforms2`` (so many workers), or ``tensors``.

The transforms go over torchvision's own dataset, a picture at a time. Neither checkpoints nor a logger, which ours has;
the progress bar is Lightning's own.
"""

from __future__ import annotations

import gzip
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision import transforms
from torchvision.datasets import FashionMNIST

from bench.others.fashion import FILES, standardized

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Network(L.LightningModule):
    """784-300-100-10, cross-entropy and accuracy, SGD; notes how long the epoch takes."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
        )

    def training_step(self, batch, index):
        x, y = batch
        logits = self.net(x)
        loss = F.cross_entropy(logits, y)
        self.log("loss", loss, prog_bar=True, on_step=False, on_epoch=True)
        self.log("accuracy", (logits.argmax(1) == y).float().mean(), prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)

    def on_train_epoch_start(self):
        self.started = time.perf_counter()

    def on_train_epoch_end(self):
        self.seconds = time.perf_counter() - self.started


def pictures(published: str, folder: str) -> Dataset:
    """The last 55,000 training images through torchvision, unpacked in `folder` as its download would leave them."""
    raw = Path(folder) / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in FILES:
        (raw / f"{name}-ubyte").write_bytes(gzip.decompress((Path(published) / f"{name}-ubyte.gz").read_bytes()))
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.286,), (0.353,))])
    return Subset(FashionMNIST(folder, transform=transform), range(5000, 60_000))


kind, published = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    if kind == "tensors":
        x, y = standardized(published)[0]
        data, workers = TensorDataset(torch.tensor(x), torch.tensor(y).long()), 0
    else:
        data, workers = pictures(published, folder), int(kind[-1])
torch.manual_seed(0)
loader = DataLoader(data, batch_size=32, shuffle=True, num_workers=workers)
trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
model = Network()
trainer.fit(model, loader)
print()
print(model.seconds)
