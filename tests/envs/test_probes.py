"""The probe environments keep Gymnasium's rules and pay what their docstrings say."""

from __future__ import annotations

import importlib
import math
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from tests import probes

KNOWN = [id for id, cls in probes.PROBES.items() if hasattr(cls, "q_star")]


def play(env: gym.Env, actions: list[int], seed: int | None = 0) -> list[tuple[float, bool, bool]]:
    env.reset(seed=seed)
    return [env.step(action)[1:4] for action in actions]  # type: ignore[misc]


@pytest.mark.parametrize("id", sorted(probes.PROBES.keys() - {"probes/NaNReward-v0"}))
def test_gymnasium_accepts_it(id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(id).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("id", KNOWN)
def test_q_star_has_one_row_for_each_observation(id: str) -> None:
    cls = probes.PROBES[id]
    assert cls.q_star.shape == (len(cls.observations), 2)  # type: ignore[attr-defined]
    assert cls().observation_space.contains(cls.observations[0])


@pytest.mark.parametrize("id", KNOWN)
def test_q_star_solves_the_bellman_equation_of_what_the_environment_does(id: str) -> None:
    """q*(s, a) = r + gamma (1 - terminated) max q*(s', .) on every (s, a); truncation does not enter."""
    env, cls = probes.PROBES[id](), probes.PROBES[id]
    gamma, q_star = cls.gamma, cls.q_star  # type: ignore[attr-defined]
    for state in range(len(q_star)):
        for action in range(2):
            env.reset(seed=0)
            env.state = state
            _, reward, terminated, _, _ = env.step(action)
            target = reward + gamma * (not terminated) * q_star[env.state].max()
            assert q_star[state, action] == pytest.approx(target, abs=1e-12)


def test_identity_rewards_the_action_that_equals_the_state() -> None:
    env = gym.make("probes/Identity-v0")
    for right, expected in ((True, 10.0), (False, 0.0)):
        o_t, _ = env.reset(seed=3)
        total, ends, states = 0.0, [], []
        for _ in range(10):
            state = int(np.argmax(o_t))
            states.append(state)
            o_t, reward, terminated, truncated, _ = env.step(state if right else 1 - state)
            total += float(reward)
            ends.append((terminated, truncated))
        assert total == expected
        assert ends == [(False, False)] * 9 + [(True, False)]
        assert set(states) == {0, 1}


def test_identity_follows_its_seed() -> None:
    def stream(seed: int) -> list[int]:
        env = probes.Identity()
        env.reset(seed=seed)
        return [int(np.argmax(env.step(0)[0])) for _ in range(10)]

    assert stream(7) == stream(7)
    assert len({tuple(stream(seed)) for seed in range(20)}) > 15


def test_bandit() -> None:
    env = gym.make("probes/Bandit-v0")
    assert play(env, [0]) == [(0.0, True, False)]
    assert play(env, [1]) == [(1.0, True, False)]


@pytest.mark.parametrize("second", [0, 1])
def test_delayed_reward_pays_the_first_action_at_the_second_step(second: int) -> None:
    env = gym.make("probes/DelayedReward-v0")
    assert play(env, [0, second]) == [(0.0, False, False), (0.0, True, False)]
    assert play(env, [1, second]) == [(0.0, False, False), (1.0, True, False)]


def test_two_state_chain() -> None:
    env = gym.make("probes/TwoStateChain-v0")
    nothing = (0.0, False, False)
    assert play(env, [1, 0]) == [nothing, (1.0, True, False)]
    assert play(env, [0, 1, 1, 1, 0]) == [nothing] * 4 + [(1.0, True, False)]
    assert play(env, [0] * 20) == [nothing] * 19 + [(0.0, False, True)]
    assert play(env, [0] * 18 + [1, 0])[-1] == (1.0, True, False)  # termination at the limit is no truncation


def test_truncated_loop_is_never_terminated_and_terminated_loop_is_at_once() -> None:
    steps = play(gym.make("probes/TruncatedLoop-v0"), [0] * 10)
    assert steps == [(1.0, False, False)] * 9 + [(1.0, False, True)]
    assert play(gym.make("probes/TerminatedLoop-v0"), [0]) == [(1.0, True, False)]


def test_nan_reward_breaks_episodes_of_even_seeds_only() -> None:
    env = gym.make("probes/NaNReward-v0", after=3, length=6)
    for seed, bad in ((4, 3), (5, 0), (None, 0), (0, 3)):
        steps = play(env, [0] * 6, seed)
        assert [math.isnan(reward) for reward, _, _ in steps] == [False] * (6 - bad) + [True] * bad
        assert [reward for reward, _, _ in steps[: 6 - bad]] == [1.0] * (6 - bad)
        assert [end for _, *end in steps] == [[False, False]] * 5 + [[True, False]]


def test_misuse_is_an_error() -> None:
    env = probes.Bandit()
    with pytest.raises(RuntimeError, match=r"^Bandit: step\(\) after the end of the episode; call reset\(\)"):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^Bandit: expected the action 0 or 1, received 2\.$"):
        env.step(2)
    env.step(1)
    with pytest.raises(RuntimeError, match="after the end"):
        env.step(1)


def test_a_second_import_registers_nothing_twice() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(probes)
    assert gym.spec("probes/Identity-v0").entry_point == "tests.probes:Identity"
