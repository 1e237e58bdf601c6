"""A run's model as the bytes of a file for other programs, and such bytes run by what those programs use.

onnx          an ONNX graph: onnxruntime, and whatever else reads it
torch_export  a torch.export program (.pt2): torch, without conga
safetensors   the network's weights, with the constants beside them in the metadata

The first two take raw inputs and give what ``predict`` says; the batch may have any size.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from trainer.analysis.load import Run
from trainer.analysis.raw_model import Model
from trainer.rundir.errors import Refused, one_line
from trainer.training.parts import build, shapes

INPUT = "input"
LARGEST = 2**31 - 1  # bytes of an ONNX file: a limit of protobuf
Outputs = dict[str, Tensor]


class Predicting(nn.Module):
    """Raw inputs (B, *input_shape) -> probabilities (B, K), or head -> these, or values in the targets' units."""

    def __init__(self, run: Run):
        super().__init__()
        self.model = Model(run.model, run.objective, run.precision)
        self.objective = run.objective

    def forward(self, x: Tensor) -> Any:
        return self.model(x) if self.model.in_units else self.objective.predict(self.model, x)


@dataclass(frozen=True)
class Format:
    """A format of files.

    Args:
        ending: of the file.
        packages: what it needs besides torch; `extra` of pyproject.toml has them.
        write: run, raw inputs to trace with, card -> the content of the file.
        read: content, run, raw inputs -> output's name -> outputs, by another program than ours as far as possible.
    """

    ending: str
    packages: tuple[str, ...]
    extra: str
    write: Callable[[Run, Tensor, dict[str, Any]], bytes]
    read: Callable[[bytes, Run, Tensor], Outputs]

    def check_packages(self, name: str) -> None:
        """Raises Refused if one is not installed."""
        if missing := [package for package in self.packages if find_spec(package) is None]:
            raise Refused(f"--format={name}: needs {', '.join(missing)}: pip install -e '.[{self.extra}]'")


def output_names(run: Run) -> list[str]:
    """The name of each output: of each head, if there are several."""
    what = "values" if run.objective.says == "numbers" else "probabilities"
    heads = run.facts.heads
    return [f"{what}_{head}" for head in heads] if heads else [what]


def named(run: Run, outputs: Any) -> Outputs:
    """A model's outputs by name."""
    values = list(outputs.values()) if isinstance(outputs, Mapping) else [outputs]
    return dict(zip(output_names(run), values, strict=True))


def onnx_bytes(run: Run, x: Tensor, card: dict[str, Any]) -> bytes:
    """An ONNX model; the card is in its metadata."""
    import onnx

    with quiet():
        program = torch.onnx.export(
            *(Predicting(run).eval(), (x,)),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=output_names(run),
            dynamic_shapes=any_batch(),
        )
    assert program is not None  # of dynamo=True
    model = program.model_proto
    onnx.helper.set_model_props(model, {"card": json.dumps(card)})
    if model.ByteSize() > LARGEST:
        raise Refused(f"--format=onnx: a file of more than 2 GB ({model.ByteSize():,} bytes); use safetensors")
    return model.SerializeToString()


def run_onnx(content: bytes, run: Run, x: Tensor) -> Outputs:
    """Outputs by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {INPUT: x.numpy()})
    return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}


def torch_bytes(run: Run, x: Tensor, card: dict[str, Any]) -> bytes:
    """A torch.export program; the card is its extra file ``card.json``."""
    with quiet():
        program = torch.export.export(Predicting(run).eval(), (x,), dynamic_shapes=any_batch(), strict=False)
        file = io.BytesIO()
        torch.export.save(program, file, extra_files={"card.json": json.dumps(card)})
    return file.getvalue()


def run_torch(content: bytes, run: Run, x: Tensor) -> Outputs:
    """Outputs of the program; `content` is what was just made, so that loading it runs nobody else's code."""
    with quiet():
        program = torch.export.load(io.BytesIO(content))
    return named(run, program.module()(x))


def safetensors_bytes(run: Run, x: Tensor, card: dict[str, Any]) -> bytes:
    """The network's state dict; the card, with the constants of the normalization, is in the metadata."""
    from safetensors.torch import save

    weights = {name: value.detach().clone().contiguous() for name, value in run.model.state_dict().items()}
    return save(weights, metadata={"format": "pt", "card": json.dumps(card)})


def run_safetensors(content: bytes, run: Run, x: Tensor) -> Outputs:
    """Outputs of a network made anew (if pruned, copied) with these weights, between the constants of the card."""
    from safetensors.torch import load

    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    card = json.loads(header["__metadata__"]["card"])
    constants = card["normalization"]
    network = copy.deepcopy(run.model) if "pruned" in card else build("model", run.config["model"], **shapes(run.facts))
    network.to(x.dtype).eval().load_state_dict(load(content))
    x = (x - torch.tensor(constants["mean"], dtype=x.dtype)) / torch.tensor(constants["std"], dtype=x.dtype)
    return named(run, run.objective.predict(network, x))


def any_batch() -> tuple[dict[int, torch.export.Dim]]:
    """Dynamic shapes of a model of one input: the batch may have any size."""
    return ({0: torch.export.Dim("batch")},)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops what torch's exporters warn, log and print about their own inner workings, of no use to their caller."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        nowhere = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), "onnx", onnx_bytes, run_onnx),
    "torch_export": Format(".pt2", (), "", torch_bytes, run_torch),
    "safetensors": Format(".safetensors", ("safetensors",), "safetensors", safetensors_bytes, run_safetensors),
}


def content_of(name: str, run: Run, card: dict[str, Any]) -> bytes:
    """The file of a run in a format.

    Raises:
        Refused: the format cannot hold this model.
    """
    dtype = torch.float64 if run.precision == "float64" else torch.float32
    x = torch.zeros(2, *run.facts.input_shape, dtype=dtype)
    try:
        return FORMATS[name].write(run, x, card)
    except Refused:
        raise
    except Exception as error:  # of whatever kind torch's exporters raise about a network that they cannot trace
        model = type(run.model).__name__
        raise Refused(f"--format={name}: torch cannot export {model} ({one_line(error)}); try safetensors") from error
