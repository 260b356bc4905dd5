"""Which of two algorithms is better, and how certain that is: permutation tests, Holm's correction, a verdict in words.

Two trials with the same seed start from the same weights and meet the same episodes, so they are compared as a pair:
if the algorithms are equal, each difference is as likely to have the other sign. Where seeds differ, all trials are
as likely to have been of the other algorithm; this test has far more arrangements, and is taken as well where a table
has too many comparisons for the signs of its few pairs to decide any (luck that pairs share then only widens its null
distribution). Both tests are exact whatever the distribution of returns is, as long as
the final episodes have no luck of their own that all trials share: two policies of equal worth then differ by the same
amount in every pair. Where the episodes are known and have such luck, their differences change signs as well, and three
tests have to agree: over the trials, over the episodes, and over both (the largest p counts).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from rlexp.jobs.results import Episodes
from rlexp.math.statistics import probability_of_improvement
from rlexp.math.two_way import shared_difference
from rlexp.system.words import plural

LEVEL = (
    0.04  # of one false claim or more in a family: such that 1,000 simulated studies show at most 5 %, luck included
)
POWER = 0.8  # with which the further trials are to find the difference, if it is as large as it looks
MIN_TRIALS = 5  # nothing is claimed of fewer, whatever the numbers are
FIRST_DRAWS = 2_000  # of the signs of episodes; all `EXACT` where these say that p is small
MANY = 15  # episodes from which on there are enough ways to set their signs
AT_ONCE = 64  # pairs
EXACT = 20_000  # as many arrangements are enumerated at most; of more, so many are drawn
MOST_TRIALS = 1_000  # further trials that anybody would run


@dataclass(frozen=True)
class Sample:
    """The results of one algorithm.

    Attributes:
        name: how it is called.
        seeds: of its trials, one tuple an environment.
        values: its trials' results, one array [N] an environment; NaN where there is none.
        episodes: the returns [N, E] whose means the results are, one an environment; None where they are not known.
    """

    name: str
    seeds: Sequence[Sequence[int]]
    values: Sequence[np.ndarray]
    episodes: Sequence[Episodes | None] = ()

    @property
    def size(self) -> int:
        """Trials with a value on the environment that has the fewest."""
        return min(int(np.isfinite(v).sum()) for v in self.values)


@dataclass(frozen=True)
class Comparison:
    """What is known of `first` against `second`.

    Attributes:
        paired: whether trials were compared seed by seed; not where seeds differ, or pairs are too few for the table.
        num_trials: trials of each (or pairs), on the environment that has the fewest.
        difference: mean of first minus second.
        p: p-value of the permutation test, of two sides.
        adjusted: after Holm's correction: all claims with at most `LEVEL` are true with a probability of 1 - `LEVEL`.
        improvement: probability that a trial of `first` beats one of `second`, with its 95 % interval.
        verdict: "better", "worse" (`first` than `second`) or "undecided".
        more_trials: about so many further trials each would decide it; None where it is decided, or no number would.
        reason: the verdict in words.
        minimum: trials with which a table of so many pairs can decide anything.
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
    minimum: int = MIN_TRIALS


def compare(samples: Sequence[Sample], generator: np.random.Generator) -> list[Comparison]:
    """Compare each pair of algorithms; Holm's correction takes all the pairs as one family.

    With several environments the differences of all of them are taken together, so their units must be the same.

    Args:
        samples: in the order of the result's pairs: (0, 1), (0, 2), ..., (1, 2), ...
        generator: source of the arrangements where there are too many to enumerate.
    """
    draws = int(generator.integers(2**32))  # the same for each pair: a result does not depend on the other pairs
    together = list(itertools.combinations(samples, 2))
    pairs = [(_pair(a, b, len(together)), a, b) for a, b in together]
    tested = _test([pair for pair, _, _ in pairs], draws)
    adjusted, factors = holm(np.array(tested))
    minimum = max((pair.smallest(len(pairs)) for pair, _, _ in pairs), default=MIN_TRIALS)  # one for the whole table
    results = []
    for (pair, a, b), p, p_adjusted, factor in zip(pairs, tested, adjusted, factors, strict=True):
        verdict, more, reason = pair.judge(float(p_adjusted), int(factor), minimum)
        improvement = probability_of_improvement(a.values, b.values)
        results.append(
            Comparison(
                a.name, b.name, pair.paired, pair.size, pair.difference, float(p), float(p_adjusted), improvement,
                verdict, more, reason, minimum,
            )
        )  # fmt: skip
    return results


def _test(pairs: Sequence[_Pair], seed: int) -> list[float]:
    """P-value of each pair: the largest of those over trials, over episodes, and over both."""
    seeds = [int(x) for x in np.random.default_rng(seed).integers(2**32, size=3)]
    over_trials = [pair.test_trials(seeds[0]) for pair in pairs]
    found, parts = list(over_trials), [pair.parts if pair.size else [] for pair in pairs]
    for draws, up_to in ((FIRST_DRAWS, 1.0), (EXACT, 2 * LEVEL)):  # more where they may matter
        open_ = [i for i, own in enumerate(parts) if own and found[i] <= up_to]
        for i, luck in _flipped(open_, parts, draws, seeds[1]):
            found[i] = max(over_trials[i], pairs[i].test_episodes(luck, seeds[2]))
    return found


def _pair(a: Sample, b: Sample, factor: int) -> _Pair:
    """Two samples as pairs of trials where their seeds agree, unless signs of so few pairs could not decide anything.

    Args:
        a, b: the samples.
        factor: comparisons in their table. The choice depends on it and on numbers of trials alone, not on results.
    """
    agree = all(sorted(s) == sorted(t) for s, t in zip(a.seeds, b.seeds, strict=True))
    pair = _Pair(a, b, agree)
    if agree and factor * 2 / 2 ** (pair.size * len(a.values)) > LEVEL:
        return _Pair(a, b, False)
    return pair


class _Pair:
    """Two samples.

    Args:
        a, b: the samples.
        paired: whether trials of one seed are compared with each other.
    """

    def __init__(self, a: Sample, b: Sample, paired: bool) -> None:
        kept: list[tuple[np.ndarray, np.ndarray]] = []
        self.luck: list[list[np.ndarray]] = []  # of the episodes, in each environment: parts [E] that are independent
        self.num_episodes = 0
        self.paired = paired
        for i, (seeds_a, x, seeds_b, y) in enumerate(zip(a.seeds, a.values, b.seeds, b.values, strict=True)):
            x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
            rows_a, rows_b = np.flatnonzero(np.isfinite(x)), np.flatnonzero(np.isfinite(y))
            if self.paired:
                order_a, order_b = np.argsort(seeds_a), np.argsort(seeds_b)
                both = np.isfinite(x[order_a]) & np.isfinite(y[order_b])
                rows_a, rows_b = order_a[both], order_b[both]
            kept.append((x[rows_a], y[rows_b]))
            own, other = (sample.episodes[i] if sample.episodes else None for sample in (a, b))
            self.luck.append([] if own is None or other is None else self._luck(own, other, rows_a, rows_b))
        self.first, self.second = [x for x, _ in kept], [y for _, y in kept]
        self.size = min(min(len(x), len(y)) for x, y in kept)
        means = [x.mean() - y.mean() for x, y in kept if len(x) and len(y)]
        self.difference = float(np.mean(means)) if means else math.nan

    def _luck(self, a: Episodes, b: Episodes, rows_a: np.ndarray, rows_b: np.ndarray) -> list[np.ndarray]:
        """What the trials share of the luck of their episodes; of different ones, each sample has its own."""
        x, y = a.returns[rows_a], b.returns[rows_b]
        self.num_episodes = max(self.num_episodes, len(a.seeds), len(b.seeds))
        if a.seeds == b.seeds:
            parts = [shared_difference(x, y, self.paired)]
        else:
            parts = [shared_difference(z, np.zeros_like(z), False) for z in (x, y)]
            parts = [part - part.mean() for part in parts if len(part)]
        return [part for part in parts if len(part)]

    def test_trials(self, seed: int) -> float:
        """P-value over the trials."""
        if self.paired:
            differences = np.concatenate(self.first) - np.concatenate(self.second)
            return sign_flip_test(differences, np.random.default_rng(seed))
        return permutation_test(self.first, self.second, np.random.default_rng(seed))

    @property
    def parts(self) -> list[np.ndarray]:
        """The luck of episodes in the statistic: the sum over pairs, or over environments of mean differences."""
        scales = [float(len(x)) if self.paired else 1.0 for x in self.first]
        return [scale * part for scale, own in zip(scales, self.luck, strict=True) for part in own]

    def test_episodes(self, luck: np.ndarray, seed: int) -> float:
        """The larger p-value of those over episodes, and over trials and episodes.

        Args:
            luck: the statistic after the differences of episodes have changed signs.  # [R]
            seed: of the arrangements of trials.
        """
        if self.paired:
            differences = np.concatenate(self.first) - np.concatenate(self.second)
            statistics, observed = _signs(len(differences), seed)[0] @ differences, float(differences.sum())
        else:
            statistics = _rearranged(self.first, self.second, seed)
            observed = float(sum(x.mean() - y.mean() for x, y in zip(self.first, self.second, strict=True)))
        over_both = statistics[_chosen(len(statistics), len(luck), seed)] + luck
        return max(_p_value(luck, observed, False), _p_value(over_both, observed, False))

    def judge(self, adjusted: float, factor: int, minimum: int) -> tuple[str, int | None, str]:
        """Verdict, further trials, and the words for both."""
        if adjusted <= LEVEL and self.difference != 0 and self.size >= MIN_TRIALS:
            word = "better" if self.difference > 0 else "worse"
            return word, None, word
        if self.size < minimum:
            more = minimum - self.size
            return (
                "undecided",
                more,
                f"undecided: {plural(self.size, 'trial')} can decide nothing, at least {more} more needed",
            )
        if all(np.array_equal(np.sort(x), np.sort(y)) for x, y in zip(self.first, self.second, strict=True)):
            return "undecided", None, "undecided: the same result in all trials, more of them would not tell"
        needed = self._needed(factor)
        if math.isinf(needed) and self._noise() > 0:
            return (
                "undecided",
                None,
                f"undecided: the difference is within the luck of the {self.num_episodes} final episodes, which more "
                "trials would not lessen (evaluation.final_episodes)",
            )
        if needed - self.size > MOST_TRIALS:
            return "undecided", None, "undecided: no difference that any affordable number of trials would show"
        more = max(1, math.ceil(needed) - self.size)
        return "undecided", more, f"undecided: about {plural(_rounded(more), 'more trial')} each needed"

    def _noise(self) -> float:
        """The variance of the mean difference that is the luck of the episodes."""
        environments = [sum(float(part.var(ddof=1)) / len(part) for part in parts) for parts in self.luck]
        return sum(environments) / len(environments) ** 2

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
        left = self.difference**2 - (z + power) ** 2 * self._noise()  # what the luck of the episodes leaves to trials
        if self.difference == 0 or left <= 0:
            return math.inf
        needed: float = ((z + power) ** 2 * variance / left + extra) / len(self.first)
        return max(math.ceil(needed), self.smallest(factor))

    def smallest(self, factor: int) -> int:
        """With fewer trials no difference, however large, could pass: there are too few arrangements."""
        environments, n = len(self.first), MIN_TRIALS
        while factor * 2 / math.comb(2 * n, n) ** environments > LEVEL:
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
    exact = len(strata) == 1 and math.comb(len(strata[0][0]) + len(strata[0][1]), len(strata[0][0])) <= EXACT
    statistics = _rearranged([x for x, _ in strata], [y for _, y in strata], int(generator.integers(2**32)))
    return _p_value(statistics, float(sum(x.mean() - y.mean() for x, y in strata)), exact)


def _rearranged(first: Sequence[np.ndarray], second: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """The sum over environments of mean differences after trials have changed places.  # [R]"""
    exact = len(first) == 1 and math.comb(len(first[0]) + len(second[0]), len(first[0])) <= EXACT
    statistics: Any = 0.0
    for i, (x, y) in enumerate(zip(first, second, strict=True)):
        statistics = statistics + _places(len(x), len(y), exact, seed + i) @ np.concatenate([x, y])
    found: np.ndarray = statistics
    return found


def _flipped(
    which: Sequence[int], parts: Sequence[Sequence[np.ndarray]], draws: int, seed: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Of chosen pairs: the sum of the means of their episodes' differences after each has changed its sign by chance.

    Yields:
        Pair and sums [R].
    """
    single: dict[int, list[int]] = {}  # many pairs have one part, of as many episodes: one product for some of them
    for i in which:
        if len(parts[i]) == 1 and len(parts[i][0]) >= MANY:
            single.setdefault(len(parts[i][0]), []).append(i)
        else:
            yield i, np.sum([_luck(part, draws, seed + k) for k, part in enumerate(parts[i])], axis=0)
    for size, alike in single.items():
        signs = _drawn_signs(size, seed)[:draws]
        for first in range(0, len(alike), AT_ONCE):
            some = alike[first : first + AT_ONCE]
            sums = np.stack([parts[i][0] for i in some]) @ signs.T / size
            yield from zip(some, sums, strict=True)


def _luck(part: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """The mean of episodes' differences after each has changed its sign by chance; of few, by Student's t.  # [R]"""
    size = len(part)
    if size >= MANY:
        return _drawn_signs(size, seed)[:draws] @ part / size
    error = math.sqrt(float(part.var(ddof=1)) / size)
    return error * np.random.default_rng(seed).standard_t(size - 1, size=draws)


@functools.lru_cache(maxsize=8)
def _chosen(n: int, size: int, seed: int) -> np.ndarray:
    """Numbers below n, drawn."""
    return np.random.default_rng(seed).integers(n, size=size)


@functools.lru_cache(maxsize=8)  # many pairs of a study have as many trials
def _signs(n: int, seed: int) -> tuple[np.ndarray, bool]:
    """Ways to set n signs [R, n], and whether they are all."""
    if 2**n <= EXACT:
        return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1), True
    return _drawn_signs(n, seed), False


@functools.lru_cache(maxsize=8)
def _drawn_signs(n: int, seed: int) -> np.ndarray:
    return 1.0 - 2.0 * np.random.default_rng(seed).integers(2, size=(EXACT, n))


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
