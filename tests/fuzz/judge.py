"""Checks the end of a command against the promises of README and docs, for any command line and any file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.fuzz.cases import Case

if TYPE_CHECKING:
    from tests.fuzz.workshop import Ended

STATUSES = (0, 1, 2, 3, 130, 143)


def wrong(case: Case, ended: Ended, before: dict[str, Any]) -> str | None:
    """The promise that is broken; `before` is what `numbers` says of the same command on whole files."""
    lines = ended.err.splitlines()
    if "-m" in case.argv:  # the mistakes of jobs have a line each below the first
        lines = [line for line in lines if not line.startswith("  ")]
    if ended.hung:
        return "hangs"
    if "Traceback" in ended.err + ended.out:
        return f"traceback: {lines[-1] if lines else ''}"
    if ended.status not in STATUSES:
        return f"exit status {ended.status}"
    if "\x1b" in ended.out + ended.err:
        return "control characters are printed as they are"
    if said := [line for line in lines if not line.startswith("conga: ")]:
        return f"a line without its name: {said[0]}"
    if ended.status == 2 and len(lines) - sum(line.startswith("conga: warning: ") for line in lines) != 1:
        return f"{len(lines)} lines say why it refuses"
    if ended.status == 2 and len(ended.err) > 3000:
        return f"a line of {len(ended.err):,} characters"
    of_jobs = case.argv[0] == "resume" and case.start != "run"  # one that cannot run has failed
    if ended.status == 1 and case.harms and not of_jobs:
        return f"fails (1) where it should refuse (2): {ended.err.strip() or ended.out[-200:]}"
    if ended.status == 0 and case.harms:
        return differs(case, ended, before)
    return None


def differs(case: Case, ended: Ended, before: dict[str, Any]) -> str | None:
    """How numbers differ from those of whole files, unless a note says that something is different."""
    if any(line.lstrip().startswith(("note", "conga: warning")) for line in (ended.out + ended.err).splitlines()):
        return None
    for name, value in numbers(case, ended).items():
        if before.get(name) != value:
            return f"other numbers without a word: {name}: {str(before.get(name))[:100]} before, {str(value)[:100]} now"
    return None


def numbers(case: Case, ended: Ended) -> dict[str, Any]:
    """What a command on a run came to; {} where it comes from files that anybody may edit."""
    run = ended.folder / "run"
    if case.argv[0] == "predict":
        return {"printed": ended.out}
    if case.argv[0] == "evaluate":
        report = json.loads((run / "evaluation" / "report.json").read_text())
        timeless = {key: value for key, value in report.items() if key in ("metrics", "samples", "classes", "split")}
        return timeless | {"predictions": (run / "evaluation" / "predictions.csv").read_text()}
    if case.argv[0] == "robustness":
        return {"table": (run / "robustness" / "robustness.csv").read_text()}
    if case.argv[:2] == ["resume", "run"]:
        return resumed(run)
    return {}


def resumed(run: Path) -> dict[str, Any]:
    """The last epoch, the test and the weights of a run that went on."""
    import torch

    with open(run / "metrics.csv") as file:
        last = list(csv.DictReader(file))[-1]
    summary = json.loads((run / "summary.json").read_text())
    state = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]
    weights = {name: value.flatten().tolist() for name, value in state.items()}
    row = {name: value for name, value in last.items() if not str(name).startswith("time/")}
    told = {name: summary[name] for name in ("status", "test", "best", "epochs")}
    return told | {"last row": row, "weights": weights}
