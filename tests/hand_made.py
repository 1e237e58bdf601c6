"""Run directories written by hand, for tests of readers."""

import copy
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


def write_run(path, config=CONFIG, choices=CHOICES, losses=(0.9, 0.5, 0.6), test=None, **summary):
    """A run directory; `losses` are those of validation, `summary` changes fields of summary.json."""
    (path / ".hydra").mkdir(parents=True)
    (path / ".hydra/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    hydra = {"hydra": {"runtime": {"cwd": "/", "choices": choices}, "verbose": False}}
    (path / ".hydra/hydra.yaml").write_text(yaml.safe_dump(hydra, sort_keys=False))
    table = [(i + 1, 10 * (i + 1), 2 * loss, loss, 1 - loss, 0.1) for i, loss in enumerate(losses)]
    lines = [",".join(COLUMNS), *(",".join(map(repr, row)) for row in table)]
    (path / "metrics.csv").write_text("\n".join(lines) + "\n")
    best = min(range(len(losses)), key=losses.__getitem__) if losses else None
    data = {
        "status": "finished",
        "stopped": None,
        "epochs": len(losses),
        "steps": 10 * len(losses),
        "best": {"metric": "val/loss", "value": losses[best], "epoch": best + 1, "mode": "min"} if losses else None,
        "final": dict(zip(COLUMNS, table[-1], strict=True)) if losses else None,
        "test": {"loss": 0.7, "accuracy": 0.3} if test is None else test,
        "parameters": 100,
        "seconds": 1.5,
        "device": "cpu",
        "error": None,
    }
    (path / "summary.json").write_text(json.dumps(finite(data | summary)))
    return path


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
