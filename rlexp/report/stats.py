"""Statistics over trials: interquartile mean and stratified percentile bootstrap.

Axes: `N` trials, `M` environments (or tasks), `R` bootstrap resamples. NaN means "this trial has no value"
and is left out. Randomness comes from the `numpy.random.Generator` that is passed in, never a global state.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice".
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np


def iqm(values: Any, axis: int | None = -1) -> Any:
    """Interquartile mean: the mean of what is left after a quarter is cut at each end.

    From `n` sorted values exactly `int(0.25 * n)` are dropped at each end and the others weigh the same, as
    in `scipy.stats.trim_mean(values, 0.25)`, which Agarwal et al. use. For `n < 4` nothing is dropped, and
    the IQM is the plain mean.

    Args:
        values: array of any shape. NaNs are ignored: `n` is the number of other values of each slice.
        axis: axis that is averaged; `None` averages over all values.

    Returns:
        Array without `axis` (a scalar for 1-D input); NaN, with no warning, for a slice without values.
    """
    values = np.asarray(values, dtype=np.float64)
    values = values.ravel() if axis is None else np.moveaxis(values, axis, -1)  # [..., n]
    values = np.sort(values, axis=-1)  # NaNs go to the end
    count = np.count_nonzero(~np.isnan(values), axis=-1)  # [...]
    cut = np.asarray(count // 4)[..., None]
    rank = np.arange(values.shape[-1])
    kept = (rank >= cut) & (rank < np.asarray(count)[..., None] - cut)  # [..., n]
    with np.errstate(invalid="ignore"):  # 0 / 0 of an empty slice
        return np.sum(values, axis=-1, where=kept) / np.sum(kept, axis=-1)


def bootstrap_ci(
    values: Any,
    statistic: Callable[..., Any],
    generator: np.random.Generator,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile-bootstrap confidence interval of a statistic over trials.

    With several environments the bootstrap is stratified (Agarwal et al.): trials are resampled with
    replacement within each environment, independently of the other environments, and the statistic is taken
    over all resampled values together. The percentile interval is too narrow for few trials.

    Args:
        values: `[N]` or `[N, M]`. NaNs are dropped first, so that every resample of an environment has as
            many values as the environment has.
        statistic: called once as `statistic(resamples, axis=-1)` on `[R, N]` or `[R, N * M]`, without NaNs,
            and returns `[R]`; for example `iqm` or `np.mean`.
        generator: source of the resampling.
        num_resamples: `R`.
        confidence: probability that the interval is to cover, in (0, 1).

    Returns:
        `(low, high)`. `(nan, nan)` when no environment has two values: one trial has no spread to estimate.

    Raises:
        ValueError: if `values` has another number of axes, or `confidence` is outside (0, 1).
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim not in (1, 2):
        raise ValueError(f"bootstrap_ci expects values of shape [N] or [N, M], received shape {values.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is a probability in (0, 1), received {confidence}")
    columns = values.T if values.ndim == 2 else values[None]  # [M, N]
    strata = [column[~np.isnan(column)] for column in columns]
    strata = [x for x in strata if len(x)]
    if max(map(len, strata), default=0) < 2:
        return math.nan, math.nan
    resamples = [x[generator.integers(len(x), size=(num_resamples, len(x)))] for x in strata]  # [R, N] each
    estimates = statistic(np.concatenate(resamples, axis=-1), axis=-1)  # [R]
    with np.errstate(invalid="ignore"):  # infinite values
        low, high = np.quantile(estimates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def summarize(values: Any, generator: np.random.Generator) -> dict[str, Any]:
    """Aggregates over trials as plain Python floats, ready for JSON.

    Args:
        values: `[N]`, one number a trial; NaN for a trial without value, which the aggregates leave out.
        generator: source of the bootstrap.

    Returns:
        `per_trial` (`N` numbers in the given order), `mean`, `std` (sample standard deviation, `ddof=1`; 0.0
        for one value), `iqm`, `min`, `max`, and `ci95`, the `[low, high]` 95 % bootstrap interval of the IQM.
        What is not finite is `None`, as JSON has no NaN: all without a value, both bounds with a single one.

    Raises:
        ValueError: if `values` is not 1-D.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"summarize expects values of shape [N], received shape {values.shape}")
    present = values[~np.isnan(values)]
    if not len(present):
        present = np.array([math.nan])
    with np.errstate(invalid="ignore"):  # infinite values
        std = present.std(ddof=1) if len(present) > 1 else present[0] * 0.0
    return {
        "per_trial": [_json_float(value) for value in values],
        "mean": _json_float(present.mean()),
        "std": _json_float(std),
        "iqm": _json_float(iqm(present)),
        "min": _json_float(present.min()),
        "max": _json_float(present.max()),
        "ci95": [_json_float(bound) for bound in bootstrap_ci(present, iqm, generator)],
    }


def _json_float(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
