"""On a machine with a GPU: a run there, and on to the CPU and back."""

import pytest
import torch
from conftest import summary

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
