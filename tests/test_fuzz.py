"""The fuzzer (tests/fuzz/): a minute of it, and that it sees what it looks for."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import ROOT

from tests.fuzz.cases import Case
from tests.fuzz.judge import wrong


@pytest.mark.slow
def test_no_command_line_and_no_damaged_file_breaks_a_promise():
    """Longer by hand: ``python -m tests.fuzz --seconds 600 --seed 7``."""
    argv = [sys.executable, "-m", "tests.fuzz", "--seconds", "60"]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    # Each kind is tried; which of the rarer ones are accepted in a minute depends on how fast the machine is.
    for kind in ("files accepted", "files refused", "lines ", "questions "):
        assert kind in ended.stdout


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"status": 2, "err": "conga: run: damaged\n"}, None),
        ({"status": 2, "err": "conga: a\nconga: b\n"}, "2 lines"),
        ({"status": 2, "err": "conga: warning: a\nconga: b\n"}, None),
        ({"status": 2}, "0 lines"),
        ({"status": 2, "err": "run: damaged\n"}, "without its name"),
        ({"status": 1, "err": "Traceback (most recent call last):\nKeyError: 1\n"}, "traceback: KeyError: 1"),
        ({"status": 1, "err": "conga: odd\n"}, "should refuse"),
        ({"status": -9}, "exit status -9"),
        ({"status": 0, "out": "\x1b[31m1\n"}, "control characters"),
        ({"status": -9, "hung": True}, "hangs"),
        ({"status": 0, "out": "1\n"}, None),
        ({"status": 0, "out": "2\n"}, "other numbers"),
        ({"status": 0, "out": "note  the last epoch\n2\n"}, None),
    ],
)
def test_what_counts_as_a_broken_promise(how, said):
    case = Case(["predict", "run", "x.npz"], "run", [["run/checkpoints/best.pt", "flip", 0]])
    ended = SimpleNamespace(**{"out": "", "err": "", "folder": ROOT, "hung": False} | how)
    found = wrong(case, ended, {"printed": "1\n"})
    assert found is None if said is None else said in found
