"""Figures as files: PNG, SVG or PDF, the same bytes for the same figure. Does not import torch."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.category import StrCategoryFormatter
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter

from trainer.plot.look import LOOK
from trainer.rundir.errors import Refused
from trainer.rundir.files import write_whole
from trainer.rundir.text import printable_lines

# Without a date; text stays text in an SVG, and a PDF has TrueType fonts, which publishers accept.
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
FONTS = {"svg.fonttype": "none", "svg.hashsalt": "conga", "pdf.fonttype": 42}


def rendered(draw: Callable[..., Figure], *args: Any, kind: str = "png", dpi: int = 130) -> bytes:
    """The figure of ``draw(*args)`` as a file of this `kind`. Names are shown literally, without mathtext."""
    file = io.BytesIO()
    with drawing():
        drawn(draw, *args).savefig(file, format=kind, dpi=dpi, metadata=UNDATED.get(kind))
    return file.getvalue()


def drawn(draw: Callable[..., Figure], *args: Any) -> Figure:
    """The figure of ``draw(*args)``; names are shown literally, without mathtext."""
    with drawing():
        figure = draw(*args)
        make_printable(figure)
    return figure


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Inside, matplotlib has the one look of all pictures, and no irrelevant warnings."""
    settings: dict[Any, Any] = {"text.parse_math": False} | FONTS | LOOK
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the font lacks a script: boxes are shown
        warnings.filterwarnings("ignore", "constrained_layout not applied")  # the size is too small
        yield


def make_printable(figure: Figure) -> None:
    """Shows control characters in the figure's texts as escapes."""
    rewrite(figure, printable_lines)


def rewrite(figure: Figure, how: Callable[[str], str]) -> None:
    """Changes all texts of the figure, ticks that are words or made by functions among them."""
    of_texts = FixedFormatter | FuncFormatter | StrCategoryFormatter
    for text in figure.findobj(Text):
        text.set_text(how(text.get_text()))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if isinstance(axis.get_major_formatter(), of_texts):  # made while drawing
            made = axis.get_major_formatter()
            if isinstance(made, FixedFormatter):
                axis.set_major_formatter(FixedFormatter([*map(how, made.seq)]))
            else:
                axis.set_major_formatter(FuncFormatter(_then(made, how)))


def _then(make: Callable[..., str], how: Callable[[str], str]) -> Callable[..., str]:
    return lambda value, position=None: how(make(value, position))


def check_picture(out: Path | None) -> None:
    """Raises Refused if a picture cannot be written there, or its file type is unknown."""
    if out is None:
        return

    kinds = Figure().canvas.get_supported_filetypes()
    if out.suffix.removeprefix(".") not in kinds:
        raise Refused(f"--out={out}: its name must end in .png, .pdf, .svg or another of {', '.join(sorted(kinds))}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"--out={out}: {error.strerror}") from error


def write_out(path: Path, content: bytes) -> None:
    """Writes a file whole.

    Raises:
        Refused: it cannot be written.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror or error}; --out chooses another place") from error
