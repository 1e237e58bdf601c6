"""Names of run directories: readable, and without quotes in a shell or on the command line.

This module imports neither torch nor Hydra: ``--help`` imports it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2s

LONGEST = 100  # characters in the name of a job's directory


def safe(text: str) -> str:
    """A text as part of a name: keeps letters, digits and _ . - +, with a dash for anything else."""
    text = re.sub(r"[^\w.+-]+", "-", re.sub(r"[][(){}'\"]", "", text), flags=re.ASCII).rstrip("-.")
    return re.sub(r"^[-.]+(?!\d)", "", text)  # -1 stays


def job_name(number: int, differences: Sequence[str]) -> str:
    """``<number>_<key>-<value>_<key>-<value>``, of bounded length; a cut name ends in a hash.

    Args:
        differences: the overrides in which the jobs of a sweep differ, such as ``optim.lr=0.1``.
    """
    pairs = [override.lstrip("+").partition("=") for override in differences if override]
    name = "_".join([str(number), *(f"{safe(key)}-{safe(value)}".rstrip("-") for key, _, value in pairs)])
    if len(name) > LONGEST:
        digest = blake2s(",".join(differences).encode(), digest_size=4).hexdigest()
        name = f"{name[: LONGEST - 9]}-{digest}"
    return name
