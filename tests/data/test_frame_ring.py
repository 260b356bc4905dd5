"""A ring that stores each frame once draws what a ring of whole observations draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlexp.data.replay_ring import FrameRing, ReplayRing, ring_type
from rlexp.envs.spec import Box, Discrete

STACK, FRAME = 4, (3, 2)


class Episodes:
    """One trial's stacked observations as FrameStackObservation makes them, with episodes of random lengths."""

    def __init__(self, seed: int, mean_length: float) -> None:
        self.rng, self.end = np.random.default_rng(seed), 1 / mean_length
        self.observation = self._reset()

    def transition(self) -> dict[str, Any]:
        o_tm1 = self.observation
        o_t = np.concatenate([o_tm1[1:], self._frame()[None]])
        terminated, truncated = self.rng.random() < self.end / 2, self.rng.random() < self.end / 2
        self.observation = self._reset() if terminated or truncated else o_t
        return {"o_tm1": o_tm1, "a_tm1": self.rng.integers(6), "r_t": self.rng.normal(),
                "terminated": terminated, "truncated": truncated, "o_t": o_t}  # fmt: skip

    def _frame(self) -> np.ndarray:
        return self.rng.integers(0, 256, FRAME, np.uint8)

    def _reset(self) -> np.ndarray:
        return np.repeat(self._frame()[None], STACK, axis=0)


def step(trials: list[Episodes], active: np.ndarray) -> dict[str, np.ndarray]:
    blank = {"o_tm1": np.zeros((STACK, *FRAME), np.uint8), "a_tm1": 0, "r_t": 0.0,
             "terminated": False, "truncated": False, "o_t": np.zeros((STACK, *FRAME), np.uint8)}  # fmt: skip
    rows = [trial.transition() if on else blank for trial, on in zip(trials, active, strict=True)]
    return {name: np.array([row[name] for row in rows]) for name in blank}


def assert_equal_samples(frames: ReplayRing, whole: ReplayRing, rng: np.random.Generator) -> None:
    u, gamma = rng.random((len(whole.added), 40), np.float32), np.full(len(whole.added), 0.9)
    one, other = frames.sample(u, gamma), whole.sample(u, gamma)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        assert one[name].dtype == other[name].dtype


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 7, 50])
@pytest.mark.parametrize("mean_length", [1.0, 2.5, 20.0, 1e9])
def test_samples_equal_those_of_whole_observations(mean_length: float, size: int, n_step: int) -> None:
    """Terminated, truncated and one-step episodes, trials at rest, several rounds of the ring, a restored state."""
    rng = np.random.default_rng(0)
    shape = (3, size, Box((STACK, *FRAME), "uint8"), Discrete(2), n_step)
    trials = [Episodes(seed, mean_length) for seed in range(3)]
    frames, whole = FrameRing(*shape), ReplayRing(*shape)
    for t in range(160):
        active = np.array([True, t % 3 > 0, t < 60])
        transition = step(trials, active)
        frames.add(active, **transition)
        whole.add(active, **transition)
        if t % 5 == 1:
            assert_equal_samples(frames, whole, rng)
        if t in (3, 90):
            state = {name: np.array(value) for name, value in frames.get_state().items()}
            frames = FrameRing(*shape)
            frames.set_state(state)
            assert_equal_samples(frames, whole, rng)


def test_the_last_frames_of_episodes_go_with_their_transitions() -> None:
    ring, trials = FrameRing(1, 10, Box((STACK, *FRAME), "uint8"), Discrete(2)), [Episodes(0, 2.0)]
    for _ in range(500):
        ring.add(np.array([True]), **step(trials, np.array([True])))
        assert len(ring._last_frames) <= 10 + STACK


def test_a_stack_of_four_takes_an_eighth_of_the_memory() -> None:
    atari = (Box((4, 84, 84), "uint8"), Discrete(6))
    assert FrameRing.num_bytes(100_000, *atari) / 2**30 == pytest.approx(0.66, abs=0.005)
    assert ReplayRing.num_bytes(100_000, *atari) / 2**30 == pytest.approx(5.26, abs=0.005)
    ring = FrameRing(2, 100, *atari)
    assert sum(values.nbytes for values in ring._data.values()) == 2 * FrameRing.num_bytes(100, *atari)
    assert (ring_type(1), ring_type(4)) == (ReplayRing, FrameRing)
