"""Seconds to read 1,000 runs of 100 epochs and 3,000 of 20: tables, frames, a page and pictures of them."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.harness import interleave, print_rates

ROOT = Path(__file__).resolve().parent.parent


def run() -> None:
    """Prints the medians."""
    from trainer.runs import load_curves, load_runs

    env = {**os.environ, "PYTHONPATH": str(ROOT)}

    def process(*argv: str) -> None:
        subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL, env=env)

    with tempfile.TemporaryDirectory() as folder:
        one, many, more = f"{folder}/one", Path(folder) / "many", Path(folder) / "more"
        process("-m", "trainer", "optim=cgd", "train.epochs=20", f"hydra.run.dir={one}")
        _multiply(Path(one), many, 1000, 100)
        _multiply(Path(one), more, 3000, 20)
        work = {
            "python -m trainer runs, in all": lambda: process("-m", "trainer", "runs", str(many)),
            "of it, start-up (--help)": lambda: process("-m", "trainer", "runs", "--help"),
            "load_runs": lambda: load_runs(many),
            "load_curves": lambda: load_curves(many),
            "runs of 3,000": lambda: process("-m", "trainer", "runs", str(more)),
            "report of 3,000": lambda: process("-m", "trainer", "report", str(more)),
            "plot of 3,000": lambda: process("-m", "trainer", "plot", str(more)),
            "plot --parallel": lambda: process("-m", "trainer", "plot", str(more), "--parallel"),
            "plot --sweep": lambda: process("-m", "trainer", "plot", str(more), "--sweep"),
        }
        print_rates(interleave(work, 5), 1, "s", invert=True)
        print(f"  {'the page of 3,000':<44} {(more / 'report.html').stat().st_size / 1e6:.1f} MB")


def _multiply(one: Path, many: Path, runs: int, epochs: int) -> None:
    """Copies a run's files with other learning rates and seeds, a longer table and other numbers."""
    names = (".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "train.log")
    files = {name: (one / name).read_text() for name in names}
    summary = json.loads((one / "summary.json").read_text())
    head, first = (one / "metrics.csv").read_text().splitlines()[:2]
    rng = random.Random(0)
    for i in range(runs):
        path = many / f"{i // 100}_sweep" / str(i)
        (path / ".hydra").mkdir(parents=True)
        changed = re.sub(r"^seed: .*", f"seed: {i % 10}", files[".hydra/config.yaml"], flags=re.MULTILINE)
        changed = re.sub(r"^  lr: .*", f"  lr: {i // 10 + 1}e-4", changed, flags=re.MULTILINE)
        for name, text in (files | {".hydra/config.yaml": changed}).items():
            (path / name).write_text(text)
        columns = first.count(",") - 1
        rows = [[epoch, epoch * 41, *(rng.random() for _ in range(columns))] for epoch in range(1, epochs + 1)]
        (path / "metrics.csv").write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")
        summary |= {"epochs": epochs, "final": dict(zip(head.split(","), rows[-1], strict=True))}
        summary["test"] = {name: rng.random() for name in summary["test"]}
        summary["best"] |= {"value": rng.random(), "epoch": rng.randint(1, epochs)}
        (path / "summary.json").write_text(json.dumps(summary, indent=2))
