"""Lanes of agents that learn from whole batches of their own latest steps, and all updates from one batch.

Axes: L lanes (>= N trials), E environments of a trial, R rows of a batch, U updates, M rows of an update, W uniform
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from rlexp.algos.base import Params, RolloutAgent
from rlexp.engines.vectorized import Lanes, Tree, as_float, observed, pad_lanes

LANES_TOGETHER = 4  # of `RolloutLanes.learn_some`, for trials that complete their batches at different times


def learn_batch(
    agent: RolloutAgent,
    over_lanes: Callable[[Callable[..., Tree]], Callable[..., Tree]],
    state: Tree,
    batch: dict[str, tf.Tensor],
    order: tf.Tensor,
    u: tf.Tensor,
    scalars: dict[str, tf.Tensor],
) -> tuple[Tree, dict[str, tf.Tensor]]:
    """Inside a program: all updates of all lanes from a batch each, every tensor [L, ...].

    A loop of mapped updates, since a mapped loop compiles slowly.

    Args:
        agent: of one trial.
        over_lanes: maps a function of one trial over lanes.
        state: of the agent.
        batch: see `RolloutBuffer.batch`.  # field: [L, R, ...]
        order: the rows that each update learns from.  # [L, U, M]
        u: uniform numbers of each update.  # [L, U, W]
        scalars: what is scheduled, now.  # path: [L]

    Returns:
        The new state, and the agent's metrics, means over the updates.  # name: [L]
    """

    def prepare(acting: Params, batch: dict[str, tf.Tensor], scalars: dict[str, tf.Tensor]) -> Tree:
        return agent.prepare(acting, observed(batch), scalars)

    def learn(state: Tree, batch: Tree, rows: tf.Tensor, u: tf.Tensor, scalars: dict[str, tf.Tensor]) -> Tree:
        some = {name: tf.gather(field, rows) for name, field in batch.items()}
        return agent.learn(state, some, u, scalars)[:2]

    def body(i: tf.Tensor, state: Tree, sums: dict[str, tf.Tensor]) -> Tree:
        state, metrics = over_lanes(learn)(state, prepared, order[:, i], u[:, i], scalars)
        return i + 1, state, {name: sums[name] + value for name, value in metrics.items()}

    def end(state: Tree, batch: dict[str, tf.Tensor], scalars: dict[str, tf.Tensor]) -> Tree:
        return agent.end_batch(state, observed(batch), scalars)

    prepared = over_lanes(prepare)(agent.acting(state), batch, scalars)
    num_lanes, num_updates, _ = order.shape
    sums = {name: tf.zeros(num_lanes) for name in agent.metrics}
    _, state, sums = tf.while_loop(lambda i, *_: i < num_updates, body, (tf.constant(0), state, sums))
    state = over_lanes(end)(state, batch, scalars)
    return state, {name: value / num_updates for name, value in sums.items()}


class RolloutLanes(Lanes[RolloutAgent]):
    """Lanes whose trials learn from whole batches, each when its own is complete."""

    def act_each(self, o_t: np.ndarray, u: np.ndarray, scalars: Mapping[str, np.ndarray]) -> np.ndarray:
        """Exploring actions [N, E, ...] of each trial in E environments, for observations [N, E, *shape], uniforms
        [N, E, W], and scheduled scalars, path: [N]."""
        actions = self._call("act_each", self._act_each, self.acting, (o_t, u, scalars))
        return actions.numpy()[: self.num_trials]

    def sample(self, acting: Params, o_t: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Sampled actions [N, E, ...] of what acts [L, ...], for observations [N, E, *shape] and uniforms [N, E, W]."""
        return self._call("sample", self._sample, acting, (o_t, u)).numpy()[: self.num_trials]

    def learn_some(
        self,
        trials: np.ndarray,
        batch: dict[str, np.ndarray],
        order: np.ndarray,
        u: np.ndarray,
        scalars: Mapping[str, np.ndarray],
        together: bool = False,
    ) -> dict[str, np.ndarray]:
        """All updates of some trials from batches that have a shape of their own; the others are not touched.

        They go through one program, whatever their number: a program for each number would have to be compiled for
        each shape. It has four lanes (convolutions: one), and takes four trials at a time.

        Args:
            trials: which.  # [n]
            batch: their batches.  # field: [n, R, ...]
            order: the rows that each of the U updates learns from.  # [n, U, M]
            u: uniform numbers of each update.  # [n, U, W]
            scalars: the agent's scheduled scalars of theirs.  # path: [n]
            together: all trials complete their batches at the same time: the program has as many lanes as they have.

        Returns:
            The agent's metrics, means over the updates.  # name: [n]
        """
        metrics, num_lanes = [], self.num_lanes if together else min(LANES_TOGETHER, self.num_lanes)
        if not self._jit:
            num_lanes = 1  # copies side by side save nothing
        for start in range(0, len(trials), num_lanes):
            part = slice(start, start + num_lanes)
            arrays = tf.nest.map_structure(lambda values: values[part], (batch, order, u, scalars))  # noqa: B023
            metrics.append(self._learn_part(trials[part], arrays, num_lanes))
        return {name: np.concatenate([part[name] for part in metrics]) for name in metrics[0]}

    def _act_each(self, acting: Params, o_t: tf.Tensor, u: tf.Tensor, scalars: dict[str, tf.Tensor]) -> tf.Tensor:
        return self.agent.act_each(acting, as_float(o_t), u, scalars)

    def _sample(self, acting: Params, o_t: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        return self.agent.sample(acting, as_float(o_t), u)

    def _learn_part(self, trials: np.ndarray, arrays: tuple[Tree, ...], num_lanes: int) -> dict[str, np.ndarray]:
        """`RolloutLanes.learn_some` for no more trials than one call takes."""
        lanes = pad_lanes(trials, num_lanes)
        state = tf.nest.map_structure(lambda leaf: tf.gather(leaf, lanes), self.state)
        new, metrics = self._call("learn_some", self._learn_some, state, arrays, num_lanes=num_lanes, whole=True)
        self.state = tf.nest.map_structure(
            lambda old, lane: tf.tensor_scatter_nd_update(old, trials[:, None], lane[: len(trials)]), self.state, new
        )
        return {name: value.numpy()[: len(trials)] for name, value in metrics.items()}

    def _learn_some(
        self, state: Tree, batch: dict[str, tf.Tensor], order: tf.Tensor, u: tf.Tensor, scalars: dict[str, tf.Tensor]
    ) -> Tree:
        return learn_batch(self.agent, self._map, state, batch, order, u, scalars)
