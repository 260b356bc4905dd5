"""Scalar schedules (epsilon, learning rates, ...) as functions of how far each trial has come.

A schedule counts env steps, episodes or updates of its trial, as its `unit` says, and is evaluated for all
trials at once: trials whose episodes differ in length are at different points. With n the count:

| kind         | value                                                              | reads            |
|--------------|--------------------------------------------------------------------|------------------|
| constant     | initial                                                            | initial          |
| linear       | initial + (final - initial) n / duration, `final` from there on    | all but decay    |
| exponential  | initial * decay^(n / duration), which does not pass `final`        | all four         |
| inverse_time | initial / (1 + decay n), which does not pass `final`               | all but duration |
| log10        | initial - decay log10((n + 1) / duration), not beyond its two ends | all four         |

Exponential may leave out duration (1), it and inverse_time may leave out final (0), log10 may leave out decay (1). What
else a kind reads it needs.

In a configuration the unit may also be `budget`: `duration` is then a share of the job's budget, whatever that counts,
and a decay that is left out follows from the two ends (see `of_budget`).

`max(1 - n / 500, 0.01)` is linear, but not over 500: it reaches its floor at n = 495, so it is written
`{kind: linear, initial: 1, final: 0.01, duration: 495}`. The chapter's
`max(0.1, min(1, 1 - log10((n + 1) / 25)))` is `{kind: log10, initial: 1, final: 0.1, duration: 25}`.

NumPy only: configurations are refused before TensorFlow is imported.
"""

from __future__ import annotations

import dataclasses
import difflib
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

KINDS: dict[str, dict[str, float | None]] = {  # the fields each kind reads; None: no default, must be given
    "constant": {"initial": None},
    "linear": {"initial": None, "final": None, "duration": None},
    "exponential": {"initial": None, "decay": None, "final": 0.0, "duration": 1.0},
    "inverse_time": {"initial": None, "decay": None, "final": 0.0},
    "log10": {"initial": None, "final": None, "duration": None, "decay": 1.0},
}
UNITS = ("step", "episode", "update")
BUDGET = "budget"  # a unit of configurations: `of_budget` makes one of UNITS of it
LONGEST = 10.0  # budgets that a schedule may last: more is a number of steps by mistake
NUMBERS = ("initial", "final", "duration", "decay")
KEYS = ("kind", *NUMBERS, "unit")
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """One scalar schedule. `parse` makes one from a configuration, with errors that name the key.

    Fields that `kind` does not read are None, so that equal schedules compare equal.

    Args:
        kind: one of KINDS.
        initial: value at count 0 (log10: until `duration`).
        final: value at the end, or the limit that is not passed.
        duration: number of counts, > 0: the length (linear), the counts for one factor `decay` (exponential),
            the count at which the fall begins (log10).
        decay: factor in (0, 1] (exponential), rate >= 0 a count (inverse_time), loss > 0 per factor of ten (log10).
        unit: what is counted, for each trial: "step" (env steps), "episode" (finished episodes) or "update".

    Raises:
        ValueError: as in `parse`.
    """

    kind: str
    initial: float | None = None
    final: float | None = None
    duration: float | None = None
    decay: float | None = None
    unit: str = "step"

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name, value in _resolve(given, "schedule").items():
            object.__setattr__(self, name, value)

    def __call__(self, counts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the value for each trial.

        Args:
            counts: under each unit, how many of it every trial has behind it; integers >= 0.  # {unit: [N]}

        Returns:
            float32 values, computed in float64.  # [N]
        """
        n = np.asarray(counts[self.unit], np.float64)  # [N]
        return np.asarray(_FORMULAS[self.kind](self, n), np.float32)  # [N]

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields this kind reads; `parse` makes an equal schedule of them."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Stacked:
    """One schedule for each of several jobs whose trials stand side by side; to a loop it is like one `Schedule`.

    Args:
        schedules: of the jobs, in the order of their trials; all of one unit.
        sizes: how many trials each job has.
    """

    schedules: tuple[Schedule | Stacked, ...]
    sizes: tuple[int, ...]

    @property
    def unit(self) -> str:
        """What all of them count."""
        return self.schedules[0].unit

    def __call__(self, counts: Mapping[str, np.ndarray]) -> np.ndarray:
        """The value for each trial, as `Schedule` gives it: counts {unit: [N, ...]} -> float32 [N, ...]."""
        parts = np.split(np.asarray(counts[self.unit]), np.cumsum(self.sizes)[:-1])
        return np.concatenate(
            [schedule({self.unit: part}) for schedule, part in zip(self.schedules, parts, strict=True)]
        )


def parse(value: Any, where: str) -> Schedule | Stacked:
    """Makes a schedule of what a configuration holds.

    A key that is present but None counts as absent, and a key that the kind does not read is accepted and
    dropped: both come from YAML defaults, where an override changes `kind` and the keys of the former kind
    stay. Such a key must still hold a number.

    Args:
        value: a number (a constant), a mapping with the fields of `Schedule`, or what was made of such already.
        where: the configuration key, for errors ("algo.epsilon").

    Raises:
        ValueError: for unknown keys, kinds or units; missing fields that the kind needs; values that are no
            finite number (booleans, text, NaN) or out of range.
    """
    if isinstance(value, Schedule | Stacked):
        return value
    if isinstance(value, Mapping):
        return Schedule(**_resolve(value, where))
    if _is_number(value):
        return Schedule("constant", _number(value, where))
    raise ValueError(
        f"{where}: expected a number or a mapping with the keys {_names(KEYS)}; received "
        f"{value!r} ({type(value).__name__}).{_hint(value)}"
    )


def of_budget(value: Mapping[str, Any], where: str, unit: str, count: int) -> dict[str, Any]:
    """A schedule whose unit is `budget`, as one that counts what the budget counts.

    Named schedules (conf/schedule/) say nothing but a kind and a share, and keep the ends of what they replace. So what
    may be left out here follows from them:

    - exponential without decay: reaches final after the duration;
    - inverse_time without decay: reaches final after the duration; a decay is a rate per budget;
    - log10 without decay: loses all of initial within a factor of ten, so that it has one shape at any height.

    Args:
        value: the mapping of a configuration.
        where: its key, for errors.
        unit: what the budget counts, "step" or "episode".
        count: how many.

    Returns:
        A mapping that `parse` takes.

    Raises:
        ValueError: as in `parse`, and for a duration that is no share.
    """
    given = {key: value for key, value in value.items() if value is not None}
    kind = given.get("kind")
    missing = [key for key, default in KINDS.get(str(kind), {}).items() if default is None and key not in given]
    if lost := [key for key in ("initial", "final") if key in missing]:
        raise ValueError(
            f"{where}: kind {kind!r} needs {_names(lost)}, and what it replaces has none to keep. "
            f"Add {' '.join(f'+{where}.{key}=...' for key in lost)}"
        )
    for key in NUMBERS:
        if key in given:
            _number(given[key], f"{where}.{key}")
    initial, final, share = given.get("initial", 0.0), given.get("final", 0.0), given.get("duration", 1.0)
    reads_share = kind in ("linear", "exponential", "log10") or (kind == "inverse_time" and "decay" not in given)
    if reads_share and not 0 < share <= LONGEST:
        raise ValueError(
            f"{where}.duration: expected a share of the budget, above 0 and at most {LONGEST:g}; received {share:g}. "
            "0.5 is half of it; to count steps write unit: step."
        )
    reaches = initial * final > 0  # a limit that a fall by factors can reach
    if kind == "exponential" and "decay" not in given and reaches:
        given["decay"] = final / initial
    if kind == "inverse_time":
        if "decay" in given:
            given["decay"] = given["decay"] / count
        elif reaches:
            given["decay"] = (initial / final - 1.0) / (share * count)
    if kind == "log10" and "decay" not in given:
        given["decay"] = initial
    return Schedule(**_resolve({**given, "unit": unit, "duration": share * count}, where)).to_dict()


def _linear(s: Any, n: np.ndarray) -> np.ndarray:
    return np.where(n < s.duration, s.initial + (s.final - s.initial) * n / s.duration, s.final)


def _exponential(s: Any, n: np.ndarray) -> np.ndarray:
    return _not_past(s.final, s.initial, s.initial * s.decay ** (n / s.duration))


def _inverse_time(s: Any, n: np.ndarray) -> np.ndarray:
    return _not_past(s.final, s.initial, s.initial / (1.0 + s.decay * n))


def _log10(s: Any, n: np.ndarray) -> np.ndarray:
    return np.maximum(s.final, np.minimum(s.initial, s.initial - s.decay * np.log10((n + 1.0) / s.duration)))


_FORMULAS: dict[str, Callable[[Any, np.ndarray], np.ndarray]] = {  # [N] -> [N]
    "constant": lambda s, n: np.full_like(n, s.initial),
    "linear": _linear,
    "exponential": _exponential,
    "inverse_time": _inverse_time,
    "log10": _log10,
}


def _not_past(limit: float, initial: float, values: np.ndarray) -> np.ndarray:
    """Keeps values that come from `initial` on its side of `limit`."""
    return np.maximum(limit, values) if initial >= limit else np.minimum(limit, values)


def _resolve(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns the fields of a valid schedule: None for what its kind does not read, defaults filled in."""
    for key in given:
        _choice(key, KEYS, where, "key")
    given = {key: value for key, value in given.items() if value is not None}
    if "kind" not in given:
        raise ValueError(
            f"{where}: expected the key kind, one of {_names(KINDS)}; received only "
            f"{_names(given) or 'an empty mapping'}. "
            "Add kind, or write a plain number for a constant."
        )
    kind = _choice(given["kind"], KINDS, f"{where}.kind", "kind")
    unit = _choice(given.get("unit", "step"), UNITS, f"{where}.unit", "unit")
    values = {key: _number(given[key], f"{where}.{key}") for key in NUMBERS if key in given}
    needed = [key for key, default in KINDS[kind].items() if default is None]
    missing = [key for key in needed if key not in values]
    if missing:
        raise ValueError(
            f"{where}: kind {kind!r} needs {_names(needed)}; received "
            f"{_names(values) or 'none of them'}. Add {_names(missing)}."
        )
    fields = {key: values.get(key, default) for key, default in KINDS[kind].items()}
    check_ranges(kind, fields, where)
    # A constant counts nothing: one unit for all of them, so that equal ones compare equal.
    return dict.fromkeys(NUMBERS) | fields | {"kind": kind, "unit": "step" if kind == "constant" else unit}


def check_ranges(kind: str, fields: Mapping[str, Any], where: str) -> None:
    """Refuses numbers for which the formula of `kind` has no sense."""
    # Each number is looked at only for kinds that read it; 1.0 stands for what is not read.
    initial, final, duration, decay = (fields.get(key, 1.0) for key in NUMBERS)
    if not duration > 0:
        raise ValueError(
            f"{where}.duration: expected a number of counts > 0; received {duration:g}. "
            "For a value that does not change, write the plain number."
        )
    if kind == "exponential" and not 0 < decay <= 1:
        raise ValueError(
            f"{where}.decay: expected the factor kept each `duration`, in (0, 1]; "
            f"received {decay:g}. 0.99 loses one percent; for a rise use kind linear."
        )
    if kind == "inverse_time" and not decay >= 0:
        raise ValueError(
            f"{where}.decay: expected a rate >= 0 in initial / (1 + decay n); received "
            f"{decay:g}, for which the value would grow without bound and change its sign."
        )
    if kind in ("exponential", "inverse_time") and not min(0, initial) <= final <= max(0, initial):
        raise ValueError(
            f"{where}.final: expected a limit between initial ({initial:g}) and 0, where kind "
            f"{kind!r} tends; received {final:g}. Choose one there, or use kind linear."
        )
    if kind == "log10" and not decay > 0:
        raise ValueError(
            f"{where}.decay: expected the loss per factor of ten, > 0; received {decay:g}. "
            "Leave it out for 1, as in the textbook."
        )
    if kind == "log10" and not final <= initial:
        raise ValueError(
            f"{where}.final: expected at most initial ({initial:g}), since kind 'log10' falls; "
            f"received {final:g}. Exchange the two, or use kind linear."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _number(value: Any, where: str) -> float:
    """Returns a float that float32 can hold, or refuses."""
    if not _is_number(value):
        raise ValueError(f"{where}: expected a number, received {value!r} ({type(value).__name__}).{_hint(value)}")
    if not -FLOAT32_MAX <= value <= FLOAT32_MAX:  # also False for NaN
        raise ValueError(
            f"{where}: expected a finite number (float32), received {value!r}. "
            "Look for a division by zero or an overflow where it is computed."
        )
    return float(value)


def _choice(value: Any, allowed: Iterable[str], where: str, what: str) -> str:
    """Returns `value` when it is allowed, or refuses with the nearest name."""
    allowed = list(allowed)
    if value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, n=1)
        raise ValueError(
            f"{where}: unknown {what} {value!r}; expected one of {_names(allowed)}."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    return value


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)


def _hint(value: Any) -> str:
    """What to do about a value that only looks like a number."""
    if isinstance(value, bool):
        return " Write 1 or 0 if a number is meant."
    try:
        return (
            f" It is text: write {float(value)!r}, without quotes (some YAML readers take 1e-3 for text, not 1.0e-3)."
        )
    except (TypeError, ValueError):
        return ""


def scalar_paths(config: Any, prefix: str = "") -> tuple[str, ...]:
    """The settings of an algorithm that may be scheduled: fields marked `scalar`, as paths ("optimizer.lr")."""
    paths: list[str] = []
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, Schedule | Stacked):
            paths += scalar_paths(value, f"{prefix}{f.name}.")
        elif f.metadata.get("scalar"):
            paths.append(prefix + f.name)
    return tuple(paths)


def parse_scalars(config: Any, paths: Sequence[str]) -> dict[str, Schedule | Stacked]:
    """The schedules at some paths of an algorithm's settings."""
    return {path: parse(operator.attrgetter(path)(config), f"algo.{path}") for path in paths}
