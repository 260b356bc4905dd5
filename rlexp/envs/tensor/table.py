"""Environments with a transition table `P`, by the convention of Gymnasium's toy-text environments.

`P[s][a]` lists (probability, next state, reward, terminated); `initial_state_distrib` [S] is the distribution of first
states. Resets and steps use one uniform number each, with the inverse of the cumulative distribution, as in Gymnasium.

Axes: S states, A actions, K outcomes of one action.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from rlexp.envs import toy_text
from rlexp.envs.tensor.base import TensorEnv


class Table(TensorEnv):
    """State: its number as a float (exact below 2**24); observation: one-hot.

    Args:
        transitions: `P`; an action that is absent from a state must not be taken in it.
            # [S][A] -> (probability, next state, reward, terminated), ...
        initial: probabilities of the first states.  # [S]
        num_actions: A.
        drawn: whether the environment draws a number at a reset, even if there is only one first state.
    """

    state_size, step_width = 1, 1

    def __init__(self, transitions: Mapping[int, Any], initial: Any, num_actions: int, drawn: bool = True) -> None:
        self.num_states, self.num_actions = len(transitions), num_actions
        self.reset_width = 1 if drawn else 0
        rows = []
        for s in range(self.num_states):
            actions = toy_text.actions_of(transitions, s)
            rows += [actions.get(a, [(1.0, s, 0.0, False)]) for a in range(num_actions)]
        self.num_outcomes = max(len(row) for row in rows)  # K
        probability = np.zeros((len(rows), self.num_outcomes))
        outcomes = np.zeros((len(rows), self.num_outcomes, 3), np.float32)  # next state, reward, terminated
        for i, row in enumerate(rows):
            probability[i, : len(row)] = [outcome[0] for outcome in row]
            outcomes[i, : len(row)] = [[float(x) for x in outcome[1:4]] for outcome in row]
        self.initial = _cumulative(np.asarray(initial, np.float64))  # [S]
        self.cumulative = _cumulative(probability)  # [S * A, K]
        self.outcomes = outcomes.reshape(-1, 3)  # [S * A * K, 3]

    def reset(self, u: tf.Tensor) -> tf.Tensor:
        first = u[0] if self.reset_width else 0.0
        return tf.cast(_draw(tf.constant(self.initial), first), tf.float32)[None]

    def step(self, state: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        row = tf.cast(state[0], tf.int32) * self.num_actions + a_tm1
        outcome = _draw(tf.gather(tf.constant(self.cumulative), row), u[0])
        following, r_t, terminated = tf.unstack(tf.gather(self.outcomes, row * self.num_outcomes + outcome))
        return following[None], r_t, terminated > 0.5

    def observe(self, state: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(tf.cast(state[0], tf.int32), self.num_states)


def _cumulative(probabilities: np.ndarray) -> np.ndarray:
    """Cumulative sums in float32, set above every u from the last possible outcome on, regardless of rounding."""
    size = probabilities.shape[-1]
    last = size - 1 - np.argmax(probabilities[..., ::-1] > 0, axis=-1)  # [...]
    total = np.where(np.arange(size) >= last[..., None], 2.0, np.cumsum(probabilities, axis=-1))
    return total.astype(np.float32)


def _draw(cumulative: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """The first outcome whose cumulative probability is above u, int32 []."""
    return tf.reduce_sum(tf.cast(cumulative <= u, tf.int32))
