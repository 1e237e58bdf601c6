"""``--where 'optim=cgd and test/accuracy>0.95'``: a condition on runs. Parsed by hand; nothing is executed.

condition := condition "or" condition | condition "and" condition | "not" condition | "(" condition ")"
           | column ("=" | "==" | "!=" | "<" | "<=" | ">" | ">=") value | column ["not"] "in" "[" value, … "]"
value     := number | true | false | null | word | 'text' | [value, …]
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from trainer.rundir.errors import Refused
from trainer.rundir.records import canonical
from trainer.runs.columns import Row, missing, sort_key

Condition = Callable[[Row], bool]

TOKEN = re.compile(r"""\s*(?:(==|!=|<=|>=|[=<>()\[\],])|'([^']*)'|"([^"]*)"|([^\s=!<>()\[\],'"]+))""")
NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?inf")
PLAIN = {"true": True, "false": False, "null": None, "none": None}
ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
EQUAL = {"=": True, "==": True, "!=": False}
WORDS = ("and", "or", "not", "in")


class Word(str):
    """A value typed without quotes: compared as a number with numbers, else as text."""


def parse(text: str, column: Callable[[str], str]) -> Condition:
    """The condition as a function of a row; `column` gives the full name of a column.

    Raises:
        Refused: it is no condition; the text says where it is wrong.
    """
    try:
        return _Parser(text, column).whole()
    except RecursionError as error:
        raise Refused("--where: too many parentheses") from error


class Token(NamedTuple):
    """A part of a condition."""

    text: str
    is_quoted: bool
    is_word: bool  # and no word or sign of the grammar
    at: int


class _Parser:
    """Reads a condition from left to right; one method per line of the grammar."""

    def __init__(self, text: str, column: Callable[[str], str]):
        self.text, self.column, self.at = text, column, 0
        self.tokens: list[Token] = []
        position = 0
        while text[position:].strip():
            found = TOKEN.match(text, position)
            if found is None:
                position += len(text[position:]) - len(text[position:].lstrip())
                self._refuse("an unclosed quote" if text[position] in "'\"" else "not understood", position)
            mark, single, double, word = found.groups()
            quoted = single if single is not None else double
            is_quoted, at = quoted is not None, found.start(found.lastindex or 0)
            is_word = is_quoted or not (mark or word in WORDS)
            self.tokens.append(Token(mark or word or quoted, is_quoted, is_word, at))
            position = found.end()

    def whole(self) -> Condition:
        condition = self._any()
        if self.at < len(self.tokens):
            self._refuse("expected and, or, or the end")
        return condition

    def _any(self) -> Condition:
        parts = [self._all()]
        while self._take("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else lambda row: any(part(row) for part in parts)

    def _all(self) -> Condition:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda row: all(part(row) for part in parts)

    def _one(self) -> Condition:
        if self._take("not"):
            inner = self._one()
            return lambda row: not inner(row)
        if self._take("("):
            inner = self._any()
            self._need(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        if not self._is_word():
            self._refuse("expected a comparison, such as optim=cgd")
        name = self.tokens[self.at].text
        self.at += 1
        for sign in (*EQUAL, *ORDER):
            if self._take(sign):
                break
        else:
            wanted = not self._take("not")
            if not self._take("in"):
                self._refuse(f"expected a comparison after {name}: one of = != < <= > >= in")
            column, values = self.column(name), self._list()
            return lambda row: column in row and any(_equal(row[column], v) for v in values) is wanted
        column, at, value = self.column(name), self.at, self._value()
        if sign in ORDER:
            if not isinstance(value, str) or value in PLAIN:
                self._refuse(f"{sign} compares with a number or a text", self.tokens[at].at)
            return lambda row: _ordered(row.get(column), sign, value)
        if _is_null(value):  # whether the value is missing
            return lambda row: (row.get(column) is None) is EQUAL[sign]
        return lambda row: column in row and _equal(row[column], value) is EQUAL[sign]

    def _value(self) -> Any:
        if self._peek() == "[":
            return self._list()
        if not self._is_word():
            self._refuse("expected a value: a number, a word, 'a text', true, false, null or [a, b]")
        token = self.tokens[self.at]
        self.at += 1
        return token.text if token.is_quoted else Word(token.text)

    def _list(self) -> list[Any]:
        self._need("[")
        values = []
        while not self._take("]"):
            values.append(self._value())
            if not self._take(",") and self._peek() != "]":
                self._refuse("expected , or ]")
        return values

    def _is_word(self) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at].is_word

    def _peek(self) -> str | None:
        if self.at >= len(self.tokens) or self.tokens[self.at].is_quoted:
            return None
        return self.tokens[self.at].text

    def _take(self, text: str) -> bool:
        if self._peek() != text:
            return False
        self.at += 1
        return True

    def _need(self, text: str) -> None:
        if not self._take(text):
            self._refuse(f"expected {text}")

    def _refuse(self, what: str, position: int | None = None) -> NoReturn:
        if position is None:
            position = self.tokens[self.at].at if self.at < len(self.tokens) else len(self.text)
        rest = self.text[position:]
        where = (
            f"at {rest[:30]!r} (character {position + 1} of {self.text!r})" if rest else f"at the end of {self.text!r}"
        )
        raise Refused(f"--where: {what} {where}")


def _is_null(value: Any) -> bool:
    return isinstance(value, Word) and value in PLAIN and PLAIN[value] is None


def _meant(value: Any) -> Any:
    """The plain value of a typed word."""
    if isinstance(value, list):
        return [_meant(v) for v in value]
    if not isinstance(value, Word):
        return value
    if value in PLAIN:
        return PLAIN[value]
    return _number(value) if NUMBER.fullmatch(value) else str(value)


def _number(text: str) -> int | float:
    """A number; integers stay exact."""
    return int(text) if text.lstrip("+-").isdecimal() and len(text) < 1000 else float(text)


def _equal(value: Any, typed: Any) -> bool:
    """Whether a run's value equals the typed one; texts are compared by characters."""
    if isinstance(value, str) and isinstance(typed, str):
        return value == str(typed)
    return canonical(value) == canonical(_meant(typed))


def _ordered(value: Any, sign: str, typed: str) -> bool:
    """Compares numbers by value and texts in natural order; anything else is false."""
    if missing(value) or isinstance(value, bool):
        return False
    other = str(typed) if isinstance(value, str) else _meant(typed)
    if isinstance(value, str) or (isinstance(value, int | float) and isinstance(other, int | float)):
        return ORDER[sign](sort_key(value), sort_key(other))
    return False
