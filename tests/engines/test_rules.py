"""The rules that the host loops and the fused ones share, by hand and in both namespaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rlexp.config.schema.algos import DQNSettings, PGSettings
from rlexp.engines import rules

BOTH = pytest.mark.parametrize(
    ("xp", "array"), [(np, np.asarray), (tf, tf.constant)], ids=["NumPy", "TensorFlow"]
)  # TensorFlow: eagerly, as a program would compute it


@BOTH
def test_learning_is_due_when_a_period_ends_after_the_start(xp: Any, array: Any) -> None:
    """A period of 4, from step 9 on: steps 12 and 16 are due, 8 is before the start, 13 ends no period."""
    config = DQNSettings(learn_unit="step", learn_period=4, learn_start=8)
    now = {"step": array([8, 12, 13, 16, 12])}
    before = {"step": array([7, 11, 12, 15, 12])}  # the last trial has taken no step
    active = array([True, True, True, True, True])
    assert np.asarray(rules.learning_due(config, now, before, active)).tolist() == [False, True, False, True, False]
    nobody = array([False] * 5)
    assert not np.asarray(rules.learning_due(config, now, before, nobody)).any()


@BOTH
def test_a_target_is_due_once_for_each_period(xp: Any, array: Any) -> None:
    """A period of 10 updates; two trials have been copied in this one, one of which does not learn."""
    config = DQNSettings(target="hard", target_unit="update", target_period=10)
    counts, copied = {"update": array([9, 10, 10, 25, 30])}, array([0, 0, 1, 2, 2])
    due, after = rules.target_due(config, counts, copied, array([True, True, True, True, False]), xp)
    assert np.asarray(due).tolist() == [False, True, False, False, False]
    assert np.asarray(after).tolist() == [0, 1, 1, 2, 2]


@BOTH
def test_rewards_are_clipped_on_both_sides_and_nan_stays(xp: Any, array: Any) -> None:
    rewards = array(np.array([-3.0, -0.5, 0.0, 1.0, 7.0, np.nan], np.float32))
    clipped = np.asarray(rules.clipped_reward(DQNSettings(reward_clip=1.0), rewards, xp))
    assert clipped.dtype == np.float32
    np.testing.assert_array_equal(clipped, [-1, -0.5, 0, 1, 1, np.nan])
    assert rules.clipped_reward(DQNSettings(), rewards, xp) is rewards


@BOTH
def test_a_limit_is_an_end_where_it_is_said(xp: Any, array: Any) -> None:
    terminated, truncated = array([True, False, False]), array([False, True, False])
    for truncation, expected in (("bootstrap", [True, False, False]), ("terminate", [True, True, False])):
        ends = rules.ends(DQNSettings(truncation=truncation), terminated, truncated)
        assert np.asarray(ends).tolist() == expected


@BOTH
def test_a_batch_is_complete_by_its_own_unit(xp: Any, array: Any) -> None:
    steps, episodes = array([99, 100, 400]), array([3, 1, 2])
    for unit, size, expected in (("step", 100, [False, True, True]), ("episode", 2, [True, False, True])):
        config = PGSettings(batch_unit=unit, batch_size=size)
        complete = rules.batch_complete(config, steps, episodes)
        assert rules.complete_together(config) == (unit == "step")
        assert np.asarray(complete).tolist() == expected


def test_learned_rewards_are_scaled_less_the_penalty() -> None:
    config = PGSettings(reward_scale=0.5, truncation_penalty=4.0)
    assert rules.learned_reward(config, np.array([2.0, 2.0]), np.array([False, True])).tolist() == [1.0, -1.0]
