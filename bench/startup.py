"""Cold processes: the first training step, --help and --cfg job against importing torch and Python's own start."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.harness import interleave, print_ratios

ROOT = Path(__file__).resolve().parent.parent
# Ends the process as soon as the first optimizer step is done.
FIRST_STEP = """
import os, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
register_optimizer_step_post_hook(lambda *_: os._exit(0))
sys.argv = ["conga", "hydra.run.dir=" + sys.argv[1]]
from trainer.__main__ import main
main()
"""


def run() -> None:
    """Prints seconds and ratios."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}

    def process(*argv: str) -> None:
        subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL, cwd=ROOT, env=env)

    with tempfile.TemporaryDirectory() as folder:
        names = iter(range(1000))
        contestants = {
            "first step": lambda: process("-c", FIRST_STEP, f"{folder}/{next(names)}"),
            "import torch": lambda: process("-c", "import torch"),
            "--help": lambda: process("-m", "trainer", "--help"),
            "--cfg job": lambda: process("-m", "trainer", "--cfg", "job"),
        }
        print_ratios(interleave(contestants, rounds=7), "first step")
