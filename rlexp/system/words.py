"""Numbers and names as a reader of a report wants them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

NAMED = 5  # so many names in a sentence


def number(value: float | None) -> str:
    """A return: four digits at most, whole numbers as such, "-" for what is missing."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return decimal(value)


def decimal(value: float | None) -> str:
    """A return among others: one decimal, or three digits where it is small; "-" for what is missing."""
    if value is None:
        return "-"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def signed(value: float) -> str:
    """A difference."""
    return f"+{number(value)}" if value > 0 else number(value)


def interval(middle: float, low: float, high: float) -> str:
    """An estimate with its interval, where there is one."""
    if not math.isfinite(middle):
        return "-"
    return f"{number(middle)} [{number(low)}, {number(high)}]" if math.isfinite(low) else f"{number(middle)} [-]"


def p_value(value: float) -> str:
    """A probability of error."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def steps(value: float) -> str:
    """Env steps, or a rate of them."""
    if not math.isfinite(value):
        return "-"
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def seconds(value: float) -> str:
    """A duration."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.3g} s" if value < 100 else f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"


def date(timestamp: Any) -> str:
    """A moment, from unix seconds."""
    return datetime.fromtimestamp(float(timestamp), UTC).strftime("%Y-%m-%d %H:%M UTC") if timestamp else "-"


def names(several: Sequence[str]) -> str:
    """`a, b and c`; `a, b, c, d and 7 others`."""
    if len(several) > NAMED:
        return f"{', '.join(several[: NAMED - 1])} and {len(several) - NAMED + 1} others"
    return " and ".join(filter(None, [", ".join(several[:-1]), *several[-1:]]))


def plural(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def as_json(value: Any) -> str:
    """A value as one text, equal for equal values."""
    return json.dumps(value, sort_keys=True, default=str)


def schedules(values: Sequence[Any]) -> dict[str, str] | None:
    """Names for schedules side by side: `log10` where no other is of its kind, else the whole phrase.

    Args:
        values: of one key in several configurations.

    Returns:
        The JSON of each value -> its name; None where not all of them are schedules.
    """
    found = {as_json(value): value for value in values}
    if not all(isinstance(value, Mapping) and "kind" in value for value in found.values()):
        return None
    kinds = Counter(value["kind"] for value in found.values())
    return {text: value["kind"] if kinds[value["kind"]] == 1 else setting(value) for text, value in found.items()}


def setting(value: Any) -> str:
    """A configuration's value; a schedule is one phrase."""
    if isinstance(value, Mapping) and "kind" in value:
        if value["kind"] == "constant":
            return setting(value.get("initial"))
        ends = " to ".join(setting(value[end]) for end in ("initial", "final") if value.get(end) is not None)
        if value["kind"] == "inverse_time":  # which reads no duration
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
