"""The frame of a picture: its size, title, legend and caption, and the names in it, as the command line asks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from trainer.plot import look
from trainer.plot.figures import rewrite
from trainer.rundir.errors import Refused

LEGENDS = ("right", "below", "inside", "none")
SHARE, SHARE_ASKED = 0.45, 0.2  # of a picture's width that a legend beside the plots may take, if the width is asked
LEAST = 1.9  # inches of a height that follows from the width
TITLE = 0.3  # inches


@dataclass(frozen=True)
class Label:
    """A text in place of a name; `names` are its spellings in pictures, `typed` the one of the command line."""

    typed: str
    names: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Frame:
    """How a picture is framed.

    Args:
        size: width and height in inches; without a height it follows from the width; None: what the picture needs.
        legend: one of LEGENDS; None: right of the plots if there is room, else below.
    """

    title: str | None = None
    size: tuple[float, float | None] | None = None
    caption: bool = True
    legend: str | None = None
    labels: tuple[Label, ...] = ()

    def figure(self, wide: float, tall: float, texts: Sequence[str] = ()) -> Figure:
        """An empty figure for plots of this size in inches, and a legend with these texts."""
        beside, high = look.legend_room(texts)
        if self._place(texts, wide + beside) == "right":
            wide, tall = wide + beside, max(tall, high)
        tall += TITLE * bool(self.title)
        width, height = self.size or (wide, tall)
        return Figure(figsize=(width, height or max(tall * width / wide, min(tall, LEAST))), layout="constrained")

    def finish(
        self, figure: Figure, remarks: Sequence[str], handles: Sequence[Any] = (), texts: Sequence[str] = (),
        head: str | None = None,
    ) -> Figure:  # fmt: skip
        """Draws legend (under `head`), title and caption, and puts the labels in place of names.

        Raises:
            Refused: the picture has no such name.
        """
        width = figure.get_figwidth()
        said = look.wrapped(look.sentence(remarks), figure).split("\n") if self.caption and any(remarks) else []
        place = self._place(texts, width) if texts else "none"
        lines = look.lines_below(texts, width, head) if place == "below" else 0
        if self.size is None or self.size[1] is None:
            figure.set_figheight(figure.get_figheight() + look.LINE * (lines + len(said) * (self.size is not None)))
        if place == "below":
            look.legend_below(figure, handles, texts, head, above=look.LINE * len(said) / figure.get_figheight())
        elif place != "none":
            (look.legend if place == "right" else look.legend_inside)(figure, handles, texts, head)
        look.heading(figure, self.title)
        if self.caption:
            look.caption(figure, *remarks, y=0.01 if place == "below" else None)
        self._name(figure)
        return figure

    def _place(self, texts: Sequence[str], width: float) -> str:
        most = SHARE_ASKED * self.size[0] if self.size else SHARE * width
        return self.legend or ("right" if look.legend_room(texts)[0] <= most else "below")

    def _name(self, figure: Figure) -> None:
        """Puts the labels in place of names, which may be broken into lines."""
        if not self.labels:
            return
        found: set[str] = set()
        texts = {name: label for label in reversed(self.labels) for name in label.names}
        each = [re.sub(r"\\\.", r"\\.\\n?", re.escape(name)) for name in sorted(texts, key=len, reverse=True)]
        pattern = re.compile(rf"(?<![\w./])({'|'.join(each)})(?![\w/]|\.\s?\w)")

        def other(match: re.Match[str]) -> str:
            label = texts[match[1].replace("\n", "")]
            found.add(label.typed)
            return label.text

        rewrite(figure, lambda text: pattern.sub(other, text))
        for label in self.labels:
            if label.typed not in found:
                raise Refused(f"--label={label.typed}={label.text}: the picture has no name {label.typed}")


PLAIN = Frame()
