"""Limits that are checked before a sweep begins: the values of its options, and its number of jobs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override, RangeSweep

from rlexp.system.errors import Refusal, refusal

MAX_JOBS = 10_000  # per sweep
LOWEST: dict[str, float] = {  # option -> its smallest value
    "restarts": 0, "max_batch_size": 1, "max_trials": 1, "num_cpus": 0, "num_gpus": 0, "max_retries": -1,
}  # fmt: skip
FRACTIONS = ("num_cpus", "num_gpus")


def check(where: str, options: Mapping[str, Any]) -> None:
    """Raise `Refusal` for an option `where`.name out of range; null is allowed and means the default."""
    for name, value in options.items():
        if value is None or name not in LOWEST:
            continue
        kinds = (int, float) if name in FRACTIONS else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds) or not LOWEST[name] <= value < math.inf:
            what = "a number" if name in FRACTIONS else "a whole number"
            raise refusal(f"{where}.{name}", f"{what} >= {LOWEST[name]:g}", repr(value))


def check_workers(value: Any) -> None:
    """Raise `Refusal` for a wrong number of joblib workers: -1 means one per core, -2 one less, and so on."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value == 0):
        raise refusal("hydra.launcher.n_jobs", "a whole number >= 1, or -1 for one per core", repr(value))


def check_number(overrides: Sequence[Override]) -> None:
    """Raise `Refusal` for more than `MAX_JOBS` jobs, without composing any of them."""
    number = math.prod(_number(override) for override in overrides if override.is_sweep_override())
    if number > MAX_JOBS:
        raise Refusal(
            f"-m: expected at most {MAX_JOBS:,} jobs, received {number:,}.\n"
            "trials=N runs N seeds together in one job; give fewer values, or several commands."
        )


def _number(override: Override) -> int:
    """Number of values of one override."""
    value: Any = override.value()
    if isinstance(value, RangeSweep):
        start, stop, step = (float(part or 0) for part in (value.start, value.stop, value.step))
        return max(math.ceil((stop - start) / step), 0) if step and math.isfinite(step) else 0
    return len(getattr(value, "list", None) or [None])
