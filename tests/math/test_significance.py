"""Rearrangement tests and Holm's correction, by hand and against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from rlexp.math.significance import holm, p_value, permutation_test, permuted_differences, sign_flip_test


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_sign_flips_by_hand() -> None:
    # Sums of +-1 +-2 +-3: 6, 4, 2, 0, 0, -2, -4, -6; two of eight are as extreme as 6, four as extreme as 4.
    assert sign_flip_test([1, 2, 3], rng()) == 2 / 8
    assert sign_flip_test([-1, 2, 3], rng()) == 4 / 8
    assert sign_flip_test([0, 0, 0], rng()) == 1
    assert sign_flip_test([], rng()) == 1
    assert sign_flip_test([0.1, 0.2, 0.3], rng()) == 2 / 8  # rounding is no difference


@pytest.mark.parametrize("seed", range(3))
def test_sign_flips_are_scipys(seed: int) -> None:
    differences = rng(seed).normal(0.4, 1, size=11)
    theirs = scipy.stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_test(differences, rng()) == pytest.approx(theirs.pvalue)
    many = rng(seed).normal(0.3, 1, size=30)  # too many signs to enumerate
    assert sign_flip_test(many, rng(1)) == pytest.approx(scipy.stats.ttest_1samp(many, 0).pvalue, abs=0.02)
    assert sign_flip_test(many, rng(1)) == sign_flip_test(many, rng(1))


def test_permutations_by_hand() -> None:
    # Of the 6 ways to choose two of four, {1, 2} and {8, 9} have the largest difference.
    assert permutation_test([[1, 2]], [[8, 9]], rng()) == 2 / 6
    assert permutation_test([[]], [[1, 2]], rng()) == 1


@pytest.mark.parametrize("sizes", [(7, 7), (12, 14)])
def test_permutations_are_scipys(sizes: tuple[int, int]) -> None:
    x, y = rng(1).normal(0.9, 1, size=sizes[0]), rng(2).normal(size=sizes[1])
    theirs = scipy.stats.permutation_test(
        (x, y), lambda a, b, axis: np.mean(a, axis) - np.mean(b, axis), vectorized=True, n_resamples=20_000, rng=rng(3)
    )
    assert permutation_test([x], [y], rng()) == pytest.approx(theirs.pvalue, abs=1e-12 if sizes == (7, 7) else 0.01)


def test_permutations_stay_within_environments() -> None:
    # Environments of different scale: exchanged across them, the second would drown the first.
    x, y = [rng(1).normal(2, 1, 8), rng(2).normal(1000, 1, 8)], [rng(3).normal(0, 1, 8), rng(4).normal(1000, 1, 8)]
    assert permutation_test(x, y, rng()) < 0.01


def test_holm_by_hand() -> None:
    adjusted, factors = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(adjusted, [0.03, 0.06, 0.06, 0.02])
    assert factors.tolist() == [3, 1, 2, 4]
    np.testing.assert_array_equal(holm(np.array([0.9, 0.8]))[0], [1, 1])
    assert holm(np.zeros(0))[0].shape == (0,)


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    for seed in range(50):
        p = rng(seed).uniform(0, 0.1, size=6)
        rejected = set()
        for i, k in enumerate(np.argsort(p)):
            if p[k] > 0.04 / (6 - i):
                break
            rejected.add(int(k))
        assert {int(k) for k in np.flatnonzero(holm(p)[0] <= 0.04)} == rejected


def test_p_values_by_hand() -> None:
    statistics = np.array([-3.0, -1.0, 1.0, 3.0])
    assert p_value(statistics, 3.0, True) == 2 / 4
    assert p_value(statistics, -3.0, False) == 3 / 5  # the observed arrangement is one more


def test_permuted_differences_by_hand() -> None:
    found = permuted_differences([np.array([1.0, 2.0])], [np.array([8.0])], 0)
    np.testing.assert_allclose(sorted(found), [(1 + 2) / 2 - 8, (1 + 8) / 2 - 2, (2 + 8) / 2 - 1])
