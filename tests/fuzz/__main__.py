"""Tries commands for so many seconds, prints how many and what failed; exits with 1 if something did.

python -m tests.fuzz --seconds 600 --seed 7
python -m tests.fuzz --case '{"argv": …}'     # one again, as a failure prints it
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: several commands share the cores

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.cases import READERS, Case, cases
from tests.fuzz.judge import numbers, wrong
from tests.fuzz.workshop import Workshop

BATCH = 40  # cases that are drawn at a time
VARYING = re.compile(r"[0-9.]+|['\"].*")  # of a failure: numbers, and what stands in quotes


def drawn(workshop: Workshop, number: int) -> list[Case]:
    """Cases that follow from the number alone."""
    found: list[Case] = []

    @seed(number)
    @settings(
        *(), max_examples=BATCH, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases(workshop.files))
    def draw(case: Case) -> None:
        found.append(case)

    draw()
    return found


def fuzz(seconds: float, number: int, only: Case | None = None) -> tuple[Counter[str], dict[str, tuple[str, Case]]]:
    """Counts, and by what is wrong the first case of it with its full text."""
    counts: Counter[str] = Counter()
    failures: dict[str, tuple[str, Case]] = {}
    with tempfile.TemporaryDirectory() as root:
        workshop = Workshop(Path(root))
        whole = [Case(argv, start) for start, of_start in READERS.items() for argv in of_start]
        before = {}
        for case, ended in zip(whole, workshop.run(whole), strict=True):
            if ended.status:
                raise RuntimeError(f"{case.argv} on whole files: {ended.err or ended.out}")
            before[str(case.argv)] = numbers(case, ended)
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            batch = [only] if only else drawn(workshop, number)
            number += 1_000_003  # so that neighbouring seeds share no cases
            for case, ended in zip(batch, workshop.run(batch), strict=True):
                said = wrong(case, ended, before.get(str(case.argv), {}))
                kind = "file" if case.harms else "question" if case.start else "line"
                state = {0: "accepted", 1: "failed", 2: "refused", 3: "diverged"}.get(ended.status, "ended otherwise")
                counts[f"{kind}s {state}"] += 1
                if only:
                    print(f"exit status {ended.status}\n{ended.out}{ended.err}", end="")
                if said:
                    failures.setdefault(signature(case, said), (said, case))
                    counts["broken promises"] += 1
                if time.monotonic() - begun > seconds:
                    break
            if only:
                break
    return counts, failures


def signature(case: Case, said: str) -> str:
    """What failures that are alike have in common."""
    return f"{case.argv[0]}: {VARYING.sub('', said)[:70]}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=json.loads, help="a case as JSON")
    asked = parser.parse_args()
    counts, failures = fuzz(asked.seconds, asked.seed, Case(**asked.case) if asked.case else None)
    tried = sum(n for name, n in counts.items() if name != "broken promises")
    print(f"{tried} commands; " + ", ".join(f"{n} {name}" for name, n in sorted(counts.items())))
    for said, case in failures.values():
        print(f"\n{said}\n  python -m tests.fuzz --case {quoted(case)}")
    sys.exit(bool(failures))


def quoted(case: Case) -> str:
    """For the shell."""
    import shlex

    return shlex.quote(json.dumps(asdict(case)))


if __name__ == "__main__":
    main()
