"""What a search left behind."""

import csv

import pytest

from trainer.rundir.configuration import frozen

optuna = pytest.importorskip("optuna", reason="needs the extra [optuna]")

SEARCH = ("-m", "hydra/sweeper=optuna", "train.device=cpu", "train.threads=1")


def trials(folder):
    """Of the study in a directory, read by optuna alone."""
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.log"))
    return optuna.load_study(study_name="search", storage=optuna.storages.JournalStorage(backend)).trials


def runs(folder):
    """number -> directory"""
    return {int(p.parent.parent.name.partition("_")[0]): p.parent.parent for p in folder.glob("*/.hydra/config.yaml")}


def curve(run, column="val/loss"):
    with (run / "metrics.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file)]


def config_of(run):
    return frozen(run)
