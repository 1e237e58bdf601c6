"""Whole processes in turn with ours: Keras and Lightning, on Fashion-MNIST and on the digits.

``python -m bench.peers NAME …`` runs some: ``keras_mlp``, ``keras_digits``, ``lightning``, ``keras_vae``,
``keras_dcgan``. Their scripts in
``bench/others/`` say what they do and leave out. ``KERAS_BACKEND`` chooses another backend than TensorFlow.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from bench.harness import interleave, print_ratios
from bench.others.fashion import folder
from trainer.cli.command import one_line_mistakes
from trainer.rundir.errors import Refused

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5
BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
PACKAGES = {"tensorflow": "tensorflow-cpu"}  # modules whose package has another name

SGD = ("optim.lr=1e-3", "optim.momentum=0")
MLP = ("data=fashion_mnist", "data.normalize=pixel", "model.widths=[300,100]", *SGD)
AS_KERAS = ("model.activation=leaky_relu", "model.slope=0.3", "model.init=he_normal")
DIGITS = ("model=cnn", "optim.lr=1e-2", "optim.momentum=0", "objective.l2=1e-3", "data.batch_size=100")


def keras_mlp() -> None:
    """The textbook's first practical."""
    need("keras", BACKEND)
    fashion = fashion_mnist()
    print(f" keras_mlp: Fashion-MNIST, 5 epochs with validation, best checkpoint, test; the whole process; {BACKEND}")
    with running() as run:
        contestants = {
            "conga": lambda: run(*MLP, *AS_KERAS, f"data.root={fashion}", "train.epochs=5"),
            "Keras": lambda: process("bench.others.keras_mlp", fashion),
        }
        print_ratios(interleave(contestants, ROUNDS), "conga")


def keras_digits() -> None:
    """The CNN of the digits."""
    need("keras", BACKEND)
    print(
        " keras_digits: CNN, 100 epochs; conga: `seconds` of summary.json, with checkpoints and test; its steps alone:"
    )
    print(f" `time/epoch_s` of metrics.csv; Keras: model.fit; {BACKEND}")
    options = (*DIGITS, "data.val_size=0", "train.epochs=100")
    with running() as run:
        contestants = {
            "conga": lambda: summary_seconds(run(*options)),
            "conga, steps": lambda: epoch_seconds(run(*options)),
            "Keras": lambda: printed_seconds("bench.others.keras_digits"),
        }
        seconds = interleave(contestants, ROUNDS, measure=lambda work: work())
    for ours in ("conga", "conga, steps"):
        print_ratios({name: seconds[name] for name in (ours, "Keras")}, ours)


def lightning() -> None:
    """One epoch of the MLP over what a DataLoader gives."""
    need("lightning")
    fashion = fashion_mnist()
    print(" lightning: Fashion-MNIST, one epoch; conga: `time/epoch_s` of metrics.csv, Lightning: its training epoch")
    script = "bench.others.lightning_mlp"
    with running() as run:
        contestants = {
            "conga": lambda: epoch_seconds(run(*MLP, f"data.root={fashion}", "train.epochs=1")),
            "Lightning, TensorDataset": lambda: printed_seconds(script, "tensors", fashion),
            "Lightning, transforms, 0 workers": lambda: printed_seconds(script, "transforms0", fashion),
            "Lightning, transforms, 2 workers": lambda: printed_seconds(script, "transforms2", fashion),
        }
        print_ratios(interleave(contestants, ROUNDS, measure=lambda work: work()), "conga")


def keras_vae() -> None:
    """The convolutional variational autoencoder of Keras' example."""
    epochs("keras_vae", 20_000, "model=vae_conv", "objective=elbo", "data.batch_size=128", "optim.lr=1e-3")


def keras_dcgan() -> None:
    """The GAN of Keras' example."""
    words = ("objective.label_noise=0.05", "data.batch_size=64", "optim.lr=3e-4")
    epochs("keras_dcgan", 1_280, "model=dcgan", "objective=gan", *words)


def epochs(script: str, images: int, *options: str) -> None:
    """The second epoch over so many images of Fashion-MNIST, of a run and of a script."""
    need("keras", "tensorflow")
    fashion = fashion_mnist()
    print(f" {script}: {images:,} images of Fashion-MNIST, the second epoch; conga: `time/epoch_s` of metrics.csv")
    data = ("data=fashion_mnist", f"data.root={fashion}", f"data.limit={images}", "data.normalize=scale")
    ours = (*data, "data.val_size=0", "optim=adam", "train.epochs=2", "logger=csv", *options)
    with running() as run:
        contestants = {
            "conga": lambda: epoch_seconds(run(*ours), first=2),
            "Keras": lambda: printed_seconds(f"bench.others.{script}", fashion, str(images)),
        }
        print_ratios(interleave(contestants, ROUNDS, measure=lambda work: work()), "conga")


PEERS = {
    **{"keras_mlp": keras_mlp, "keras_digits": keras_digits, "lightning": lightning},
    **{"keras_vae": keras_vae, "keras_dcgan": keras_dcgan},
}


def run(names: Sequence[str] = tuple(PEERS)) -> None:
    """Prints seconds and ratios.

    Raises:
        Refused: no such name; or, after the others have run, what one of them lacks.
    """
    lacking = {f"{name}: must be one of {', '.join(PEERS)}": None for name in names if name not in PEERS}
    for name in names if not lacking else ():
        try:
            PEERS[name]()
        except Refused as error:
            lacking[str(error)] = None  # a dictionary, since two may lack the same
    if lacking:
        raise Refused("; ".join(lacking))


def need(*modules: str) -> None:
    """Prints the compared versions.

    Raises:
        Refused: a module is missing.
    """
    for module in modules:
        if find_spec(module) is None:
            raise Refused(f"{module}: is not installed; pip install -e '.[bench]'")
    names = [PACKAGES.get(module, module) for module in modules]
    print(" " + ", ".join(f"{name} {metadata.version(name)}" for name in names))


def fashion_mnist() -> str:
    """The folder with its files.

    Raises:
        Refused: it is missing.
    """
    found = folder()
    if found is None:
        raise Refused("Fashion-MNIST: its four files are missing; install Debian's dataset-fashion-mnist, or set "
                      "CONGA_DATA to their folder")  # fmt: skip
    return str(found)


@contextmanager
def running() -> Iterator[Callable[..., Path]]:
    """A function that trains a run in a new process and returns its directory, which is removed at the end."""
    with tempfile.TemporaryDirectory() as home:
        names = itertools.count()

        def run(*overrides: str) -> Path:
            path = Path(home) / str(next(names))
            process("trainer", *overrides, "train.device=cpu", f"hydra.run.dir={path}")
            return path

        yield run


def process(module: str, *arguments: str) -> str:
    """What ``python -m module`` prints.

    Raises:
        Refused: it fails.
    """
    command = [sys.executable, "-m", module, *arguments]
    env = {**os.environ, "KERAS_BACKEND": BACKEND}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise Refused(f"python -m {module}: ends with exit status {done.returncode}: {last[0]}")
    return done.stdout


def printed_seconds(*command: str) -> float:
    """The last line that a script prints."""
    return float(process(*command).splitlines()[-1])


def summary_seconds(path: Path) -> float:
    """The seconds of a whole run: epochs, checkpoints and test, after its parts are assembled."""
    return json.loads((path / "summary.json").read_text())["seconds"]


def epoch_seconds(path: Path, first: int = 1) -> float:
    """The seconds of training in a run's epochs from `first` on, without validation, checkpoints and logs."""
    rows = list(csv.DictReader((path / "metrics.csv").read_text().splitlines()))
    return sum(float(row["time/epoch_s"]) for row in rows[first - 1 :])


if __name__ == "__main__":
    with one_line_mistakes():
        run(sys.argv[1:] or tuple(PEERS))
