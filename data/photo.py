"""One photograph, for objectives that make another picture of it.

Run: ``python -m trainer experiment=style_transfer data.path=me.jpg``
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from data.gate import Raw
from data.pictures import Decoder, Undecodable
from data.source import Source, check_count
from data.storage import expand, file_error

SHIPPED = ("china", "flower")  # by scikit-learn


@dataclass(kw_only=True)
class Photo(Source):
    """A photograph (3, size, …), in the proportions of the file, several times: as often as an epoch has steps.

    Args:
        photo: ``china`` or ``flower``, which scikit-learn ships.
        path: a file of yours instead.
        size: height in pixels.
        steps: of an epoch.
    """

    photo: Literal["china", "flower"]
    path: str | None
    size: int
    steps: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("size", self.size, 8, 2**13)
        check_count("steps", self.steps, 1)

    def read(self) -> Raw:
        place = self.path or self.photo
        picture = photograph(place, self.size)
        x = np.broadcast_to(picture, (self.steps, *picture.shape))
        return Raw(
            name=Path(place).stem,
            task="regression",
            parts={"train": (x, np.zeros((self.steps, 1), np.float32))},
            num_outputs=1,
            value_range=(0, 255),
            target_names=("none",),
        )


def photograph(path: str, size: int, key: str = "path") -> np.ndarray:
    """A picture with `size` rows, in its proportions: (3, size, …) bytes.

    Raises:
        ValueError: it is missing, or cannot be decoded.
    """
    from PIL import Image

    file = shipped(path) if path in SHIPPED else expand(key, path)
    try:
        with Image.open(file) as opened:
            width = max(8, round(opened.width * size / opened.height))
    except OSError as error:
        raise file_error(file, f"cannot be decoded ({error})") from error
    found = Decoder(size, width, 3, "stretch").look(str(file))
    if isinstance(found, Undecodable):
        raise file_error(file, f"cannot be decoded ({found.why})")
    return found.array.copy()  # Pillow's is read-only


def shipped(name: str) -> Path:
    """A photograph of scikit-learn's, found without importing it."""
    spec = find_spec("sklearn")
    assert spec is not None  # a dependency of conga,
    assert spec.origin is not None  # with an __init__.py
    return Path(spec.origin).parent / "datasets" / "images" / f"{name}.jpg"
