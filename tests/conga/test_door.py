"""``import conga``: runs from Python are those of the command, and leave the process as it was."""

import inspect
import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, assert_same_run, rows, summary
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer

import conga
import optim
from trainer.training import device  # noqa: F401  (reads how many threads torch takes by itself)
from trainer.training.assembly import assemble

SHORT = ("model=cnn", "optim=cgd", "train.epochs=2")
TROUBLE = ("objective._target_=users_own.Trouble", "+objective.once=flag")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_import_brings_nothing_heavy():
    code = """
import sys, conga
assert set(conga.__all__) <= set(dir(conga))
assert not {"torch", "hydra", "pandas", "numpy", "matplotlib"} & set(sys.modules), sorted(sys.modules)
conga.LInf
assert "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_it_has_what_the_optimizers_room_has():
    assert set(optim.__all__) < set(conga.__all__)
    assert all(getattr(conga, name) is getattr(optim, name) for name in optim.__all__)
    assert all(inspect.getdoc(getattr(conga, name)) for name in conga.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        conga.nothing  # noqa: B018


def test_two_runs_in_one_process_are_those_of_the_command(trained):
    torch.manual_seed(5)
    first, other = conga.train(*SHORT, quiet=True), conga.train(*SHORT, "seed=1", quiet=True)
    assert_same_run(trained(*SHORT), first.path)
    assert_same_run(trained(*SHORT, "seed=1"), other.path)
    assert first.status == other.status == "finished"


def state():
    """Whatever a run may change in a process, by name."""
    generators = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()
    cudnn, root = torch.backends.cudnn, logging.getLogger()
    return {
        "threads": (torch.get_num_threads(), threading.active_count()),
        "generators": generators,
        "torch": (torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "products": torch.get_float32_matmul_precision(),
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "warnings": (list(warnings.filters), warnings.showwarning),
        "logging": (root.level, list(root.handlers)),
        "hydra": (GlobalHydra.instance().hydra, dict(BaseContainer._resolvers)),
        "environment": dict(os.environ),
        "cwd": os.getcwd(),
        "streams": (sys.stdout, sys.stderr, sys.excepthook, sys.unraisablehook),
    }


@pytest.fixture
def odd_process(tmp_path):
    """A process in which somebody has set everything to something else."""
    (tmp_path / "their.yaml").write_text("a: 1\n")
    threads = torch.get_num_threads()
    with warnings.catch_warnings(), initialize_config_dir(str(tmp_path), version_base=None):
        warnings.simplefilter("error", UserWarning)
        torch.set_num_threads(threads + 1)
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.benchmark = True
        OmegaConf.register_new_resolver("help", lambda: "theirs", replace=True)
        try:
            with torch.no_grad():
                yield
            assert compose("their").a == 1  # their Hydra goes on
            assert OmegaConf.create({"x": "${help:}"}).x == "theirs"
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(torch.float32)
            torch.use_deterministic_algorithms(False)
            torch.set_float32_matmul_precision("highest")
            torch.backends.cudnn.benchmark = False


def test_all_is_given_back_and_nothing_of_it_is_felt(odd_process, trained):
    before = state()
    run = conga.train(*SHORT, quiet=True)
    assert state() == before
    with pytest.raises(conga.Refused):
        conga.train("optim.lr=abc")
    assert state() == before
    conga.train(*TROUBLE, "+objective.what=leak", "train.epochs=1", quiet=True)
    assert state() == before
    assert conga.train("optim.lr=1e30", quiet=True).status == "diverged"
    assert state() == before
    assert_same_run(trained(*SHORT), run.path)


@pytest.mark.parametrize(
    "words",
    [
        ("optim.lrr=1",),
        ("optim.lr=abc",),
        ("optim.lr=0,1",),
        ("model=cnnn",),
        ("data=csv", "data.path=none.csv", "data.targets=y"),
        ("train.device=cuda:77",),
        ("train.resume=nowhere",),
        ("optim=cgd", "constraint=none"),
    ],
)
def test_a_mistake_is_the_line_of_the_command(command, words, here):
    code, text = command(*words)
    assert code == 2
    with pytest.raises(conga.Refused) as error:
        conga.train(*words)
    assert f"conga: {error.value}\n" == text
    assert error.value.__cause__ is None
    assert not list(here.iterdir())


def test_what_is_no_setting_is_refused():
    for words, name in [(("--help",), "--help"), (("seed=1", "-m"), "conga.sweep"), (("--cfg=job",), "KEY=VALUE")]:
        with pytest.raises(conga.Refused, match=name):
            conga.train(*words)
    with pytest.raises(conga.Refused, match="experiment=digits_grid: is a sweep"):
        conga.train("experiment=digits_grid")
    with pytest.raises(TypeError, match="given 3"):
        conga.train(3)


def test_settings_of_python_need_no_quotes(here):
    place = here / "Größe (2), = {a}"
    place.mkdir()
    (place / "it's.csv").write_text("a,b,y z\n" + "".join(f"{i},{i % 7},{2 * i}\n" for i in range(60)))
    settings = {
        "data.path": place / "it's.csv",
        "data.targets": ["y z"],
        "data.task": "regression",
        "train.epochs": 1,
        "optim.nesterov": True,
    }
    run = conga.train("data=csv", settings, {"hydra.run.dir": place / "run 1", "train.max_steps": None}, quiet=True)
    assert run.config["data"]["path"] == str(place / "it's.csv")
    assert run.config["data"]["targets"] == ["y z"]
    assert run.config["optim"]["nesterov"] is True
    assert run.path == place / "run 1"


@pytest.mark.parametrize("what", ["interrupt", "insist"])
def test_an_interrupted_run_goes_on_to_the_same_end(what, here, capsys):
    words = (*TROUBLE, f"+objective.what={what}", "train.epochs=3", "hydra.run.dir=run", "train.checkpoint_steps=10")
    (here / "flag").touch()
    whole = conga.train(*words, quiet=True)
    whole.path.rename(here / "whole")
    (here / "flag").unlink()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"conga\.resume\('run'\)"):
        conga.train(*words)
    assert signal.getsignal(signal.SIGINT) is handler
    run = conga.load("run", trust=True)
    assert run.status == "interrupted"
    assert conga.resume("run", quiet=True, trust=True).status == "finished"
    assert_same_run(here / "whole", run.path)
    assert "conga.resume" not in capsys.readouterr().err


def test_interrupted_before_the_first_step_leaves_nothing(monkeypatch, here):
    def signalled(**parts):
        signal.raise_signal(signal.SIGINT)
        return assemble(**parts)

    monkeypatch.setattr("trainer.training.run.assemble", signalled)
    with pytest.raises(KeyboardInterrupt, match="before the first step"):
        conga.train(quiet=True)
    assert not [path for path in here.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_other_signals_end_the_process_once_the_run_is_saved(here):
    script = f"""
import sys; sys.path += [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import conga
conga.train({", ".join(map(repr, TROUBLE))}, "+objective.what=terminate", "hydra.run.dir=run", quiet=True)
print("not reached")
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, "")
    assert conga.load("run").status == "interrupted"
    assert summary(here / "run")["steps"] == 2


def test_what_a_class_of_ones_own_raises_is_raised(here):
    with pytest.raises(RuntimeError, match="something of one's own"):
        conga.train(*TROUBLE, "+objective.what=raise", "hydra.run.dir=run", quiet=True)
    run = conga.load("run")
    assert run.status == "failed"
    assert "something of one's own" in run.summary["error"]
    assert "in compare" in (run.path / "train.log").read_text()


def test_nothing_is_shown_if_that_is_wanted(capsys):
    conga.train("train.epochs=1", quiet=True)
    assert capsys.readouterr() == ("", "")
    run = conga.train("train.epochs=1")
    assert "epoch 1/1" in capsys.readouterr().out
    assert "epoch 1/1" in (run.path / "train.log").read_text()


def test_resume_takes_what_may_change(trained, here):
    run = here / "run"
    shutil.copytree(trained(*SHORT), run)
    assert conga.resume(run, "train.epochs=3", quiet=True).summary["epochs"] == 3
    assert rows(conga.train("model=cnn", "optim=cgd", "train.epochs=3", quiet=True).path) == rows(run)
    with pytest.raises(conga.Refused, match=r"optim\.lr=1: a resumed run keeps its configuration"):
        conga.resume(run, "optim.lr=1")
    with pytest.raises(conga.Refused, match="nowhere: must be the directory of a run"):
        conga.resume("nowhere")


@pytest.mark.slow
def test_a_sweep_from_a_script_without_a_guard(here):
    """Its processes import the script in no case: it would sweep, and they would too."""
    (here / "script.py").write_text(
        f"import sys; sys.path.append({str(ROOT)!r})\n"
        "import conga\n"
        "print('once')\n"
        "frame = conga.sweep('optim=sgd,cgd', 'train.epochs=1', quiet=True)\n"
        "frame.to_json('frame.json'); print(frame.attrs['path'])\n"
    )
    ended = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=True)
    once, path = ended.stdout.splitlines()
    assert once == "once"
    frame = conga.runs(path)
    assert list(frame["optim"]) == ["sgd", "cgd"]
    told = json.loads((here / "frame.json").read_text())
    assert [told["test/accuracy"][k] for k in "01"] == pytest.approx(
        [summary(run)["test"]["accuracy"] for run in jobs(path)]
    )
    again = conga.resume(path, quiet=True)  # there is nothing left to do
    assert again.equals(frame)
    assert again.attrs["path"] == path


@pytest.mark.slow
def test_an_interrupted_sweep_saves_its_jobs(here):
    script = """
import conga
try:
    conga.sweep("seed=range(0,3)", "train.epochs=100000", "sweep.workers=1", "hydra.sweep.dir=sweep")
except KeyboardInterrupt as stop:
    print(stop)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True, env=env, start_new_session=True
    )
    until = time.monotonic() + 100
    while not list((here / "sweep").glob("0_*/checkpoints/last.pt")) and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=100)
    assert printed.splitlines()[-1] == "saved; to resume: conga.resume('sweep')"
    assert list(conga.runs("sweep")["status"]) == ["interrupted", "queued", "queued"]


def jobs(path):
    return sorted(p.parent for p in Path(path).glob("*/summary.json"))


@pytest.mark.slow
def test_a_mistake_in_a_sweep_starts_nothing(command, here):
    words = ("optim=sgd,cgd", "optim.momentum=0.1,7")
    code, text = command("-m", *words)
    with pytest.raises(conga.Refused) as error:
        conga.sweep(*words)
    assert code == 2
    assert text.endswith(f"conga: {error.value}\n")
    assert not list(here.iterdir())


@pytest.mark.slow
def test_the_page_is_true(here, capsys):
    """The examples of docs/python.md, in their order."""
    page = (ROOT / "docs" / "python.md").read_text()
    for text in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        exec(text, {})
    status, rent, *_ = capsys.readouterr().out.split("prediction")
    assert "finished" in status
    assert float(rent.split()[2]) == pytest.approx(7 * 50 + 380, rel=0.1)
    assert (here / "curves.pdf").stat().st_size
    for name in re.findall(r"\]\(([^)#]+)", page):
        assert (ROOT / "docs" / name).exists(), name
