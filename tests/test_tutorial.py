"""The commands of docs/tutorial.md work, in their order: ``pytest -m slow tests/test_tutorial.py``.

MNIST is a tiny one in the real format, and runs are shorter.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, summary
from formats import write_mnist

PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


SHORTER = {
    "train.epochs=20": "train.epochs=1",
    "optim.lr=3e-4,1e-3,3e-3,1e-2,3e-2": "optim.lr=3e-4,3e-2",
    "constraint.radius=0.1,0.3,1,3,10": "constraint.radius=0.1,1",
}


def shorter(words: list[str], mnist: Path) -> list[str]:
    """A command's words, with what makes it quick."""
    if any(word.startswith("experiment=mnist") for word in words):
        return [*words, f"data.root={mnist}", "train.epochs=1"]
    return [SHORTER.get(word, word) for word in words]


@pytest.mark.slow
def test_every_command_of_the_tutorial_works(cli, tmp_path):
    write_mnist(tmp_path / "idx", n=200)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = []
    for language, text in BLOCK.findall(PAGE.read_text()):
        if language == "python":
            done.append(
                subprocess.run([sys.executable, "-c", text], cwd=tmp_path, env=env, capture_output=True, text=True)
            )
            assert done[-1].returncode == 0, done[-1].stderr
            continue
        expected = 3 if "exit status 3" in text else 0
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if words[:3] == ["python", "-m", "trainer"]:
                code, printed = cli(*shorter(words[3:], tmp_path / "idx"))
                assert code == expected, f"{line}\n{printed}"
            elif words[:1] == ["python"]:
                one = subprocess.run(
                    [sys.executable, *words[1:]], cwd=tmp_path, env=env, capture_output=True, text=True
                )
                assert one.returncode == 0, f"{line}\n{one.stderr}"
    assert summary(tmp_path / "too_large")["status"] == "diverged"
    assert summary(tmp_path / "line")["epochs"] == 12
    assert "0.7100, -0.0800, -0.1000" in done[0].stdout  # by hand: 0.9 w + 0.1 (-1, 1, -1)
    assert [line.split()[0] for line in done[1].stdout.splitlines()] == ["sgd", "cgd"]
    for picture in ("line/evaluation/line.png", "weights.png", "sweep/sweep.png", "rates.png"):
        assert (tmp_path / picture).stat().st_size, picture
    for name in re.findall(r"\]\((?!http)([^)#]+)", PAGE.read_text()):
        assert (PAGE.parent / name).exists(), name
