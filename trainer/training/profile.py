"""``train.profile=20``: a trace of so many steps on CPU and GPU, for a trace viewer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from trainer.rundir import run_dir
from trainer.training.state import Training

NAME = "trace.json"
SKIPPED, WARMING = 3, 2  # steps before the recorded ones, since the first steps are slower


@contextlib.contextmanager
def profiled(t: Training) -> Iterator[torch.profiler.profile | None]:
    """Yields a profiler of this process if the run wants one, else None."""
    steps = t.settings.profile
    if steps is None or not t.world.main:
        yield None
        return
    activities = [torch.profiler.ProfilerActivity.CPU]
    if t.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)

    def write(profiler: torch.profiler.profile) -> None:
        temporary = t.run / f".{NAME}.tmp"
        temporary.unlink(missing_ok=True)  # not through a link
        profiler.export_chrome_trace(str(temporary))
        os.replace(temporary, t.run / NAME)
        t.display.say(f"profile     {run_dir.shown(t.run / NAME)}: open it in https://ui.perfetto.dev")

    when = torch.profiler.schedule(wait=0, warmup=WARMING, active=steps, repeat=1, skip_first=SKIPPED)
    with torch.profiler.profile(activities=activities, schedule=when, on_trace_ready=write) as profiler:
        yield profiler
    if not (t.run / NAME).exists():
        first = SKIPPED + WARMING
        t.display.say(f"profile     no trace: the run ended within the {first} warm-up steps")
