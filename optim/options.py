"""The options of optimizers and schedules: a line each, the common ones in a base class, a method's own in its class.

    class Heavy(Base):
        momentum: float = option(default=0.9, check=below_1)

They are fields of a dataclass, so the constructor's signature has all of them; YAML is checked against it. They do not
stay on the object: its ``start`` gets them, and an optimizer keeps them in its groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from typing import Any, dataclass_transform

Check = Callable[[str, Any], None]  # (name, value); raises ValueError


def check_range(
    name: str, value: float, low: float, high: float = math.inf, why: str = "", *, open_above: bool = False
) -> None:
    """Raises ValueError unless low <= value <= high (< high if `open_above`); also for NaN and infinity."""
    inside = low <= value < high if open_above else low <= value <= high
    if not (inside and math.isfinite(value)):
        finite = "" if math.isfinite(value) else " and finite"
        wanted = f"in [{low}, {high}{')' if open_above else ']'}" if math.isfinite(high) else f"at least {low}{finite}"
        raise ValueError(f"{name}={value}: must be {wanted}" + (f" ({why})" if why else ""))


at_least_0, at_least_1 = partial(check_range, low=0), partial(check_range, low=1)
share, below_1 = partial(check_range, low=0, high=1), partial(check_range, low=0, high=1, open_above=True)


def option(*, default: Any = MISSING, check: Check | None = None, kw_only: bool = True) -> Any:
    """An argument of the constructor.

    Args:
        default: without one, the argument must be given. A type checker reads it here, so it is given by name.
        check: of its range.
        kw_only: False: the argument may be given by position.
    """
    return field(default=default, kw_only=kw_only, metadata={"check": check} if check else {})


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(option,))
@dataclass(init=False, eq=False, repr=False)
class Options:
    """A base that makes the annotated names in the body of each subclass keyword arguments of its constructor."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclass(kw_only=True, eq=False, repr=False)(cls)
        for name in {each.name for each in fields(cls)} & vars(cls).keys():
            delattr(cls, name)  # a default, which would look like the object's own value

    def __post_init__(self) -> None:
        options = {each.name: vars(self).pop(each.name) for each in fields(self)}
        self.check(options)
        self.start(options)

    def start(self, options: dict[str, Any]) -> None:
        """What a constructor does, given all arguments, each in its range."""
        raise NotImplementedError

    def check(self, options: Mapping[str, Any]) -> None:
        """Raises ValueError, as `name=value: what would be right`, for an option outside its range."""
        for each in fields(self):
            if "check" in each.metadata and options.get(each.name) is not None:
                each.metadata["check"](each.name, options[each.name])
