"""Text for screens, logs and pictures, with control characters as escapes. Imports nothing of conga."""

from __future__ import annotations

LONGEST = 100  # characters of a value in a message


def printable(text: str) -> str:
    """The text in one line, with unprintable characters as escapes.

    Unprintable is what `str.isprintable` rejects: control characters, line ends, marks for the direction of writing. A
    byte of a name that is not UTF-8 is shown as ``\\xff``.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def printable_lines(text: str) -> str:
    """The same for each line of a text."""
    return "\n".join(map(printable, text.split("\n")))


def cut(text: str) -> str:
    """A value in a message; a long one is cut."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def counted(n: int, what: str) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _escaped(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # Python's code for a byte that is not UTF-8
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode()
