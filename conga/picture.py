"""Figures that notebooks show as the value of a cell."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that a notebook shows as the value of a cell, with or without ``%matplotlib inline``."""

    @classmethod
    def of(cls, figure: Figure) -> Picture:
        """The same figure as a picture."""
        figure.__class__ = cls
        assert isinstance(figure, cls)
        return figure

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
