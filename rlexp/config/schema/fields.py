"""What a field of a schema is: a default, one line of help, and a range."""

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
    """A dataclass field: its default, its one line of help, and what it may hold.

    `low` and `high` are inclusive, `above` is exclusive; `scalar` marks a number that may be a schedule,
    whose initial and final values must lie in that range.
    """
    metadata = {"help": help, "low": low, "high": high, "above": above, "choices": choices, "scalar": scalar}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def linear(initial: float, final: float, duration: int) -> dict[str, Any]:
    """The schedule that goes from one number to another in so many env steps."""
    return {"kind": "linear", "initial": initial, "final": final, "duration": duration, "unit": "step"}
