"""What torchrun tells a process that it starts."""

from __future__ import annotations

import os


def other_process() -> bool:
    """Whether torchrun started this process, and it is not the first; known before it has joined."""
    return int(os.environ.get("RANK", "0")) > 0


def local_rank() -> int:
    """Which of its machine's processes this one is."""
    return int(os.environ.get("LOCAL_RANK", "0"))
