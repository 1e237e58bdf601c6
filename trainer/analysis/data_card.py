"""``python -m trainer data-card data=fashion_mnist``: a dataset as a table and a picture.

It takes the same ``data=…`` and ``data.KEY=…`` as a run. The table shows splits, balance of the classes, range of the
values and normalization; the picture shows samples of each class, the series, or histograms of the columns.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from matplotlib.figure import Figure
from omegaconf import open_dict
from rich.markup import escape
from rich.table import Table

from data import Dataset
from trainer.cli.composing import plain
from trainer.cli.config import register_resolvers
from trainer.cli.display import loading_progress, screen, tell
from trainer.cli.signatures import check_config
from trainer.plot.figures import check_picture, rendered
from trainer.plot.look import CATEGORIES
from trainer.rundir.errors import Refused
from trainer.rundir.trust import CONF
from trainer.rundir.typed import quoted
from trainer.training.assembly import assemble
from trainer.training.coefficients import input_names
from trainer.training.parts import GIVEN, build, refusing

LISTED = 24  # classes or columns in a table
PICTURED = 20  # in a picture
ACROSS = 12  # samples of a class in a row
SAMPLED = 512  # samples that are read if the data are not in memory


def main(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    check_picture(arguments.out)
    dataset = load(composed(arguments.overrides, arguments.config_dir))
    out = arguments.out or Path("outputs") / f"data_card_{dataset.facts.name}.png"
    console = screen()
    for table in tables(dataset):
        console.print(table)
    for note in dataset.facts.notes:
        console.print(f"note: {note}", markup=False)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(rendered(picture, dataset, kind=out.suffix.removeprefix("."), dpi=110))
    except OSError as error:
        raise Refused(f"--out={out}: {error.strerror or error}") from error
    tell(f"picture  {out}")


def composed(overrides: list[str], own: Path | None, data: bool = True) -> dict[str, Any]:
    """The configuration of a run with `overrides`, checked.

    Args:
        own: where choices of a person's own are, ``--config-dir``.
        data: whether the dataset is needed, whose file may not be given.
    """
    if own is not None:
        overrides = [*overrides, f"hydra.searchpath=[{quoted(f'file://{own.absolute()}')}]"]
    register_resolvers([])
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)  # for errors
    with open_dict(cfg):
        for key in ("hydra", "sweep"):  # of no run, but of the program, or of all runs together
            cfg.pop(key, None)
    config = plain(cfg)
    if not data:
        config["data"] = {"_target_": None}
    check_config(config, assemble, GIVEN)
    return config


def load(config: dict[str, Any]) -> Dataset:
    """The dataset that a run would train on, on the CPU."""
    source = build("data", config["data"])
    with refusing("data"), loading_progress(lambda: None) as progress:
        return source.load(progress)


def tables(dataset: Dataset) -> list[Table]:
    """The facts of the dataset, and its splits."""
    facts = dataset.facts
    x, seen = raw_inputs(dataset)
    outputs = ", ".join(f"{k} {n}" for k, n in facts.heads.items())
    about = Table(title=escape(facts.name), show_header=False, title_justify="left")
    about.add_row("task", facts.task)
    about.add_row("input", " x ".join(map(str, facts.input_shape)))
    about.add_row("outputs", escape(outputs) or str(facts.num_outputs))
    about.add_row("samples", ", ".join(f"{n:,} {split}" for split, n in facts.sizes.items()))
    if facts.vocabulary is not None:
        about.add_row("words", f"{len(facts.vocabulary):,} of inputs, {facts.num_classes:,} of targets")
    else:
        about.add_row("values", f"{numbers(x.min(), x.max())}{seen}")
        about.add_row("normalization", normalization(facts.mean, facts.std))
    if facts.task == "regression":
        about.add_row("of the targets", normalization(facts.target_mean, facts.target_std))
    return [about, balance(dataset), *([columns(dataset)] if facts.column_names else [])]


def normalization(mean: torch.Tensor, std: torch.Tensor) -> str:
    """The normalization in words."""
    if mean.numel() <= 4 and std.numel() <= 4:
        if (mean == 0).all() and (std == 1).all():
            return "none"
        return f"(x - {numbers(*mean.flatten())}) / {numbers(*std.flatten())}"
    return f"each of {max(mean.numel(), std.numel()):,} entries shifted and scaled by itself"


def numbers(*values: Any) -> str:
    """A number with four digits, or several of them in brackets."""
    text = ", ".join(f"{float(v):.4g}" for v in values)
    return text if len(values) == 1 else f"[{text}]"


def balance(dataset: Dataset) -> Table:
    """The number of samples of each class in each split; for numbers, their range, mean and deviation.

    Of sequences, how often each word is written, and its share of all words.
    """
    facts = dataset.facts
    table = Table(title="targets", title_justify="left")
    if facts.task == "regression":
        for header in ("target", "split", "minimum", "maximum", "mean", "deviation"):
            table.add_column(header, justify="left" if header in ("target", "split") else "right")
        for k, name in enumerate((facts.target_names or ())[:LISTED]):
            for split, (_, y, *_) in dataset.splits.items():
                v = y[:, k].double()
                table.add_row(escape(name), split, *map(numbers, (v.min(), v.max(), v.mean(), v.std(correction=0))))
        return table
    table.add_column("word" if facts.task == "sequence" else "class")
    for split in facts.sizes:
        table.add_column(split, justify="right")
    rows, sizes = class_counts(dataset), list(facts.sizes.values())
    if facts.task == "sequence":
        sizes = [int((y != facts.pad).sum()) for _, y, *_ in dataset.splits.values()]
    for name, counts in rows[:LISTED]:
        shares = (f"{n:,}  {n / size:6.1%}" for n, size in zip(counts, sizes, strict=True))
        table.add_row(escape(name), *shares)
    if len(rows) > LISTED:
        table.add_row(f"… {len(rows) - LISTED} more")
    return table


def class_counts(dataset: Dataset) -> list[tuple[str, list[int]]]:
    """The number of samples of each class, label, or head and class in each split."""
    facts, targets = dataset.facts, [y for _, y, *_ in dataset.splits.values()]
    if facts.task == "multilabel":
        return [(name, [int(y[:, k].sum()) for y in targets]) for k, name in enumerate(facts.output_names[""])]
    if facts.task == "multitask":
        return [
            (f"{head} = {name}", [int((y[:, k] == c).sum()) for y in targets])
            for k, (head, names) in enumerate(facts.output_names.items())
            for c, name in enumerate(names)
        ]
    said = list(enumerate(facts.output_names[""]))
    if facts.task == "sequence":
        said = [(c, name) for c, name in said if c not in (facts.pad, facts.start)]
    return [(name, [int((y == c).sum()) for y in targets]) for c, name in said]


def columns(dataset: Dataset) -> Table:
    """Range, mean and deviation of the columns of a table, over the training split."""
    kinds = dataset.facts.kinds or {}
    table = Table(title="columns of the training split", title_justify="left")
    for header in ("column", *(["kind"] if kinds else []), "minimum", "maximum", "mean", "deviation"):
        table.add_column(header, justify="left" if header in ("column", "kind") else "right")
    x = dataset.splits["train"][0].double()
    for k, name in enumerate(input_names(dataset.facts)[:LISTED]):
        v = x[:, k]
        kind = [kinds.get(name, "text")] if kinds else []  # the 0/1 columns of texts are left out
        table.add_row(escape(name), *kind, *map(numbers, (v.min(), v.max(), v.mean(), v.std(correction=0))))
    if x.shape[1] > LISTED:
        table.add_row(f"… {x.shape[1] - LISTED} more")
    return table


def raw_inputs(dataset: Dataset) -> tuple[torch.Tensor, str]:
    """Training inputs before normalization, and which ones, unless all."""
    if not dataset.streamed:
        return dataset.splits["train"][0], ""
    n = min(SAMPLED, dataset.facts.sizes["train"])
    index = torch.linspace(0, dataset.facts.sizes["train"] - 1, n).long()
    return raw_batch(dataset, index).round() + 0.0, f" (of {n} samples)"  # bytes; no -0


def raw_batch(dataset: Dataset, index: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Training inputs at `index`, without normalization; augmented if there is a `generator`."""
    return dataset.batch("train", index, generator)[0] * dataset.facts.std + dataset.facts.mean


def picture(dataset: Dataset) -> Figure:
    """Samples of each class, the series, or histograms."""
    shape = dataset.facts.input_shape
    if len(shape) == 3 and shape[0] in (1, 3):
        return sample_images(dataset)
    if len(shape) == 2 and dataset.facts.task == "regression":
        return series(dataset)
    return histograms(dataset)


def sample_images(dataset: Dataset) -> Figure:
    """A row of images for each class, or, without classes, the first ones; as in training."""
    facts, y = dataset.facts, dataset.splits["train"][1]
    if facts.task in ("classification", "binary"):
        names = facts.output_names[""]
        rows = [(name, (y == c).nonzero()[:ACROSS, 0]) for c, name in enumerate(names[:PICTURED])]
    else:
        rows = [("", index) for index in torch.arange(min(len(y), 6 * ACROSS)).split(ACROSS)]
    x, generator = raw_inputs(dataset)[0], torch.Generator().manual_seed(0)
    low, high = x.min().item(), x.max().item()
    channels, height, width = facts.input_shape
    gap = max(1, height // 16)
    mosaic = torch.ones(channels, len(rows) * (height + gap), ACROSS * (width + gap))
    for r, (_, index) in enumerate(rows):
        images = raw_batch(dataset, index, generator) if len(index) else ()
        for c, image in enumerate(images):
            top, left = r * (height + gap), c * (width + gap)
            mosaic[:, top : top + height, left : left + width] = ((image - low) / (high - low or 1)).clamp(0, 1)
    figure = Figure(figsize=(ACROSS * 0.8 * width / height + 1.6, len(rows) * 0.8 + 0.6), layout="constrained")
    axis = figure.subplots()
    axis.imshow(mosaic.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    centres = [r * (height + gap) + height / 2 for r in range(len(rows))]
    axis.set(xticks=[], yticks=centres, yticklabels=[name for name, _ in rows])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    augmented = ", augmented" if dataset.augment.active else ""
    figure.suptitle(f"{facts.name}: training images of {' x '.join(map(str, facts.input_shape))}{augmented}")
    return figure


def series(dataset: Dataset) -> Figure:
    """The values to predict, split after split."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axis, start = figure.subplots(), 0
    for split, (_, y, *_) in dataset.splits.items():
        axis.plot(range(start, start + len(y)), y[:, 0], label=f"{split}, {len(y):,} windows", linewidth=1)
        start += len(y)
    steps, values = dataset.facts.input_shape
    axis.set(xlabel="window", ylabel="next value", title=f"{dataset.facts.name}: windows of {steps} x {values}")
    axis.legend()
    return figure


def histograms(dataset: Dataset) -> Figure:
    """A histogram of each column, by class if there are classes, and of the targets if they are numbers.

    Of sequences, the lengths of both.
    """
    import numpy as np

    facts, (inputs, y, *_) = dataset.facts, dataset.splits["train"]
    x = inputs.flatten(1).numpy()
    names = facts.column_names or tuple(f"entry {k}" for k in range(x.shape[1]))
    panels = [(name, x[:, k]) for k, name in enumerate(names[:PICTURED])]
    classes = facts.class_names if facts.task in ("classification", "binary") else None
    if facts.task == "sequence":
        names = "tokens of an input", "tokens of a target, with its end"
        both = (x, y.numpy()) if facts.vocabulary is not None else (y.numpy(),)
        panels = [(name, (part != facts.pad).sum(1)) for name, part in zip(names[-len(both) :], both, strict=True)]
    if facts.task == "regression":
        panels += [(f"target {name}", y[:, k].numpy()) for k, name in enumerate(facts.output_names[""][:PICTURED])]
    across = min(4, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(across * 2.8, down * 2.1 + 0.8), layout="constrained")
    for axis, (name, values) in zip(figure.subplots(down, across, squeeze=False).flat, panels, strict=False):
        edges = np.histogram_bin_edges(values, bins=24)
        if classes and len(classes) <= 10:
            parts = [values[(y == c).numpy()] for c in range(len(classes))]
            axis.hist(parts, edges, stacked=True, label=classes, histtype="stepfilled")  # one patch, not one a bar
        else:
            axis.hist(
                values,
                edges,
                histtype="stepfilled",
                color=CATEGORIES[1] if name.startswith("target ") else CATEGORIES[0],
            )
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in figure.axes[len(panels) :]:
        axis.axis("off")
    if classes and len(classes) <= 10:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    shown = "" if len(names) <= PICTURED else f", the first {PICTURED} of {len(names)} columns"
    figure.suptitle(f"{facts.name}: training split{shown}")
    return figure
