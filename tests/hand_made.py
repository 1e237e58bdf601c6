"""Run directories written by hand, for tests of readers."""

import copy
import csv
import io
import json

import yaml

from trainer.rundir.files import finite

CONFIG = {
    "seed": 0,
    "logger": {"csv": {"_target_": "trainer.training.loggers.Csv"}},
    "model": {"_target_": "models.mlp.MLP", "widths": [64, 64], "activation": "relu"},
    "optim": {"_target_": "optim.sgd", "lr": 0.1, "momentum": 0.9},
    "train": {"epochs": 3, "monitor": "val/loss", "max_steps": None, "compile": False},
}
CHOICES = {"experiment": None, "optim": "sgd", "model": "mlp", "data": "digits", "hydra/env": "default"}
COLUMNS = ("epoch", "step", "train/loss", "val/loss", "val/accuracy", "optim/lr")


def as_csv(columns):
    """A table of columns by their names; a cell of None is empty."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([columns, *zip(*columns.values(), strict=True)])
    return file.getvalue()


def write_files(folder, config, columns=None, summary=None, *, hydra=None, log="", resumed=""):
    """A run directory of these files; what is empty is no file.

    Args:
        config: text, or a mapping.
        columns: those of metrics.csv.
    """
    texts = {
        ".hydra/config.yaml": config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False),
        ".hydra/hydra.yaml": hydra and yaml.safe_dump({"hydra": hydra}, sort_keys=False),
        ".hydra/resumed.yaml": resumed,
        "metrics.csv": columns and as_csv(columns),
        "summary.json": summary and json.dumps(finite(summary)),
        "train.log": log,
    }
    (folder / ".hydra").mkdir(parents=True)
    for name, text in texts.items():
        if text:
            (folder / name).write_text(text)
    return folder


def write_run(path, config=CONFIG, choices=CHOICES, losses=(0.9, 0.5, 0.6), test=None, **summary):
    """A finished run; `losses` are those of validation, `summary` changes fields of summary.json."""
    epochs = range(1, len(losses) + 1)
    rows = [(epoch, 10 * epoch, 2 * loss, loss, 1 - loss, 0.1) for epoch, loss in zip(epochs, losses, strict=True)]
    best = min(range(len(losses)), key=losses.__getitem__) if losses else None
    data = {
        "status": "finished",
        "stopped": None,
        "epochs": len(losses),
        "steps": 10 * len(losses),
        "best": {"metric": "val/loss", "value": losses[best], "epoch": best + 1, "mode": "min"} if losses else None,
        "final": dict(zip(COLUMNS, rows[-1], strict=True)) if losses else None,
        "test": {"loss": 0.7, "accuracy": 0.3} if test is None else test,
        "parameters": 100,
        "seconds": 1.5,
        "device": "cpu",
        "error": None,
    }
    columns = {name: [row[i] for row in rows] for i, name in enumerate(COLUMNS)}
    hydra = {"runtime": {"cwd": "/", "choices": choices}, "verbose": False}
    return write_files(path, config, columns, data | summary, hydra=hydra)


def with_keys(**dotted):
    """CONFIG with other values: optim__lr=1 is optim.lr=1."""
    config = copy.deepcopy(CONFIG)
    for key, value in dotted.items():
        *groups, last = key.split("__")
        node = config
        for group in groups:
            node = node[group]
        node[last] = value
    return config


def write_grid(folder, rates=(0.1, 0.2), seeds=(0, 1, 2), accuracy=lambda lr, seed: lr + seed / 100):
    """Runs for each learning rate and seed, named `<number>_lr=<rate>,seed=<seed>`; the test accuracy of each."""
    found = {}
    for number, (lr, seed) in enumerate((lr, seed) for lr in rates for seed in seeds):
        found[lr, seed] = accuracy(lr, seed)
        config = with_keys(optim__lr=lr, seed=seed)
        write_run(folder / f"{number}_lr={lr},seed={seed}", config, test={"loss": 1.0, "accuracy": found[lr, seed]})
    return found
