"""``python -m trainer evaluate RUN_DIR``: metrics of a run's model as a table, files and pictures.

    RUN_DIR/evaluation/
        report.json           run, checkpoint, epoch, split, metrics, numbers of each class, the other files
        per_class.csv         precision, recall, F1 of each class or label; per_target.csv: MAE, RMSE, R^2
        predictions.parquet   a row for each sample: truth, prediction, probabilities; .csv without pyarrow
        confusion_matrix.png  per_label.png  residuals.png  series.png     by task
        line.png  coefficients.png   the path of a linear model's coefficients
        free_running.png      a series, with the model's own predictions as inputs
        reconstructions.png   images, and what an autoencoder makes of them; latent.png: their codes
        samples.png  walk.png  plane.png   images from drawn codes, as the command sample has them
        attention.png         what a Transformer looks at while it writes
        most_wrong.png        the wrong predictions with the highest probability
        curves.png            loss and main metric over the epochs, the best epoch, and the test
        weights.png           the first layer, if inputs are images

The metrics are the run's own: those of ``--split test`` equal those of its ``summary.json``. A run with
``logger=pictures`` writes all of this at its end.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.markup import escape
from rich.table import Table

from trainer.analysis import generated
from trainer.analysis import linear_fit as line
from trainer.analysis import pictures as draw
from trainer.analysis.attention import attention_picture
from trainer.analysis.first_layer import weights_picture
from trainer.analysis.forecast import Forecast, forecast, free_running_picture, series_picture
from trainer.analysis.load import Run, data_settings, load_run
from trainer.cli.display import screen
from trainer.plot.learning import learning_picture
from trainer.rundir.errors import Refused
from trainer.rundir.files import write_json, write_whole
from trainer.rundir.records import find_runs
from trainer.rundir.run_dir import inside, shown
from trainer.training.evaluation import measure, predict_split
from trainer.training.objectives import TABLED
from trainer.training.predictions import Rows, as_columns, scores, worst_mistakes

LISTED = 24  # classes in the printed table; the file has all
WORST = 25  # images
RECONSTRUCTED = 12  # images
PROBABILITIES = 100  # with at most so many classes, predictions have all probabilities
REPORT = "report.json"
# All other files of an evaluation; those of an earlier one that are not written again are removed.
FILES = (
    *("per_class.csv", "per_target.csv", "predictions.parquet", "predictions.csv", "confusion_matrix.png"),
    *("per_label.png", "most_wrong.png", "residuals.png", "line.png", "coefficients.png", "series.png"),
    *("free_running.png", "curves.png", "weights.png", "reconstructions.png", "attention.png"),
    *("latent.png", "samples.png", "walk.png", "plane.png"),
)


@dataclass
class Evaluation:
    """A run's model on a split; `predictions` and `truth` are those of ``evaluation.predict_split``.

    Both are None if the objective says nothing, or images, which no table holds.
    """

    run: Run
    checkpoint: str
    split: str
    metrics: dict[str, float]
    scores: Rows
    predictions: Any
    truth: Any

    @property
    def samples(self) -> int:
        """How many."""
        return self.run.dataset.facts.sizes[self.split]

    @property
    def title(self) -> str:
        """The evaluation in one line."""
        facts = self.run.dataset.facts
        samples = f"{self.samples:,} samples of {facts.name}"
        return f"{samples}, {self.split} split; {self.checkpoint} checkpoint, {self.run.moment}"

    @property
    def names(self) -> Sequence[str]:
        """The file of each sample, relative to the folder of the data; empty if the samples are no files."""
        return self.run.dataset.names.get(self.split, ())

    @cached_property
    def forecast(self) -> Forecast | None:
        """The model on a series in time, and free running on the split; None for other data and predictions."""
        return forecast(self.run, self.split) if self.run.objective.says == "numbers" else None


def main(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    evaluation, out, files = evaluate_run(**vars(arguments))
    console = screen()
    for note in evaluation.run.all_notes:
        console.print(f"note     {note}", markup=False, soft_wrap=True)
    console.print(evaluation.title, markup=False, soft_wrap=True)
    for table in tables(evaluation):
        console.print(table)
    if evaluation.forecast:
        console.print(evaluation.forecast.line(), markup=False, soft_wrap=True)
    console.print(f"written  {shown(out)}: {', '.join([REPORT, *files])}", markup=False, soft_wrap=True)


def evaluate_run(
    run: Path,
    *,
    split: str | None = None,
    checkpoint: str = "best",
    out: Path | None = None,
    format: str | None = None,
    device: str = "auto",
    summary: Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
    new_data: bool = False,
    trusted: bool = False,
) -> tuple[Evaluation, Path, list[str]]:
    """Evaluates the run in the directory `run` and writes the files; ``logger=pictures`` calls it, too.

    Args:
        summary: the future content of ``summary.json``, of a run that is ending.
        settings: ``data.KEY=VALUE``: the new place of the data, or other data.
        trusted: whether the run may name classes that are not part of conga.
        new_data: evaluates on every sample of other data; into RUN_DIR/evaluation_new_data.

    Returns:
        the evaluation, its folder, and the names of the files besides the report.

    Raises:
        Refused: the run cannot be read, or the files cannot be written.
    """
    kind = table_format(format)
    read = load_run(run, checkpoint, device, trusted=trusted)
    read.given, read.new_data = data_settings(settings, new_data), new_data
    if new_data and split is not None:
        raise Refused(f"--split={split}: new data are evaluated as a whole; leave it out")
    if not new_data:
        split = read.has_split(split or next(s for s in ("test", "val", "train") if s in read.facts.sizes))
    if out is None:
        out = run / ("evaluation_new_data" if new_data else "evaluation")
        if not inside(run, out):
            raise Refused(f"{out}: is a link out of the run directory; --out=DIR writes elsewhere")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    evaluation = evaluate_split(read, checkpoint, split or "new")
    files = dict(contents(evaluation, kind)) | dict(run_pictures(evaluation, summary))
    with writing(out):
        write(evaluation, out, files)
    return evaluation, out, list(files)


@contextlib.contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turns an OSError about writing to `out` into a refusal."""
    try:
        yield
    except OSError as error:
        raise Refused(f"{error.filename or out}: {error.strerror or error}; --out=DIR writes elsewhere") from error


def table_format(wanted: str | None) -> str:
    """``parquet`` or ``csv``.

    Raises:
        Refused: Parquet is wanted and cannot be written.
    """
    if wanted == "parquet" and find_spec("pyarrow") is None:
        raise Refused("--format=parquet: writing it needs pyarrow: pip install -e '.[parquet]'")
    return wanted or ("parquet" if find_spec("pyarrow") else "csv")


def evaluate_split(run: Run, checkpoint: str, split: str) -> Evaluation:
    """Metrics and predictions of the run's model on a split of its data.

    Raises:
        Refused: the data cannot be read.
    """
    how: dict[str, Any] = {"seed": run.config["seed"], "cast": run.cast}
    metrics = measure(run.model, run.objective, run.dataset, split, **how)
    if run.objective.says not in TABLED:
        return Evaluation(run, checkpoint, split, metrics, [], None, None)
    predictions, truth = predict_split(run.model, run.objective, run.dataset, split, **how)
    return Evaluation(run, checkpoint, split, metrics, scores(run.objective, predictions, truth), predictions, truth)


def tables(evaluation: Evaluation) -> list[Table]:
    """The printed tables: the metrics, and the scores of each class, label or target; of many, the worst."""
    metrics = Table(show_header=False)
    for name, value in evaluation.metrics.items():
        metrics.add_row(escape(name), number(value))
    rows = evaluation.scores
    if not rows:
        return [metrics]
    kept = rows if len(rows) <= LISTED else sorted(rows, key=lambda row: row["f1" if "f1" in row else "r2"])[:LISTED]
    kind = "class" if "class" in rows[0] else next(iter(rows[0]))
    title = f"each {kind}" if kept is rows else f"the {LISTED} worst of {len(rows):,}"
    each = Table(title=title, title_justify="left")
    for header in rows[0]:
        is_text = header in ("head", "class", "label", "target")
        each.add_column(header, justify="left" if is_text else "right", overflow="fold")
    for row in kept:
        each.add_row(*(escape(v) if isinstance(v, str) else number(v) for v in row.values()))
    return [metrics, each]


def number(value: float) -> str:
    """A count, or a number with four digits; a dash if missing or NaN."""
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.4g}"


def write(evaluation: Evaluation, out: Path, files: dict[str, bytes]) -> None:
    """Writes the files of an evaluation to `out`, the report last, and removes other files of an earlier one."""
    for name, content in files.items():
        write_whole(out / name, content)
    for name in FILES:
        if name not in files:
            (out / name).unlink(missing_ok=True)
    run = evaluation.run
    report = {
        "run": str(run.path.resolve()),
        "data": run.dataset.facts.name,
        **({"new_data": run.given} if run.new_data else {}),
        "task": run.facts.task,
        "says": run.objective.says,
        "checkpoint": evaluation.checkpoint,
        "epoch": run.epoch,
        "split": evaluation.split,
        "samples": evaluation.samples,
        "metrics": evaluation.metrics,
        "per_target" if run.objective.says == "numbers" else "per_class": evaluation.scores,
        **({"series": evaluation.forecast.numbers()} if evaluation.forecast else {}),
        "device": str(run.device),
        "files": list(files),
    }
    write_json(out / REPORT, report)


def contents(evaluation: Evaluation, kind: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file besides the report."""
    import pandas as pd

    objective = evaluation.run.objective
    if evaluation.scores:
        name = "per_target.csv" if objective.says == "numbers" else "per_class.csv"
        yield name, pd.DataFrame(evaluation.scores).to_csv(index=False).encode()
    yield from pictures(evaluation)
    yield from objective.pictures(evaluation.run, evaluation.split)
    if objective.says not in TABLED:
        return
    columns = as_columns(objective, evaluation.predictions, evaluation.truth, PROBABILITIES)
    first: dict[str, Any] = {"index": range(evaluation.samples)}
    if names := evaluation.names:
        first["image"] = names
    frame = pd.DataFrame(first | columns)
    if kind == "parquet":
        file = io.BytesIO()
        frame.to_parquet(file, index=False)
        yield "predictions.parquet", file.getvalue()
    else:
        yield "predictions.csv", frame.to_csv(index=False).encode()


def pictures(evaluation: Evaluation) -> Iterator[tuple[str, bytes]]:
    """Name and content of each picture of what the objective says."""
    objective, predictions, truth = evaluation.run.objective, evaluation.predictions, evaluation.truth
    facts = objective.facts
    title = evaluation.title.replace("; ", "\n")
    if evaluation.forecast:
        yield "series.png", draw.png(series_picture, title, evaluation.forecast)
        yield "free_running.png", draw.png(free_running_picture, title, evaluation.forecast)
        return
    if objective.says == "numbers":
        name, figure = ("series", draw.series) if len(facts.input_shape) == 2 else ("residuals", draw.residuals)
        yield f"{name}.png", draw.png(figure, title, facts.output_names[""], predictions, truth)
        if not evaluation.run.new_data:  # these show its training
            yield from line.pictures(evaluation.run, evaluation.checkpoint)
        return
    if objective.says == "tokens" and (maps := attention_picture(evaluation.run, evaluation.split, title)):
        yield "attention.png", maps
    if objective.says == "labels":
        yield "per_label.png", draw.png(draw.label_bars, title, evaluation.scores)
    matrices = draw.confusion_picture(title, objective, predictions, truth)
    if matrices:
        yield "confusion_matrix.png", matrices
    if facts.input_shape[0] not in (1, 3) or len(facts.input_shape) != 3:
        return
    if objective.says == "images":
        images, value_range = raw_images(evaluation, list(range(min(evaluation.samples, RECONSTRUCTED))))
        yield "reconstructions.png", generated.reconstructions(evaluation.run, images, value_range, title)
        if hasattr(evaluation.run.model, "encode"):
            yield "latent.png", generated.latent_picture(evaluation.run, evaluation.split, title)
    if generated.has_codes(evaluation.run):
        yield from generated.pictures(evaluation.run, 0, title)
    if objective.says in TABLED:
        mistakes = worst_mistakes(objective, predictions, truth, WORST)
        if mistakes:
            count = f"the {len(mistakes)} worst mistakes among " if len(mistakes) > 1 else "the only mistake among "
            images, value_range = raw_images(evaluation, [mistake.index for mistake in mistakes])
            names = evaluation.names or [f"sample {i:,}" for i in range(len(truth))]
            called = [names[mistake.index] for mistake in mistakes]
            yield "most_wrong.png", draw.png(draw.mistaken_images, count + title, images, mistakes, value_range, called)


def run_pictures(evaluation: Evaluation, summary: Mapping[str, Any] | None) -> Iterator[tuple[str, bytes]]:
    """Name and content of each picture of the run itself: its curves and its first layer."""
    [record] = find_runs([evaluation.run.path])
    if summary is not None:
        record = replace(record, status=summary["status"], best=summary["best"])
    curves = learning_picture(record, evaluation.metrics if evaluation.split == "test" else None)
    if curves is not None:
        yield "curves.png", curves
    weights = weights_picture(evaluation.run, evaluation.checkpoint)
    if weights is not None:
        yield "weights.png", weights


def raw_images(evaluation: Evaluation, index: list[int]) -> tuple[np.ndarray, tuple[float, float]]:
    """The images before normalization (N, C, H, W), and the values of black and white."""
    images = evaluation.run.raw_inputs(evaluation.split, torch.tensor(index))
    limits = evaluation.run.dataset.facts.value_range
    if limits is None or limits[1] > 255:  # cameras use only a part of 16 bits
        limits = images.min().item(), images.max().item()
    return images.numpy(), limits
