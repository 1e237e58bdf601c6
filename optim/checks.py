"""Ranges of hyper-parameters, with one wording for what is wrong."""

from __future__ import annotations

import math


def check_range(
    name: str, value: float, low: float, high: float = math.inf, why: str = "", *, open_above: bool = False
) -> None:
    """Raises ValueError unless low <= value <= high (< high if `open_above`); NaN and infinity never are."""
    inside = low <= value < high if open_above else low <= value <= high
    if not (inside and math.isfinite(value)):
        finite = "" if math.isfinite(value) else " and finite"
        wanted = f"in [{low}, {high}{')' if open_above else ']'}" if math.isfinite(high) else f"at least {low}{finite}"
        raise ValueError(f"{name}={value}: must be {wanted}" + (f" ({why})" if why else ""))
