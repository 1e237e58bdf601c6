"""``new`` writes what docs/your_own.md shows, and that trains."""

import dataclasses
import os
import re
import shlex
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, summary

from data import Facts

PAGE = (ROOT / "docs" / "your_own.md").read_text()
EXAMPLES = re.findall(
    r"`python -m trainer new (\w+) (\w+)` writes `\w+\.py`\n\n```python\n(.*?)```\n\nand `(.*?)`:\n\n```yaml\n(.*?)```",
    PAGE,
    re.DOTALL,
)
FILES = re.findall(r"[Ii]n `(\w+\.py)`:\n\n```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for text in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in text.splitlines()]


@pytest.fixture
def written(command, tmp_path):
    """The examples, written by ``new``, in the test's folder."""
    for kind, name, *_ in EXAMPLES:
        code, text = command("new", kind, name)
        assert code == 0, text
        assert f"--config-dir=own{' optim=cgd' * (kind == 'constraint')} {kind}={name}\n" in text
    for name, python in FILES:
        (tmp_path / name).write_text(python)
    return tmp_path


def train(folder, words):
    """Trains a command's words as somebody in that folder would."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = [sys.executable, "-m", "trainer"]
    ended = subprocess.run([*start, *words], cwd=folder, env=env, capture_output=True, text=True)
    assert ended.returncode == 0, f"{words}\n{ended.stdout}{ended.stderr}"


def test_the_page_shows_what_it_writes(written):
    assert [kind for kind, *_ in EXAMPLES] == ["model", "constraint", "data", "objective", "optim", "logger"]
    for _, name, python, yaml_file, yaml in EXAMPLES:
        assert (written / f"{name}.py").read_text() == python
        assert (written / yaml_file).read_text() == yaml
        assert len(python.splitlines()) <= 25
    for name in re.findall(r"\]\((?!http)([^)#]+)", PAGE):
        assert (ROOT / "docs" / name).exists(), name


def test_a_loss_and_a_step_of_the_page(tmp_path, monkeypatch):
    """The first is least at the quantile; the second adds what it says."""
    facts = Facts("rows", "regression", (1,), 1, None, None, {"train": 9}, torch.zeros(1), torch.ones(1))
    classes = dataclasses.replace(facts, task="classification", num_outputs=3)
    made = {}
    for _, python in FILES:
        exec(python, made)
    y = torch.arange(1.0, 11)[:, None]
    losses = [
        made["Pinball"](facts, quantile=0.85).compare(torch.full((10, 1), q), y, "mean").item() for q in range(12)
    ]
    assert losses.index(min(losses)) == 9
    model, x = torch.nn.Linear(1, 3), torch.randn(5, 1)
    batch = (x, torch.tensor([0, 1, 2, 0, 1]))
    torch.manual_seed(0)
    loss, sums = made["Consistent"](classes, noise=0.5, weight=2.0)(model, batch)
    torch.manual_seed(0)
    change = (0.5 * torch.randn(5, 1) @ model.weight.T).square().mean()
    wanted = torch.nn.functional.cross_entropy(model(x), batch[1]) + 2 * change
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(sums["change"], 5 * change.detach())


@pytest.mark.slow
def test_all_of_them_train_together(written):
    (words,) = (shlex.split(line)[3:] for line in COMMANDS if "logger=[csv,told]" in line and "model=tiny" in line)
    train(written, [*words, "train.epochs=1", "hydra.run.dir=run"])
    assert summary(written / "run")["status"] == "finished"
    assert len((written / "run" / "told.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
def test_every_command_of_the_page_works(written):
    for line in COMMANDS:
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "trainer"]
        if words[3] != "new":
            train(written, [*words[3:], "train.epochs=1"])


def test_the_oracle_and_the_projection_of_the_set_agree_with_the_definition(written, monkeypatch):
    import torch

    monkeypatch.syspath_prepend(written)
    from rows import Rows

    torch.manual_seed(0)
    C, g, x = Rows(radius=2.0), torch.randn(4, 3), 3 * torch.randn(4, 3)
    v, p = C.lmo(g), C.project(x)
    points = torch.nn.functional.normalize(torch.randn(1000, 4, 3), dim=2) * 2.0  # on the boundary of the set
    assert (g * v).sum() <= (g * points).sum((1, 2)).min() + 1e-5
    assert ((x - p) ** 2).sum() <= ((x - points) ** 2).sum((1, 2)).min() + 1e-5
    assert v.norm(dim=1).max() <= 2 + 1e-5
    assert p.norm(dim=1).max() <= 2 + 1e-5
    assert C.diameter(g.shape) == pytest.approx((2 * v).norm().item())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("model", "Tiny"), "Tiny: must be a name of lower-case letters, digits and _, such as my_model"),
        (("data", "json"), "json: Python has a module of this name; choose another"),
        (("optim", "class"), "class: must be a name of lower-case letters, digits and _, such as my_optim"),
        (("model", "models"), "models: Python has a module of this name; choose another"),
    ],
)
def test_a_name_that_cannot_be_is_refused(command, tmp_path, words, line):
    assert command("new", *words) == (2, f"conga: {line}\n")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(command, tmp_path):
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "tiny.yaml").write_text("mine")
    assert command("new", "model", "tiny") == (2, "conga: own/model/tiny.yaml: exists already; choose another name\n")
    assert not (tmp_path / "tiny.py").exists()
    code, _ = command("new", "model", "tiny", "--config-dir", "other")
    assert code == 0
    assert (tmp_path / "own" / "model" / "tiny.yaml").read_text() == "mine"
    assert (tmp_path / "other" / "model" / "tiny.yaml").exists()
