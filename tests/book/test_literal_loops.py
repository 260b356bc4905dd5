"""The notebook's loops, run literally: equal to its printed code, and stored in such a way that no seed is run twice."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from sklearn.preprocessing import KBinsDiscretizer

from rlexp.book import cartpole as loops
from rlexp.book import literal_loops, mdp
from rlexp.book.printed_figures import TOTALS, TOTALS_COUNTED

# As it is printed, but for names that two cells share (`step` of the decision process), for what it prints and draws,
# for `total_reward(0)`, which cannot run, and for the numbers of the episodes.
PRINTED = '''
import math
from typing import Tuple
import gymnasium as gym
import numpy as np
from sklearn.preprocessing import KBinsDiscretizer

env = gym.make("CartPole-v1", render_mode="rgb_array")
possible_actions = env.action_space
n_bins = ( 6 , 12 )
lower_bounds = [ env.observation_space.low[2], -math.radians(50) ]
upper_bounds = [ env.observation_space.high[2], math.radians(50) ]
alpha0 = 0.05 # initial learning rate
decay = 0.005 # learning rate decay
gamma = 0.90 # discount factor
_ = __ = None

def discretizer( _ , __ , angle, pole_velocity ) -> Tuple[int,...]:
    """Convert continues state into a discrete state"""
    est = KBinsDiscretizer(n_bins=n_bins, encode='ordinal', strategy='uniform')
    est.fit([lower_bounds, upper_bounds ])
    return tuple(map(int,est.transform([[angle, pole_velocity]])[0]))

Q_values = np.full((n_bins[0], n_bins[1], possible_actions.n ), 0.0)

def nstep(action):
    obs, reward, done, truncated, info = env.step(action)
    # Do discretization
    next_state = discretizer(_, __, obs[2], obs[3])
    return next_state, reward, done, truncated

def exploration_policy():
    return np.random.choice([0,1])

totals3 = []
for episode in episodes:
    obs, info = env.reset(seed=episode)
    _, _, pole_angle, pole_velocity = obs
    state, done, truncated = discretizer(_,_,pole_angle, pole_velocity), False, False
    total_reward = 0
    done = False

    while not done:
        action = exploration_policy() # exploration policy
        next_state, reward, done, truncated = nstep(action)
        total_reward += reward
        next_value = Q_values[next_state].max()

        alpha = alpha0 / (1 + episode * decay)
        Q_values[state][action] *= 1 - alpha
        Q_values[state][action] += alpha * (reward + gamma * next_value)
        state = next_state

    totals3.append(total_reward)
table3 = Q_values

def exploration_rate(n : int, min_rate= 0.1 ) -> float :
    """Decaying exploration rate"""
    return max(min_rate, min(1, 1.0 - math.log10((n + 1) / 25)))

Q_values = np.full((n_bins[0], n_bins[1], possible_actions.n ), 0.0)

totals2 = []
for episode in episodes:
    # Reset
    obs, info = env.reset(seed=episode)
    _, _, pole_angle, pole_velocity = obs
    state, done, truncated = discretizer(_,_,pole_angle, pole_velocity), False, False
    total_reward = 0
    done = False

    while not done:
        # Exploitation policy
        action = np.argmax(Q_values[state]) # exploitation policy greedily selects

        # Exploration policy
        if (np.random.random() < exploration_rate(episode)):
            action = exploration_policy() # exploration policy

        # Set next state and value
        next_state, reward, done, truncated = nstep(action)
        total_reward += reward
        next_value = Q_values[next_state].max()

        # Fill Q table with TD
        alpha = alpha0 / (1 + episode * decay)
        Q_values[state][action] *= 1 - alpha
        Q_values[state][action] += alpha * (reward + gamma * next_value)

        state = next_state

    totals2.append(total_reward)
table2 = Q_values.copy()

totals, total_reward = [], 0
for episode in episodes:
    # Reset
    obs, info = env.reset(seed=episode)
    _, _, pole_angle, pole_velocity = obs
    state, done, truncated = discretizer(_,_,pole_angle, pole_velocity), False, False

    while not done:
        # Exploitation policy
        action = np.argmax(Q_values[state]) # exploitation policy greedily selects

        # Exploration policy
        if (np.random.random() < exploration_rate(episode)):
            action = exploration_policy() # exploration policy

        # Set next state and value
        next_state, reward, done, truncated = nstep(action)
        total_reward += reward

        # Fill Q table
        alpha = max(alpha0, min(1.0, 1.0 - math.log10((episode + 1) / 25)))
        Q_values[state][action] *= 1 - alpha
        Q_values[state][action] += alpha*(reward + gamma * np.max(Q_values[next_state]))
        state = next_state
    totals.append(total_reward)
'''
NUMBERS = [*range(3), *range(60, 63), *range(9_990, 9_994)]  # rates at their start, on their way and at their end

KNOWN = {  # sum of all returns, first and last return of 300 episodes with seed 0
    "random": (6528.0, 12.0, 12.0),
    "epsilon": (6758.0, 40.0, 15.0),
    "log_alpha": (15451.0, 29.0, 33.0),
}


def test_the_three_loops_equal_the_printed_code() -> None:
    scope: dict[str, Any] = {"episodes": NUMBERS}
    before = np.random.get_state()
    np.random.seed(3)
    try:
        exec(PRINTED, scope)
    finally:
        np.random.set_state(before)
    env, random = gym.make("CartPole-v1"), np.random.RandomState(3)
    q, q2 = loops.zeros(), loops.zeros()
    assert loops.q_learning(env, q, random, NUMBERS, loops.learning_rate) == scope["totals3"]
    np.testing.assert_array_equal(np.reshape(q, (6, 12, 2)), scope["table3"])
    epsilon = loops.exploration_rate
    assert loops.q_learning(env, q2, random, NUMBERS, loops.learning_rate, epsilon) == scope["totals2"]
    np.testing.assert_array_equal(np.reshape(q2, (6, 12, 2)), scope["table2"])
    third = loops.q_learning(env, q2, random, NUMBERS, loops.log_learning_rate, epsilon, decay_first=True)
    assert np.cumsum(third).tolist() == scope["totals"]
    np.testing.assert_array_equal(np.reshape(q2, (6, 12, 2)), scope["Q_values"])


def test_bins_equal_those_of_the_discretiser_that_is_fitted_at_each_step() -> None:
    space, fast = gym.make("CartPole-v1").observation_space, math.radians(50)
    assert isinstance(space, gym.spaces.Box)
    fitted = KBinsDiscretizer(n_bins=(6, 12), encode="ordinal", strategy="uniform")
    fitted.fit([[space.low[2], -fast], [space.high[2], fast]])
    observations = np.random.default_rng(0).uniform(-1.2, 1.2, (4_000, 4)).astype(np.float32)
    edges = np.array([*loops.ANGLE_EDGES, *loops.VELOCITY_EDGES], np.float32)
    near = np.concatenate([edges, np.nextafter(edges, np.float32(-9)), np.nextafter(edges, np.float32(9))])
    observations = np.concatenate([observations, np.repeat(near[:, None], 4, axis=1)])
    bins = fitted.transform(observations[:, 2:]).astype(int)
    assert [loops.discretizer(observation) for observation in observations] == (bins @ [12, 1]).tolist()


def test_actions_are_those_that_choice_draws() -> None:
    choosing, drawing = np.random.RandomState(7), np.random.RandomState(7)
    both = [
        (choosing.choice([0, 1]), choosing.random_sample()) == (drawing.randint(2), drawing.random_sample())
        for _ in range(500)
    ]
    assert all(both)


def test_rates() -> None:
    assert [loops.exploration_rate(n) for n in (0, 24, 198, 9_999)] == [1, 1, 0.1, 0.1]
    assert loops.exploration_rate(49) == pytest.approx(1 - math.log10(2))
    assert loops.exploration_rate(197) == pytest.approx(0.1012748)
    assert [loops.log_learning_rate(n) for n in (0, 24, 222, 9_999)] == [1.0, 1.0, 0.05, 0.05]
    assert loops.log_learning_rate(221) == pytest.approx(0.0515870)
    assert [loops.learning_rate(n) for n in (0, 200)] == [0.05, 0.025]


def test_the_numbers_of_one_seed_are_known() -> None:
    found = loops.three_loops(0, episodes=300)
    assert {name: (totals.sum(), totals[0], totals[-1]) for name, totals in found.items()} == KNOWN


def test_angle_policy_and_q_value_iteration_equal_the_notebooks_figures() -> None:
    returns = loops.angle_policy()
    assert (returns.mean(), returns.std(), returns.min(), returns.max()) == (41.698, 8.389445512070509, 24.0, 63.0)
    np.testing.assert_allclose(
        mdp.mdp_q_value_iteration(),
        [[18.91891892, 17.02702702, 13.62162162], [0, -np.inf, -4.87971488], [-np.inf, 50.13365013, -np.inf]],
        atol=5e-9,
    )
    assert mdp.mdp_q_value_iteration(0.95).argmax(axis=1).tolist() == [0, 2, 1]


def test_the_printed_mean_of_the_running_total_is_of_10_011_whole_numbers() -> None:
    counts = [n for n in range(1, 20_000) if round(TOTALS[0] * n) / n == TOTALS[0]]
    assert counts == [TOTALS_COUNTED]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Literal runs of five episodes; the seeds that were run."""
    ran: list[int] = []

    def three_loops(seed: int) -> dict[str, np.ndarray]:
        ran.append(seed)
        return loops.three_loops(seed, episodes=5)

    monkeypatch.setattr(literal_loops, "three_loops", three_loops)
    monkeypatch.setattr(literal_loops, "mdp_q_learning", partial(mdp.mdp_q_learning, iterations=50))
    monkeypatch.setattr(literal_loops, "SHAPES", {"random": (5,), "epsilon": (5,), "log_alpha": (5,), "mdp": (3, 3)})
    return ran


def test_a_seed_is_run_once(tmp_path: Path, short: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    path = literal_loops.file(tmp_path, 3)
    assert path == tmp_path / "literal" / "3.npz" and literal_loops.read(path) is None
    for _ in range(2):
        assert literal_loops.main(["--seed", "3", "--file", str(path)]) == 0
    run = literal_loops.read(path)
    assert short == [3] and run is not None
    np.testing.assert_array_equal(run["epsilon"], loops.three_loops(3, 5)["epsilon"])
    np.testing.assert_array_equal(run["mdp"], mdp.mdp_q_learning(50, seed=3)[-1])
    assert list(path.parent.iterdir()) == [path]
    monkeypatch.setattr(literal_loops, "MADE_WITH", "another version")
    assert literal_loops.read(path) is None


@pytest.mark.parametrize("cut", [0, 10, -30])
def test_a_file_that_is_cut_short_counts_as_none(cut: int, tmp_path: Path, short: list[int]) -> None:
    path = literal_loops.file(tmp_path, 0)
    arguments = ["--seed", "0", "--file", str(path)]
    literal_loops.main(arguments)
    path.write_bytes(path.read_bytes()[:cut])
    assert literal_loops.read(path) is None
    literal_loops.main(arguments)
    assert literal_loops.read(path) is not None and short == [0, 0]
