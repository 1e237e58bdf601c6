"""The environment that torchrun gives to its processes."""

from __future__ import annotations

import os

ONE_RUN = "-m, or an experiment that is a sweep: torchrun trains one run; leave out the sweep or torchrun"


def other_process() -> bool:
    """Whether this is a process of torchrun other than the first; known before it has joined."""
    return int(os.environ.get("RANK", "0")) > 0


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))
