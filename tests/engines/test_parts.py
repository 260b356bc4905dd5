"""Trials in parts: what is cut and joined again is what it was."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from rlexp.config import schedules
from rlexp.data.replay_ring import ring_type
from rlexp.engines import parts
from rlexp.envs.spec import Box, Discrete
from rlexp.jobs import joint
from rlexp.jobs.runner import compose


def state(**more: Any) -> dict[str, Any]:
    """A checkpoint of three trials on the host engine."""
    return {
        "trials": {
            "t": 9, "seconds": 2.0, "active": np.array([True, False, True]), "status": ["training", "done", "training"],
            "counts": {"step": np.array([9, 7, 9])}, "episodes": np.array([[1, 4, 2.5, 4], [0, 5, 1, 5], [1, 7, 0, 3]]),
            "window": {"sum": {"x": np.array([1.0, 2, 3])}, "count": {"x": np.array([1, 2, 3])}},
            "envs": {"lengths": np.array([4, 0, 2]), "actions": np.arange(6), "return": np.array([1.0, 2, 3])},
            **more,
        },
        "loop": {"lanes": [np.arange(3), np.ones((3, 2))], "ring": {"added": np.array([9, 7, 9])}},
    }  # fmt: skip


@pytest.mark.parametrize("cuts", [(1,), (2,), (1, 2)])
def test_what_is_cut_and_joined_again_is_what_it_was(cuts: tuple[int, ...]) -> None:
    whole, ends = state(), [0, *cuts, 3]
    own = [parts.cut(whole, slice(a, b)) for a, b in itertools.pairwise(ends)]
    joined = parts.join(own, [b - a for a, b in itertools.pairwise(ends)])
    assert {name: repr(value) for name, value in joined["trials"].items()} == {
        name: repr(value) for name, value in whole["trials"].items()
    }
    assert repr(joined["loop"]) == repr(whole["loop"])


def test_rows_go_with_their_trial() -> None:
    own = parts.cut(state(), slice(1, 3))["trials"]
    assert own["envs"]["actions"].tolist() == [4, 5] and own["envs"]["lengths"].tolist() == [0, 2]
    assert own["episodes"].tolist() == [[0, 4, 2.5, 4], [0, 7, 0, 3]]
    assert own["status"] == ["done", "training"] and own["t"] == 9


def test_episodes_are_in_the_order_of_time_and_of_trials() -> None:
    both = [state(episodes=np.array([[0, 5, 1.0, 5], [2, 8, 2.0, 8]])), state(episodes=np.array([[1, 5, 3.0, 5]]))]
    assert parts.join(both, [3, 3])["trials"]["episodes"][:, :3].tolist() == [[0, 5, 1], [4, 5, 3], [2, 8, 2]]


def test_a_part_that_has_ended_may_be_at_an_earlier_step() -> None:
    behind = state(t=4, seconds=5.0)
    joined = parts.join([behind, state()], [3, 3])["trials"]
    assert (joined["t"], joined["seconds"]) == (9, 5.0)


def test_the_last_frames_of_a_ring_go_with_their_trial() -> None:
    ring = ring_type(3)(3, 8, Box((3, 2), "uint8"), Discrete(2))
    for t in range(6):
        frames = np.full((3, 3, 2), t, np.uint8)
        ended = np.array([t == 2, False, t == 4])
        ring.add(np.ones(3, bool), o_tm1=frames, a_tm1=np.zeros(3, int), r_t=np.zeros(3, np.float32), terminated=ended,
                 truncated=np.zeros(3, bool), o_t=frames + 1)  # fmt: skip
    whole = {"trials": state()["trials"], "loop": {"ring": ring.get_state()}}
    own = [parts.cut(whole, slice(0, 2)), parts.cut(whole, slice(2, 3))]
    assert [len(part["loop"]["ring"]["last_frames"]) for part in own] == [1, 1]
    assert own[1]["loop"]["ring"]["last_where"].tolist() == [[0, 4]]
    assert repr(parts.join(own, [2, 1])["loop"]) == repr(whole["loop"])


def test_a_blank_state_has_no_rows() -> None:
    blank = parts.blank(state(), 2)
    assert blank["trials"]["episodes"].shape == (0, 4) and blank["trials"]["envs"]["actions"].shape == (0,)
    assert blank["trials"]["status"] == ["", ""] and not blank["loop"]["lanes"][1].any()
    assert blank["loop"]["lanes"][1].shape == (2, 2)


@pytest.mark.parametrize(("number", "num_parts", "sizes"), [(10, 2, [5, 5]), (5, 3, [1, 2, 2]), (3, 3, [1, 1, 1])])
def test_parts_are_even(number: int, num_parts: int, sizes: list[int]) -> None:
    cut = parts.even(number, num_parts)
    assert [part.stop - part.start for part in cut] == sizes
    assert [k for part in cut for k in range(number)[part]] == list(range(number))


def test_the_settings_of_a_part_keep_seeds_names_and_padding() -> None:
    settings = compose("algo=ddqn", "trials=5", "seed=10", "exact_trials=false")
    own = parts.settings_of(settings, slice(3, 4))
    assert (own.seeds, own.trials, own.trial_name(0)) == ([13], 1, "seed=13")
    assert own.exact_trials, "among others it has never been the only lane"


def test_a_part_of_a_group_has_the_schedules_of_its_jobs() -> None:
    jobs = [compose("algo=ddqn", "trials=2", f"algo.gamma={gamma}", f"algo.optimizer.lr={lr}") for gamma, lr in
            ((0.5, 0.1), (0.75, 0.2))]  # fmt: skip
    own = parts.settings_of(joint.together(jobs), slice(1, 4))
    steps = {"step": np.zeros(3, int)}
    np.testing.assert_allclose(own.algo.gamma(steps), [0.5, 0.75, 0.75])
    np.testing.assert_allclose(own.algo.optimizer.lr(steps), [0.1, 0.2, 0.2], rtol=1e-6)
    assert own.seeds == [1, 0, 1] and own.trial_name(2) == f"seed=1 of {jobs[1].job_name}"


def test_the_schedules_of_a_part() -> None:
    numbers = [schedules.parse(value, "x") for value in (0.1, 0.2, 0.3)]
    stacked = schedules.Stacked(tuple(numbers), (2, 1, 3))
    steps = {"step": np.zeros(3, int)}
    np.testing.assert_allclose(stacked.part(slice(1, 4))(steps), [0.1, 0.2, 0.3])
    assert stacked.part(slice(3, 6)).sizes == (3,)
