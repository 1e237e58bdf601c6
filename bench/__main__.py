"""``python -m bench`` lists the benchmarks; ``python -m bench NAME …`` (or ``all``) runs them."""

from __future__ import annotations

import importlib
import os
import platform
import sys

from trainer.__main__ import spin_briefly
from trainer.cli.command import refuse
from trainer.rundir.errors import Refused

NAMES = (
    *("loop", "compiled", "models", "peers", "startup", "memory", "gpu"),
    *("augment", "generative", "load", "optim", "read", "report", "sweep", "threads"),
)


def main() -> None:
    """Runs the named benchmarks; one that lacks something says so, and the others run."""
    spin_briefly(os.environ)
    wanted = NAMES if sys.argv[1:] == ["all"] else sys.argv[1:]
    modules = {name: importlib.import_module(f"bench.{name}") for name in NAMES}
    if not wanted or set(wanted) - set(NAMES):
        for name, module in modules.items():
            print(f"{name:<10} {module.__doc__.splitlines()[0]}")
        sys.exit(2 if wanted else 0)
    import torch

    print(f"python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    code = 0
    for name in wanted:
        print(f"\n{name}: {modules[name].__doc__.splitlines()[0]}", flush=True)
        try:
            modules[name].run()
        except Refused as error:
            code = refuse(f"{name}: {error}")
    sys.exit(code)


if __name__ == "__main__":
    main()
