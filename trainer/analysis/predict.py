"""``python -m trainer predict RUN_DIR INPUT``: predictions of a run's model for an image, a folder, a table or arrays.

INPUT is prepared like the run's data, which are not needed. It may be

    photo.jpg, photos/   for models of images: resized to the run's size; a folder at any depth
    rows.csv, .parquet   for models of tables: columns are found by name and read as in training, others are
                         ignored
    lines.txt            for models of texts: an input in each line, up to a tab; --text "12+988" gives one
    arrays.npz           for all: the array x (or the only one, or x_test), (N, *shape of one input), before
                         normalization; series come this way only

``--csv`` prints all probabilities; notes go to standard error.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.markup import escape
from rich.table import Table

from data import Dataset, Facts
from trainer.analysis.inputs import Inputs, inputs_of
from trainer.analysis.load import Run, load_run
from trainer.cli.command import refuse
from trainer.cli.display import screen
from trainer.cli.outcome import EXIT
from trainer.rundir.errors import Refused, one_line
from trainer.rundir.text import printable
from trainer.training.evaluation import EVALUATED, joined
from trainer.training.objectives import Objective
from trainer.training.predictions import as_columns, heads, percent, words

NEXT = 2  # classes after the first in the table


def main(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    x = given(arguments)
    run = load_run(arguments.run, arguments.checkpoint, arguments.device, trusted=arguments.trusted)
    run.must_predict()
    if arguments.text is not None and run.facts.vocabulary is None:
        raise Refused(f"--text={arguments.text}: the inputs of {run.path} are no texts")
    try:
        inputs = inputs_of(x, run.facts, lambda: run.source, batch_size(run.facts))
        predictions = predict(run, inputs)
    except (ValueError, OSError) as error:  # errors of the data's readers name the file
        raise Refused(one_line(error)) from error
    for note in (*run.notes, *inputs.notes):
        print(f"note: {printable(note)}", file=sys.stderr)
    if arguments.csv:
        write_csv(run.objective, inputs, predictions)
    else:
        screen().print(as_table(run.objective, inputs, predictions))
    for line in inputs.unread:
        refuse(f"not predicted: {line}")
    if inputs.unread:
        sys.exit(EXIT["failed"])


def given(arguments: argparse.Namespace) -> Path | list[str]:
    """INPUT, or the text of ``--text``.

    Raises:
        Refused: both, or none.
    """
    if arguments.input is None and arguments.text is None:
        raise Refused("missing: INPUT; --help lists what there is")
    if arguments.input is not None and arguments.text is not None:
        raise Refused(f"--text={arguments.text}: stands in place of INPUT; leave one out")
    return arguments.input if arguments.text is None else [arguments.text]


def batch_size(facts: Facts) -> int:
    """As in an evaluation: up to 512, fewer for large inputs."""
    return max(1, min(512, EVALUATED // math.prod(facts.input_shape)))


def predict(run: Run, inputs: Inputs) -> Any:
    """Predictions (N, K), or head -> (N, K), of all inputs."""
    ready = Dataset({}, run.facts, 1).to(run.device, run.dtype)
    with torch.inference_mode(), run.cast():
        x = (torch.from_numpy(part).to(run.device) for part in inputs.parts)
        return joined([run.objective.predict(run.model, ready.inputs(part)) for part in x])


def write_csv(objective: Objective, inputs: Inputs, predictions: Any) -> None:
    """Comma-separated values on standard output."""
    import pandas as pd

    pd.DataFrame({inputs.kind: inputs.names} | as_columns(objective, predictions)).to_csv(sys.stdout, index=False)


def as_table(objective: Objective, inputs: Inputs, predictions: Any) -> Table:
    """A row per input (and head): its class with probability and the next two classes; or labels, values, words."""
    table, names, says = Table(), objective.facts.output_names, objective.says
    choices = list(heads(objective, predictions))
    table.add_column(inputs.kind, overflow="fold")
    if objective.facts.heads and choices:
        table.add_column("head", overflow="fold")
    if choices:
        table.add_column("class", overflow="fold")
        table.add_column("probability", justify="right")
        for place in ("second", "third")[: max(map(len, names.values())) - 1]:
            table.add_column(place, overflow="fold")
    elif says == "labels":
        table.add_column("labels", overflow="fold")
        table.add_column("next", overflow="fold")
    elif says == "numbers":
        for name in names[""]:
            table.add_column(escape(name), justify="right", overflow="fold")
    else:
        for name in ("prediction",) if says == "tokens" else ("least", "mean", "greatest"):
            table.add_column(name, overflow="fold")
    for i, name in enumerate(map(str, inputs.names)):
        for head in choices:
            first, *rest = most_probable(head.classes, head.probabilities_NK[i], 1 + NEXT)
            of_head = [escape(head.name)] if head.name else []
            table.add_row(escape(name), *of_head, *first, *map(" ".join, rest))
        if says == "labels":
            has = int((predictions[i] > 0.5).sum())
            texts = list(map(" ".join, most_probable(names[""], predictions[i], has + NEXT)))
            table.add_row(escape(name), ", ".join(texts[:has]) or "none", ", ".join(texts[has:]))
        elif says == "numbers":
            table.add_row(escape(name), *(f"{value:.6g}" for value in predictions[i]))
        elif says == "tokens":
            table.add_row(escape(name), escape(words(objective.facts, predictions[i : i + 1])[0]))
        elif says == "images":
            pixels = predictions[i]
            table.add_row(escape(name), *(f"{value:.4g}" for value in (pixels.min(), pixels.mean(), pixels.max())))
    return table


def most_probable(names: tuple[str, ...], probabilities_K: np.ndarray, most: int) -> list[tuple[str, str]]:
    """Names and probabilities, the most probable first."""
    order = (-probabilities_K).argsort(kind="stable")[:most]
    return [(escape(names[k]), percent(probabilities_K[k])) for k in order]
