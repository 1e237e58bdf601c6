"""Process, versions and commit of a run, for ``summary.json``.

This module imports neither torch nor Hydra: ``--help`` imports it.
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
    """This process: host, pid, and start time."""
    return {"host": platform.node(), "pid": os.getpid(), "started": now(), "heartbeat": now()}


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that affect a run's numbers."""
    names = ("conga", "torch", "torchvision", "numpy", "scikit-learn", "hydra-core", "omegaconf")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):  # conga itself in a checkout that is not installed
            found[name] = version(name)
    return found


def git_facts() -> dict[str, Any] | None:
    """Commit and dirty flag of this code's checkout; None if it is not a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    commit, _, rest = text.removeprefix("# branch.oid ").partition("\n")
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in rest.splitlines())}


def now() -> str:
    """The time, in UTC."""
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
