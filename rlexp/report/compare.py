"""Which of two algorithms is better, and how certain that is: permutation tests, Holm's correction, a verdict in words.

Two trials with the same seed start from the same weights and meet the same episodes, so they are compared as a pair:
if the algorithms are equal, each difference is as likely to have the other sign. Where seeds differ, all trials are
as likely to have been of the other algorithm. Both tests are exact whatever the distribution of returns is.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from rlexp.report.stats import probability_of_improvement
from rlexp.report.words import plural

LEVEL = (
    0.04  # of one false claim or more in a family: such that 1,000 simulated studies show at most 5 %, luck included
)
POWER = 0.8  # with which the further trials are to find the difference, if it is as large as it looks
MIN_TRIALS = 5  # nothing is claimed of fewer, whatever the numbers are
EXACT = 20_000  # as many arrangements are enumerated at most; of more, so many are drawn
MOST_TRIALS = 1_000  # further trials that anybody would run


@dataclass(frozen=True)
class Sample:
    """The results of one algorithm.

    Attributes:
        name: how it is called.
        seeds: of its trials, one tuple an environment.
        values: its trials' results, one array [N] an environment; NaN where there is none.
    """

    name: str
    seeds: Sequence[Sequence[int]]
    values: Sequence[np.ndarray]

    @property
    def size(self) -> int:
        """Trials with a value on the environment that has the fewest."""
        return min(int(np.isfinite(v).sum()) for v in self.values)


@dataclass(frozen=True)
class Comparison:
    """What is known of `first` against `second`.

    Attributes:
        paired: whether trials were compared seed by seed.
        num_trials: trials of each (or pairs), on the environment that has the fewest.
        difference: mean of first minus second.
        p: p-value of the permutation test, of two sides.
        adjusted: after Holm's correction: all claims with at most `LEVEL` are true with a probability of 1 - `LEVEL`.
        improvement: probability that a trial of `first` beats one of `second`, with its 95 % interval.
        verdict: "better", "worse" (`first` than `second`) or "undecided".
        more_trials: about so many further trials each would decide it; None where it is decided, or no number would.
        reason: the verdict in words.
    """

    first: str
    second: str
    paired: bool
    num_trials: int
    difference: float
    p: float
    adjusted: float
    improvement: tuple[float, float, float]
    verdict: str
    more_trials: int | None
    reason: str


def compare(samples: Sequence[Sample], generator: np.random.Generator) -> list[Comparison]:
    """Compare each pair of algorithms; Holm's correction takes all the pairs as one family.

    With several environments the differences of all of them are taken together, so their units must be the same.

    Args:
        samples: in the order of the result's pairs: (0, 1), (0, 2), ..., (1, 2), ...
        generator: source of the arrangements where there are too many to enumerate.
    """
    draws = int(generator.integers(2**32))  # the same for each pair: a result does not depend on the other pairs
    pairs = [(_Pair(a, b), a, b) for a, b in itertools.combinations(samples, 2)]
    tested = [pair.test(np.random.default_rng(draws)) for pair, _, _ in pairs]
    adjusted, factors = holm(np.array(tested))
    results = []
    for (pair, a, b), p, p_adjusted, factor in zip(pairs, tested, adjusted, factors, strict=True):
        verdict, more, reason = pair.judge(float(p_adjusted), int(factor))
        improvement = probability_of_improvement(a.values, b.values)
        results.append(
            Comparison(
                a.name, b.name, pair.paired, pair.size, pair.difference, float(p), float(p_adjusted), improvement,
                verdict, more, reason,
            )
        )  # fmt: skip
    return results


class _Pair:
    """Two samples, brought to pairs of trials where their seeds agree on all environments."""

    def __init__(self, a: Sample, b: Sample) -> None:
        kept: list[tuple[np.ndarray, np.ndarray]] = []
        self.paired = all(sorted(s) == sorted(t) for s, t in zip(a.seeds, b.seeds, strict=True))
        for seeds_a, x, seeds_b, y in zip(a.seeds, a.values, b.seeds, b.values, strict=True):
            x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
            if self.paired:
                x, y = x[np.argsort(seeds_a)], y[np.argsort(seeds_b)]
                both = np.isfinite(x) & np.isfinite(y)
                kept.append((x[both], y[both]))
            else:
                kept.append((x[np.isfinite(x)], y[np.isfinite(y)]))
        self.first, self.second = [x for x, _ in kept], [y for _, y in kept]
        self.size = min(min(len(x), len(y)) for x, y in kept)
        means = [x.mean() - y.mean() for x, y in kept if len(x) and len(y)]
        self.difference = float(np.mean(means)) if means else math.nan

    def test(self, generator: np.random.Generator) -> float:
        if self.paired:
            return sign_flip_test(np.concatenate(self.first) - np.concatenate(self.second), generator)
        return permutation_test(self.first, self.second, generator)

    def judge(self, adjusted: float, factor: int) -> tuple[str, int | None, str]:
        """Verdict, further trials, and the words for both."""
        if self.size < MIN_TRIALS:
            more = max(MIN_TRIALS, self._smallest(factor)) - self.size
            return (
                "undecided",
                more,
                f"undecided: {plural(self.size, 'trial')} can decide nothing, at least {more} more needed",
            )
        if adjusted <= LEVEL and self.difference != 0:
            word = "better" if self.difference > 0 else "worse"
            return word, None, word
        if all(np.array_equal(np.sort(x), np.sort(y)) for x, y in zip(self.first, self.second, strict=True)):
            return "undecided", None, "undecided: the same result in all trials, more of them would not tell"
        needed = self._needed(factor)
        if needed - self.size > MOST_TRIALS:
            return "undecided", None, "undecided: no difference that any affordable number of trials would show"
        more = max(1, math.ceil(needed) - self.size)
        return "undecided", more, f"undecided: about {plural(_rounded(more), 'more trial')} each needed"

    def _needed(self, factor: int) -> float:
        """Trials an algorithm and environment with which the test finds this difference with probability `POWER`.

        The usual formula for the mean of normal differences (Guenther 1981), at the level that Holm leaves to it.
        """
        normal = NormalDist()
        z, power = normal.inv_cdf(1 - LEVEL / factor / 2), normal.inv_cdf(POWER)
        if self.paired:
            spread = np.concatenate(self.first) - np.concatenate(self.second)
            variance, extra = spread.var(ddof=1), z**2 / 2
        else:
            centred = [np.concatenate([x - x.mean() for x in sample]) for sample in (self.first, self.second)]
            variance, extra = sum(x.var(ddof=1) for x in centred), z**2 / 4
        if self.difference == 0:
            return math.inf
        needed: float = ((z + power) ** 2 * variance / self.difference**2 + extra) / len(self.first)
        return max(math.ceil(needed), self._smallest(factor))

    def _smallest(self, factor: int) -> int:
        """With fewer trials no difference, however large, could pass: there are too few arrangements."""
        environments, n = len(self.first), MIN_TRIALS
        while factor * 2 / (2 ** (n * environments) if self.paired else math.comb(2 * n, n) ** environments) > LEVEL:
            n += 1
        return n


def sign_flip_test(differences: Any, generator: np.random.Generator) -> float:
    """P-value (two-sided) of Fisher's sign-flip test: is the mean of paired differences zero?

    Args:
        differences: of each pair of trials; without NaNs.  # [N]
        generator: source of the signs, where there are more than `EXACT` ways to set them.
    """
    differences = np.asarray(differences, np.float64)
    if not len(differences):
        return 1.0
    signs, exact = _signs(len(differences), int(generator.integers(2**32)))
    return _p_value(signs @ differences, float(differences.sum()), exact)


def permutation_test(first: Sequence[Any], second: Sequence[Any], generator: np.random.Generator) -> float:
    """P-value (two-sided) of the permutation test: is the mean the same? Trials change places within environments.

    Args:
        first, second: one array [N] an environment; without NaNs.
        generator: source of the arrangements, where there are more than `EXACT`.
    """
    strata = [(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in zip(first, second, strict=True)]
    strata = [(x, y) for x, y in strata if len(x) and len(y)]
    if not strata:
        return 1.0
    seeds = generator.integers(2**32, size=len(strata))
    exact = len(strata) == 1 and math.comb(len(strata[0][0]) + len(strata[0][1]), len(strata[0][0])) <= EXACT
    statistics: Any = 0.0
    for (x, y), seed in zip(strata, seeds, strict=True):
        statistics = statistics + _places(len(x), len(y), exact, int(seed)) @ np.concatenate([x, y])
    return _p_value(statistics, float(sum(x.mean() - y.mean() for x, y in strata)), exact)


@functools.lru_cache(maxsize=4)  # many pairs of a study have as many trials
def _signs(n: int, seed: int) -> tuple[np.ndarray, bool]:
    """Ways to set n signs [R, n], and whether they are all."""
    if 2**n <= EXACT:
        return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1), True
    return 1.0 - 2.0 * np.random.default_rng(seed).integers(2, size=(EXACT, n)), False


@functools.lru_cache(maxsize=16)
def _places(n: int, m: int, exact: bool, seed: int) -> np.ndarray:
    """Ways to call n of n + m values first, as the weights of a difference of means.  # [R, n + m]"""
    if exact:
        chosen = np.array(list(itertools.combinations(range(n + m), n)))
    else:
        chosen = np.argsort(np.random.default_rng(seed).random((EXACT, n + m)), axis=1)[:, :n]
    weights = np.full((len(chosen), n + m), -1 / m)
    np.put_along_axis(weights, chosen, 1 / n, axis=1)
    return weights


def _p_value(statistics: np.ndarray, observed: float, exact: bool) -> float:
    """The share of arrangements no less extreme than the observed one, which is one of them."""
    as_extreme = int(np.count_nonzero(np.abs(statistics) >= abs(observed) * (1 - 1e-9) - 1e-12))
    return as_extreme / len(statistics) if exact else (as_extreme + 1) / (len(statistics) + 1)


def holm(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Holm's step-down correction (1979, "A simple sequentially rejective multiple test procedure").

    Args:
        p: p-values of one family.  # [K]

    Returns:
        Adjusted p-values [K]: the claims with at most `LEVEL` are all true with a probability of 1 - `LEVEL`; and the
        factor by which each was multiplied [K].
    """
    order = np.argsort(p, kind="stable")
    factors = np.empty(len(p), np.int64)
    factors[order] = np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate((p * factors)[order])) if len(p) else []
    return adjusted, factors


def _rounded(number: int) -> int:
    """Two digits: an estimate has no more."""
    return number if number < 100 else round(number, -(len(str(number)) - 2))
