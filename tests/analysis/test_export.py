"""``export``: the file says what ``predict`` says, in programs that know nothing of conga."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from torch import nn

from trainer.analysis import arguments, export, formats

SHORT = ["train.epochs=1", "train.device=cpu", "train.threads=1"]
CNN = ["model=cnn", *SHORT]
RUNS = {
    "cnn": CNN,
    "lstm": ["data=sine", "model=lstm", *SHORT],
    "mlp": ["data=diabetes", "model=mlp", "model.norm=batch", "model.dropout=0.1", *SHORT],
    "multilabel": ["data=multilabel", "model=mlp", *SHORT],
    "heads": ["data=multitask", "model=mlp", *SHORT],
    "binary": ["data=breast_cancer", "model=linear", "train.precision=float64", *SHORT],
    "gru": ["model=gru", "model.bidirectional=true", "model.layers=2", "train.precision=bf16", *SHORT],
    "hinge": ["objective=hinge", "model=linear", *SHORT],
    "resnet": ["model=resnet18", "data.limit=64", *SHORT],
    "wrn": ["model=wrn", "model.depth=10", "model.width=1", "data.limit=64", *SHORT],
}
QUICK = ("cnn",)


@pytest.fixture
def exported(trained, command, tmp_path):
    """exported(name, format) -> raw inputs, what `predict` says of them, the file, and its card."""

    def exported(name, format):
        run = trained(*RUNS[name])
        out = tmp_path / "out.file"
        code, text = command("export", str(run), "--format", format, "--out", str(out))
        assert code == 0, text
        facts = torch.load(run / "checkpoints" / "best.pt", weights_only=True)["facts"]
        x = (facts["mean"] + facts["std"] * torch.randn(7, *facts["input_shape"])).float().numpy()
        np.savez(tmp_path / "x.npz", x=x)
        code, text = command("predict", str(run), "x.npz", "--csv")
        assert code == 0, text
        (tmp_path / "said.csv").write_text(text[text.index("sample,") :].partition("\nnote:")[0])
        table = pd.read_csv(tmp_path / "said.csv")
        kinds = [c for c in table.columns if c.startswith("probability_") and not c.endswith(("age", "gender"))]
        kinds = kinds or [c for c in table.columns if c.startswith("prediction")]
        return x, table[kinds].to_numpy(), out, json.loads((tmp_path / "out.file.json").read_text())

    return exported


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in RUNS])
def test_onnx_says_what_predict_says(exported, name):
    onnxruntime = pytest.importorskip("onnxruntime")
    x, said, file, card = exported(name, "onnx")
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    x = x.astype(card["input"]["dtype"])
    wide = np.concatenate(session.run(None, {"input": x}), 1)
    single = np.concatenate(session.run(None, {"input": x[:1]}), 1)
    scale = max(1, abs(said).max())
    within = 2e-2 if card["trained_in"] == "bf16" else 1e-5
    np.testing.assert_allclose(wide, said, atol=within * scale, rtol=0)
    np.testing.assert_allclose(single, wide[:1], atol=1e-5 * scale, rtol=0)
    told = json.loads(session.get_modelmeta().custom_metadata_map["card"])
    assert told == {key: value for key, value in card.items() if key != "check"}
    assert [output.name for output in session.get_outputs()] == [one["name"] for one in card["outputs"]]
    assert session.get_inputs()[0].shape == card["input"]["shape"]
    assert sum(len(one["names"]) for one in card["outputs"]) == said.shape[1]


FRESH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("conga", "data", "models", "optim", "trainer", "hydra"):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
import json, numpy, torch
extra = {"card.json": ""}
model = torch.export.load("out.file", extra_files=extra).module()
x = torch.from_numpy(numpy.load("x.npz")["x"])
outputs = model(x.to(getattr(torch, json.loads(extra["card.json"])["input"]["dtype"])))
outputs = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
numpy.save("y.npy", torch.cat(outputs, 1).detach().numpy())
"""


@pytest.mark.parametrize("name", ["cnn", *(pytest.param(n, marks=pytest.mark.slow) for n in ("lstm", "mlp", "heads"))])
def test_torch_export_loads_without_conga(exported, tmp_path, name):
    _, said, *_ = exported(name, "torch_export")
    done = subprocess.run([sys.executable, "-I", "-c", FRESH], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), said, atol=1e-5 * max(1, abs(said).max()), rtol=0)


class Plain(nn.Module):
    """The network of model=cnn, by hand."""

    def __init__(self):
        super().__init__()
        layers = [nn.Conv2d(1, 10, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(160, 50)]
        self.net = nn.Sequential(*layers, nn.ReLU(), nn.Linear(50, 10))


def test_safetensors_load_into_a_plain_model(exported):
    safetensors = pytest.importorskip("safetensors")
    from safetensors.torch import load_file

    x, said, file, card = exported("cnn", "safetensors")
    model = Plain()
    model.load_state_dict(load_file(file))
    with safetensors.safe_open(file, "pt") as opened:
        told = json.loads(opened.metadata()["card"])
    assert told == {key: value for key, value in card.items() if key != "check"}
    assert not told["normalization"]["inside"]
    x = (torch.from_numpy(x) - torch.tensor(told["normalization"]["mean"])) / torch.tensor(told["normalization"]["std"])
    with torch.no_grad():
        np.testing.assert_allclose(model.net(x).softmax(1).numpy(), said, atol=1e-5)
    assert told["outputs"][0]["what"] == "the network's outputs, of which CrossEntropy makes probabilities:"


def test_what_is_printed_and_kept(trained, command):
    pytest.importorskip("safetensors")
    run = trained(*CNN)
    code, text = command("export", str(run), "--format", "safetensors", "--out", "a.safetensors")
    assert code == 0, text
    assert "check    100 samples (of the test split): largest difference " in text
    code, text = command("export", str(run), "--format", "safetensors", "--out", "b.safetensors", "--random")
    assert "check    100 samples (random inputs, seed 0): largest difference " in text
    assert "note" not in text


def test_data_that_are_gone_make_a_note(cli, command, tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "table.csv").write_text("a,b,y\n" + "".join(f"{i % 7},{i % 5},{'xyz'[i % 3]}\n" for i in range(60)))
    data = ["data=csv", f"data.path={tmp_path}/table.csv", "data.targets=y", "model=linear"]
    assert cli(*data, *SHORT, "hydra.run.dir=run")[0] == 0
    (tmp_path / "table.csv").rename(tmp_path / "moved.csv")
    code, text = command("export", "run", "--format", "safetensors")
    assert code == 0, text
    assert "note     checked on random inputs: data.path=" in text
    card = json.loads((tmp_path / "run" / "export" / "model.safetensors.json").read_text())
    assert card["input"]["columns"] == ["a", "b"]
    assert card["check"]["of"] == "random inputs, seed 0"
    code, text = command("export", "run", "--format", "safetensors", "data.path=moved.csv")
    assert code == 0, text
    assert "(of the test split)" in text


def test_a_file_that_says_something_else_is_not_written(trained, command, monkeypatch, tmp_path):
    pytest.importorskip("safetensors")
    own = formats.FORMATS["safetensors"]

    def wrong(*given):
        return {name: value + 1e-3 for name, value in own.read(*given).items()}

    monkeypatch.setitem(export.FORMATS, "safetensors", replace(own, read=wrong))
    code, text = command("export", str(trained(*CNN)), "--format", "safetensors", "--out", "x.safetensors")
    assert (code, text.count("\n")) == (2, 1)
    assert text.startswith("conga: --format=safetensors: the file's probabilities differ by 0.001 from those of ")
    assert not list(tmp_path.glob("x.*"))


def test_refused_in_a_line(trained, command, monkeypatch):
    run = str(trained(*CNN))
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxruntime" else True)
    code, text = command("export", run, "--format", "onnx")
    assert (code, text) == (2, "conga: --format=onnx: needs onnxruntime: pip install -e '.[onnx]'\n")
    code, text = command("export", run, "--format", "safetensors", "optim.lr=1")
    assert (code, text.count("\n")) == (2, 1)
    assert command("export", run, "--format", "onyx")[0] == 2
    assert command("export", run)[0] == 2


def test_a_network_that_cannot_be_traced_is_told(trained, command, monkeypatch):
    monkeypatch.setattr(formats.Predicting, "forward", lambda self, x: self.model(x) if x.sum() > 0 else x)
    code, text = command("export", str(trained(*CNN)), "--format", "torch_export")
    assert (code, text.count("\n")) == (2, 1), text
    assert text.startswith("conga: --format=torch_export: torch cannot export LayerList (")


def test_formats_are_those_of_the_command():
    assert tuple(formats.FORMATS) == arguments.FORMATS
    extras = (ROOT / "pyproject.toml").read_text()
    assert all(f'"{package}>=' in extras for one in formats.FORMATS.values() for package in one.packages)
