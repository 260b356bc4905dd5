"""Proximal policy optimisation and its relatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from rlexp.algos.base import Batch, Params, Scalars, State
from rlexp.algos.ppo import PPO
from rlexp.config.schema.algos import PPOSettings
from rlexp.engines.vectorized import RolloutLanes
from tests.engines.test_pg import SGD, agent, rollout, scalars


class Summing(PPO):
    """Counts the updates from a batch in its state, and sums what its batches have paid when each is over."""

    def init(self, params: Params) -> State:
        return {**super().init(params), "updates": tf.zeros(()), "paid": tf.zeros(())}

    def learn(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> Any:
        new, metrics, priorities = super().learn(state, batch, u, scalars)
        return {**new, "updates": state["updates"] + 1.0}, metrics, priorities

    def end_batch(self, state: State, batch: Batch, scalars: Scalars) -> State:
        paid = tf.reduce_sum(tf.where(batch["mask"], batch["r_t"], 0.0))
        return {**state, "paid": state["paid"] + state["updates"] * paid, "updates": tf.zeros(())}


def test_a_batch_ends_once_after_all_updates_from_it() -> None:
    learner, model = agent(Summing, 3, PPOSettings(optimizer=SGD))
    lanes = RolloutLanes(learner, {"policy": np.stack([model.get_params()] * 3)}, True, True, "test_a_batch_ends")
    batch = {name: np.stack([field.numpy()] * 2) for name, field in rollout(3, (3, 4), 8).items()}
    batch["r_t"] *= np.array([[1.0], [3.0]], np.float32)
    now = {path: np.full(2, value.numpy()) for path, value in scalars().items()}
    order = np.array([[[6, 1, 4, 3], [0, 7, 2, 5]]] * 2)  # [n, U, M]
    for _ in range(2):
        lanes.learn_some(np.array([0, 2]), batch, order, np.zeros((2, 2, 0)), now)
    paid = 2 * 2 * batch["r_t"].sum(axis=1)  # two batches, two updates each
    np.testing.assert_allclose(lanes.state["paid"], [paid[0], 0.0, paid[1]], rtol=1e-5)
    assert not lanes.state["updates"].numpy().any()
