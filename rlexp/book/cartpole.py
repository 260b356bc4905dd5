"""The notebook's loops on CartPole, run literally: what its printed code gives, whatever it means.

Line by line as printed, with its quirks:

- every step bootstraps from the next state, also from the one in which the episode ends;
- only `terminated` ends an episode: it is played on past the limit of 500 steps;
- `env.reset(seed=episode)`: all runs see the same 10,000 first states;
- one global generator, `np.random.seed(seed)`, draws for all three Q-learning loops, one after the other;
- the third loop goes on with the table of the second, and looks up the next value after it has decayed the old one.

The third loop says `total_reward(0)` where the others reset their total. That line cannot run (a number is no
function); the printed smallest total, 12, and largest, 262570, are those of a total that starts at 0 and is never
reset.
What the loops keep for figures (`history2`) is left out.

Replaced by what gives the same numbers (tests/book/test_literal_loops.py runs the printed code beside it): the
`KBinsDiscretizer` that is fitted at each step by its edges, `np.random.choice([0, 1])` by `randint(2)`, the array by
lists.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any

import gymnasium as gym
import numpy as np

EPISODES = 10_000
NUM_BINS = (6, 12)
GAMMA, ALPHA0, DECAY = 0.90, 0.05, 0.005
ANGLE_EDGES, VELOCITY_EDGES = (  # inner edges of equal bins; 24 degrees as the float32 that the environment says
    np.linspace(-high, high, bins + 1)[1:-1].tolist()
    for high, bins in zip((float(np.float32(math.radians(24))), math.radians(50)), NUM_BINS, strict=True)
)

Table = list[list[float]]  # [S][A]
Rate = Callable[[int], float]  # of an episode, counted from 0


def exploration_rate(n: int, min_rate: float = 0.1) -> float:
    """Epsilon of the second and third loop: 1 for 25 episodes, 0.1 from episode 198 on."""
    return max(min_rate, min(1, 1.0 - math.log10((n + 1) / 25)))


def learning_rate(episode: int) -> float:
    """Alpha of the first and second loop."""
    return ALPHA0 / (1 + episode * DECAY)


def log_learning_rate(episode: int) -> float:
    """Alpha of the third loop: 1 for 25 episodes, 0.05 from episode 222 on."""
    return max(ALPHA0, min(1.0, 1.0 - math.log10((episode + 1) / 25)))


def discretizer(observation: np.ndarray) -> int:
    """The state, 0 to 71, of angle and angular velocity; the cart is ignored."""
    angle = bisect_right(ANGLE_EDGES, float(observation[2]))
    return angle * NUM_BINS[1] + bisect_right(VELOCITY_EDGES, float(observation[3]))


def zeros() -> Table:
    """The table of values that a first loop starts with."""
    return [[0.0, 0.0] for _ in range(math.prod(NUM_BINS))]


def q_learning(
    env: gym.Env[Any, Any],
    q: Table,
    random: np.random.RandomState,
    episodes: Iterable[int],
    alpha: Rate,
    epsilon: Rate | None = None,
    decay_first: bool = False,
) -> list[float]:
    """One of the three loops; `q` and `random` go on from where they are.

    Args:
        env: CartPole-v1.
        q: the table, written over.
        random: stands for NumPy's global generator.
        episodes: their numbers, which seed the environment and set the rates.
        alpha: the learning rate.
        epsilon: of exploration; None explores at every step, and draws no number for it.
        decay_first: the third loop's order: the next value is looked up after the old value has been decayed.

    Returns:
        The sum of rewards of each episode.
    """
    totals = []
    for episode in episodes:
        rate = None if epsilon is None else epsilon(episode)
        step_size = alpha(episode)
        obs, _ = env.reset(seed=episode)
        state, done, total = discretizer(obs), False, 0.0
        while not done:
            values = q[state]
            action = 1 if values[1] > values[0] else 0  # np.argmax: the first of equals
            if rate is None or random.random_sample() < rate:
                action = int(random.randint(2))
            obs, reward, done, _, _ = env.step(action)
            total += float(reward)
            next_state = discretizer(obs)
            next_value = max(q[next_state])
            values[action] *= 1 - step_size
            if decay_first:
                next_value = max(q[next_state])
            values[action] += step_size * (float(reward) + GAMMA * next_value)
            state = next_state
        totals.append(total)
    return totals


def three_loops(seed: int, episodes: int = EPISODES) -> dict[str, np.ndarray]:
    """The sum of rewards of each episode of the three loops, in the order in which they are printed.  # [E] each"""
    env, random, numbers = gym.make("CartPole-v1"), np.random.RandomState(seed), range(episodes)
    q, q2 = zeros(), zeros()
    found = {
        "random": q_learning(env, q, random, numbers, learning_rate),
        "epsilon": q_learning(env, q2, random, numbers, learning_rate, exploration_rate),
        "log_alpha": q_learning(env, q2, random, numbers, log_learning_rate, exploration_rate, decay_first=True),
    }
    env.close()
    return {name: np.array(totals) for name, totals in found.items()}


def angle_policy(episodes: int = 500, max_steps: int = 200) -> np.ndarray:
    """The sum of rewards of each episode of the hard-coded policy ("A simple hard-coded policy").  # [E]"""
    env, totals = gym.make("CartPole-v1"), []
    for episode in range(episodes):
        total = 0.0
        obs, _ = env.reset(seed=episode)
        for _ in range(max_steps):
            obs, reward, done, truncated, _ = env.step(0 if obs[2] < 0 else 1)
            total += float(reward)
            if done or truncated:
                break
        totals.append(total)
    env.close()
    return np.array(totals)
