"""The commands of ``python -m trainer COMMAND``: module and purpose of each, without importing it."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """A command.

    Args:
        module: has `main`; None for the one that Hydra parses (``trainer.train``).
        line: what it does.
        arguments: has `ARGUMENTS`, a function for each command that adds its arguments to a parser; None if the module
            itself has `add_arguments`.
    """

    module: str | None
    line: str
    arguments: str | None = None


ANALYSIS = "trainer.analysis.arguments"  # commands that import torch, once their arguments are read
COMMANDS = {
    "train": Command(None, "train a run, or with -m a sweep; the default command"),
    "resume": Command("trainer.resume", "continue a run or a sweep"),
    "evaluate": Command("trainer.analysis.evaluate", "metrics of a run's model: tables, files, pictures", ANALYSIS),
    "predict": Command(
        "trainer.analysis.predict", "predictions of a run's model for images, tables or arrays", ANALYSIS
    ),
    "sample": Command("trainer.analysis.sample", "images that a GAN or a variational autoencoder makes", ANALYSIS),
    "export": Command("trainer.analysis.export", "a run's model as a file: ONNX, torch.export, safetensors", ANALYSIS),
    "robustness": Command("trainer.analysis.robustness", "metrics of runs after pruning, noise and attacks", ANALYSIS),
    "weights": Command("trainer.analysis.first_layer", "pictures and statistics of first layers", ANALYSIS),
    "see": Command("trainer.analysis.see", "images that the filters of a run's layer answer to most", ANALYSIS),
    "runs": Command("trainer.runs.command", "runs as a table, with the keys in which they differ"),
    "plot": Command("trainer.plot.command", "curves, heat maps and parallel coordinates of runs"),
    "compare": Command("trainer.runs.compare", "two runs, or two groups of runs, side by side"),
    "report": Command("trainer.report.command", "one HTML page about runs"),
    "data-card": Command("trainer.analysis.data_card", "a dataset: splits, ranges, classes, a picture", ANALYSIS),
    "model-card": Command("trainer.analysis.model_card", "a network: layers, shapes, parameters", ANALYSIS),
    "new": Command("trainer.cli.new", "the files to begin with for a model, a dataset, … of your own"),
    "show": Command("trainer.sweep.show", "a sweep: its table and picture, and what is done, failed, and best"),
}
