"""Text for a screen, a log or a picture, in which nothing is hidden and nothing is obeyed. Imports nothing of ours."""

from __future__ import annotations

LONGEST = 100  # characters of a value in a line that says what is wrong with it


def printable(text: str) -> str:
    """The text in one line: what a terminal would obey, or not show, is shown as its escape.

    That is whatever `str.isprintable` rejects: control characters, ends of lines, marks that turn the direction of
    writing. A byte of a name that is not UTF-8 is shown as ``\\xff``.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def printable_lines(text: str) -> str:
    """The same of each line of a text that has several."""
    return "\n".join(map(printable, text.split("\n")))


def cut(text: str) -> str:
    """A value as a message shows it: of a long one the beginning."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def counted(n: int, what: str) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _escaped(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # how Python holds a byte that is not UTF-8
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode()
