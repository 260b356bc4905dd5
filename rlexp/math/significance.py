"""Exact and Monte Carlo significance tests by rearrangement, and Holm's correction for several of them.

A test compares the observed statistic with its values after rearrangements that are equally likely under the null
hypothesis: signs of paired differences, or trials exchanged between two samples. Up to `EXACT` arrangements are
enumerated; of more, so many are drawn from the generator or seed that is passed in.

Axes: `N` trials or pairs, `E` episodes, `R` arrangements, `K` tests. NumPy only.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

EXACT = 20_000  # the largest number of arrangements that is enumerated, and the number drawn where there are more
MANY = 15  # number of episodes from which drawn signs are used, and Student's t for fewer
AT_ONCE = 64  # pairs per matrix product


def sign_flip_test(differences: Any, generator: np.random.Generator) -> float:
    """P-value (two-sided) of Fisher's sign-flip test: is the mean of paired differences zero?

    Args:
        differences: of each pair of trials; without NaNs.  # [N]
        generator: source of the signs if there are more than `EXACT` ways to set them.
    """
    differences = np.asarray(differences, np.float64)
    if not len(differences):
        return 1.0
    signs, exact = sign_arrangements(len(differences), int(generator.integers(2**32)))
    return p_value(signs @ differences, float(differences.sum()), exact)


def permutation_test(first: Sequence[Any], second: Sequence[Any], generator: np.random.Generator) -> float:
    """P-value (two-sided) of the permutation test: is the mean the same? Trials change places within environments.

    Args:
        first, second: one array [N] per environment; without NaNs.
        generator: source of the arrangements if there are more than `EXACT`.
    """
    strata = [(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in zip(first, second, strict=True)]
    strata = [(x, y) for x, y in strata if len(x) and len(y)]
    if not strata:
        return 1.0
    exact = len(strata) == 1 and math.comb(len(strata[0][0]) + len(strata[0][1]), len(strata[0][0])) <= EXACT
    statistics = permuted_differences([x for x, _ in strata], [y for _, y in strata], int(generator.integers(2**32)))
    return p_value(statistics, float(sum(x.mean() - y.mean() for x, y in strata)), exact)


def p_value(statistics: np.ndarray, observed: float, exact: bool) -> float:
    """The share of arrangements that are at least as extreme as the observed one, which counts as one of them.

    Args:
        statistics: the statistic after each arrangement.  # [R]
        observed: the statistic as it is.
        exact: whether the arrangements are all that there are, the observed one included.
    """
    as_extreme = int(np.count_nonzero(np.abs(statistics) >= abs(observed) * (1 - 1e-9) - 1e-12))
    return as_extreme / len(statistics) if exact else (as_extreme + 1) / (len(statistics) + 1)


def holm(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Holm's step-down correction (1979, "A simple sequentially rejective multiple test procedure").

    Args:
        p: p-values of one family.  # [K]

    Returns:
        Adjusted p-values [K], such that all claims with an adjusted p of at most q are true with a probability of at
        least 1 - q; and the factor by which each p-value was multiplied [K].
    """
    order = np.argsort(p, kind="stable")
    factors = np.empty(len(p), np.int64)
    factors[order] = np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate((p * factors)[order])) if len(p) else []
    return adjusted, factors


def permuted_differences(first: Sequence[np.ndarray], second: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """The sum over environments of the differences of means after trials have changed places.

    Args:
        first, second: one array [N] per environment.
        seed: of the arrangements, if they are drawn.

    Returns:
        One sum per arrangement.  # [R]
    """
    exact = len(first) == 1 and math.comb(len(first[0]) + len(second[0]), len(first[0])) <= EXACT
    statistics: Any = 0.0
    for i, (x, y) in enumerate(zip(first, second, strict=True)):
        statistics = statistics + _permutation_weights(len(x), len(y), exact, seed + i) @ np.concatenate([x, y])
    found: np.ndarray = statistics
    return found


def flipped_means(
    which: Sequence[int], parts: Sequence[Sequence[np.ndarray]], draws: int, seed: int
) -> Iterator[tuple[int, np.ndarray]]:
    """For some pairs: the sum of the means of their episodes' differences, after random changes of signs.

    Args:
        which: indices of the pairs.
        parts: of each pair, independent arrays [E] of differences of episodes.
        draws: number of arrangements.
        seed: of the signs, which are the same for arrays of the same length.

    Yields:
        Index of a pair and its sums [R].
    """
    single: dict[int, list[int]] = {}  # pairs with one part of the same length share a matrix product
    for i in which:
        if len(parts[i]) == 1 and len(parts[i][0]) >= MANY:
            single.setdefault(len(parts[i][0]), []).append(i)
        else:
            yield i, np.sum([_flipped_mean(part, draws, seed + k) for k, part in enumerate(parts[i])], axis=0)
    for size, alike in single.items():
        signs = _drawn_signs(size, seed)[:draws]
        for first in range(0, len(alike), AT_ONCE):
            some = alike[first : first + AT_ONCE]
            sums = np.stack([parts[i][0] for i in some]) @ signs.T / size
            yield from zip(some, sums, strict=True)


def _flipped_mean(part: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """The mean of episodes' differences after random changes of signs; for few episodes, from Student's t.  # [R]"""
    size = len(part)
    if size >= MANY:
        return _drawn_signs(size, seed)[:draws] @ part / size
    error = math.sqrt(float(part.var(ddof=1)) / size)
    return error * np.random.default_rng(seed).standard_t(size - 1, size=draws)


@functools.lru_cache(maxsize=8)
def drawn_indices(n: int, size: int, seed: int) -> np.ndarray:
    """Random integers in [0, n).  # [size]"""
    return np.random.default_rng(seed).integers(n, size=size)


@functools.lru_cache(maxsize=8)  # many pairs of a study have the same number of trials
def sign_arrangements(n: int, seed: int) -> tuple[np.ndarray, bool]:
    """Ways to set n signs [R, n], and whether they are all that there are."""
    if 2**n <= EXACT:
        return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1), True
    return _drawn_signs(n, seed), False


@functools.lru_cache(maxsize=8)
def _drawn_signs(n: int, seed: int) -> np.ndarray:
    return 1.0 - 2.0 * np.random.default_rng(seed).integers(2, size=(EXACT, n))


@functools.lru_cache(maxsize=16)
def _permutation_weights(n: int, m: int, exact: bool, seed: int) -> np.ndarray:
    """Ways to choose n of n + m values, as the weights of a difference of means: 1 / n, and -1 / m.  # [R, n + m]"""
    if exact:
        chosen = np.array(list(itertools.combinations(range(n + m), n)))
    else:
        chosen = np.argsort(np.random.default_rng(seed).random((EXACT, n + m)), axis=1)[:, :n]
    weights = np.full((len(chosen), n + m), -1 / m)
    np.put_along_axis(weights, chosen, 1 / n, axis=1)
    return weights
