"""Replay rings: what is kept, what is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from rlexp.data.replay_ring import FrameRing, ReplayRing
from rlexp.envs.spec import Box, Discrete

GAMMA = np.array([1.0, 1.0])


def add(
    ring: ReplayRing, value: float, active: list[bool], *, terminated: bool = False, truncated: bool = False
) -> None:
    n = len(active)
    ring.add(
        np.array(active),
        o_tm1=np.full((n, 1), value),
        a_tm1=np.full(n, value),
        r_t=np.full(n, value),
        terminated=np.full(n, terminated),
        truncated=np.full(n, truncated),
        o_t=np.full((n, 1), value + 1),
    )


def test_the_oldest_transition_makes_room_in_each_trials_own_ring() -> None:
    ring = ReplayRing(2, 3, Box((1,), "float32"), Discrete(2))
    for value in range(5):
        add(ring, value, [True, value < 2])
    everything = ring.sample(np.array([[0.0, 0.4, 0.99], [0.0, 0.5, 0.99]]), GAMMA)
    assert everything["r_t"].tolist() == [[2, 3, 4], [0, 1, 1]]
    assert everything["o_t"][..., 0].tolist() == [[3, 4, 5], [1, 2, 2]]
    assert everything["a_tm1"].dtype == np.int32 and everything["o_tm1"].shape == (2, 3, 1)


def test_sampling_is_uniform_over_what_is_held_and_never_outside() -> None:
    ring = ReplayRing(1, 100, Box((1,), "float32"), Discrete(2))
    for value in range(10):
        add(ring, value, [True])
    drawn = ring.sample(np.random.default_rng(0).random((1, 20_000), np.float32), GAMMA[:1])["r_t"][0]
    counts = np.bincount(drawn.astype(int), minlength=10)
    assert len(counts) == 10 and counts.min() > 1_800 and counts.max() < 2_200
    almost_one = np.nextafter(np.float32(1), np.float32(0))
    assert ring.sample(np.full((1, 1), almost_one), GAMMA[:1])["r_t"].tolist() == [[9]]


def test_images_stay_bytes() -> None:
    assert (
        ReplayRing(1, 4, Box((84, 84), "uint8"), Discrete(2)).sample(np.zeros((1, 2)), GAMMA[:1])["o_t"].dtype
        == np.uint8
    )


def test_state_round_trip() -> None:
    ring, copy = (
        ReplayRing(2, 4, Box((1,), "float32"), Discrete(2)),
        ReplayRing(2, 4, Box((1,), "float32"), Discrete(2)),
    )
    for value in range(6):
        add(ring, value, [True, True])
    copy.set_state(ring.get_state())
    add(ring, 9, [True, True])
    add(copy, 9, [True, True])
    u = np.random.default_rng(1).random((2, 50), np.float32)
    assert ring.sample(u, GAMMA)["r_t"].tolist() == copy.sample(u, GAMMA)["r_t"].tolist()
    assert copy.added.tolist() == pytest.approx([7, 7])


def test_n_step_returns_stop_at_ends_of_episodes_and_at_the_newest_transition() -> None:
    """Rewards 0, 1, 2 (truncated), 3, 4 (terminated), 5, 6 with gamma 0.5 and n = 3, worked by hand."""
    ring = ReplayRing(1, 10, Box((1,), "float32"), Discrete(2), n_step=3)
    for value in range(7):
        add(ring, value, [True], terminated=value == 4, truncated=value == 2)
    batch = ring.sample((np.arange(7) / 7 + 0.01)[None].astype(np.float32), np.array([0.5]))
    assert batch["o_tm1"][0, :, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert batch["r_t"][0].tolist() == [0 + 0.5 + 0.5, 1 + 1, 2, 3 + 2, 4, 5 + 3, 6]
    assert batch["num_steps"][0].tolist() == [3, 2, 1, 2, 1, 2, 1]
    assert batch["o_t"][0, :, 0].tolist() == [3, 3, 3, 5, 5, 7, 7]
    assert batch["terminated"][0].tolist() == [0, 0, 0, 1, 1, 0, 0]


def test_n_step_returns_follow_time_round_the_ring() -> None:
    ring = ReplayRing(1, 4, Box((1,), "float32"), Discrete(2), n_step=2)
    for value in range(6):  # the ring holds 4, 5, 2, 3
        add(ring, value, [True])
    batch = ring.sample(np.array([[0.0, 0.3, 0.6, 0.9]], np.float32), np.array([1.0]))
    assert batch["r_t"][0].tolist() == [2 + 3, 3 + 4, 4 + 5, 5]
    assert batch["o_t"][0, :, 0].tolist() == [4, 5, 6, 6]


@pytest.mark.parametrize("ring", [ReplayRing, FrameRing])
def test_no_sample_looks_beyond_where_an_episode_was_broken_off(ring: type[ReplayRing]) -> None:
    """Observations are numbered frames, 10 and up before the break and 90 and up after it; trial 1 goes on."""

    def stack(newest: int, oldest: int) -> np.ndarray:
        return np.maximum(newest - np.arange(3)[::-1], oldest).astype(np.float32)[:, None]  # [3, 1]

    held = ring(2, 8, Box((3, 1), "float32"), Discrete(2), n_step=2)

    def add(newest: tuple[int, int], oldest: tuple[int, int]) -> None:
        o_tm1, o_t = (
            np.stack([stack(k + by, first) for k, first in zip(newest, oldest, strict=True)]) for by in (0, 1)
        )
        zeros = np.zeros(2, bool)
        held.add(
            np.ones(2, bool),
            o_tm1=o_tm1,
            a_tm1=zeros.astype(int),
            r_t=np.ones(2),
            terminated=zeros,
            truncated=zeros,
            o_t=o_t,
        )

    for i in range(3):
        add((10 + i, 10 + i), (10, 10))
    held.break_off(np.array([True, False]))
    for i in range(3):
        add((90 + i, 13 + i), (90, 10))
    u = np.tile((np.arange(6) + 0.5) / 6, (2, 1))  # each of the six transitions
    batch = held.sample(u, np.ones(2))
    np.testing.assert_array_equal(batch["num_steps"], [[2, 2, 1, 2, 2, 1], [2, 2, 2, 2, 2, 1]])
    np.testing.assert_array_equal(batch["terminated"], np.zeros((2, 6)))
    np.testing.assert_array_equal(batch["o_t"][0, :, :, 0], [
        [10, 11, 12], [11, 12, 13], [11, 12, 13], [90, 91, 92], [91, 92, 93], [91, 92, 93],
    ])  # fmt: skip
    np.testing.assert_array_equal(batch["o_tm1"][0, 3:, :, 0], [[90, 90, 90], [90, 90, 91], [90, 91, 92]])
    np.testing.assert_array_equal(batch["o_t"][1, :, -1, 0], [12, 13, 14, 15, 16, 16])
