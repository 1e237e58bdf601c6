"""On a machine with a GPU: a run there, and on to the CPU and back."""

import pytest
import torch
from conftest import summary
from formats import write_images

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_train_there_and_resume_elsewhere(cli, tmp_path):
    options = ["model=cnn", "model.dropout=0.2", "optim=cgd", "hydra.run.dir=run"]
    code, text = cli(*options, "train.epochs=2")
    assert code == 0, text
    assert summary(tmp_path / "run")["device"] == "cuda:0"
    for epochs, device in ((3, "cpu"), (4, "cuda"), (20, "cuda:0")):
        code, text = cli("train.resume=run", f"train.epochs={epochs}", f"train.device={device}")
        assert code == 0, text
        assert summary(tmp_path / "run")["device"].startswith(device)
    assert summary(tmp_path / "run")["test"]["accuracy"] > 0.9


def test_augmented_and_streamed_images_train_there(cli, tmp_path):
    write_images(tmp_path / "images", {"cat": 30, "dog": 30}, size=(16, 16))
    options = ["data=image_folder", f"data.path={tmp_path / 'images'}", "data.size=16", "model=resnet18"]
    augment = [
        "crop=2",
        "pad=reflect",
        "flip=true",
        "rotate=10",
        "translate=0.1",
        "erase=0.5",
        "mixup=0.2",
        "cutmix=1.0",
    ]
    options += [f"data.augment.{name}" for name in augment]
    for memory_gb in (1, 0):
        code, text = cli(*options, f"data.memory_gb={memory_gb}", "train.epochs=2", f"hydra.run.dir=run{memory_gb}")
        assert code == 0, text
        assert summary(tmp_path / f"run{memory_gb}")["device"] == "cuda:0"


@pytest.mark.parametrize("choice", ["mlp", "cnn", "wrn", "lstm"])
def test_the_same_seed_gives_the_same_weights_there(cli, tmp_path, choice):
    for device in ("cpu", "cuda"):
        options = [f"model={choice}", "optim.lr=0", "optim.momentum=0", "train.epochs=1", "data.limit=20"]
        code, text = cli(*options, f"train.device={device}", f"hydra.run.dir={device}")
        assert code == 0, text
    one, other = (torch.load(tmp_path / d / "checkpoints" / "last.pt", weights_only=True) for d in ("cpu", "cuda"))
    for name, value in one["model"].items():
        if "running" not in name and "batches" not in name:
            assert torch.equal(value, other["model"][name].cpu()), name
