"""Sweeps against Hydra's basic sweeper and launcher: twenty runs on digits, and a hundred jobs that do nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.harness import interleave, print_ratios

ROOT = Path(__file__).resolve().parent.parent
BASIC = ("hydra/sweeper=basic", "hydra/launcher=basic")
GRID = ("optim=sgd,cgd", "seed=range(0,10)")
# Composing, validating and dispatching alone; Hydra's own need an application whose task does nothing.
OURS = "import sys, bench.sweep as b; b.replace_run(); from trainer.__main__ import main; sys.argv[0] = 'conga'; main()"
HYDRAS = """
import hydra
from trainer.cli.config import register_resolvers
from trainer.rundir.trust import CONF
register_resolvers([])
hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(lambda cfg: None)()
"""


def run() -> None:
    """Prints seconds and ratios."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}

    def process(*argv: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL, cwd=folder, env=env)

    print("20 runs on digits, whole command")
    grids = {
        "ours": lambda: process("-m", "trainer", "-m", *GRID),
        "Hydra's basic": lambda: process("-m", "trainer", "-m", *BASIC, *GRID),
    }
    print_ratios(interleave(grids, rounds=5), "ours")
    print("100 jobs that do nothing, whole command")
    stubs = {
        "ours": lambda: process("-c", OURS, "-m", "optim=sgd,cgd", "seed=range(0,50)"),
        "Hydra's basic": lambda: process("-c", HYDRAS, "-m", *BASIC, "optim=sgd,cgd", "seed=range(0,50)"),
    }
    print_ratios(interleave(stubs, rounds=5), "ours")


def replace_run() -> None:
    """Makes jobs of this process's sweeps finish without doing anything."""
    import trainer.sweep.sweep

    trainer.sweep.sweep.run_job = nothing


def nothing(path: Path, _: object) -> int:
    """A job that has nothing to do."""
    from trainer.rundir.summary import Summary

    Summary.read(path).update(status="finished", epochs=30)
    return 0
