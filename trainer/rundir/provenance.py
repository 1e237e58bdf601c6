"""Who trains a run, and with what: what ``summary.json`` says beside its numbers.

This module imports neither torch nor Hydra: it is on the way of ``--help``.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def process_facts() -> dict[str, Any]:
    """Who trains: host, pid, and since when."""
    return {"host": platform.node(), "pid": os.getpid(), "started": now(), "heartbeat": now()}


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide a run's numbers."""
    names = ("conga", "torch", "torchvision", "numpy", "scikit-learn", "hydra-core", "omegaconf")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):  # conga itself, where it runs from a bare checkout
            found[name] = version(name)
    return found


def git_facts() -> dict[str, Any] | None:
    """Commit and dirty flag of this code's checkout; None where it is none."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def now() -> str:
    """The time, in UTC."""
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
