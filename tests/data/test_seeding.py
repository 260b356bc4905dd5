"""Streams depend on the trial's seed alone, and have random access."""

from __future__ import annotations

import random

import numpy as np
import pytest

from rlexp.data import seeding


def test_a_row_does_not_depend_on_the_other_trials_nor_on_the_order_of_asking() -> None:
    together = seeding.Uniforms([3, 4, 5], "act", 2)
    alone = seeding.Uniforms([4], "act", 2)
    forward = [together.rows(np.array([i, i, i]))[1] for i in range(600)]
    backward = [alone.rows(np.array([i]))[0] for i in reversed(range(600))][::-1]
    assert np.array_equal(forward, backward)


def test_longer_blocks_begin_with_the_same_numbers() -> None:
    long, short = seeding.Uniforms([3, 4], "act", 2, block=1000), seeding.Uniforms([3, 4], "act", 2)
    first = np.array([0, 0])
    assert np.array_equal(long.span(first, 256, 256), short.span(first, 256, 256))
    rows = np.stack([long.rows(np.array([i, i])) for i in (255, 256, 999, 1000)], axis=1)
    assert np.array_equal(rows, long.span(first, 1001, 1001)[:, [255, 256, 999, 1000]])
    assert not np.array_equal(rows[:, 1], short.rows(np.array([256, 256])))


def test_a_step_is_the_same_row_of_every_trial() -> None:
    steps, rows = (seeding.Uniforms([3, 4], "act", 2, block=10) for _ in range(2))
    for t in (0, 1, 9, 10, 25, 3):  # forwards, to the next block, beyond it, and back
        assert np.array_equal(steps.step(t), rows.rows(np.array([t, t])))


def test_trials_may_be_at_different_rows() -> None:
    streams = seeding.Uniforms([0, 0], "replay", 3)
    rows = streams.rows(np.array([5, 300]))
    assert np.array_equal(rows[1], seeding.Uniforms([0], "replay", 3).rows(np.array([300]))[0])
    assert not np.array_equal(rows[0], rows[1])


def test_uniforms_are_uniform_and_streams_differ() -> None:
    act = np.concatenate([seeding.Uniforms([7], "act", 8).rows(np.array([i])) for i in range(1000)])
    assert act.dtype == np.float32 and act.min() >= 0 and act.max() < 1
    assert act.mean() == pytest.approx(0.5, abs=0.02) and act.var() == pytest.approx(1 / 12, abs=0.005)
    assert not np.array_equal(act[:1], seeding.Uniforms([7], "replay", 8).rows(np.array([0])))


def test_neighbouring_seeds_share_no_episode() -> None:
    seeds = [seeding.episode_seed(seed, episode) for seed in range(20) for episode in range(200)]
    assert len(set(seeds)) == 4000 and min(seeds) >= 0 and max(seeds) < 2**31


def test_initial_weights_come_from_the_seed_and_leave_global_generators_alone() -> None:
    import keras

    def build() -> keras.Model:
        return keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4)])

    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    first, again, other = (seeding.with_keras_seed(seed, build).get_weights()[0] for seed in (5, 5, 6))
    assert (random.random(), np.random.random()) == expected
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    # one trial at a time: the limit of Glorot's initialiser knows nothing of the number of trials
    assert np.abs(first).max() <= np.sqrt(6 / 7) and np.abs(first).max() > 0.5
