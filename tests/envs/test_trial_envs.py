"""Several environments of one trial, stepped together."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlexp.config.schema.env import EnvSettings
from rlexp.data import seeding
from rlexp.engines import parts
from rlexp.envs.inspection import inspect
from rlexp.envs.trial_envs import TrialEnvs
from tests.probes import misbehaving


def cartpoles(seeds: list[int], num_envs: int) -> TrialEnvs:
    settings = EnvSettings(id="CartPole-v1", name="cartpole")
    return TrialEnvs(settings, inspect(settings), seeds, num_envs)


def actions(t: int, seeds: list[int], num_envs: int) -> np.ndarray:
    return np.array([[(t * (e + 1) // 3 + seed) % 2 for e in range(num_envs)] for seed in seeds])


def test_each_environment_plays_the_episodes_of_its_own_seeds() -> None:
    """Two trials of three, against Gymnasium's environment played by itself."""
    seeds, finished = [5, 6], []
    envs, yes = cartpoles(seeds, 3), np.ones(2, bool)
    alone = [[gym.make("CartPole-v1") for _ in range(3)] for _ in seeds]
    number = np.zeros((2, 3), int)
    expected = [[alone[k][e].reset(seed=seeding.episode_seed(seeds[k], 0, e))[0] for e in range(3)] for k in range(2)]
    assert (envs.observation == np.array(expected)).all() and envs.observation.shape == (2, 3, 4)
    for t in range(60):
        chosen = actions(t, seeds, 3)
        step = envs.step(chosen, yes)
        finished += step.finished
        for k in range(2):
            for e in range(3):
                o_t, r_t, terminated, truncated, _ = alone[k][e].step(int(chosen[k, e]))
                assert (step.o_t[k, e] == o_t).all() and step.r_t[k, e] == r_t
                assert (step.terminated[k, e], step.truncated[k, e]) == (terminated, truncated)
                if terminated or truncated:
                    number[k, e] += 1
                    o_t = alone[k][e].reset(seed=seeding.episode_seed(seeds[k], int(number[k, e]), e))[0]
                assert (envs.observation[k, e] == o_t).all()
    assert [sum(1 for k, _, _ in finished if k == trial) for trial in (0, 1)] == number.sum(axis=1).tolist()
    assert number.min() >= 1 and envs.episode.tolist() == number.ravel().tolist()
    envs.close()


def test_the_first_environment_of_several_is_that_of_a_trial_with_one() -> None:
    one, three, yes = cartpoles([5], 1), cartpoles([5], 3), np.ones(1, bool)
    for t in range(40):
        chosen = actions(t, [5], 3)
        assert (one.observation == three.observation[:, 0]).all()
        a, b = one.step(chosen[:, 0], yes), three.step(chosen, yes)
        assert (a.o_t == b.o_t[:, 0]).all() and (a.r_t == b.r_t[:, 0]).all()
    assert one.episode[0] == three.episode[0] >= 1


def test_positions_are_put_back_also_in_parts() -> None:
    """After 30 lock-steps, of the two trials together or of each by itself."""
    whole, yes = cartpoles([5, 6], 3), np.ones(2, bool)
    for t in range(30):
        whole.step(actions(t, [5, 6], 3), yes)
    state = whole.get_state()
    assert state["lengths"].shape == (2, 3) and len(state["actions"]) == state["lengths"].sum()
    cuts = [parts._cut(state, slice(k, k + 1)) for k in range(2)]
    joined = parts._join(cuts, [1, 1])
    assert all((joined[name] == state[name]).all() for name in state)
    again = cartpoles([5, 6], 3)
    assert not again.set_state(state).any()
    alone = [cartpoles([5 + k], 3) for k in range(2)]
    for k in range(2):
        assert not alone[k].set_state(cuts[k]).any()
    for t in range(30, 50):
        chosen = actions(t, [5, 6], 3)
        expected = whole.step(chosen, yes)
        assert (again.step(chosen, yes).o_t == expected.o_t).all()
        for k in range(2):
            assert (alone[k].step(chosen[k : k + 1], yes[:1]).o_t[0] == expected.o_t[k]).all()


def bad(fault: str, seeds: list[int], **kwargs: Any) -> TrialEnvs:
    """Three environments per trial; the fault is in the first episode of environment 1 of seed 1."""
    remainder = seeding.episode_seed(1, 0, 1)
    own = {"fault": fault, "modulus": 2**31, "remainder": remainder, **kwargs}
    settings = EnvSettings(id="probes/Misbehaving-v0", name="bad", imports=["tests.probes.misbehaving"], kwargs=own)
    return TrialEnvs(settings, inspect(settings), seeds, 3)


@pytest.mark.parametrize("fault", ["raises", "nan"])
def test_a_fault_in_one_environment_fails_its_trial_and_no_other(fault: str) -> None:
    envs, yes, chosen = bad(fault, [0, 1, 2]), np.ones(3, bool), np.zeros((3, 3), int)
    for _ in range(2):
        assert not envs.step(chosen, yes).faults
    step = envs.step(chosen, yes)
    (found,) = step.faults
    assert found.trial == 1
    where = f"trial seed 1, environment 1, episode seed {seeding.episode_seed(1, 0, 1)}, step 3"
    assert found.text.startswith(f"probes/Misbehaving-v0, {where}: ")
    assert step.r_t.tolist() == [[1.0] * 3, [0.0] * 3, [1.0] * 3]
    for _ in range(7):
        step = envs.step(chosen, np.array([True, False, True]))
        assert not step.faults
    assert step.finished == [(k, 10.0, 10) for k in (0, 0, 0, 2, 2, 2)]


def test_an_episode_that_does_not_come_back_starts_again_and_the_others_go_on() -> None:
    misbehaving.PLAYED.clear()
    envs, yes, chosen = bad("unseeded observation", [0, 1]), np.ones(2, bool), np.zeros((2, 3), int)
    for _ in range(4):
        envs.step(chosen, yes)
    again = bad("unseeded observation", [0, 1])
    assert again.set_state(envs.get_state()).tolist() == [False, True]
    assert again.episode_length.tolist() == [4, 4, 4, 4, 0, 4]


def test_the_last_lock_step_of_a_budget_is_of_the_first_environments() -> None:
    envs = cartpoles([5, 6], 3)
    before = envs.observation.copy()
    step = envs.step(np.ones((2, 3), int), np.ones(2, bool), 2)
    assert step.r_t.tolist() == [[1.0, 1.0, 0.0]] * 2 and envs.episode_length.tolist() == [1, 1, 0] * 2
    assert (envs.observation[:, 2] == before[:, 2]).all() and (envs.observation[:, :2] != before[:, :2]).any()
