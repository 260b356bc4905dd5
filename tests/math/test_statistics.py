import json
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.stats

from rlexp.math import two_way
from rlexp.math.statistics import (
    area_under_curve,
    bootstrap_band,
    bootstrap_ci,
    expanded,
    iqm,
    normalise,
    performance_profile,
    probability_of_improvement,
    steps_to,
    summarize,
    t_quantile,
)

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
def test_bootstrap_is_scipys_percentile_bootstrap_with_expanded_percentiles(statistic):
    values = rng(1).exponential(10.0, size=25)
    ours = bootstrap_ci(values, statistic, rng(2), num_resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (values,), statistic, n_resamples=20_000, vectorized=True, method="percentile", rng=rng(3),
        confidence_level=expanded(0.95, [25]),
    ).confidence_interval  # fmt: skip
    np.testing.assert_allclose(ours, theirs, atol=0.03 * (theirs.high - theirs.low))


def test_bootstrap_of_two_values_by_hand():
    # Means of two draws from {0, 1}: 0, 0.5, 0.5, 1 with probability 1/4 each.
    assert bootstrap_ci([0.0, 1.0], np.mean, rng()) == (0.0, 1.0)
    # With confidence 0.2 Student's t (one degree of freedom) is tan(0.1 pi) = 0.325, times sqrt(2) = 0.46 of a standard
    # deviation: percentiles 32 and 68, both in the middle half.
    assert bootstrap_ci([0.0, 1.0], np.mean, rng(), confidence=0.2) == (0.5, 0.5)


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
    expected = 2 * 1.991 * column.std(ddof=1) / np.sqrt(80)  # t of 78 degrees of freedom
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


DISTRIBUTIONS = {
    "normal": lambda g, size: g.normal(size=size),
    "exponential": lambda g, size: g.exponential(size=size),
    "all or nothing": lambda g, size: g.beta(0.4, 0.4, size=size),
    "capped at 500": lambda g, size: np.minimum(500, g.normal(480, 60, size=size)),
}


@pytest.mark.parametrize("size", [7, 10, 20])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_intervals_cover_the_truth_in_92_to_98_percent_of_1000_studies(name, size):
    generator = rng(9)
    truth = iqm(DISTRIBUTIONS[name](generator, 1_000_000))
    low, high = bootstrap_band(DISTRIBUTIONS[name](generator, (1000, size)), generator)  # a record is a study here
    assert 0.92 <= np.mean((low <= truth) & (truth <= high)) <= 0.98


# Both kinds of luck: returns [N, E] of trials in the episodes that they share, whose means are the final returns.


def crossed(trials, episodes, rest):
    """Normal effects with these standard deviations: of trials, of episodes, of each trial in each episode."""

    def study(g, n, e):
        value = g.normal(0, trials, n) if trials else np.zeros(n)
        return value, value[:, None] + g.normal(0, episodes, e) + g.normal(0, rest, (n, e))

    return study


def all_or_nothing(value, shared, spread=0.0):
    """Episodes of return 1 or 0, as on frozen lakes; a share of their luck is the same for all trials."""

    def study(g, n, e):
        values = np.clip(value + spread * g.normal(size=n), 0.02, 0.98)
        u = np.where(g.random((n, e)) < shared, g.random(e), g.random((n, e)))
        return values, (u < values[:, None]).astype(float)

    return study


def skewed(g, n, e):
    """Exponential effects of all three kinds."""
    value = g.exponential(1, n)
    return value, value[:, None] + g.exponential(3, e) - 3 + g.exponential(3, (n, e)) - 3


STUDIES = {
    "trials": crossed(1, 0, 0),
    "episodes": crossed(0, 3, 0),
    "both": crossed(1, 3, 3),
    "episodes and rest": crossed(0, 3, 3),
    "trials and rest": crossed(1, 0, 3),
    "skewed": skewed,
    "one policy of worth .888": all_or_nothing(0.888, 1.0),
    "policies of worth .888": all_or_nothing(0.888, 0.5),
    "policies of worth .7, spread": all_or_nothing(0.7, 0.5, 0.08),
}


def coverage(study, size, episodes, studies):
    """The share of studies whose interval has the IQM over trials of expected returns."""
    truth = iqm(study(rng(8), 300_000, 1)[0])
    hits = 0
    for k in range(studies):
        returns = study(rng(10_000 + k), size, episodes)[1]
        low, high = two_way.iqm_interval([returns.mean(axis=1)], [returns], rng(k))
        hits += low - 1e-9 <= truth <= high + 1e-9
    return hits / studies


@pytest.mark.slow
@pytest.mark.parametrize("episodes", [100, 400])
@pytest.mark.parametrize("size", [7, 10, 20])
@pytest.mark.parametrize("name", STUDIES)
def test_intervals_with_both_kinds_of_luck_cover_the_truth_in_92_to_98_percent_of_1000_studies(name, size, episodes):
    assert 0.92 <= coverage(STUDIES[name], size, episodes, 1000) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("episodes", [20, 50])
@pytest.mark.parametrize("size", [7, 10, 20])
@pytest.mark.parametrize("name", ["trials", "episodes", "both", "episodes and rest", "skewed"])
def test_intervals_with_the_luck_of_few_episodes_cover_the_truth(name, size, episodes):
    assert 0.92 <= coverage(STUDIES[name], size, episodes, 1000) <= 0.98


@pytest.mark.parametrize("name", ["both", "one policy of worth .888"])
def test_intervals_with_both_kinds_of_luck_cover_the_truth(name):
    assert 0.91 <= coverage(STUDIES[name], 10, 100, 250) <= 0.99


def test_intervals_of_trials_alone_miss_the_truth_where_episodes_have_luck():
    """What they were before: the ten policies are worth .888, the interval says what these 100 episodes said."""
    hits = 0
    for k in range(100):
        returns = all_or_nothing(0.888, 1.0)(rng(k), 10, 100)[1]
        low, high = bootstrap_ci(returns.mean(axis=1), iqm, rng())
        hits += low <= 0.888 <= high
    assert hits <= 20


def test_without_shared_luck_an_interval_is_that_of_the_trials_to_the_last_digit():
    values = rng(1).normal(300, 50, size=10)
    expected = bootstrap_ci(values, iqm, rng(2))
    constant = np.repeat(values[:, None], 7, axis=1)  # a deterministic environment
    for episodes in (None, constant, np.full((10, 7), 500.0)):
        assert two_way.iqm_interval([values], [episodes], rng(2)) == expected
    opposite = np.stack([np.tile([1.0, -1.0] if k % 2 else [-1.0, 1.0], 4) for k in range(10)])  # nothing in common
    assert two_way.iqm_interval([values], [values[:, None] + opposite], rng(2)) == expected
    assert two_way.iqm_interval([np.full(10, 500.0)], [np.full((10, 100), 500.0)], rng()) == (500, 500)
    assert np.isnan(two_way.iqm_interval([np.array([1.0])], [np.array([[0.0, 2.0]])], rng())).all()
    assert np.isnan(two_way.iqm_interval([np.array([NAN, NAN])], [None], rng())).all()


def test_the_shared_part_is_the_covariance_of_two_trials():
    episodes = np.array([[1.0, 2, 6], [0, 4, 5], [3, 3, 9]])
    weights = np.full(3, 1 / 3)
    covariance = np.cov(episodes)
    expected = covariance[~np.eye(3, dtype=bool)].mean()
    part = two_way.shared_part(episodes, weights)
    assert part.mean() == pytest.approx(0) and part.var(ddof=1) == pytest.approx(expected)
    # A trial that diverged has no returns: it is left out of everything.
    with_one_missing = np.vstack([episodes, np.full(3, NAN)])
    values = with_one_missing.mean(axis=1)
    found = two_way.iqm_interval([values], [with_one_missing], rng())
    assert found == two_way.iqm_interval([values[:3]], [episodes], rng())


def test_weights_of_the_iqm_by_hand():
    assert two_way.iqm_weights(np.array([4.0, 1, 3, 2])).tolist() == [0, 0, 0.5, 0.5]
    assert two_way.iqm_weights(np.array([1.0, 1, 1, 9])).tolist() == [1 / 3, 1 / 3, 1 / 3, 0]  # equal ones share theirs
    values = rng(1).normal(size=(50, 11)).round(1)
    np.testing.assert_allclose([two_way.iqm_weights(row) @ row for row in values], iqm(values))


def test_environments_are_resampled_each_with_its_own_episodes():
    """Two environments with as much luck as one: of their mean half the variance."""
    luck = rng(3).normal(0, 3, size=100)
    one = np.repeat(luck[None], 10, axis=0)
    other = np.repeat(rng(4).permutation(luck)[None], 10, axis=0)
    low, high = two_way.iqm_interval([one.mean(axis=1)], [one], rng())
    low2, high2 = two_way.iqm_interval([one.mean(axis=1), other.mean(axis=1)], [one, other], rng())
    assert (high2 - low2) / (high - low) == pytest.approx(0.5**0.5, rel=0.06)


def test_intervals_of_a_mean_cover_the_truth():
    generator = rng(10)
    intervals = [bootstrap_ci(x, np.mean, generator, 500) for x in generator.normal(3.0, 2.0, size=(300, 10))]
    assert 0.92 <= np.mean([low <= 3.0 <= high for low, high in intervals]) <= 0.98


def test_expanded_percentiles_by_hand():
    # Hesterberg 2015, table 4: for n = 10 the 95 % interval goes from percentile 0.9 to 99.1.
    assert (1 - expanded(0.95, [10])) / 2 == pytest.approx(0.00866, abs=2e-4)
    assert (1 - expanded(0.95, [10_000])) / 2 == pytest.approx(0.025, abs=2e-5)
    assert expanded(0.95, [10, 10]) < expanded(0.95, [10])


@pytest.mark.parametrize("df", [3, 4, 9, 18, 99])
@pytest.mark.parametrize("p", [0.7, 0.95, 0.975, 0.99])
def test_t_quantile_is_scipys(df, p):
    assert t_quantile(p, df) == pytest.approx(scipy.stats.t.ppf(p, df), rel=0.006 if df == 3 else 0.002)


def test_band_is_the_interval_of_each_record():
    values = rng(1).normal(size=(7, 6))
    values[2, 1], values[3, :5], values[4] = NAN, NAN, NAN
    low, high = bootstrap_band(values, rng(3))
    seed = int(rng(3).integers(2**32))
    for t, row in enumerate(values):
        expected = bootstrap_ci(row, iqm, np.random.default_rng(seed))
        np.testing.assert_allclose([low[t], high[t]], expected, rtol=1e-12, err_msg=str(t))
    assert np.isnan([low[3], high[4]]).all()


def test_probability_of_improvement_is_mann_and_whitneys():
    x, y = rng(1).normal(0.5, 1, size=12).round(1), rng(2).normal(size=9).round(1)  # with ties
    u = scipy.stats.mannwhitneyu(x, y).statistic
    assert probability_of_improvement([x], [y])[0] == pytest.approx(u / (12 * 9))
    assert probability_of_improvement([[1.0, 2.0, NAN]], [[1.5, 1.0]])[0] == (0 + 0.5 + 1 + 1) / 4
    point, low, high = probability_of_improvement([[1.0, 2.0], [5.0]], [[1.5, 1.0], [6.0]])
    assert point == pytest.approx((0.625 + 0.0) / 2)  # the mean over environments, not over pairs
    assert low < point < high
    assert np.isnan(probability_of_improvement([[NAN]], [[1.0]])).all()


def test_interval_of_the_probability_of_improvement_by_hand_and_against_scipy():
    # The bounds are where |point - p| is z standard errors of p: variance p (1 - p) (1 + (n - 1) (...)) / n^2.
    point, low, high = probability_of_improvement([[3.0, 1.0, 4.0, 1.5]], [[2.0, 1.2, 0.5, 2.5]])
    for p in (low, high):
        variance = p * (1 - p) * (1 + 3 * (1 - p) / (2 - p) + 3 * p / (1 + p)) / 16
        assert abs(point - p) == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-5)
    x, y = rng(1).normal(0.5, 1, size=60), rng(2).normal(size=60)
    ours = probability_of_improvement([x], [y])
    theirs = scipy.stats.bootstrap(
        (x, y), lambda a, b, axis: (a[..., :, None] > b[..., None, :]).mean(axis=(-2, -1)), n_resamples=2000,
        vectorized=True, method="percentile", rng=rng(3),
    ).confidence_interval  # fmt: skip
    np.testing.assert_allclose(ours[1:], theirs, atol=0.02)


@pytest.mark.parametrize("truth", [0.5, 0.8, 0.97])
@pytest.mark.parametrize("size", [5, 10])
def test_intervals_of_the_probability_of_improvement_cover_it(truth, size):
    generator = rng(4)
    shift = scipy.stats.norm.ppf(truth) * math.sqrt(2)
    hits = 0
    for _ in range(1000):
        x, y = generator.normal(shift, 1, size=size), generator.normal(size=size)
        _, low, high = probability_of_improvement([x], [y])
        hits += low <= truth <= high
    assert 920 <= hits <= 980


def test_performance_profile_by_hand():
    scores = [np.array([0.0, 0.5, 1.0, NAN]), np.array([1.0, 1.0])]
    share, low, high = performance_profile(scores, [-1.0, 0.0, 0.5, 1.0], rng())
    np.testing.assert_allclose(share, [1, 4 / 5, 3 / 5, 0])
    assert (low[0], high[0], low[3], high[3]) == (1, 1, 0, 0)
    assert (low <= share).all() and (share <= high).all() and low[1] < 4 / 5
    # The second environment is resampled by itself: its two trials are above 0.5 in each resample.
    assert low[2] == pytest.approx(2 / 5)


def test_normalised_score():
    np.testing.assert_allclose(
        normalise([22.0, 248.5, 475.0, -205.0], 22.0, 475.0), [0.0, 0.5, 1.0, -0.5011], atol=1e-4
    )
    np.testing.assert_allclose(normalise([-500.0, -300.0, -100.0], -500.0, -100.0), [0.0, 0.5, 1.0])


def test_area_under_the_curve_by_hand():
    steps = [0, 10, 30]
    values = np.array([[0.0, NAN, 5.0, NAN], [10.0, 4.0, NAN, NAN], [10.0, 8.0, 7.0, NAN]])
    # (5 * 10 + 10 * 20) / 30; flat before the first value; a straight line across a gap
    np.testing.assert_allclose(area_under_curve(steps, values), [25 / 3, (4 * 10 + 6 * 20) / 30, 6.0, NAN])
    np.testing.assert_array_equal(area_under_curve([5], [[3.0, NAN]]), [3.0, NAN])


def test_steps_to_a_threshold_by_hand():
    values = np.array([[1.0, 1.0, NAN, NAN], [5.0, 2.0, NAN, 5.0], [3.0, 4.9, NAN, 1.0]])
    np.testing.assert_array_equal(steps_to(5.0, [10, 20, 30], values), [20, math.inf, NAN, 20])


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
        "import sys, rlexp.math.statistics as _; "
        "print(sorted({'scipy', 'matplotlib', 'tensorflow', 'pandas', 'mlflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_intervals_end_where_returns_do() -> None:
    """Trials near a maximum whose episodes share their luck: without the limit the interval would end at 510."""
    shared = np.where(np.arange(40) % 3, 500.0, 100.0)
    episodes = np.minimum(shared + np.arange(6.0)[:, None] * 120, 500.0)  # [6, 40]
    low, high = two_way.iqm_interval([episodes.mean(axis=1)], [episodes], rng())
    assert low == pytest.approx(373, abs=2) and high == 500.0
