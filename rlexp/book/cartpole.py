"""The chapter's three Q-learning loops on CartPole and its hard-coded policy, line by line as the notebook prints them.

Their quirks are kept:

- every step bootstraps from the next state, also from the one in which the episode ends;
- only `terminated` ends an episode, so that episodes continue past the limit of 500 steps;
- `env.reset(seed=episode)`: all runs see the same 10,000 first states;
- one global generator, `np.random.seed(seed)`, draws for all three Q-learning loops, one after the other;
- the third loop continues with the table of the second, and looks up the next value after it has decayed the old one.

The third loop says `total_reward(0)` where the others reset their total. That line cannot run, since a number is
not a function; the printed totals, 12 to 262570, are those of a total that starts at 0 and is never reset.
What the loops store for figures (`history2`) is left out.

Three replacements give the same numbers (tests/book/test_literal_loops.py runs the printed code beside them): the edges
of the `KBinsDiscretizer` instead of fitting it at each step, `randint(2)` instead of `np.random.choice([0, 1])`, and
lists instead of arrays.
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
ANGLE_EDGES, VELOCITY_EDGES = (  # inner edges of equal bins; 24 degrees as the environment's float32
    np.linspace(-high, high, bins + 1)[1:-1].tolist()
    for high, bins in zip((float(np.float32(math.radians(24))), math.radians(50)), NUM_BINS, strict=True)
)

Table = list[list[float]]  # [S][A]
Rate = Callable[[int], float]  # of an episode, counted from 0


def exploration_rate(n: int, min_rate: float = 0.1) -> float:
    """Epsilon of the second and third loops: 1 for 25 episodes, 0.1 from episode 198 on."""
    return max(min_rate, min(1, 1.0 - math.log10((n + 1) / 25)))


def learning_rate(episode: int) -> float:
    """Alpha of the first and second loops."""
    return ALPHA0 / (1 + episode * DECAY)


def log_learning_rate(episode: int) -> float:
    """Alpha of the third loop: 1 for 25 episodes, 0.05 from episode 222 on."""
    return max(ALPHA0, min(1.0, 1.0 - math.log10((episode + 1) / 25)))


def discretizer(observation: np.ndarray) -> int:
    """The state, 0 to 71, of angle and angular velocity; the cart is ignored."""
    angle = bisect_right(ANGLE_EDGES, float(observation[2]))
    return angle * NUM_BINS[1] + bisect_right(VELOCITY_EDGES, float(observation[3]))


def zeros() -> Table:
    """The table of values with which a loop starts."""
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
    """Run one of the three loops; `q` and `random` continue from their present state.

    Args:
        env: CartPole-v1.
        q: the table, which is updated in place.
        random: in place of NumPy's global generator.
        episodes: their numbers, which seed the environment and set the rates.
        alpha: the learning rate.
        epsilon: the exploration rate; None explores at every step, without drawing a number for it.
        decay_first: the order of the third loop, which looks up the next value after it has decayed the old one.

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
    """Run the three loops in their printed order; the sum of rewards of each episode by the loop's name.  # [E] each"""
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
    """Run "A simple hard-coded policy"; the sum of rewards of each episode.  # [E]"""
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
