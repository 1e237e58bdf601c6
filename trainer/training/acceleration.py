"""How a run takes its steps: one by one, from a recording, or with its model compiled alone."""

from __future__ import annotations

import torch
from torch import nn

from trainer.training.compiled import Recorded
from trainer.training.device import check_compiler
from trainer.training.state import Training


def accelerate(t: Training) -> None:
    """Makes a run take its steps from a recording, or compile its model, as its settings say.

    Raises:
        ValueError: `name=value: …`: impossible on this device or with this run.
    """
    s, reason, on_gpu = t.settings, why_not(t), t.device.type == "cuda"
    if s.cuda_graph is True and not on_gpu:
        raise ValueError("cuda_graph=true: needs a CUDA device; use auto")
    if s.cuda_graph is True and reason is not None:
        raise ValueError(f"cuda_graph=true: {reason}; use auto")
    captured = on_gpu and reason is None and (s.cuda_graph is True or (s.cuda_graph == "auto" and all_ours(t)))
    if s.compile:
        check_compiler(t.device)
        torch._dynamo.reset()  # it limits graphs by code, also over earlier jobs
    if reason is None and (s.compile or captured):
        t.recorded = Recorded(t, compiled=s.compile, captured=captured)
    elif s.compile:
        t.compiles_alone = reason


def all_ours(t: Training) -> bool:
    """Whether all parts are conga's; a user's part may do something else in each step, such as count in Python."""
    parts = (*t.model.modules(), t.objective, t.optimizer, t.schedule, t.dataset)
    rooms = ("builtins", "data", "models", "optim", "torch", "torchvision", "trainer")  # the first of them: no schedule
    return all(type(part).__module__.partition(".")[0] in rooms for part in parts)


def why_not(t: Training) -> str | None:
    """Why a run's steps cannot be recorded; None if they can."""
    if t.world.size > 1:
        return "several processes exchange gradients in it"
    if t.scaler is not None:
        return "fp16 checks its gradients before it steps"
    if hasattr(t.optimizer, "second_point"):
        return f"{type(t.optimizer).__name__} takes gradients at two points"
    if not getattr(t.optimizer, "recordable", True):
        return f"{type(t.optimizer).__name__} needs its learning rate as a number"
    if t.device.type == "cpu" and any(isinstance(module, nn.RNNBase) for module in t.model.modules()):
        return "torch's recurrent layers cannot be recorded on a CPU"
    if t.full_batches < t.per_step:
        return "no step has full batches"
    if t.watch is not None:
        return "train.anomaly checks each layer"
    return None
