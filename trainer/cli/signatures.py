"""The check of a configuration against the constructors that will get it.

Their signatures are the schema: a key that is no argument is unknown, and a value must be of the argument's annotated
type. This module does not import torch: ``--help`` imports it.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra._internal.utils import _locate

from trainer.rundir.errors import Refused
from trainer.rundir.text import cut

MISSING = "???"  # OmegaConf's mark of a value that must be given
# Group -> the beginning of keys that all its choices have, and what takes these; the constructor gets the others.
BESIDE = {"objective": ("adversary", "trainer.training.adversary.Adversary")}


def check_config(config: Mapping[str, Any], root: Callable[..., Any], given: Mapping[str, Sequence[str]]) -> None:
    """Checks every key and type of `config` against the signatures that will be called with it.

    Args:
        config: plain dicts, interpolations resolved.
        root: the function whose arguments are the root's keys.
        given: group -> names of arguments that the runner adds.

    Raises:
        Refused: the first key that is unknown or missing, or whose value has the wrong type.
    """
    check_call("", config, root, given[""])
    for group, node in config.items():
        if not isinstance(node, Mapping):
            continue
        own, beside = apart(group, node)
        if beside:
            check_call(group, beside, _locate(BESIDE[group][1]), given.get(group, ()))
        if group == "optim":
            check_optim(own, given.get(group, ()))
        else:
            check_node(group, own, given.get(group, ()))


def apart(group: str, node: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys of a group that its choice's constructor gets, and those of :data:`BESIDE`."""
    first = BESIDE[group][0] if group in BESIDE else None
    beside = {key: value for key, value in node.items() if first is not None and key.startswith(first)}
    return {key: value for key, value in node.items() if key not in beside}, beside


def check_optim(node: Mapping[str, Any], given: Sequence[str]) -> None:
    """Checks the group of the optimizer. Its key ``of`` has settings for parts of the model: ``training/by_part.py``.

    Raises:
        Refused: the first key that is unknown or missing, or whose value has the wrong type.
    """
    values = {key: value for key, value in node.items() if key != "of"}
    check_node("optim", values, given)
    of = node.get("of")
    if of is None:
        return
    hint = "must be a mapping, such as 'optim.of={critic:{lr:1e-4}}'"
    if not isinstance(of, Mapping):
        raise Refused(f"optim.of={show(of)}: {hint}")
    for part, options in of.items():
        if not isinstance(options, Mapping):
            raise Refused(f"optim.of.{part}={show(options)}: {hint}")
        check_node(f"optim.of.{part}", {**values, **options}, given)


def check_node(key: str, node: Mapping[str, Any], given: Sequence[str]) -> None:
    """Checks one group, as :func:`check_config` does.

    Raises:
        Refused: the first key that is unknown or missing, or whose value has the wrong type.
    """
    if "_target_" not in node:
        for name, child in node.items():
            if not isinstance(child, Mapping):
                raise Refused(unknown_key(f"{key}.{name}", child, [k for k in node if k != name]))
            check_node(f"{key}.{name}", child, given)
    elif node["_target_"] is not None:
        if not isinstance(node["_target_"], str):
            raise Refused(f"{key}._target_={show(node['_target_'])}: must be the name of a class or a function")
        try:
            target = _locate(node["_target_"])  # get_object logs what it raises, in several lines
        except Exception as error:  # Hydra wraps whatever the import raises
            line, module = " ".join(str(error).split()), node["_target_"].partition(".")[0]
            line = line.replace(node["_target_"], show(node["_target_"]))
            if getattr(error.__cause__, "name", None) == module:
                line = f"cannot import {module}; looked in {Path.cwd()}; start where it is, or set PYTHONPATH"
            raise Refused(f"{key}._target_={show(node['_target_'])}: {line}") from error
        if not callable(target):
            raise Refused(f"{key}._target_={node['_target_']}: must be a class or a function")
        check_call(key, {k: v for k, v in node.items() if k != "_target_"}, target, given)
    elif len(node) > 1:
        unknown = next(k for k in node if k != "_target_")
        raise Refused(unknown_key(f"{key}.{unknown}", node[unknown], ()))


def check_call(key: str, values: Mapping[str, Any], target: Callable[..., Any], given: Sequence[str]) -> None:
    """Checks that `target` can be called with `values` beside the arguments `given`, and their types.

    Raises:
        Refused: naming `key`.NAME and the value.
    """
    prefix = f"{key}." if key else ""
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # a built-in without a signature
        return
    named = [n for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    own = [name for name in named if name not in given]
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    hints = argument_types(target)
    for name, value in values.items():
        if name in given or (name not in own and not takes_any):
            raise Refused(unknown_key(f"{prefix}{name}", value, own))
        hint = hints.get(name, Any)
        if value == MISSING:
            continue
        if not conforms(value, hint):
            raise Refused(f"{prefix}{name}={show(value)}: must be {describe(hint)}")
        if inspect.isclass(hint) and is_dataclass(hint):
            check_call(f"{prefix}{name}", value, hint, ())
    for name in own:
        given_value = values.get(name, parameters[name].default)
        if given_value is inspect.Parameter.empty or given_value == MISSING:
            raise Refused(f"{prefix}{name}: missing; must be {describe(hints.get(name, Any))}")


def argument_types(target: Callable[..., Any]) -> dict[str, Any]:
    """The annotated types of the arguments of a function or class, except those that cannot be resolved."""
    while isinstance(target, functools.partial):
        target = target.func
    written = []  # (annotations, where their names are looked up)
    if inspect.isclass(target):
        for base in reversed(target.__mro__) if is_dataclass(target) else ():  # fields may come from other modules
            written.append((vars(base).get("__annotations__", {}), vars(sys.modules[base.__module__])))
        called = inspect.unwrap(target.__new__ if target.__init__ is object.__init__ else target.__init__)
    else:
        called = inspect.unwrap(target if inspect.isroutine(target) else type(target).__call__)
    written.append((getattr(called, "__annotations__", {}), getattr(called, "__globals__", {})))
    hints = {}
    for texts, names in written:
        for name, annotation in texts.items():
            # Evaluating an annotation can raise anything, mostly for names imported under TYPE_CHECKING: not checked.
            with contextlib.suppress(Exception):
                one = types.SimpleNamespace(__annotations__={name: annotation})
                hint = get_type_hints(one, globalns=names)[name]
                hints[name] = hint.type if isinstance(hint, InitVar) else hint
    return hints


def conforms(value: Any, hint: Any) -> bool:
    """Whether a value from YAML (null, bool, number, text, list, mapping) is of the annotated type."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is None or hint is type(None):
        return value is None
    if origin in (Union, types.UnionType):
        return any(conforms(value, a) for a in args)
    if origin is Literal:
        return any(type(value) is type(a) and value == a for a in args)
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        number = isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
        return number and value == value  # not NaN
    if hint is str:
        return isinstance(value, str)
    if origin in (list, tuple, Sequence) or hint in (list, tuple):
        return isinstance(value, list) and all(conforms(v, args[0]) for v in value if args)
    if origin in (dict, Mapping) or hint is dict or is_dataclass(hint):
        return isinstance(value, Mapping)
    return True  # YAML cannot write other types


def describe(hint: Any) -> str:
    """The annotated type in a user's words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(a) for a in args)
    if origin is Literal:
        return ("one of " if len(args) > 1 else "") + ", ".join(map(str, args))
    if origin in (list, tuple, Sequence):
        plural = {int: "whole numbers such as [1,2]", float: "numbers such as [1,2]", str: "texts such as [a,b]"}
        return f"a list of {plural.get(args[0], 'values')}" if args else "a list"
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        dict: "a mapping",
        list: "a list",
    }
    if hint is None or hint is type(None):
        return "null"
    if is_dataclass(hint):
        return "a mapping"
    return names.get(hint, names.get(origin, str(hint)))


def show(value: Any) -> str:
    """A value as typed on the command line; a long one is cut."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return cut(str(value))


def unknown_key(key: str, value: Any, known: Iterable[str], deeper: Iterable[str] = ()) -> str:
    """The line about a key that does not exist.

    Args:
        known: the keys at the same level.
        deeper: keys of groups, for a key that was typed without its group.
    """
    group, _, name = key.rpartition(".")
    names = [k for k in known if not k.startswith("_")]
    near = [f"{group}.{k}" if group else k for k in difflib.get_close_matches(name, names, n=1)]
    near += [k for k in deeper if k.rpartition(".")[2] == name]
    listed = f"{group or 'the configuration'} has {', '.join(names)}" if names else f"{group} here has no keys"
    if group == "constraint" and not names:
        listed = "constraint is none; choose one, e.g. constraint=linf"
    return f"{key}={show(value)}: unknown key; " + (f"did you mean {near[0]}? " if near else "") + listed
