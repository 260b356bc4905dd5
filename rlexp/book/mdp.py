"""The chapter's Markov chain, Markov decision process and discounted rewards, number for number as in the notebook.

`numpy.random.RandomState(42)` is the generator that `np.random.seed(42)` seeds, on which these figures depend. The
loops on CartPole are in `rlexp.book.cartpole`. The rest of the chapter runs as presets (`+experiment=book/...`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlexp.envs.chapter import CHAIN, CHAIN_END, MDP_ACTIONS, MDP_PROBABILITIES, MDP_REWARDS

SEED = 42
MAX_CHAIN_STEPS = 1_000


def chain_runs(num_runs: int = 10, seed: int = SEED) -> list[list[int]]:
    """The states of each run of the Markov chain, from state 0 to the end ("Markov Chains")."""
    random, runs = np.random.RandomState(seed), []
    for _ in range(num_runs):
        states = [0]
        while states[-1] != CHAIN_END and len(states) < MAX_CHAIN_STEPS:
            states.append(int(random.choice(len(CHAIN), p=CHAIN[states[-1]])))
        runs.append(states)
    return runs


def mdp_q_value_iteration(gamma: float = 0.90, iterations: int = 50) -> np.ndarray:
    """The action values of the decision process ("Q-Value Iteration"); -inf for impossible actions.  # [3, 3]"""
    q = np.full((3, 3), -np.inf)
    for s, actions in enumerate(MDP_ACTIONS):
        q[s, list(actions)] = 0.0
    for _ in range(iterations):
        q_prev = q.copy()
        for s in range(3):
            for a in MDP_ACTIONS[s]:
                q[s, a] = np.sum(
                    [
                        p * (MDP_REWARDS[s][a][s2] + gamma * q_prev[s2].max())
                        for s2, p in enumerate(MDP_PROBABILITIES[s][a] or ())
                    ]
                )
    return q


def mdp_q_learning(
    iterations: int = 10_000, gamma: float = 0.90, alpha0: float = 0.05, decay: float = 0.005, seed: int = SEED
) -> np.ndarray:
    """Q-learning with random exploration along one endless walk through the decision process ("Q-Learning").

    Returns:
        The action values before the first iteration and after each.  # [iterations + 1, 3, 3]
    """
    random = np.random.RandomState(seed)
    q = np.full((3, 3), -np.inf)
    for s, actions in enumerate(MDP_ACTIONS):
        q[s, list(actions)] = 0.0
    history, s = [q.copy()], 0
    for iteration in range(iterations):
        a = int(random.choice(MDP_ACTIONS[s]))
        s2 = int(random.choice(3, p=MDP_PROBABILITIES[s][a]))
        target = MDP_REWARDS[s][a][s2] + gamma * q[s2].max()
        alpha = alpha0 / (1 + iteration * decay)
        q[s, a] *= 1 - alpha
        q[s, a] += alpha * target
        history.append(q.copy())
        s = s2
    return np.array(history)


def discount_rewards(rewards: Sequence[float], discount_factor: float) -> np.ndarray:
    """The discounted sum of each reward and those after it ("Policy Gradients"); integers stay integers."""
    discounted = np.array(rewards)
    for step in range(len(rewards) - 2, -1, -1):
        discounted[step] += discounted[step + 1] * discount_factor
    return discounted


def discount_and_normalize_rewards(all_rewards: Sequence[Sequence[float]], discount_factor: float) -> list[np.ndarray]:
    """The same for some episodes, less their common mean and divided by their common standard deviation."""
    discounted = [discount_rewards(rewards, discount_factor) for rewards in all_rewards]
    together = np.concatenate(discounted)
    return [(values - together.mean()) / together.std() for values in discounted]
