"""Peak resident memory of a Fashion-MNIST run in a process of its own, beside that of importing torch.

The system's cache of the libraries' files counts, too: hence the median of a few.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile

from bench.harness import interleave, print_ratios
from bench.peers import AS_KERAS, MLP, ROOT, fashion_mnist
from trainer.rundir.errors import Refused

# A small process between: a new one inherits the peak of its parent, and this one has imported torch.
ASK = """
import os, sys
_, status, used = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(used.ru_maxrss, os.waitstatus_to_exitcode(status))
"""
ROUNDS = 3
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in what the system counts


def run() -> None:
    """Prints gigabytes and their ratio."""
    root = fashion_mnist()
    with tempfile.TemporaryDirectory() as folder:
        options = [*MLP, *AS_KERAS, f"data.root={root}", "train.epochs=1", "train.device=cpu"]
        numbers = itertools.count()
        contestants = {
            "conga": lambda: peak("-m", "trainer", *options, f"hydra.run.dir={folder}/{next(numbers)}"),
            "import torch": lambda: peak("-c", "import torch"),
        }
        print_ratios(interleave(contestants, ROUNDS, measure=lambda work: work()), "conga", "GB", 1e-9)


def peak(*arguments: str) -> int:
    """The peak of resident bytes of ``python ARGUMENTS``.

    Raises:
        Refused: it fails.
    """
    command = [sys.executable, "-c", ASK, sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    used, code = map(int, done.stdout.splitlines()[-1].split())
    if code:
        raise Refused(f"python {' '.join(arguments)}: ends with exit status {code}: {done.stderr.strip()}")
    return used * UNIT
