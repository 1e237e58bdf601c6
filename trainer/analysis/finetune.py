"""Training a compressed network for some more epochs, within its compression: ``--finetune``.

It is trained as its run was (data, objective, optimizer, set, precision), with the rate falling in a line from that of
the run to 0, and after each step :data:`Keep` compresses it again: zeros stay zeros, a rank stays.

Source: Han et al. 2015 (arXiv 1506.02626); the rate, Zimmer, Spiegel & Pokutta 2023 (arXiv 2111.00843), "linear
learning rate restarting".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from trainer.analysis.load import Run
from trainer.cli.display import Silent
from trainer.rundir import run_dir
from trainer.rundir.stored import parse_yaml
from trainer.rundir.summary import Summary
from trainer.rundir.trust import CONF
from trainer.training.assembly import assemble
from trainer.training.device import switches
from trainer.training.distributed import World
from trainer.training.loop import train_epoch
from trainer.training.state import Training
from trainer.training.stop import StopRequest

Keep = Callable[[nn.Module], None]  # changes a model so that it is compressed again

# Keys of `train` that a run's own length and files need.
AS_LONG = {"max_steps": None, "max_minutes": None, "checkpoint_steps": None, "overfit_batches": None, "profile": None}
PLAIN = {"resume": None, "ema": None, "compile": False, "cuda_graph": False}


class Finetuner:
    """Trains copies of a run's network for some epochs each.

    Args:
        run: whose configuration says how.
        epochs: at least 1.

    Raises:
        Refused: the configuration names something that is not part of conga, or the data cannot be read.
    """

    def __init__(self, run: Run, epochs: int):
        if not run.trust:
            run_dir.check_trust(run.path, run.config)
        self.run, self.epochs = run, epochs
        train = run.config["train"] | AS_LONG | PLAIN | {"epochs": epochs, "device": str(run.device)}
        changed = {"train": train, "data": run.config["data"] | run.given}
        changed["logger"] = {"csv": {"_target_": "trainer.training.loggers.Csv"}}  # writes nothing before it starts
        changed["schedule"] = parse_yaml((CONF / "schedule" / "linear.yaml").read_text(), "linear.yaml")
        self.config = {key: value for key, value in run.config.items() if key != "sweep"} | changed
        self.kept: dict[str, Any] = {}  # the dataset

    def __call__(self, model: nn.Module, keep: Keep) -> bool:
        """Trains `model` in place; returns whether its parameters are finite."""
        threads = torch.get_num_threads()
        try:
            t = self.assembled()
            t.model.load_state_dict(model.state_dict())
            t.optimizer.register_step_post_hook(lambda *_: keep(t.model))
            with switches(t.settings, t.device):
                for t.progress.epoch in range(self.epochs):
                    t.progress.position, t.progress.sums = 0, {}
                    train_epoch(t, None)
        finally:
            torch.set_num_threads(threads)
        model.load_state_dict(t.model.state_dict())
        return all(bool(p.isfinite().all()) for p in model.parameters())

    def assembled(self) -> Training:
        """A training of the run's kind, in memory: it writes nothing."""
        path = self.run.path  # where sizes of weights that came from elsewhere are looked up
        summary = replace(Summary.read(path), data={}, writes=False)
        given: dict[str, Any] = {"path": path, "summary": summary, "stop": StopRequest(), "world": World()}
        t = assemble(**self.config, **given, show=Silent, kept=self.kept, frozen=self.config)
        t.pulse_at = math.inf  # nobody looks
        return t
