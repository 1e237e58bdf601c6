"""Files of a user's own beside them: they are found, and shadow nothing of ours."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT, summary

NET = """
import torch
class Net(torch.nn.Module):
    def __init__(self, input_shape, num_outputs, width=8):
        super().__init__()
        size = torch.Size(input_shape).numel()
        first, last = torch.nn.Linear(size, width), torch.nn.Linear(width, num_outputs)
        self.net = torch.nn.Sequential(torch.nn.Flatten(), first, last)
    def forward(self, x):
        return self.net(x)
"""
FOREIGN = "raise RuntimeError('somebody else\\'s')\n"
OWN = ("--config-dir=own", "model=net", "train.epochs=1")


@pytest.fixture
def run(tmp_path):
    """run(program, *words) -> (exit status, what is printed), in a folder full of names of ours."""
    folder = tmp_path / "mine"
    (folder / "own" / "model").mkdir(parents=True)
    (folder / "own" / "model" / "net.yaml").write_text("_target_: mynet.Net\nwidth: 8\n")
    (folder / "mynet.py").write_text(NET)
    for name in ("models", "data", "optim", "conga"):
        (folder / f"{name}.py").write_text(FOREIGN)
    script = tmp_path / "bin" / "conga"
    script.parent.mkdir()
    script.write_text("from trainer import main\nmain()\n")

    def run(program, *words):
        start = [str(script)] if program == "conga" else ["-m", "trainer"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run([sys.executable, *start, *words], cwd=folder, env=env, capture_output=True, text=True)
        return ended.returncode, ended.stdout + ended.stderr

    run.folder = folder
    return run


@pytest.mark.parametrize("program", [pytest.param("trainer", marks=pytest.mark.slow), "conga"])
def test_files_beside_you_are_found_and_shadow_nothing(run, program):
    if program == "conga":  # `python -m trainer` would run it before anything of ours
        (run.folder / "trainer.py").write_text(FOREIGN)
    code, text = run(program, *OWN, "hydra.run.dir=run")
    assert code == 0, text
    assert summary(run.folder / "run")["status"] == "finished"
    trusted = "--trust" if program == "trainer" else "--config-dir=own"
    code, text = run(program, "predict", "run", "none.npz", trusted)
    assert (code, text) == (2, f"conga: none.npz: no such file or folder; looked for {run.folder}/none.npz\n")


def test_an_argument_that_the_yaml_lacks_is_told_with_its_file(command, tmp_path, monkeypatch):
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "net.yaml").write_text("_target_: mynet.Net\n")
    (tmp_path / "mynet.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    code, text = command(*OWN, "model.width=4")
    line = "model.width=4: own/model/net.yaml does not list it; write +model.width=4, or add the line `width: 8` there"
    assert (code, text) == (2, f"conga: {line}\n")
    code, text = command(*OWN, "+model.width=4", "hydra.run.dir=run")
    assert code == 0, text
    assert summary(tmp_path / "run")["parameters"] == 64 * 4 + 4 + 4 * 10 + 10
    code, text = command(*OWN, "model.wdth=4")
    assert text == "conga: model.wdth=4: unknown key; did you mean model.width? model has width\n"


@pytest.mark.slow
def test_a_sweep_finds_them_too(run):
    (run.folder / "trainer.py").write_text(FOREIGN)
    code, text = run("conga", "-m", *OWN, "model.width=2,4", "hydra.sweep.dir=sweep")
    assert code == 0, text
    assert text.count("finished  val/loss") == 2


def test_a_module_that_was_imported_before_is_named(tmp_path):
    (tmp_path / "models.py").write_text("")
    code = "import models\ntry:\n    import conga\nexcept ImportError as e:\n    print(e)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"],
        env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout == (
        f"models is imported from {tmp_path / 'models.py'}, but conga has a package of this name; rename yours\n"
    )


def test_every_command_that_reads_configurations_takes_own_choices(command, tmp_path, monkeypatch):
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "net.yaml").write_text("_target_: mynet.Net\nwidth: 8\n")
    (tmp_path / "mynet.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    code, text = command("--config-dir=own", "--help")
    assert code == 0
    assert "mlp_deep, net, pixels, resnet101" in " ".join(text.split())
    code, text = command("model-card", "model=net", "model.width=3", "--config-dir", "own")
    assert code == 0
    assert f"{64 * 3 + 3 + 3 * 10 + 10}" in text
    code, text = command("--config-dir=own", "model=net", "train.epochs=1", "hydra.run.dir=run")
    assert code == 0, text
    code, text = command("resume", "run", "train.epochs=2")
    assert code == 2
    assert "mynet.Net is not part of conga" in text
    code, text = command("resume", "run", "train.epochs=2", "--config-dir=own")
    assert code == 0, text
    code, text = command("weights", "run", "--config-dir=own", "--out", "w.png")
    assert code == 0, text
    (tmp_path / "own" / "model" / "net.yaml").write_text("_target_: other.Net\n")  # it must be named there
    code, text = command("weights", "run", "--config-dir=own")
    assert code == 2
    assert "mynet.Net is not part of conga" in text
    where = tmp_path / "nowhere"
    assert command("weights", "run", "--config-dir=nowhere") == (
        2, f"conga: --config-dir=nowhere: must be a directory; {where} is none\n"
    )  # fmt: skip
