"""Returns and advantages of rollouts against the notebook's printed rows, hand-computed ones, and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from rlexp.math import returns


def discount_rewards(rewards: np.ndarray, gamma: float) -> np.ndarray:
    """The notebook's function, for rewards that are no integers."""
    discounted = np.array(rewards, np.float64)
    for step in range(len(rewards) - 2, -1, -1):
        discounted[step] += discounted[step + 1] * gamma
    return discounted


def test_the_notebooks_discounted_rewards() -> None:
    """`discount_rewards([10, 0, -50], 0.8)` is [-22, -40, -50]."""
    g = returns.discounted_sum(tf.constant([10, 0, -50], tf.float64), tf.constant([0.8, 0.8, 0.0], tf.float64))
    assert np.array2string(g.numpy()) == "[-22. -40. -50.]"


def test_the_notebooks_discounted_and_normalised_rewards() -> None:
    """[[10, 0, -50], [10, 20]] at 0.8, to all printed digits, with three rows of padding that must not count."""
    r_t = tf.constant([10.0, 0.0, -50.0, 10.0, 20.0, 7.0, 7.0, 7.0], tf.float64)
    c_t = tf.constant([0.8, 0.8, 0.0, 0.8, 0.0, 0.8, 0.8, 0.0], tf.float64)
    mask = tf.constant([1.0] * 5 + [0.0] * 3, tf.float64)
    normalised = returns.normalize(returns.discounted_sum(r_t, c_t), mask).numpy()
    assert np.array2string(normalised[:3]) == "[-0.28435071 -0.86597718 -1.18910299]"
    assert np.array2string(normalised[3:5]) == "[1.26665318 1.0727777 ]"
    assert normalised[5:].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("num_rows", [1, 2, 7, 32, 100])
def test_recursive_doubling_equals_the_loop(num_rows: int) -> None:
    rng = np.random.default_rng(num_rows)
    rewards = rng.normal(size=num_rows)
    c_t = np.append(np.full(num_rows - 1, 0.97), 0.0)
    g = returns.discounted_sum(tf.constant(rewards), tf.constant(c_t)).numpy()
    np.testing.assert_allclose(g, discount_rewards(rewards, 0.97), rtol=1e-12)


def test_equal_returns_normalise_to_zero_and_a_single_one_stays_as_it_is() -> None:
    """Others make NaN of a single row, dividing by the deviation of a sample, or nothing to learn."""
    alone = returns.normalize(tf.constant([3.0, 9.0]), tf.constant([1.0, 0.0])).numpy().tolist()
    assert alone == [3.0, 0.0]
    assert returns.normalize(tf.constant([3.0, 3.0, 9.0]), tf.constant([1.0, 1.0, 0.0])).numpy().tolist() == [0, 0, 0]


def test_rows_go_on_inside_an_episode_only() -> None:
    """Rows: 2 of an episode that terminates, 1 that is truncated, 2 under way when the batch ends, 1 of padding."""
    batch = {
        "terminated": tf.constant([False, True, False, False, False, False]),
        "truncated": tf.constant([False, False, True, False, False, False]),
        "mask": tf.constant([1.0, 1.0, 1.0, 1.0, 1.0, 0.0]),
    }
    assert returns.goes_on(batch).numpy().tolist() == [1, 0, 0, 1, 0, 0]


def test_generalised_advantages_by_hand() -> None:
    """gamma 0.5, lambda 0.5; three steps to termination, then one step that is cut and bootstraps.

    delta: 1 + 0.5*2 - 4 = -2;  1 + 0.5*6 - 2 = 2;  3 - 6 = -3;  1 + 0.5*8 - 2 = 3
    A:     -2 + 0.25*1.25 = -1.6875;  2 + 0.25*(-3) = 1.25;  -3;  3
    """
    advantage = returns.gae(
        r_t=tf.constant([1.0, 1.0, 3.0, 1.0]),
        d_t=tf.constant([0.5, 0.5, 0.0, 0.5]),
        goes_on=tf.constant([1.0, 1.0, 0.0, 0.0]),
        v_tm1=tf.constant([4.0, 2.0, 6.0, 2.0]),
        v_t=tf.constant([2.0, 6.0, 100.0, 8.0]),
        lam=0.5,
    )
    assert advantage.numpy().tolist() == [-1.6875, 1.25, -3.0, 3.0]


def test_generalised_advantages_as_published() -> None:
    """Five rewards, six values: gamma .99, lambda .7 (of the tests of a well-known library)."""
    v = tf.constant([1.0, 4.0, -3.0, -2.0, -1.0, -1.0])
    r_t, d_t = tf.constant([0.0, 0.0, 1.0, 0.0, -0.5]), tf.fill([5], 0.99)
    advantage = returns.gae(r_t, d_t, tf.constant([1.0, 1.0, 1.0, 1.0, 0.0]), v[:-1], v[1:], 0.7)
    np.testing.assert_allclose(advantage, [-0.676979, -5.248167, 2.4846, 0.6704, -0.49], atol=4e-5)


def test_lambda_returns_by_hand() -> None:
    """Q(lambda) of r 1, 1, 1 with max Q 10, 20, 30 in the states after them, gamma 1, lambda .5:
    31;  1 + (20 + 31) / 2 = 26.5;  1 + (10 + 26.5) / 2 = 19.25. Then the published values of a varying discount."""
    ones, inside = tf.ones(3), tf.constant([1.0, 1.0, 0.0])
    found = returns.lambda_returns(ones, ones, inside, tf.constant([10.0, 20.0, 30.0]), 0.5)
    assert found.numpy().tolist() == [19.25, 26.5, 31.0]
    r_t, d_t = tf.constant([1.0, 0.0, -1.0, 0.0, 1.0]), tf.constant([0.5, 0.9, 1.0, 0.5, 0.8])
    v_t, goes_on = tf.constant([3.0, 1.0, 5.0, -5.0, 3.0]), tf.constant([1.0, 1.0, 1.0, 1.0, 0.0])
    found = returns.lambda_returns(r_t, d_t, goes_on, v_t, 0.75)
    np.testing.assert_allclose(found, [1.646055, 0.722813, 0.7375, 0.65, 3.4], atol=1e-6)


def test_lambda_returns_stop_at_the_end_of_an_episode() -> None:
    """Rows: one that terminates, one that is truncated, and two of another episode; gamma .5, lambda .5.

    2;  2 + .5 * 8 = 6, without anything of the next episode;  2 + .5 (4 + 4) / 2 = 4;  2 + .5 * 4 = 4
    """
    batch = {"terminated": tf.constant([True, False, False, False]), "truncated": tf.constant([False, True, False, False]),
             "mask": tf.ones(4)}  # fmt: skip
    d_t, v_t = tf.constant([0.0, 0.5, 0.5, 0.5]), tf.constant([100.0, 8.0, 4.0, 4.0])
    found = returns.lambda_returns(tf.fill([4], 2.0), d_t, returns.goes_on(batch), v_t, 0.5)
    assert found.numpy().tolist() == [2.0, 6.0, 4.0, 4.0]


def test_running_sums_go_on_from_one_batch_to_the_next_in_each_environment() -> None:
    """gamma .5. Environment 0: 4 before, r 1, 2, 3 of which the second ends its episode. 1: r 8, 4, 2."""
    batch = {
        "r_t": tf.constant([1.0, 2.0, 3.0, 8.0, 4.0, 2.0, 0.0, 0.0]),
        "terminated": tf.constant([False, True] + [False] * 6),
        "truncated": tf.constant([False] * 8),
        "mask": tf.constant([True] * 6 + [False] * 2),
        "cut": tf.constant([False, False, True, False, False, True, False, False]),
    }
    total, last = returns.running_sum(batch, tf.constant(0.5), tf.constant([4.0, 0.0]))
    assert total[:6].numpy().tolist() == [3.0, 3.5, 3.0, 8.0, 8.0, 6.0] and last.numpy().tolist() == [3.0, 6.0]
    alone = {name: field[:3] for name, field in batch.items() if name != "cut"}
    total, last = returns.running_sum(alone, tf.constant(0.5), tf.constant([4.0]))
    assert total.numpy().tolist() == [3.0, 3.5, 3.0] and last.numpy().tolist() == [3.0]
    ended = {**alone, "truncated": tf.constant([False, False, True])}
    assert returns.running_sum(ended, tf.constant(0.5), tf.constant([4.0]))[1].numpy().tolist() == [0.0]


def test_explained_variance_by_hand() -> None:
    """Targets 1, 2, 3 (variance 2/3); errors of 1, 0, 1 (variance 2/9): 1 - 1/3. A row that does not count is left out."""
    target, mask = tf.constant([1.0, 2.0, 3.0, 50.0]), tf.constant([1.0, 1.0, 1.0, 0.0])
    for values, expected in (([0.0, 2.0, 2.0, 9.0], 2 / 3), ([7.0] * 4, 0.0), ([1.0, 2.0, 3.0, 0.0], 1.0)):
        found = returns.explained_variance(tf.constant(values), target, mask)
        assert float(found) == pytest.approx(expected)
    assert float(returns.explained_variance(target, tf.fill([4], 5.0), mask)) == 0.0


def test_rows_do_not_go_on_from_one_environment_to_the_next() -> None:
    """Two environments of three rows, the first cut within an episode, and two rows of padding."""
    batch = {
        "terminated": tf.constant([False] * 8),
        "truncated": tf.constant([False, False, False, True, False, False, False, False]),
        "mask": tf.constant([1.0] * 6 + [0.0] * 2),
        "cut": tf.constant([False, False, True, False, False, True, False, False]),
    }
    assert returns.goes_on(batch).numpy().tolist() == [1, 1, 0, 0, 1, 0, 0, 0]


def test_advantages_of_two_environments_are_those_of_each_alone() -> None:
    """gamma 0.5, lambda 0.5, values 0; environment 0: r 1, 2, cut; environment 1: r 4, 8, terminated.

    0: A = 2, then 1 + 0.25 * 2 = 1.5.  1: A = 8, then 4 + 0.25 * 8 = 6. A leak would make 2 into 2 + 0.25 * 6 = 3.5.
    """
    batch = {
        "terminated": tf.constant([False, False, False, True]),
        "truncated": tf.constant([False] * 4),
        "mask": tf.constant([True] * 4),
        "cut": tf.constant([False, True, False, True]),
    }
    r_t, zeros = tf.constant([1.0, 2.0, 4.0, 8.0]), tf.zeros(4)
    d_t = tf.constant([0.5, 0.5, 0.5, 0.0])
    together = returns.gae(r_t, d_t, returns.goes_on(batch), zeros, zeros, lam=0.5)
    assert together.numpy().tolist() == [1.5, 2.0, 6.0, 8.0]
    for rows in (slice(0, 2), slice(2, 4)):
        own = {name: field[rows] for name, field in batch.items() if name != "cut"}
        alone = returns.gae(r_t[rows], d_t[rows], returns.goes_on(own), zeros[rows], zeros[rows], lam=0.5)
        assert alone.numpy().tolist() == together[rows].numpy().tolist()


def test_lambda_one_is_the_return_less_the_value_and_lambda_zero_the_td_error() -> None:
    rng = np.random.default_rng(0)
    r_t, v_tm1 = rng.normal(size=6), rng.normal(size=6)
    v_t, goes_on_ = np.append(v_tm1[1:], 0.0), np.append(np.ones(5), 0.0)
    d_t = 0.9 * goes_on_  # terminated at the end

    def gae(lam: float) -> np.ndarray:
        return returns.gae(*(tf.constant(x) for x in (r_t, d_t, goes_on_, v_tm1, v_t)), lam).numpy()

    np.testing.assert_allclose(gae(1.0), discount_rewards(r_t, 0.9) - v_tm1, rtol=1e-12)
    np.testing.assert_allclose(gae(0.0), r_t + d_t * v_t - v_tm1, rtol=1e-12)
