import json
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.stats

from rlexp.report.stats import bootstrap_ci, iqm, summarize

NAN = math.nan


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 4.0], 2.5),
        ([1.0, 2.0, 9.0], 4.0),  # int(0.25 * 3) = 0 are cut
        ([100.0, 1.0, 3.0, 5.0], 4.0),  # 1 and 100 are cut
        ([1.0, 3.0, 5.0, 7.0, 100.0], 5.0),
        ([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 9.0, 9.0], 2.5),  # two are cut at each end
    ],
)
def test_iqm_by_hand(values, expected):
    assert iqm(values) == expected


@pytest.mark.parametrize("size", range(1, 41))
def test_iqm_is_scipys_trimmed_mean(size):
    values = rng(size).normal(size=(3, size, 5))
    for axis in (0, 1, 2, -1, None):
        expected = scipy.stats.trim_mean(values, 0.25, axis=axis)
        np.testing.assert_allclose(iqm(values, axis=axis), expected, rtol=1e-12, atol=1e-15)


def test_iqm_ignores_missing_values_slice_by_slice():
    values = [[NAN, 100.0, 1.0, 3.0, 5.0], [NAN, 2.0, NAN, NAN, 4.0], [NAN] * 5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(iqm(values), [4.0, 3.0, NAN])
        np.testing.assert_array_equal(iqm(np.array(values).T, axis=0), [4.0, 3.0, NAN])
        assert math.isnan(iqm([]))


def test_iqm_is_not_moved_by_one_infinite_trial():
    assert iqm([1.0, 2.0, 3.0, math.inf]) == 2.5


def test_iqm_leaves_its_input_alone():
    values = np.array([3.0, 1.0, 2.0])
    iqm(values)
    np.testing.assert_array_equal(values, [3.0, 1.0, 2.0])


@pytest.mark.parametrize("statistic", [np.mean, np.median, iqm])
def test_bootstrap_is_scipys_percentile_bootstrap(statistic):
    values = rng(1).exponential(10.0, size=25)
    ours = bootstrap_ci(values, statistic, rng(2), num_resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (values,), statistic, n_resamples=20_000, vectorized=True, method="percentile", rng=rng(3)
    ).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=0.03 * (theirs.high - theirs.low))


def test_bootstrap_of_two_values_by_hand():
    # Means of two draws from {0, 1}: 0, 0.5, 0.5, 1 with probability 1/4 each.
    assert bootstrap_ci([0.0, 1.0], np.mean, rng()) == (0.0, 1.0)
    assert bootstrap_ci([0.0, 1.0], np.mean, rng(), confidence=0.4) == (0.5, 0.5)


def test_bootstrap_resamples_each_environment_by_itself():
    # Without strata the mean would move between 0 and 1000 and the interval would be hundreds wide.
    values = np.stack([np.array([0.0, 1.0, 2.0, 3.0]), np.full(4, 1000.0)], axis=1)  # [N, M]
    low, high = bootstrap_ci(values, np.mean, rng(), num_resamples=20_000)
    one_low, one_high = bootstrap_ci(values[:, 0], np.mean, rng(), num_resamples=20_000)
    np.testing.assert_allclose([low, high], [(one_low + 1000) / 2, (one_high + 1000) / 2], atol=0.07)


def test_bootstrap_resamples_environments_independently():
    # Two equal columns: if runs were drawn jointly the variance of the mean would be twice as large.
    column = rng(4).normal(size=40)
    low, high = bootstrap_ci(np.stack([column, column], axis=1), np.mean, rng(), num_resamples=20_000)
    expected = 2 * 1.96 * column.std() / np.sqrt(80)
    assert high - low == pytest.approx(expected, rel=0.05)


def test_bootstrap_drops_missing_values():
    values = np.array([3.0, NAN, 1.0, 4.0, NAN, 1.5])
    assert bootstrap_ci(values, iqm, rng()) == bootstrap_ci(values[~np.isnan(values)], iqm, rng())
    matrix = np.stack([values, np.full(6, NAN)], axis=1)
    assert bootstrap_ci(matrix, iqm, rng()) == bootstrap_ci(values, iqm, rng())


@pytest.mark.parametrize("values", [[], [5.0], [NAN, NAN], [NAN, 5.0], [[1.0, 2.0]], [[1.0, NAN], [NAN, 2.0]]])
def test_bootstrap_without_spread_has_no_interval(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(math.isnan(bound) for bound in bootstrap_ci(values, iqm, rng()))


@pytest.mark.parametrize("size", [2, 3])
def test_bootstrap_of_few_values_stays_within_them(size):
    values = rng(5).normal(size=size)
    low, high = bootstrap_ci(values, iqm, rng())
    assert values.min() <= low < iqm(values) < high <= values.max()


def test_bootstrap_depends_on_the_generator_alone():
    values = rng(6).normal(size=10)
    np.random.seed(0)
    first = bootstrap_ci(values, iqm, rng(7))
    np.random.seed(1)
    assert bootstrap_ci(values, iqm, rng(7)) == first
    assert bootstrap_ci(values, iqm, rng(8)) != first


def test_bootstrap_refuses_wrong_arguments():
    with pytest.raises(ValueError, match=r"\[N\] or \[N, M\], received shape \(2, 2, 2\)"):
        bootstrap_ci(np.zeros((2, 2, 2)), iqm, rng())
    with pytest.raises(ValueError, match="received 95"):
        bootstrap_ci([1.0, 2.0], iqm, rng(), confidence=95)


@pytest.mark.parametrize("statistic", [np.mean, iqm])
def test_bootstrap_covers_the_truth_as_often_as_it_says(statistic):
    generator = rng(9)
    intervals = [bootstrap_ci(generator.normal(3.0, 2.0, size=20), statistic, generator) for _ in range(300)]
    coverage = np.mean([low <= 3.0 <= high for low, high in intervals])
    assert 0.88 <= coverage <= 0.99


def test_summarize_by_hand():
    summary = summarize([100.0, 1.0, 3.0, 5.0, NAN], rng())
    assert list(summary) == ["per_trial", "mean", "std", "iqm", "min", "max", "ci95"]
    assert summary["per_trial"] == [100.0, 1.0, 3.0, 5.0, None]
    assert (summary["mean"], summary["iqm"], summary["min"], summary["max"]) == (27.25, 4.0, 1.0, 100.0)
    assert summary["std"] == pytest.approx(math.sqrt((72.75**2 + 26.25**2 + 24.25**2 + 22.25**2) / 3))
    assert summary["ci95"] == list(bootstrap_ci([100.0, 1.0, 3.0, 5.0], iqm, rng()))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_summarize_one_trial_and_none():
    one = {"mean": 2.0, "std": 0.0, "iqm": 2.0, "min": 2.0, "max": 2.0, "ci95": [None, None]}
    none = {"mean": None, "std": None, "iqm": None, "min": None, "max": None, "ci95": [None, None]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert summarize(np.float32([2.0]), rng()) == {"per_trial": [2.0], **one}
        assert summarize([NAN, 2.0], rng()) == {"per_trial": [None, 2.0], **one}
        assert summarize([NAN, NAN], rng()) == {"per_trial": [None, None], **none}
        assert summarize([], rng()) == {"per_trial": [], **none}


def test_summarize_is_json_with_infinite_values():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = summarize([1.0, 2.0, 3.0, math.inf], rng())
    json.dumps(summary, allow_nan=False)
    assert (summary["per_trial"][3], summary["max"], summary["mean"], summary["iqm"]) == (
        None,
        None,
        None,
        2.5,
    )


def test_summarize_refuses_a_matrix():
    with pytest.raises(ValueError, match=r"\[N\], received shape \(2, 2\)"):
        summarize(np.zeros((2, 2)), rng())


def test_statistics_import_numpy_alone():
    code = (
        "import sys, rlexp.report.stats as _; "
        "print(sorted({'scipy', 'matplotlib', 'tensorflow', 'pandas', 'mlflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
