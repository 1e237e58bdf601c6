"""Builds the parts of a configuration: the only place where Hydra instantiates. Does not import torch."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig

from trainer.rundir.errors import Refused, one_line

# Arguments that the runner adds to those of the YAML: of assemble(), and of each group's constructor.
GIVEN = {
    "": ("frozen", "path", "summary", "stop", "world", "show", "kept"),
    "model": ("input_shape", "num_outputs", "facts"),
    "optim": ("params", "constraint"),
    "schedule": ("optimizer", "epochs", "steps_per_epoch", "max_steps"),
    "objective": ("facts", "task"),  # the second is a fact, and an error may name it
}
OFFERED = {"model": ("facts",)}  # those that few constructors name, and others are not given


def build(group: str, node: dict, **given: Any) -> Any:
    """Calls the node's `_target_` with its keys and `given`; None for a null target.

    Raises:
        Refused: the target is missing, or does not take a value.
    """
    if "_target_" not in node:
        raise Refused(f"{group}._target_: missing; must be the name of a class or a function")
    if node["_target_"] is None:
        return None
    # A partial, called here: Hydra would copy `given` into a config, and wrap the constructor's errors.
    make = hydra.utils.instantiate(node, _partial_=True, _convert_="all", _recursive_=False)
    if missing := sorted(getattr(make.func, "__abstractmethods__", ())):
        raise Refused(
            f"{group}._target_={node['_target_']}: must define {', '.join(missing)}, which its base leaves open"
        )
    for name in OFFERED.get(group, ()):
        if name in given and name not in parameters_of(make):
            del given[name]
    for name in not_taken(make, given):
        if given[name] is not None:
            hint = "; use constraint=none" if name == "constraint" else f", which every {group} is given"
            raise Refused(f"{group}._target_={node['_target_']}: takes no argument {name}{hint}")
        del given[name]
    with refusing(group):
        return make(**given)


def shapes(facts: Any) -> dict[str, Any]:
    """The arguments of every model's constructor; ``facts`` only of those that name it."""
    return {"input_shape": facts.input_shape, "num_outputs": facts.num_outputs, "facts": facts}


def not_taken(make: Callable[..., Any], given: Iterable[str]) -> list[str]:
    """Which of the arguments a class or function does not take; none if it does not say."""
    parameters = parameters_of(make)
    if not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return []
    return [name for name in given if name not in parameters]


def parameters_of(make: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a class or function; none if it does not say."""
    try:
        return inspect.signature(make).parameters
    except (TypeError, ValueError):
        return {}


def chosen(*groups: str) -> str:
    """The choices of groups, such as ``model=mlp objective=elbo``; the names of the groups if nothing is composed."""
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    return " ".join(f"{group}={choices[group]}" if group in choices else group for group in groups)


@contextlib.contextmanager
def refusing(group: str) -> Iterator[None]:
    """Turns a ValueError `name=value: …` from a part of `group` into a refusal that names the whole key."""
    try:
        yield
    except OSError as error:  # about reading a file: the usual hint about writing would mislead
        text = f"{error.filename}: {error.strerror}" if error.filename else one_line(error)
        raise Refused(f"{group}: {text}") from error
    except (MemoryError, OverflowError, RuntimeError) as error:  # torch has no type for it
        words = ("allocate", "Storage size", "out of memory", "overflow")
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in words):
            raise
        raise Refused(f"{group}: too large for this machine ({one_line(error)})") from error
    except ValueError as error:
        text = one_line(error)
        name = text.partition("=")[0]
        given = name in GIVEN.get(group, ())  # an argument of the runner, from another choice
        if given and HydraConfig.initialized():
            groups = (group, "data") if group in ("model", "objective") else (group,)
            raise Refused(f"{chosen(*groups)}: {text}") from error
        is_key = not given and re.fullmatch(
            r"[a-z_]\w*(\.\w+|\[\d+\])*", name
        )  # such as augment.crop or layers[2].kernel
        raise Refused(f"{group}.{text}" if is_key else f"{group}: {text}") from error
