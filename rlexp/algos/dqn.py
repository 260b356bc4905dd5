"""Deep Q-network (Mnih et al. 2013, "Playing Atari"; 2015, "Human-level control", algorithm 1).

    act:     a_t = a random action with probability epsilon, else argmax_a Q(o_t, a; w)
    learn:   y = r_t + d_t max_a Q(o_t, a; w')        d_t = gamma^m (1 - terminated), r_t over the same m <= n steps
             w <- w - optimiser step of d/dw mean loss(y - Q(o_tm1, a_tm1; w))
    target:  none: w' = w | hard: w' <- w now and then | soft: w' <- (1 - tau) w' + tau w

Deviations from the papers: Adam in place of RMSprop, the gradient's global norm is clipped, truncated episodes
bootstrap (`truncation: terminate` gives the notebook's mask), and everything is configurable.

Written for one trial; `engines/vectorized.py` maps it over trials.
Axes: B batch, E observations, A actions, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from rlexp.config.schema.algos import DQNSettings
from rlexp.math import optimizers, targets
from rlexp.networks.flat_model import FlatModel

State = dict[str, Any]
Scalars = dict[str, tf.Tensor]


class DQN:
    """The agent of one trial, as pure functions on explicit state."""

    scalars = ("epsilon", "gamma", "tau", "lr")  # what may be scheduled; given to each call, [] per trial
    metrics = ("loss", "q_mean", "grad_norm")

    def __init__(self, config: DQNSettings, network: FlatModel, num_actions: int) -> None:
        self.config, self.network, self.num_actions = config, network, num_actions
        self.q_values = network
        self.optimizer = optimizers.build(config.optimizer.name, **config.optimizer.options)
        self.loss = targets.LOSSES[config.loss]

    @staticmethod
    def build(network: Callable[[int], keras.Model], num_actions: int, config: DQNSettings) -> keras.Model:
        """The Keras model of one trial, observations -> Q-values [B, A]; `network` makes one of so many outputs."""
        return network(num_actions)

    def init(self, params: tf.Tensor) -> State:
        """State of a trial whose network starts with `params` [P]."""
        target = {} if self.config.target == "none" else {"target": params}
        return {"online": params, "optimizer": self.optimizer.init(params), **target}

    def act(self, params: tf.Tensor, o_t: tf.Tensor, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """Epsilon-greedy action for one observation; u: uniform numbers [2]."""
        greedy = self.greedy(params, o_t[None])[0]
        random_action = tf.cast(u[1] * self.num_actions, tf.int32)
        return tf.where(u[0] < scalars["epsilon"], random_action, greedy)

    def greedy(self, params: tf.Tensor, o_t: tf.Tensor) -> tf.Tensor:
        """Best actions [E] for observations [E, ...]."""
        return tf.argmax(self.q_values(params, o_t), axis=-1, output_type=tf.int32)

    def learn(self, state: State, batch: dict[str, tf.Tensor], scalars: Scalars) -> tuple[State, Scalars]:
        """One update from a batch of transitions; a hard target stays as it is, see `renew_target`."""
        online = state["online"]
        d_t = targets.discount(scalars["gamma"] ** batch["num_steps"], batch["terminated"])  # [B]
        y = tf.stop_gradient(self.target(state, batch["r_t"], d_t, batch["o_t"]))  # [B]
        with tf.GradientTape() as tape:
            tape.watch(online)
            q_tm1 = targets.batched_index(self.q_values(online, batch["o_tm1"]), batch["a_tm1"])  # [B]
            losses = self.loss(y - q_tm1)  # [B]
            loss = tf.reduce_mean(losses)
        grad = tape.gradient(loss, online)  # [P]
        clip_norm = self.config.optimizer.clip_norm
        online, optimizer, norm = optimizers.step(
            self.optimizer, online, grad, state["optimizer"], scalars["lr"], clip_norm
        )
        new = {**state, "online": online, "optimizer": optimizer}
        if self.config.target == "soft":
            new["target"] = targets.polyak(online, state["target"], scalars["tau"])
        # XLA may fuse square and sum into one rounding, by the number of lanes: in float64 it comes to the same number.
        loss = tf.cast(tf.reduce_mean(tf.cast(losses, tf.float64)), tf.float32)
        return new, {"loss": loss, "q_mean": tf.reduce_mean(q_tm1), "grad_norm": norm}

    def renew_target(self, state: State, due: tf.Tensor) -> State:
        """The state, in which a hard target is renewed where that is `due`, bool []."""
        if self.config.target != "hard":
            return state
        return {**state, "target": targets.periodic_copy(state["online"], state["target"], due)}

    def target(self, state: State, r_t: tf.Tensor, d_t: tf.Tensor, o_t: tf.Tensor) -> tf.Tensor:
        """What Q(o_tm1, a_tm1) is moved towards [B]."""
        return targets.q_learning_target(r_t, d_t, self.q_values(state.get("target", state["online"]), o_t))
