"""``python -m trainer export RUN_DIR --format onnx``: a run's model as a file for other programs, checked.

    RUN_DIR/export/
        model.onnx          raw inputs -> probabilities or values, by onnxruntime (pip install -e '.[onnx]')
        model.pt2           the same for torch without conga: torch.export.load(…).module()
        model.safetensors   the network's weights (pip install -e '.[safetensors]')
        model.onnx.json     the card: input, outputs, classes, normalization, and what the check found

The card is in the file, too. Before it is written, the file is compared with the run's model on up to 100
samples of the run's data; if they cannot be read, on random inputs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data import Dataset, Facts
from trainer.analysis import smaller
from trainer.analysis.evaluate import writing
from trainer.analysis.formats import FORMATS, INPUT, content_of, named, output_names
from trainer.analysis.inputs import Inputs
from trainer.analysis.load import Run, data_settings, load_run
from trainer.analysis.predict import predict
from trainer.cli.display import listed, tell
from trainer.rundir.errors import Refused
from trainer.rundir.files import write_json, write_whole
from trainer.rundir.provenance import versions
from trainer.rundir.run_dir import inside, shown
from trainer.training.objectives import Objective

SAMPLES = 100
TOLERANCE = 1e-4  # of a probability, or of the largest value


def main(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    name, out = arguments.format, arguments.out
    check_arguments(arguments)
    FORMATS[name].check_packages(name)
    run = load_run(arguments.run, arguments.checkpoint, "cpu", trusted=arguments.trusted, full=True)
    run.given = data_settings(arguments.settings, new_data=False)
    if run.objective.says not in ("choices", "labels", "numbers"):
        name_of, says = type(run.objective).__name__, run.objective.says
        raise Refused(f"{run.path}: {name_of} says {says}; export takes choices, labels and numbers")
    if out is None:
        out = run.path / "export" / f"model{FORMATS[name].ending}"
        if not inside(run.path, out.parent):
            raise Refused(f"{out.parent}: is a link out of the run directory; --out=FILE writes elsewhere")
    card = card_of(run, name, arguments.checkpoint)
    if arguments.pruned is not None:
        before = len(content_of(name, run, card))
        card["pruned"] = pruned(run, arguments)
    content = content_of(name, run, card)
    card["check"] = check(name, content, run, random=arguments.random)
    if arguments.pruned is not None:
        card["check"]["bytes"] = [before, len(content)]
    with writing(out):
        write_whole(out, content)
        write_json(out.with_name(f"{out.name}.json"), card)
    for note in run.notes:
        tell(f"note     {note}")
    tell(*summary_lines(card, out, len(content)))


def pruned(run: Run, arguments: argparse.Namespace) -> dict[str, Any]:
    """Replaces the run's model by a smaller one; see :func:`trainer.analysis.smaller.prune`."""
    x = Dataset({}, run.facts, 1).to(run.device, run.dtype).inputs(samples(run, random=arguments.random)[0])
    return smaller.prune(run, arguments.pruned, arguments.finetune or 0, x)


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raises Refused for values out of their ranges."""
    if arguments.pruned is not None and not 0 < arguments.pruned < 100:
        raise Refused(f"--pruned={arguments.pruned:g}: must be greater than 0 and less than 100, percent")
    if arguments.finetune is not None and arguments.pruned is None:
        raise Refused(f"--finetune={arguments.finetune}: goes with --pruned")
    if arguments.finetune is not None and arguments.finetune < 1:
        raise Refused(f"--finetune={arguments.finetune}: must be at least 1")


def summary_lines(card: dict[str, Any], out: Path, size: int) -> list[str]:
    """The printed lines."""
    found = card["check"]
    outputs = (
        f"output   {one['name']} {dims(one['shape'])}: {one['what']}"
        + (f" {listed(one['names'])}" if one["names"] else "")
        for one in card["outputs"]
    )
    return [
        f"written  {shown(out)}, {size:,} bytes; card: {out.name}.json",
        f"input    {card['input']['name']} {dims(card['input']['shape'])} {card['input']['dtype']}: "
        + card["input"]["what"],
        *outputs,
        *(smaller.lines(card["pruned"], found["bytes"]) if "pruned" in card else []),
        *([] if found["why"] is None else [f"note     checked on random inputs: {found['why']}"]),
        f"check    {found['samples']} samples ({found['of']}): largest difference {found['largest_difference']:.2g}",
    ]


def dims(shape: list[Any]) -> str:
    """A shape in words."""
    return f"({', '.join(map(str, shape))})"


def card_of(run: Run, name: str, checkpoint: str) -> dict[str, Any]:
    """The card of the file, for a user who has only the file: plain data."""
    facts, weights_only = run.facts, name == "safetensors"
    trained_in = run.config["train"]["precision"]
    return {
        "format": name,
        "run": run.path.resolve().name,
        "data": facts.name,
        "task": facts.task,
        "checkpoint": checkpoint,
        "epoch": run.epoch,
        "trained_in": trained_in,
        "input": {
            "name": INPUT,
            "shape": ["batch", *facts.input_shape],
            "dtype": "float64" if trained_in == "float64" else "float32",
            "what": inputs_in_words(facts),
            "columns": list(facts.column_names) if facts.column_names else None,
            "value_range": list(facts.value_range) if facts.value_range else None,
        },
        "outputs": [
            {"name": output, "shape": ["batch", len(names)], "what": outputs_in_words(run, name), "names": list(names)}
            for output, names in zip(output_names(run), facts.output_names.values(), strict=True)
        ],
        "model": run.config["model"] if weights_only else None,
        "normalization": normalization(run.objective, inside=not weights_only),
        "versions": versions(),
    }


def outputs_in_words(run: Run, name: str) -> str:
    """The outputs in words."""
    says = run.objective.says
    if name == "safetensors":  # the network alone
        then = "" if says == "numbers" else f", of which {type(run.objective).__name__} makes probabilities"
        return f"the network's outputs{then}:"
    if says == "numbers":
        return "values in their own units:"
    return "the probability of each label:" if says == "labels" else "the probability of each class:"


def inputs_in_words(facts: Facts) -> str:
    """The inputs in words."""
    if len(facts.input_shape) == 3:
        low_high = " from {:g} to {:g}".format(*facts.value_range) if facts.value_range else ""
        return f"pixels{low_high} as they are in the files: channels, rows, columns"
    if len(facts.input_shape) == 2:
        return "a series as it is in the data: steps, features"
    missing = "; NaN where a value is missing" if facts.fill is not None else ""
    return f"the columns in their own units, a text as 0/1 columns{missing}" if facts.column_names else "raw numbers"


def normalization(objective: Objective, *, inside: bool) -> dict[str, Any]:
    """The constants of the normalization, as nested lists."""
    facts, in_units = objective.facts, objective.says == "numbers"
    constants = {"mean": facts.mean, "std": facts.std, "fill": facts.fill}
    if in_units:
        constants |= {"target_mean": facts.target_mean, "target_std": facts.target_std}
    targets = "; outputs * target_std + target_mean" if in_units else ""
    return {
        "inside": inside,
        "formula": f"(input - mean) / std{targets}",
        **{name: None if value is None else value.tolist() for name, value in constants.items()},
    }


def check(name: str, content: bytes, run: Run, *, random: bool) -> dict[str, Any]:
    """Compares the file with the run's model, in batches of two sizes.

    Raises:
        Refused: their predictions differ by more than rounding.
    """
    raw, of, why = samples(run, random=random)
    expected = named(run, predict(run, Inputs("sample", [], iter([raw.numpy()]))))
    x = raw.to(torch.float64 if run.precision == "float64" else torch.float32)
    parts = [FORMATS[name].read(content, run, part) for part in (x[:1], x[1:]) if len(part)]
    largest = 0.0
    for output, ours in expected.items():
        theirs = torch.cat([part[output] for part in parts]).detach().double()
        difference = (theirs - torch.from_numpy(ours).double()).abs().max().item()
        allowed = TOLERANCE * max(1.0, float(abs(ours).max()))
        if not difference <= allowed:  # also NaN
            raise Refused(
                f"--format={name}: the file's {output} differ by {difference:.2g} from those of {run.path}; not written"
            )
        largest = max(largest, difference)
    return {"samples": len(raw), "of": of, "why": why, "largest_difference": largest}


def samples(run: Run, *, random: bool) -> tuple[Tensor, str, str | None]:
    """Raw inputs for the check, their kind, and why they are not from the data, or None.

    They are spread evenly over the test split, or else the validation or the training split.
    """
    facts, why = run.facts, None
    if not random:
        try:
            split = next(s for s in ("test", "val", "train") if s in run.dataset.splits)
            n = run.dataset.facts.sizes[split]
            index = torch.linspace(0, n - 1, min(n, SAMPLES)).long()
            return run.raw_inputs(split, index), f"of the {split} split", None
        except Refused as error:  # the data moved or changed; the model can be exported anyway
            why = str(error)
    x = facts.mean + facts.std * torch.randn(SAMPLES, *facts.input_shape, generator=torch.Generator().manual_seed(0))
    if facts.value_range is not None:
        x = x.clamp(*facts.value_range)
    return x.float(), "random inputs, seed 0", why
