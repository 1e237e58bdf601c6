"""conga's top-level packages take precedence over a user's files of the same name, such as ``models.py``.

It imports nothing heavy: ``trainer/__init__.py`` imports it first.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

OURS = ("conga", "data", "models", "optim")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # the folder of all packages


class OursFirst(MetaPathFinder):
    """Finds conga's packages in their folder before any other place."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(fullname, [ROOT]) if fullname in OURS else None


def install() -> None:
    """Makes Python find conga's packages, once per process.

    Raises:
        ImportError: another module of this name is already imported.
    """
    if any(isinstance(finder, OursFirst) for finder in sys.meta_path):
        return
    for name in OURS:
        place = getattr(sys.modules.get(name), "__file__", None)
        if name in sys.modules and (place is None or os.path.dirname(os.path.dirname(os.path.abspath(place))) != ROOT):
            raise ImportError(f"{name} is imported from {place}, but conga has a package of this name; rename yours")
    sys.meta_path.insert(0, OursFirst())


def look_here() -> None:
    """Makes a console script find modules in the working directory, as ``python -m`` does."""
    if not sys.flags.safe_path:
        with contextlib.suppress(OSError):  # the directory was deleted
            sys.path.insert(0, os.getcwd())
