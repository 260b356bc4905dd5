"""Formatting of numbers and names for tables and reports."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

MAX_NAMES = 5  # names that a sentence lists
HUGE = 1e7  # from here on, numbers have an exponent
ROUNDING = 1e-12  # relative size of what rounding errors make of zero


def number(value: float | None) -> str:
    """A return: integers as such, others with at most four digits, "-" for a missing value."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return decimal(value)


def decimal(value: float | None) -> str:
    """A return in a column: one decimal, three digits if it is small, five if it is huge; "-" for a missing value."""
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) >= HUGE:
        return f"{value:.5g}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def without_noise(value: float | None, scale: float | None) -> float | None:
    """A spread or a difference, but 0 for what only rounding errors have made.

    Args:
        value: for example a standard deviation.
        scale: the largest absolute value among the numbers that it was computed from.
    """
    noise = value is not None and scale is not None and abs(value) <= ROUNDING * abs(scale)
    return 0.0 if noise else value


def signed(value: float) -> str:
    """A difference, with its sign."""
    return f"+{number(value)}" if value > 0 else number(value)


def interval(middle: float, low: float, high: float) -> str:
    """An estimate with its interval, or with "[-]" if there is none."""
    if not math.isfinite(middle):
        return "-"
    return f"{number(middle)} [{number(low)}, {number(high)}]" if math.isfinite(low) else f"{number(middle)} [-]"


def p_value(value: float) -> str:
    """A p-value: `< 0.001`, three decimals, or two from 0.1 on."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def steps(value: float) -> str:
    """Env steps, or env steps per second: `1.5k`, `2M`."""
    if not math.isfinite(value):
        return "-"
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def seconds(value: float) -> str:
    """A duration in seconds, minutes or hours."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.3g} s" if value < 100 else f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"


def about(value: float) -> str:
    """An estimated duration: `about 40 s`, `about 3 min`, `about 2.5 h`."""
    if not math.isfinite(value):
        return "-"
    if value < 90:
        return f"about {max(round(value), 1)} s"
    return f"about {value / 60:.0f} min" if value < 5400 else f"about {value / 3600:.1f} h"


def date(timestamp: Any) -> str:
    """A Unix time as date and time in UTC; "-" for none."""
    return datetime.fromtimestamp(float(timestamp), UTC).strftime("%Y-%m-%d %H:%M UTC") if timestamp else "-"


def names(several: Sequence[str]) -> str:
    """`a, b and c`; `a, b, c, d and 7 others`."""
    if len(several) > MAX_NAMES:
        return f"{', '.join(several[: MAX_NAMES - 1])} and {len(several) - MAX_NAMES + 1} others"
    return " and ".join(filter(None, [", ".join(several[:-1]), *several[-1:]]))


def plural(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def as_json(value: Any) -> str:
    """A value as a JSON string; equal values give equal strings."""
    return json.dumps(value, sort_keys=True, default=str)


def schedules(values: Sequence[Any]) -> dict[str, str] | None:
    """Short names for several schedules: the kind if it is unique (`log10`), else the whole phrase of `setting`.

    Args:
        values: the values of one key in several configurations.

    Returns:
        The JSON of each value -> its name; None unless all values are schedules.
    """
    found = {as_json(value): value for value in values}
    if not all(isinstance(value, Mapping) and "kind" in value for value in found.values()):
        return None
    kinds = Counter(value["kind"] for value in found.values())
    return {text: value["kind"] if kinds[value["kind"]] == 1 else setting(value) for text, value in found.items()}


def setting(value: Any) -> str:
    """A value of a configuration in words; a schedule is one phrase: `linear 1 to 0.1 in 10000 steps`."""
    if isinstance(value, Mapping) and "kind" in value:
        if value["kind"] == "constant":
            return setting(value.get("initial"))
        ends = " to ".join(setting(value[end]) for end in ("initial", "final") if value.get(end) is not None)
        if value["kind"] == "inverse_time":  # it has no duration
            return f"inverse_time {ends} at {setting(value.get('decay'))} per {value.get('unit', 'step')}"
        duration = f" in {setting(value['duration'])} {value.get('unit', '')}s" if value.get("duration") else ""
        return f"{value['kind']} {ends}{duration}"
    if isinstance(value, float):
        return f"{value:g}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, list | Mapping) else str(value)
