"""Comparison of two algorithms: permutation tests, Holm's correction, and a verdict in words.

Two trials with the same seed start from the same weights and meet the same episodes, so they are compared as a pair: if
the algorithms are equal, each difference is as likely to have the other sign. If seeds differ, trials are exchanged
between the algorithms instead. This test has far more arrangements, so it is also used where a table has too many
comparisons for the signs of its few pairs to decide any (luck that pairs share then only widens the null distribution).

Both tests are exact for any distribution of returns, as long as the final episodes have no luck that all trials share:
two policies of equal worth then differ by the same amount in every pair. Where the episodes are known and have such
luck, their differences change signs as well, and three tests have to agree: over the trials, over the episodes, and
over both (the largest p counts).

Axes: `N` trials, `E` episodes, `R` arrangements.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from rlexp.jobs.results import Episodes
from rlexp.math import significance, two_way
from rlexp.math.significance import EXACT, holm, permutation_test, sign_flip_test
from rlexp.math.statistics import probability_of_improvement
from rlexp.math.two_way import shared_difference
from rlexp.system.words import plural

# Probability of one or more false claims in a family of comparisons. 4 % leaves room for chance: at most 5 % of 1,000
# simulated studies have a false claim.
LEVEL = 0.04
POWER = 0.8  # probability with which the suggested further trials find the difference, if it is as large as it looks
MIN_TRIALS = 5  # with fewer, nothing is claimed
FIRST_DRAWS = 2_000  # arrangements of the signs of episodes; `EXACT` of them if p is small with these
MOST_TRIALS = 1_000  # the largest number of further trials that is suggested


@dataclass(frozen=True)
class Sample:
    """The results of one algorithm.

    Attributes:
        name: shown in reports.
        seeds: of its trials, one tuple per environment.
        values: results of its trials, one array [N] per environment; NaN for a trial without one.
        episodes: the returns [N, E] whose means are the results, one per environment; None if they are not known.
    """

    name: str
    seeds: Sequence[Sequence[int]]
    values: Sequence[np.ndarray]
    episodes: Sequence[Episodes | None] = ()

    @property
    def size(self) -> int:
        """The number of trials with a value, on the environment that has the fewest."""
        return min(int(np.isfinite(v).sum()) for v in self.values)


@dataclass(frozen=True)
class Comparison:
    """The comparison of `first` with `second`.

    Attributes:
        paired: whether trials were compared seed by seed; not if seeds differ, or pairs are too few for the table.
        num_trials: trials of each, or pairs, on the environment that has the fewest.
        difference: mean of first minus second.
        p: two-sided p-value.
        adjusted: after Holm's correction: all claims with at most `LEVEL` are true with a probability of 1 - `LEVEL`.
        improvement: probability that a trial of `first` beats one of `second`, with its 95 % interval.
        verdict: "better" or "worse" (`first` than `second`), or "undecided".
        more_trials: an estimate of the further trials of each that would decide it; None if it is decided, or no number
            would.
        reason: the verdict in words.
        minimum: the smallest number of trials with which a table of so many pairs can decide anything.
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


def compare(samples: Sequence[Sample], generator: np.random.Generator, baseline: str | None = None) -> list[Comparison]:
    """Compare each pair of algorithms, or each with a baseline; Holm's correction takes all the pairs as one family.

    With several environments, the test is of the sum of their differences, so their units must be the same.

    Args:
        samples: in the order of the result's pairs: (0, 1), (0, 2), ..., (1, 2), ...
        generator: source of the arrangements if there are too many to enumerate.
        baseline: name of one of them: the pairs are then each other one with it.
    """
    together = list(itertools.combinations(samples, 2))
    if baseline is not None:
        together = [(x, base) for base in samples if base.name == baseline for x in samples if x is not base]
    return compare_pairs(together, generator)


def compare_pairs(together: Sequence[tuple[Sample, Sample]], generator: np.random.Generator) -> list[Comparison]:
    """Compare the samples of each pair, with Holm's correction over all of the pairs, whose units may differ.

    Args:
        together: the pairs.
        generator: source of the arrangements if there are too many to enumerate.
    """
    draws = int(generator.integers(2**32))  # the same for each pair: a result does not depend on the other pairs
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


def difference_interval(
    a: Sample, b: Sample, generator: np.random.Generator, statistic: Callable[..., Any] = np.mean
) -> tuple[float, float]:
    """The 95 % interval of a statistic of `a` minus that of `b`; trials are resampled as pairs if their seeds agree.

    On one environment it includes the luck of the final episodes if they are known, over several that of the trials
    alone. It is not corrected for other comparisons, unlike the p-values and verdicts of `compare`.

    Args:
        a, b: the samples.
        generator: source of the resampling.
        statistic: called as `statistic(resamples, axis=-1)`.
    """
    pair = _Pair(a, b, _seeds_agree(a, b))
    luck = pair.luck[0] if len(pair.luck) == 1 else []
    first, second = ([np.asarray(x) if pair.paired else np.sort(x) for x in own] for own in (pair.first, pair.second))
    return two_way.difference_interval(first, second, pair.paired, statistic, generator, luck)


def _test(pairs: Sequence[_Pair], seed: int) -> list[float]:
    """P-value of each pair: the largest of those over trials, over episodes, and over both."""
    seeds = [int(x) for x in np.random.default_rng(seed).integers(2**32, size=3)]
    over_trials = [pair.test_trials(seeds[0]) for pair in pairs]
    found, parts = list(over_trials), [pair.parts if pair.size else [] for pair in pairs]
    for draws, up_to in ((FIRST_DRAWS, 1.0), (EXACT, 2 * LEVEL)):  # more where they may matter
        still_small = [i for i, own in enumerate(parts) if own and found[i] <= up_to]
        for i, luck in significance.flipped_means(still_small, parts, draws, seeds[1]):
            found[i] = max(over_trials[i], pairs[i].test_episodes(luck, seeds[2]))
    return found


def _pair(a: Sample, b: Sample, factor: int) -> _Pair:
    """Two samples, as pairs of trials if their seeds agree and the signs of the pairs can decide anything.

    Args:
        a, b: the samples.
        factor: comparisons in their table. The choice depends on this and on the numbers of trials, not on results.
    """
    agree = _seeds_agree(a, b)
    pair = _Pair(a, b, agree)
    if agree and factor * 2 / 2 ** (pair.size * len(a.values)) > LEVEL:
        return _Pair(a, b, False)
    return pair


def _seeds_agree(a: Sample, b: Sample) -> bool:
    return all(sorted(s) == sorted(t) for s, t in zip(a.seeds, b.seeds, strict=True))


class _Pair:
    """Two samples that are compared.

    Args:
        a, b: the samples.
        paired: whether trials of the same seed are compared with each other.

    Attributes:
        first, second: the results that are compared, one array per environment.
        size: trials of each, or pairs, on the environment that has the fewest.
        difference: mean of first minus second, averaged over environments.
        luck: of the episodes, for each environment: independent parts [E].
        num_episodes: of the samples; 0 if they are not known.
    """

    def __init__(self, a: Sample, b: Sample, paired: bool) -> None:
        kept: list[tuple[np.ndarray, np.ndarray]] = []
        self.luck: list[list[np.ndarray]] = []
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
        """The luck of the episodes that all trials share; if the samples have different episodes, each has its own."""
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
        """The luck of the episodes in the statistic: a sum over pairs, or over environments of mean differences."""
        scales = [float(len(x)) if self.paired else 1.0 for x in self.first]
        return [scale * part for scale, own in zip(scales, self.luck, strict=True) for part in own]

    def test_episodes(self, luck: np.ndarray, seed: int) -> float:
        """The larger of two p-values: over episodes, and over trials and episodes.

        Args:
            luck: the statistic after the differences of episodes have changed signs.  # [R]
            seed: of the arrangements of trials.
        """
        if self.paired:
            differences = np.concatenate(self.first) - np.concatenate(self.second)
            signs, _ = significance.sign_arrangements(len(differences), seed)
            statistics, observed = signs @ differences, float(differences.sum())
        else:
            statistics = significance.permuted_differences(self.first, self.second, seed)
            observed = float(sum(x.mean() - y.mean() for x, y in zip(self.first, self.second, strict=True)))
        over_both = statistics[significance.drawn_indices(len(statistics), len(luck), seed)] + luck
        return max(significance.p_value(luck, observed, False), significance.p_value(over_both, observed, False))

    def judge(self, adjusted: float, factor: int, minimum: int) -> tuple[str, int | None, str]:
        """The verdict, the further trials that it needs, and both in words.

        Args:
            adjusted: p-value after Holm's correction.
            factor: by which the correction multiplied it.
            minimum: as in `Comparison`.
        """
        if adjusted <= LEVEL and self.difference != 0 and self.size >= MIN_TRIALS:
            word = "better" if self.difference > 0 else "worse"
            return word, None, word
        if self.size < minimum:
            more = minimum - self.size
            return (
                "undecided",
                more,
                f"undecided: {plural(self.size, 'trial')} cannot decide it, at least {more} more needed",
            )
        if all(np.array_equal(np.sort(x), np.sort(y)) for x, y in zip(self.first, self.second, strict=True)):
            return "undecided", None, "undecided: all trials have the same result, and more trials would not help"
        needed = self._needed(factor)
        if math.isinf(needed) and self._noise() > 0:
            return (
                "undecided",
                None,
                f"undecided: the difference is within the luck of the {self.num_episodes} final episodes, which more "
                "trials would not reduce (evaluation.final_episodes)",
            )
        if needed - self.size > MOST_TRIALS:
            return "undecided", None, "undecided: no affordable number of trials would show such a difference"
        more = max(1, math.ceil(needed) - self.size)
        return "undecided", more, f"undecided: about {plural(_rounded(more), 'more trial')} each needed"

    def _noise(self) -> float:
        """The part of the mean difference's variance that comes from the episodes."""
        environments = [sum(float(part.var(ddof=1)) / len(part) for part in parts) for parts in self.luck]
        return sum(environments) / len(environments) ** 2

    def _needed(self, factor: int) -> float:
        """Trials per algorithm and environment with which the test finds this difference with probability `POWER`.

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
        left = self.difference**2 - (z + power) ** 2 * self._noise()  # without the luck of the episodes
        if self.difference == 0 or left <= 0:
            return math.inf
        needed: float = ((z + power) ** 2 * variance / left + extra) / len(self.first)
        return max(math.ceil(needed), self.smallest(factor))

    def smallest(self, factor: int) -> int:
        """The number of trials below which there are too few arrangements for any difference to be significant."""
        environments, n = len(self.first), MIN_TRIALS
        while factor * 2 / math.comb(2 * n, n) ** environments > LEVEL:
            n += 1
        return n


def _rounded(number: int) -> int:
    """A number with two significant digits: an estimate has no more."""
    return number if number < 100 else round(number, -(len(str(number)) - 2))
