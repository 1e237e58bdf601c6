"""The commands of ``python -m trainer COMMAND``: in which module each is, and what it does. Imports none of them."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """A command.

    Args:
        module: where it is; None of the one that Hydra parses (``trainer.train``).
        line: what it does.
    """

    module: str | None
    line: str


COMMANDS = {
    "train": Command(None, "trains a run, or with -m a sweep: what is done where no command is named"),
    "resume": Command("trainer.resume", "goes on with a run or a sweep"),
    "evaluate": Command("trainer.analysis.evaluate", "how good a run's model is: tables, numbers in files, pictures"),
    "predict": Command("trainer.analysis.predict", "what a run's model says of images, tables or arrays"),
    "robustness": Command("trainer.analysis.robustness", "what is left of runs when weights go or inputs are changed"),
    "weights": Command("trainer.analysis.first_layer", "pictures and numbers of what first layers have learned"),
    "runs": Command("trainer.runs.command", "runs as a table, with the keys in which they differ"),
    "plot": Command("trainer.plot.command", "curves, heat maps and parallel coordinates of runs"),
    "compare": Command("trainer.runs.compare", "two runs, or two groups of them, beside each other"),
    "report": Command("trainer.report.command", "one HTML page that shows runs"),
    "data-card": Command("trainer.analysis.data_card", "what a dataset is: splits, ranges, classes, a picture"),
    "model-card": Command("trainer.analysis.model_card", "the layers of a network, with shapes and parameters"),
    "show": Command("trainer.sweep.show", "a sweep's table and picture, and what is done, failed, and best"),
}
