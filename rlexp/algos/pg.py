"""Policy gradients, REINFORCE (Williams 1992; Sutton and Barto, chapter 13.3; the chapter's "Policy Gradients").

    act:     a_t ~ pi(. | o_t; w) = softmax of the network's outputs; head sigmoid: softmax([z, 0]) of one output z
    learn:   G_t = r_t + gamma G_(t+1) to the end of the episode, then normalised over the rows of the batch
             w <- w - optimiser step of d/dw mean(-G_t log pi(a_tm1 | o_tm1; w)) - entropy_coef mean(H(pi))

With `clip_ratio` = c a batch can be learned from several times (`num_updates`), as PPO does (Schulman et al. 2017,
equation 7): G_t log pi becomes min(rho G_t, clip(rho, 1 - c, 1 + c) G_t), rho = pi / pi_that_acted. Its gradient is the
same in the first update, and zero for a row once rho has moved by c in favour of G_t. (Advantages are computed anew at
each update, where PPO fixes them before the first.)

A batch is some whole episodes. -log pi is the cross-entropy with the sampled action as target, so that the gradient
is the mean of the notebook's per-step gradients, each times its normalised return. No factor gamma^t, as is usual.
Without a baseline nothing can be said of what lies beyond a time limit: the return of a truncated episode is what was
seen, less `truncation_penalty`.

Written for one trial; `engines/lanes.py` maps it over trials. Axes: R rows, E observations, A actions, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from rlexp import optimizers, returns, targets
from rlexp.networks.flat import FlatModel
from rlexp.settings import PGSettings

State = dict[str, Any]
Scalars = dict[str, tf.Tensor]
Batch = dict[str, tf.Tensor]


class PG:
    """The agent of one trial, as pure functions on explicit state."""

    scalars = ("gamma", "entropy_coef", "lr")  # what may be scheduled; given to each call, [] per trial

    def __init__(self, config: PGSettings, network: FlatModel, num_actions: int) -> None:
        self.config, self.network, self.num_actions = config, network, num_actions
        self.optimizer = optimizers.build(config.optimizer.name, **config.optimizer.options)

    @staticmethod
    def build(network: Callable[[int], keras.Model], num_actions: int, config: PGSettings) -> keras.Model:
        """The Keras model of one trial, observations -> logits [B, A]; `network` makes one of so many outputs."""
        if config.head == "softmax":
            return network(num_actions)
        model = network(1)
        logit = model.output  # [B, 1], the log-odds of action 0: softmax([z, 0]) = [sigmoid(z), 1 - sigmoid(z)]
        return keras.Model(
            model.input, keras.layers.Concatenate()([logit, keras.ops.zeros_like(logit)]), name="sigmoid"
        )

    def init(self, params: tf.Tensor) -> State:
        """State of a trial whose network starts with `params` [P]."""
        return {"online": params, "optimizer": self.optimizer.init(params)}

    def logits(self, params: tf.Tensor, o_t: tf.Tensor) -> tf.Tensor:
        """Unnormalised log-probabilities [E, A] for observations [E, ...]."""
        return self.network(params, o_t)

    def act(self, params: tf.Tensor, o_t: tf.Tensor, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """Sampled action for one observation; u: a uniform number [1]."""
        return self.sample(params, o_t[None], u)[0]

    def sample(self, params: tf.Tensor, o_t: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """Sampled actions [E] for observations [E, ...] and uniform numbers [E]: action 0 where u <= pi(0)."""
        below = tf.cumsum(tf.nn.softmax(self.logits(params, o_t)), axis=-1)[:, :-1]  # [E, A - 1]
        return tf.reduce_sum(tf.cast(u[:, None] > below, tf.int32), axis=-1)

    def greedy(self, params: tf.Tensor, o_t: tf.Tensor) -> tf.Tensor:
        """Most probable actions [E] for observations [E, ...]."""
        return tf.argmax(self.logits(params, o_t), axis=-1, output_type=tf.int32)

    def log_prob(self, params: tf.Tensor, batch: Batch) -> tf.Tensor:
        """log pi(a_tm1 | o_tm1) [R]."""
        return targets.batched_index(tf.nn.log_softmax(self.logits(params, batch["o_tm1"])), batch["a_tm1"])

    def learn(self, state: State, batch: Batch, scalars: Scalars) -> tuple[State, Scalars]:
        """One update from a batch of padded rows; `mask` says which count.

        With `clip_ratio`, its `log_prob` [R] holds the log-probabilities of the actions under the policy that acted.
        """
        online = state["online"]
        batch = {**batch, "mask": tf.cast(batch["mask"], tf.float32)}
        advantage = tf.stop_gradient(self.advantage(online, batch, scalars))  # [R]
        with tf.GradientTape() as tape:
            tape.watch(online)
            loss, metrics = self.loss(online, batch, advantage, scalars)
        grad = tape.gradient(loss, online)  # [P]
        clip_norm = self.config.optimizer.clip_norm
        online, optimizer, norm = optimizers.step(
            self.optimizer, online, grad, state["optimizer"], scalars["lr"], clip_norm
        )
        return {"online": online, "optimizer": optimizer}, {"loss": loss, "grad_norm": norm, **metrics}

    def advantage(self, params: tf.Tensor, batch: Batch, scalars: Scalars) -> tf.Tensor:
        """How good each action turned out to be [R]: here the discounted return."""
        return returns.discounted_sum(batch["r_t"], scalars["gamma"] * goes_on(batch))

    def loss(
        self, params: tf.Tensor, batch: Batch, advantage: tf.Tensor, scalars: Scalars
    ) -> tuple[tf.Tensor, Scalars]:
        """The weighted cross-entropy of the sampled actions, and metrics."""
        mask = batch["mask"]
        weight = returns.normalize(advantage, mask) if self.config.normalize else advantage  # [R]
        log_pi = tf.nn.log_softmax(self.logits(params, batch["o_tm1"]))  # [R, A]
        chosen = targets.batched_index(log_pi, batch["a_tm1"])  # [R]
        entropy = returns.masked_mean(-tf.reduce_sum(tf.exp(log_pi) * log_pi, axis=-1), mask)
        clip_ratio = self.config.clip_ratio
        gain = weight * chosen if clip_ratio is None else clipped(weight, chosen - batch["log_prob"], clip_ratio)
        loss = returns.masked_mean(-gain, mask) - scalars["entropy_coef"] * entropy
        return loss, {"entropy": entropy}


def goes_on(batch: Batch) -> tf.Tensor:
    """1 for rows [R] whose next row is the next step of the same episode, else 0."""
    mask = batch["mask"]
    ended = tf.cast(batch["terminated"] | batch["truncated"], tf.float32)
    return (1.0 - ended) * tf.concat([mask[1:], tf.zeros_like(mask[:1])], axis=0)


def clipped(weight: tf.Tensor, log_ratio: tf.Tensor, clip_ratio: float) -> tf.Tensor:
    """The clipped surrogate [R] (Schulman et al. 2017, equation 7), from weights [R] and log rho [R]."""
    ratio = tf.exp(log_ratio)  # [R]
    return tf.minimum(ratio * weight, tf.clip_by_value(ratio, 1.0 - clip_ratio, 1.0 + clip_ratio) * weight)
