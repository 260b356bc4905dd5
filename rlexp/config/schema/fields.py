"""Fields of a schema: a default, one line of help, and a range."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def opt(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    scalar: bool = False,
) -> Any:
    """A dataclass field.

    Args:
        default: the default value, or a function without arguments that returns it.
        help: one line of help.
        low, high: inclusive bounds; None: no bound.
        above: exclusive lower bound; None: no bound.
        choices: the permitted values; empty: any.
        scalar: whether the number may be a schedule, whose initial and final values must lie in the range.
    """
    metadata = {"help": help, "low": low, "high": high, "above": above, "choices": choices, "scalar": scalar}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def constant(value: float) -> dict[str, Any]:
    """A schedule that stays where it is."""
    return {"kind": "constant", "initial": value, "unit": "step"}


def linear(initial: float, final: float, duration: int) -> dict[str, Any]:
    """A linear schedule over `duration` env steps."""
    return {"kind": "linear", "initial": initial, "final": final, "duration": duration, "unit": "step"}
