"""Scalar schedules (epsilon, learning rates, ...) as functions of each trial's progress.

A schedule counts the env steps, episodes or updates of its trial, as its `unit` says. It is evaluated for all trials at
once; trials whose episodes differ in length are at different points. With n the count:

| kind         | value                                                              | reads            |
|--------------|--------------------------------------------------------------------|------------------|
| constant     | initial                                                            | initial          |
| linear       | initial + (final - initial) n / duration, `final` from there on    | all but decay    |
| exponential  | initial * decay^(n / duration), which does not pass `final`        | all four         |
| inverse_time | initial / (1 + decay n), which does not pass `final`               | all but duration |
| log10        | initial - decay log10((n + 1) / duration), not beyond its two ends | all four         |

Defaults: duration 1 for exponential; final 0 for exponential and inverse_time; decay 1 for log10. All other fields that
a kind reads are required.

In a configuration the unit may also be `budget`. `duration` is then a share of the job's budget, in steps or episodes,
and a missing decay follows from the two ends (see `of_budget`).

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

KINDS: dict[str, dict[str, float | None]] = {  # the fields that each kind reads, with their defaults; None: required
    "constant": {"initial": None},
    "linear": {"initial": None, "final": None, "duration": None},
    "exponential": {"initial": None, "decay": None, "final": 0.0, "duration": 1.0},
    "inverse_time": {"initial": None, "decay": None, "final": 0.0},
    "log10": {"initial": None, "final": None, "duration": None, "decay": 1.0},
}
UNITS = ("step", "episode", "update")
BUDGET = "budget"  # a unit in configurations; `of_budget` converts it to one of UNITS
MAX_BUDGETS = 10.0  # the longest duration in budgets; a larger one is probably meant in steps
NUMBERS = ("initial", "final", "duration", "decay")
KEYS = ("kind", *NUMBERS, "unit")
FLOAT32_MAX = float(np.finfo(np.float32).max)
STEPS_AHEAD = 256  # lock-steps for which `Ahead` evaluates a schedule at once


@dataclasses.dataclass(frozen=True)
class Schedule:
    """One scalar schedule. `parse` makes one from a configuration, with errors that name the key.

    Fields that `kind` does not read are None, so that equal schedules compare equal.

    Args:
        kind: one of KINDS.
        initial: value at count 0 (log10: until `duration`).
        final: value at the end, or the limit of the values.
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
            counts: the count of each trial under each unit; integers >= 0.  # {unit: [N]}

        Returns:
            float32 values, computed in float64.  # [N]
        """
        n = np.asarray(counts[self.unit], np.float64)  # [N]
        return np.asarray(_FORMULAS[self.kind](self, n), np.float32)  # [N]

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields that this kind reads; `parse` turns them into an equal schedule."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Stacked:
    """Schedules of several jobs whose trials run side by side; used like one `Schedule`.

    Args:
        schedules: one per job, in the order of their trials; all of one unit.
        sizes: the number of trials of each job.
    """

    schedules: tuple[Schedule | Stacked, ...]
    sizes: tuple[int, ...]

    @property
    def unit(self) -> str:
        """The unit that all of them count."""
        return self.schedules[0].unit

    def part(self, trials: slice) -> Stacked:
        """The schedules of some of the trials."""
        starts = np.cumsum([0, *self.sizes[:-1]]).tolist()
        own = [
            max(0, min(start + size, trials.stop) - max(start, trials.start))
            for start, size in zip(starts, self.sizes, strict=True)
        ]
        kept = [(schedule, size) for schedule, size in zip(self.schedules, own, strict=True) if size]
        return Stacked(tuple(schedule for schedule, _ in kept), tuple(size for _, size in kept))

    def __call__(self, counts: Mapping[str, np.ndarray]) -> np.ndarray:
        """The value for each trial, as `Schedule` gives it: counts {unit: [N, ...]} -> float32 [N, ...]."""
        parts = np.split(np.asarray(counts[self.unit]), np.cumsum(self.sizes)[:-1])
        return np.concatenate(
            [schedule({self.unit: part}) for schedule, part in zip(self.schedules, parts, strict=True)]
        )


class Ahead:
    """The schedule of trials in lock-step, evaluated for many steps at once where it counts env steps.

    Evaluated at each step, it would cost more than the update of a table that it is for.

    Args:
        schedule: of N trials.
        num_trials: N.
    """

    def __init__(self, schedule: Schedule | Stacked, num_trials: int) -> None:
        self._schedule, self._n = schedule, num_trials
        self._by_step = schedule.unit == "step"  # constants as well
        self._first, self._values = 0, np.zeros((0, num_trials), np.float32)  # of the steps from `_first` on

    def __call__(self, t: int, counts: Mapping[str, np.ndarray]) -> np.ndarray:
        """The value for each trial that still trains.

        Args:
            t: env steps so far of the trials that still train.
            counts: as `Schedule` takes them.  # {unit: [N]}

        Returns:
            float32 values; of a trial that has ended, any.  # [N]
        """
        if not self._by_step:
            return self._schedule(counts)
        if not 0 <= t - self._first < len(self._values):
            steps = np.zeros((self._n, 1), np.int64) + np.arange(t, t + STEPS_AHEAD)  # [N, STEPS_AHEAD]
            self._first, self._values = t, self._schedule({"step": steps}).T.copy()
        return self._values[t - self._first]


def parse(value: Any, where: str) -> Schedule | Stacked:
    """Makes a schedule from the value of a configuration.

    A key whose value is None counts as absent. A key that the kind does not read is dropped, but must hold a number.
    Both come from YAML defaults: an override changes `kind`, and the keys of the previous kind stay.

    Args:
        value: a number (a constant), a mapping with the fields of `Schedule`, or a schedule, which is returned.
        where: the configuration key, for errors ("algo.epsilon").

    Raises:
        ValueError: for unknown keys, kinds or units; missing fields that the kind requires; values that are not finite
            numbers (booleans, text, NaN) or out of range.
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
    """Converts a schedule in shares of the budget to the budget's own unit.

    Named schedules (conf/schedule/) give only a kind and a share; they keep the ends of the schedule that they replace.
    A missing decay follows from these:

    - exponential: the value reaches final after the duration;
    - inverse_time: the value reaches final after the duration (a given decay is a rate per budget);
    - log10: the value loses all of initial within a factor of ten, so the shape is the same for every initial value.

    Args:
        value: the mapping in the configuration.
        where: its key, for errors.
        unit: the unit of the budget, "step" or "episode".
        count: the budget in this unit.

    Returns:
        A mapping for `parse`.

    Raises:
        ValueError: as in `parse`, and for a duration outside (0, 10] budgets.
    """
    given = {key: value for key, value in value.items() if value is not None}
    kind = given.get("kind")
    missing = [key for key, default in KINDS.get(str(kind), {}).items() if default is None and key not in given]
    if lost := [key for key in ("initial", "final") if key in missing]:
        raise ValueError(
            f"{where}: kind {kind!r} needs {_names(lost)}, which the replaced schedule does not have. "
            f"Add {' '.join(f'+{where}.{key}=...' for key in lost)}"
        )
    for key in NUMBERS:
        if key in given:
            _number(given[key], f"{where}.{key}")
    initial, final, share = given.get("initial", 0.0), given.get("final", 0.0), given.get("duration", 1.0)
    reads_share = kind in ("linear", "exponential", "log10") or (kind == "inverse_time" and "decay" not in given)
    if reads_share and not 0 < share <= MAX_BUDGETS:
        raise ValueError(
            f"{where}.duration: expected a share of the budget, above 0 and at most {MAX_BUDGETS:g}; received "
            f"{share:g}. 0.5 is half of it; to count steps write unit: step."
        )
    reachable = initial * final > 0  # whether multiplication by a factor can lead from initial to final
    if kind == "exponential" and "decay" not in given and reachable:
        given["decay"] = final / initial
    if kind == "inverse_time":
        if "decay" in given:
            given["decay"] = given["decay"] / count
        elif reachable:
            given["decay"] = (initial / final - 1.0) / (share * count)
    if kind == "log10" and "decay" not in given:
        given["decay"] = initial
    return Schedule(**_resolve({**given, "unit": unit, "duration": share * count}, where)).to_dict()


def _linear(s: Any, n: np.ndarray) -> np.ndarray:
    return np.where(n < s.duration, s.initial + (s.final - s.initial) * n / s.duration, s.final)


def _exponential(s: Any, n: np.ndarray) -> np.ndarray:
    return _clip_at(s.final, s.initial, s.initial * s.decay ** (n / s.duration))


def _inverse_time(s: Any, n: np.ndarray) -> np.ndarray:
    return _clip_at(s.final, s.initial, s.initial / (1.0 + s.decay * n))


def _log10(s: Any, n: np.ndarray) -> np.ndarray:
    return np.maximum(s.final, np.minimum(s.initial, s.initial - s.decay * np.log10((n + 1.0) / s.duration)))


_FORMULAS: dict[str, Callable[[Any, np.ndarray], np.ndarray]] = {  # [N] -> [N]
    "constant": lambda s, n: np.full_like(n, s.initial),
    "linear": _linear,
    "exponential": _exponential,
    "inverse_time": _inverse_time,
    "log10": _log10,
}


def _clip_at(limit: float, initial: float, values: np.ndarray) -> np.ndarray:
    """Clips values that start at `initial` where they would pass `limit`."""
    return np.maximum(limit, values) if initial >= limit else np.minimum(limit, values)


def _resolve(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns the fields of a schedule, checked and with defaults; None for those that its kind does not read."""
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
    # The unit of a constant has no effect: always "step", so that equal constants compare equal.
    return dict.fromkeys(NUMBERS) | fields | {"kind": kind, "unit": "step" if kind == "constant" else unit}


def check_ranges(kind: str, fields: Mapping[str, Any], where: str) -> None:
    """Raises ValueError for numbers outside the domain of the formula of `kind`."""
    # Each number is checked only for kinds that read it; 1.0 stands in for the others.
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
            f"{where}.final: expected a limit between initial ({initial:g}) and 0, the range "
            f"of kind {kind!r}; received {final:g}. Choose one there, or use kind linear."
        )
    if kind == "log10" and not decay > 0:
        raise ValueError(
            f"{where}.decay: expected the loss per factor of ten, > 0; received {decay:g}. "
            "Leave it out for 1, as in the textbook."
        )
    if kind == "log10" and not final <= initial:
        raise ValueError(
            f"{where}.final: expected at most initial ({initial:g}), since kind 'log10' falls; "
            f"received {final:g}. Swap the two, or use kind linear."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _number(value: Any, where: str) -> float:
    """Returns the value as a float; raises ValueError unless it is a number within float32's range."""
    if not _is_number(value):
        raise ValueError(f"{where}: expected a number, received {value!r} ({type(value).__name__}).{_hint(value)}")
    if not -FLOAT32_MAX <= value <= FLOAT32_MAX:  # also False for NaN
        raise ValueError(
            f"{where}: expected a finite number (float32), received {value!r}. "
            "Look for a division by zero or an overflow where it is computed."
        )
    return float(value)


def _choice(value: Any, allowed: Iterable[str], where: str, what: str) -> str:
    """Returns `value` if it is allowed; otherwise raises ValueError with the nearest name."""
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
    """Advice for a value that only looks like a number; empty for others."""
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
