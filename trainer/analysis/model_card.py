"""``python -m trainer model-card model=resnet50 data=cifar10``: a network's layers, shapes, parameters, multiply-adds.

It takes the same ``model=…`` and ``data=…`` as a run. With ``--input 3x32x32 --outputs 10`` it needs no data.
"""

from __future__ import annotations

import argparse

from hydra.core.hydra_config import HydraConfig
from rich.table import Table
from torch import nn

from data import Facts
from models.size import layer_sizes
from trainer.analysis.data_card import composed, load
from trainer.cli.display import screen
from trainer.rundir.errors import Refused
from trainer.training.parts import build, shapes


def main(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    if arguments.outputs < 1:
        raise Refused(f"--outputs={arguments.outputs}: must be at least 1")
    config = composed(arguments.overrides, arguments.config_dir, data=arguments.input is None)
    if arguments.input is None:
        facts = load(config).facts
        given = shapes(facts)
    else:
        HydraConfig.instance().cfg = None  # then errors do not name the data
        given = {"input_shape": sides(arguments.input), "num_outputs": arguments.outputs}
    screen().print(summary_table(config["model"], **given), markup=False)


def sides(text: str) -> tuple[int, ...]:
    """The shape in a text such as 3x32x32.

    Raises:
        Refused: it is not a shape.
    """
    parts = text.lower().split("x")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise Refused(f"--input={text}: must be numbers with x between them, such as 3x32x32")
    return tuple(map(int, parts))


def summary_table(
    model: dict, input_shape: tuple[int, ...], num_outputs: int | dict[str, int], facts: Facts | None = None
) -> Table:
    """The layers of the network that `model` describes, and the totals.

    Args:
        facts: of the dataset; without them, a network that writes tokens (``generate``) takes tokens, and so does one
            that begins with an embedding.
    """
    network = build("model", model, input_shape=input_shape, num_outputs=num_outputs, facts=facts)
    leaf = next((layer for layer in network.modules() if not any(layer.children())), None)
    tokens = hasattr(network, "generate") or isinstance(leaf, nn.Embedding)
    tokens = tokens if facts is None else facts.vocabulary is not None
    rows = layer_sizes(network, input_shape, tokens=tokens)
    shape = " x ".join(map(str, input_shape))
    table = Table(title=f"{type(network).__name__} for {shape}", title_justify="left", show_footer=True)
    trainable = sum(row.trainable for row in rows)
    frozen = sum(row.parameters for row in rows) - trainable
    table.add_column("layer", "total", overflow="fold")
    table.add_column("kind", f"{frozen:,} of them frozen" if frozen else "", overflow="fold")
    table.add_column("output", justify="right", no_wrap=True)
    table.add_column("parameters", f"{trainable + frozen:,}", justify="right", no_wrap=True)
    table.add_column("multiply-adds", f"{sum(row.multiply_adds for row in rows):,}", justify="right", no_wrap=True)
    for row in rows:
        counts = (f"{n:,}" if n else "" for n in (row.parameters, row.multiply_adds))
        table.add_row(row.name, row.kind, " x ".join(map(str, row.shape)), *counts)
    return table
