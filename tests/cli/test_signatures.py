"""Signatures are the schema: what can be read of one is checked, whatever else stands in it."""

from __future__ import annotations

import functools
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING

import pytest

from trainer.cli.signatures import check_call
from trainer.rundir.errors import Refused

if TYPE_CHECKING:
    from data import Facts


class Plain:
    def __init__(self, facts: Facts, depth: int = 1, names: list[Nowhere] | None = None):  # noqa: F821
        pass


class Newborn:
    def __new__(cls, facts: Facts, depth: int = 1):
        return object.__new__(cls)


@dataclass
class Fields:
    facts: Facts
    depth: int = 1
    start: InitVar[Facts | None] = None


@dataclass
class OwnInit(Fields):
    def __init__(self, facts: Facts, depth: int = 1):
        pass


class Instance:
    def __call__(self, facts: Facts, depth: int = 1):
        pass


def function(facts: Facts, depth: int = 1, odd: 1 / 0 = None, quoted: "][" = None):  # noqa: F722
    pass


@functools.wraps(function)
def wrapped(*args, **kwargs):
    pass


@pytest.mark.parametrize(
    "target",
    [Plain, Newborn, Fields, OwnInit, Instance(), function, wrapped, functools.partial(function, quoted="")],
    ids=lambda target: getattr(target, "__name__", type(target).__name__),
)
def test_an_annotation_that_does_not_resolve_leaves_the_others_checked(target):
    check_call("model", {"depth": 2}, target, ["facts"])
    with pytest.raises(Refused, match=r"^model\.depth=deep: must be a whole number$"):
        check_call("model", {"depth": "deep"}, target, ["facts"])
    with pytest.raises(Refused, match=r"^model\.dpth=2: unknown key; did you mean model\.depth\?"):
        check_call("model", {"dpth": 2}, target, ["facts"])
    with pytest.raises(Refused, match=r"^model\.facts: missing"):
        check_call("model", {}, target, [])


@pytest.mark.parametrize("target", [dict, range, type])
def test_what_is_built_in_without_a_signature_goes_unchecked(target):
    check_call("model", {"depth": 2}, target, [])


@dataclass
class Outer:
    inner: Fields


def test_what_is_missing_in_a_mapping_is_said():
    with pytest.raises(Refused, match=r"^model\.inner: missing; must be a mapping$"):
        check_call("model", {"inner": "???"}, Outer, [])
    with pytest.raises(Refused, match=r"^model\.inner\.depth=deep: must be a whole number$"):
        check_call("model", {"inner": {"facts": 1, "depth": "deep"}}, Outer, [])
