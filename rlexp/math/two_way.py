"""Intervals with two kinds of luck: that of the trials, and that of the final episodes, which all trials play.

The return of trial k in final episode e is modelled by crossed random effects:

    r[k, e] = mean + trial[k] + episode[e] + rest[k, e]

All trials share `episode[e]`, so resampling trials does not show its luck. Resampling trials and episodes together
(Owen 2007, "The pigeonhole bootstrap") does, but counts the luck of the rest three times. Here trials are resampled
with their mean returns, which hold `trial` and `rest` once, and beside them, independently, the shared part of the
episodes, whose variance is the covariance of two different trials.

Axes: `N` trials, `E` episodes, `R` resamples. NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from rlexp.data import seeding
from rlexp.math.statistics import expanded, iqm, summarize, t_quantile

NUM_RESAMPLES = 2000


def iqm_interval(
    values: Sequence[np.ndarray],
    episodes: Sequence[np.ndarray | None],
    generator: np.random.Generator,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The bootstrap interval of the IQM over trials of expected returns, with both kinds of luck.

    If no episodes are known, or they have no shared luck (deterministic environments, one constant return), it is
    `statistics.bootstrap_ci` to the last digit.

    Args:
        values: final return of each trial, one array [N] per environment; NaN for none. episodes: returns of the same
        trials in the final episodes, one array [N, E] per environment; None if they are not known. generator: source of
        the resampling. confidence: probability with which the interval is to cover.

    Returns:
        `(low, high)`; NaN if no environment has two trials.
    """
    strata, matrices = [], []
    for column, matrix in zip(values, episodes, strict=True):
        column = np.asarray(column, np.float64)
        present = ~np.isnan(column)
        if present.any():
            strata.append(column[present])
            matrices.append(None if matrix is None else np.asarray(matrix, np.float64)[present])
    if max(map(len, strata), default=0) < 2:
        return math.nan, math.nan
    resamples = [
        np.sort(x)[generator.integers(len(x), size=(NUM_RESAMPLES, len(x)))] for x in strata
    ]  # [R, N] each; sorted: the order of trials has no meaning
    estimates = iqm(np.concatenate(resamples, axis=-1))  # [R]
    weights = np.split(iqm_weights(np.concatenate(strata)), np.cumsum([len(x) for x in strata])[:-1])
    parts = [shared_part(m, w) for m, w in zip(matrices, weights, strict=True) if m is not None]
    parts = [part for part in parts if part.any()]
    sizes = [len(x) for x in strata]
    nominal = expanded(confidence, sizes)
    if parts:
        nominal = _expanded(confidence, float(estimates.var()), sizes, parts)
    for part in parts:
        drawn = generator.integers(len(part), size=(NUM_RESAMPLES, len(part)))
        estimates = estimates + part[drawn].mean(axis=1)
    tail = (1 - nominal) / 2
    with np.errstate(invalid="ignore"):  # infinite values
        low, high = np.quantile(estimates, [tail, 1 - tail])
    if parts:  # no mean lies outside the range of the returns: CartPole has none above 500
        known = np.concatenate([*strata, *(matrix.ravel() for matrix in matrices if matrix is not None)])
        low, high = np.clip([low, high], np.nanmin(known), np.nanmax(known))
    return float(low), float(high)


def difference_interval(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    paired: bool,
    statistic: Callable[..., Any],
    generator: np.random.Generator,
    shared: Sequence[np.ndarray] = (),
) -> tuple[float, float]:
    """The 95 % bootstrap interval of a statistic of `first` minus that of `second`, stratified by environment.

    Args:
        first, second: results of the trials, one array [N] per environment; without NaNs.
        paired: whether trials of one place are resampled together, as trials of one seed should be.
        statistic: called as `statistic(resamples, axis=-1)`, for example `iqm` or `np.mean`.
        generator: source of the resampling.
        shared: of one environment, the luck of the episodes in the difference: independent parts [E], as from
            `shared_difference`.

    Returns:
        `(low, high)`; NaN if no environment has two trials.
    """
    sizes = [len(x) for x in first] if paired else [len(x) for x in (*first, *second)]
    if max(sizes, default=0) < 2 or not all(sizes):
        return math.nan, math.nan
    rows = [generator.integers(len(x), size=(NUM_RESAMPLES, len(x))) for x in first]
    others = rows if paired else [generator.integers(len(y), size=(NUM_RESAMPLES, len(y))) for y in second]
    one, other = (
        statistic(np.concatenate([x[r] for x, r in zip(values, drawn, strict=True)], axis=-1), axis=-1)
        for values, drawn in ((first, rows), (second, others))
    )
    estimates = one - other  # [R]
    nominal = _expanded(0.95, float(estimates.var()), sizes, shared) if shared else expanded(0.95, sizes)
    for part in shared:
        estimates = estimates + (part - part.mean())[
            generator.integers(len(part), size=(NUM_RESAMPLES, len(part)))
        ].mean(axis=1)
    low, high = np.quantile(estimates, [(1 - nominal) / 2, (1 + nominal) / 2])
    return float(low), float(high)


def interval(values: np.ndarray, episodes: np.ndarray | None) -> tuple[float, float]:
    """The 95 % interval of final returns on one environment, as in summaries, figures and reports.

    Args:
        values: NaN for trials without one.  # [N]
        episodes: the returns whose means the values are; None if they are not known.  # [N, E]
    """
    return iqm_interval([values], [episodes], seeding.generator(0, "report"))


def summarize_final(values: np.ndarray, episodes: np.ndarray) -> dict[str, Any]:
    """`statistics.summarize` of final returns [N], with an interval that includes the luck of their episodes [N, E]."""
    low, high = interval(values, episodes)
    ci95 = [bound if math.isfinite(bound) else None for bound in (low, high)]
    return {**summarize(values, seeding.generator(0, "report")), "ci95": ci95}


def iqm_weights(values: np.ndarray) -> np.ndarray:
    """The weight of each value in the IQM; equal values share their weights.  # [N]"""
    n = len(values)
    cut = n // 4
    by_rank = np.zeros(n)
    by_rank[cut : n - cut] = 1 / (n - 2 * cut)
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    shared: np.ndarray = (np.add.reduceat(by_rank, start) / count)[place.ravel()]
    return shared


def shared_part(episodes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The shared luck of the trials in each episode, as its effect on their weighted mean.

    The covariance of two different trials is the variance of what they share: the effects are those of the weighted
    mean, scaled to this variance. The luck of single trials is already in the spread of their means.

    Args:
        episodes: returns; NaN for episodes that a trial has not played.  # [N, E]
        weights: of the trials in the mean.  # [N]

    Returns:
        Effects with mean 0; zeros if nothing is shared.  # [E]
    """
    if episodes.shape[1] < 2 or not np.isfinite(episodes).all():
        return np.zeros(0)
    # A sum and not a matrix product: its digits do not depend on the memory layout.
    column = (weights[:, None] * _centred(episodes)).sum(axis=0)  # [E]
    total = _variance(column)
    return column * _ratio(_shared(episodes, weights, total), total, episodes)


def shared_difference(first: np.ndarray, second: np.ndarray, paired: bool) -> np.ndarray:
    """The shared luck in the difference of two algorithms' mean returns, for each episode.

    Args:
        first, second: returns of their trials in the same episodes.  # [N, E], [M, E]
        paired: whether trials are compared row by row.

    Returns:
        Differences of the episodes, scaled as by `shared_part`; empty if nothing is shared.  # [E]
    """
    few = min(len(first), len(second), first.shape[1]) < 2
    if few or not (np.isfinite(first).all() and np.isfinite(second).all()):
        return np.zeros(0)
    difference = first.mean(axis=0) - second.mean(axis=0)  # [E]
    total = _variance(difference)
    if paired:
        shared = _shared(first - second, np.full(len(first), 1 / len(first)), total)
    else:
        one, other = (_variance_shared_by(x) for x in (first, second))
        both = float(_centred(first.mean(axis=0)) @ _centred(second.mean(axis=0))) / (len(difference) - 1)
        shared = one + other - 2 * both
    scale = _ratio(shared, total, np.concatenate([first, second]))
    return difference * scale if scale > 0 else np.zeros(0)


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=-1, keepdims=True)


def _variance(column: np.ndarray) -> float:
    return float(column.var(ddof=1))


def _variance_shared_by(episodes: np.ndarray) -> float:
    weights = np.full(len(episodes), 1 / len(episodes))
    return _shared(episodes, weights, _variance(episodes.mean(axis=0)))


def _shared(episodes: np.ndarray, weights: np.ndarray, total: float) -> float:
    """The covariance of two different trials, from the variance `total` of their weighted mean over the episodes.

    total = sum over k of weights[k]^2 variance[k], and over k != l of weights[k] weights[l] covariance[k, l].
    """
    own, squares, everything = weights**2 @ episodes.var(axis=1, ddof=1), weights @ weights, weights.sum() ** 2
    if everything - squares <= 1e-12:  # one trial has all the weight: there are no two to compare
        return total
    return float((total - own) * everything / (everything - squares))


def _ratio(shared: float, total: float, episodes: np.ndarray) -> float:
    """The factor that scales effects of variance `total` to `shared`; 0 if there is nothing but rounding."""
    if total <= 1e-20 * max(1.0, float(np.abs(episodes).max()) ** 2):
        return 0.0
    return math.sqrt(min(max(shared, 0.0) / total, 1.0))


def _expanded(confidence: float, variance: float, sizes: Sequence[int], parts: Sequence[np.ndarray]) -> float:
    """As `statistics.expanded`, for the sum of both kinds of luck, with degrees of freedom by Satterthwaite."""
    mean = sum(sizes) / len(sizes)
    raw, true = variance, variance * mean / (mean - 1)
    weight = true**2 / (sum(sizes) - len(sizes))  # of the squares of the variances, over their degrees of freedom
    for part in parts:
        e = len(part)
        own = float(part @ part) / e**2
        raw, true, weight = raw + own, true + own * e / (e - 1), weight + (own * e / (e - 1)) ** 2 / (e - 1)
    t = t_quantile((1 + confidence) / 2, true**2 / weight)
    return 2 * NormalDist().cdf(t * math.sqrt(true / raw)) - 1
