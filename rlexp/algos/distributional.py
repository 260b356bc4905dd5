"""What distributional algorithms share: K numbers for each action, whose mean is the action's value.

    act:     epsilon-greedy by the means
    target:  the distribution of r_t + d_t Z(o_t, a_t; w'), a_t the best action by w' or, for double, by w

An algorithm of this kind says what its K numbers are (`mean`, `bootstrapped`, `row_losses`) and how they are saved as
action values (`policy_model`). Its `return_model` finds the distributions in that saved model again.

Axes: B batch, A actions, K numbers of a distribution.
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rlexp.algos.base import Batch, Losses, Make, Params, Scalars, State
from rlexp.algos.dqn import DQN
from rlexp.envs.info import EnvInfo
from rlexp.math import targets


class ReturnModel(NamedTuple):
    """The distributions of returns of a saved policy.

    Attributes:
        model: observations [B, ...] -> [B, A, K]: probabilities of `atoms`, or returns of equal probability.
        atoms: the returns that have probabilities; None if the model gives returns.  # [K]
    """

    model: keras.Model
    atoms: np.ndarray | None

    def __call__(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns and their probabilities, [B, A, K] each; their means are what the policy chooses by."""
        outputs = np.asarray(self.model(tf.constant(observations)), np.float64)
        if self.atoms is None:
            return outputs, np.full(outputs.shape, 1 / outputs.shape[-1])
        return np.broadcast_to(self.atoms.astype(np.float64), outputs.shape), outputs


def before_mean(policy: keras.Model) -> Any:
    """The tensor whose mean a saved policy's output is; raises `ValueError` for another last step."""
    last = policy.operations[-1]
    if type(last).__name__ != "Mean" or last.output is not policy.outputs[0]:
        raise ValueError(f"a model that ends in {type(last).__name__}")
    return last.input


class DistributionalDQN(DQN):
    """A DQN that learns the distribution of returns, and acts by its mean."""

    needs_target = True

    @classmethod
    def models(cls, make: Make, info: EnvInfo, config: Any) -> dict[str, keras.Model]:
        """One network: observations [B, ...] -> numbers [B, A, K]."""
        return {"q": make((info.num_actions, config.num_outputs))}

    @abc.abstractmethod
    def mean(self, outputs: tf.Tensor) -> tf.Tensor:
        """The means of distributions: [..., K] -> [...]"""

    @abc.abstractmethod
    def bootstrapped(self, batch: Batch, d_t: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """What each row is moved towards.

        Args:
            batch: the rows.
            d_t: discounts.  # [B]
            outputs: of the target network in o_t, for the action that counts.  # [B, K]
        """

    @abc.abstractmethod
    def row_losses(self, outputs: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """The loss of each row [B], which is its priority too; `outputs`: of the action taken in o_tm1 [B, K]."""

    def outputs(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """The K numbers of every action [E, A, K] for observations [E, ...]."""
        return self.networks["q"](params["q"], o_t)

    def q_values(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """The mean returns [E, A]."""
        return self.mean(self.outputs(params, o_t))

    def target(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """The distributions that those of o_tm1 are moved towards."""
        every = self.outputs(self.bootstrapping(state), batch["o_t"])  # [B, A, K]
        chosen = targets.batched_index(every, self.bootstrap_action(state, batch["o_t"]))  # [B, K]
        return self.bootstrapped(batch, self.discount(batch, scalars), chosen)

    def losses(self, params: Params, batch: Batch, target: Any, u: tf.Tensor, scalars: Scalars) -> Losses:
        """The loss of each row's distribution [B]."""
        outputs = targets.batched_index(self.outputs(params, batch["o_tm1"]), batch["a_tm1"])  # [B, K]
        losses = self.row_losses(outputs, target)
        return Losses({"td": losses}, {"q_mean": tf.reduce_mean(self.mean(outputs))}, losses)
