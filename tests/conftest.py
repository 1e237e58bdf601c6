"""Shared by the tests: real runs in real processes, and helpers for their files."""

import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from rest import Rest

import trainer.__main__ as program

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: two workers share the cores

ROOT = Path(__file__).resolve().parent.parent

# What conf/config.yaml says of every dataset.
COMMON = {
    "root": "/nowhere",
    "batch_size": 32,
    "test_fraction": 0.2,
    "val_fraction": 0.1,
    "val_size": None,
    "val_from": "random",
    "split_seed": 0,
    "limit": None,
    "normalize": "global",
    "augment": {},
}


def pytest_addoption(parser):
    parser.addoption("--rest", action="store_true", help="all tests, slow ones too, that did not pass in the last run")


def pytest_configure(config):
    if config.option.rest:
        config.option.markexpr = ""
    config.pluginmanager.register(Rest(config))


def pytest_collection_finish():
    """All that is imported stays; to look through it again and again takes a fifth of the tests' time."""
    gc.collect()
    gc.freeze()


class Zygote:
    """Starts runs as forks of one warm process (tests/zygote.py)."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert json.loads(self.process.stdout.readline()) == "ready"

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=600)


@dataclass
class Job:
    """A run in a process of its own."""

    zygote: Zygote
    pid: int
    log: Path

    def send(self, signum):
        os.kill(self.pid, signum)

    def kill(self):
        self.send(signal.SIGKILL)
        return self.wait()

    def over(self):
        """Whether the process has ended, waited for or not."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    def wait(self):
        """Exit status (-N for signal N) and everything printed."""
        return self.zygote.ask(wait=self.pid)["status"], self.log.read_text()


@pytest.fixture(scope="session")
def zygote():
    z = Zygote()
    yield z
    z.close()


@pytest.fixture
def start(zygote, tmp_path):
    """start(*argv) -> Job, in the test's own directory."""
    counter = iter(range(1_000_000))

    def start(*argv, env=None, limit=None, trip=None):
        log = tmp_path / f".output{next(counter)}"
        answer = zygote.ask(argv=list(argv), cwd=str(tmp_path), output=str(log), env=env or {}, limit=limit, trip=trip)
        return Job(zygote, answer["pid"], log)

    return start


@pytest.fixture(scope="session")
def trained(zygote, tmp_path_factory):
    """trained(*overrides) -> the directory of a finished run that several tests read and none changes."""
    runs = {}

    def trained(*overrides, cwd=None):
        if overrides not in runs:
            folder = tmp_path_factory.mktemp("run")
            argv, log = [*overrides, f"hydra.run.dir={folder / 'run'}"], folder / "output"
            answer = zygote.ask(argv=argv, cwd=str(cwd or folder), output=str(log), env={}, limit=None, trip=None)
            assert zygote.ask(wait=answer["pid"])["status"] == 0, log.read_text()
            runs[overrides] = folder / "run"
        return runs[overrides]

    return trained


@pytest.fixture
def cli(start):
    """cli(*argv) -> (exit status, everything printed)."""
    return lambda *argv, **how: start(*argv, **how).wait()


def same_files(a: Path, b: Path) -> bool:
    """Whether two directories hold the same, byte for byte."""
    x, y = ({p.relative_to(d): p.read_bytes() for p in d.rglob("*") if p.is_file()} for d in (a, b))
    return x == y


@pytest.fixture
def goes_on(cli, tmp_path):
    """goes_on(where, *options) -> number of places; a run that is killed at any of them is resumed bit for bit.

    A SIGKILL leaves what is in the directory at that moment (tests/test_stop_resume.py compares with real ones). So one
    run, `whole`, keeps an image of itself at each place of a kind (tests/zygote.py), and each is resumed, by the same
    command in the same directory. Of images that follow each other and are alike, one is.

    Args:
        places: those to look at, all of which must be there.
        at_most: so many places, evenly spaced.
    """

    def goes_on(where, *options, places=None, at_most=1000, env=None):
        run, whole = tmp_path / "run", tmp_path / "whole"
        options = [*options, "hydra.run.dir=run"]
        code, text = cli(*options, trip=(where, None, "keep"), env=env)
        assert code == 0, text
        run.rename(whole)
        images = sorted((tmp_path / "images").iterdir())
        if places is None:
            images = [b for a, b in zip([whole, *images], images, strict=False) if not same_files(a, b)]
        else:
            images = [image for image in images if int(image.name) in places]
            assert len(images) == len(places)
        kept = min(len(images), at_most)
        images = [images[i * len(images) // kept] for i in range(kept)]
        for image in images:
            image.rename(run)
            begun = (run / "checkpoints" / "last.pt").exists()
            code, text = cli(*options, env=env)
            assert code == 0, (image.name, text)
            assert ("resumed" in text or "finished already" in text) == begun, (image.name, text)
            assert_same_run(whole, run)
            assert len({str(sorted(os.listdir(one / "checkpoints"))) for one in (whole, run)}) == 1, image.name
            assert not list(run.rglob("*.tmp")), image.name
            shutil.rmtree(run)
        return len(images)

    return goes_on


@pytest.fixture(scope="session")
def mistake():
    """mistake(*words) -> the line by which a run of these words is refused before its first step, or None.

    It is composed and checked in this process, as a job of a sweep is: a twentieth of the work of a command. That jobs
    are composed as single runs are is a test of its own (tests/cli/test_words.py), and so is what becomes of a line
    (tests/cli/test_command_line.py).
    """
    from hydra._internal.utils import create_config_search_path
    from hydra.core.utils import setup_globals
    from hydra.types import RunMode

    from trainer.cli.composing import Loader
    from trainer.cli.config import register_resolvers
    from trainer.rundir.errors import Refused
    from trainer.rundir.trust import CONF
    from trainer.sweep import check
    from trainer.sweep.grid import Composer

    register_resolvers([])
    setup_globals()
    loader = Loader(create_config_search_path(str(CONF)))
    composer, datasets = Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN)), {}

    def mistake(*words):
        try:
            return check.mistake(composer.job(words, ()).config, None, datasets)
        except Refused as error:
            return str(error)

    return mistake


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """command(name or function, *arguments) -> (exit status, what is printed), in the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments):
        main = arguments[0] if callable(arguments[0]) else program.main
        monkeypatch.setattr("sys.argv", ["conga", *(one for one in arguments if one is not main)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def training_of(model, dataset, objective, optimizer, *, device="cpu", **settings):
    """A run in memory, of parts of one's own; `settings` change those of conf/train/default.yaml."""
    import torch
    from omegaconf import OmegaConf

    from trainer.cli.display import Silent
    from trainer.rundir.summary import Summary
    from trainer.training.settings import TrainSettings
    from trainer.training.state import Training
    from trainer.training.stop import StopRequest

    defaults = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "train" / "default.yaml"))
    del defaults["_target_"]
    return Training(
        run=Path("nowhere"),
        config={},
        seed=0,
        settings=TrainSettings(**defaults | {"monitor": "train/loss"} | settings),
        device=torch.device(device),
        dataset=dataset,
        model=model,
        optimizer=optimizer,
        schedule=None,
        objective=objective,
        loggers=[],
        summary=Summary(Path("nowhere")),
        display=Silent(Path("nowhere"), 1, 1, 1),
        stop=StopRequest(),
    )


def linear_outputs(run: Path, x):
    """What the run's linear model puts out for raw inputs, from the numbers in best.pt alone: (N, K) float64."""
    import numpy as np
    import torch

    state = torch.load(run / "checkpoints" / "best.pt", weights_only=True)
    weight, bias = (value.double().numpy() for value in state["model"].values())
    mean, std = (state["facts"][name].double().numpy() for name in ("mean", "std"))
    return ((np.asarray(x, dtype=np.float64) - mean) / std).reshape(len(x), -1) @ weight.T + bias


def softmax(logits):
    import numpy as np

    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def row(text, name):
    """The cells, but the first, of a printed table's row that begins with `name`."""
    line = next(line for line in text.splitlines() if re.match(rf"│ {re.escape(name)} +│", line))
    return [cell.strip() for cell in line.strip("│").split("│")][1:]


def summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def rows(run: Path) -> list[list[str]]:
    """metrics.csv without its time columns, header first."""
    import csv

    table = list(csv.reader((run / "metrics.csv").open()))
    keep = [i for i, name in enumerate(table[0]) if not name.startswith("time/")]
    groups = run / "metrics_groups.csv"
    return [[row[i] for i in keep] for row in table] + (groups.read_text().splitlines() if groups.exists() else [])


def assert_same_run(a: Path, b: Path) -> None:
    """Bit for bit: metrics, weights, optimizer state, random states, summary (times, process and versions aside)."""
    import torch

    assert rows(a) == rows(b)
    for name in ("last.pt", "best.pt"):
        x, y = (torch.load(run / "checkpoints" / name, weights_only=True) for run in (a, b))
        assert_same(_timeless(x), _timeless(y), name)
    x, y = (_timeless(summary(run)) for run in (a, b))
    for key in ("git", "versions", "process"):
        assert key in x
        assert key in y
        del x[key], y[key]
    assert_same(x, y, "summary")


def _timeless(value):
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in ("seconds", "epoch_s") and "time/" not in str(k)}
    return value


def assert_same(x, y, where):
    import torch

    assert type(x) is type(y), where
    if isinstance(x, dict):
        assert list(x) == list(y), where
        for key in x:
            assert_same(x[key], y[key], f"{where}/{key}")
    elif isinstance(x, list | tuple):
        assert len(x) == len(y), where
        for i, (p, q) in enumerate(zip(x, y, strict=True)):
            assert_same(p, q, f"{where}/{i}")
    elif isinstance(x, torch.Tensor):
        assert torch.equal(x, y), where
    else:
        assert x == y or (x != x and y != y), where  # NaN where nothing was measured
