"""Fashion-MNIST with Lightning, one epoch: ``transforms0``, ``transforms2`` (so many workers), or ``tensors``."""

from __future__ import annotations

import logging
import sys
import time
import warnings

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms import v2

from bench.peers.fashion import read, standardized

kind = sys.argv[1]
warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Images(Dataset):
    """Images through torchvision's transforms, one by one, as ``torchvision.datasets.FashionMNIST`` gives them."""

    def __init__(self):
        self.x, self.y = torch.tensor(read("train-images-idx3")[5000:]), torch.tensor(read("train-labels-idx1")[5000:])
        self.transform = v2.Compose(
            [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.286,), (0.353,))]
        )

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int):
        return self.transform(self.x[i].numpy()), int(self.y[i])


class Network(L.LightningModule):
    """784-300-100-10, cross-entropy and accuracy, SGD."""

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


workers = 0
if kind == "tensors":
    x, y = standardized()[0]
    data = TensorDataset(torch.tensor(x), torch.tensor(y).long())
else:
    data, workers = Images(), int(kind[-1])
torch.manual_seed(0)
loader = DataLoader(data, batch_size=32, shuffle=True, num_workers=workers)
trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
model = Network()
started = time.perf_counter()
trainer.fit(model, loader)
print()
print(time.perf_counter() - started)
