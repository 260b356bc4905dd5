"""Policy gradients, REINFORCE (Williams 1992; Sutton and Barto, chapter 13.3; the chapter's "Policy Gradients").

    act:     a_t ~ pi(. | o_t; w) = softmax of the network's outputs; head sigmoid: softmax([z, 0]) of one output z
    learn:   G_t = r_t + gamma G_(t+1) to the end of the episode, then normalised over the rows of the batch
             w <- w - optimiser step of d/dw mean(-G_t log pi(a_tm1 | o_tm1; w)) - entropy_coef mean(H(pi))

With `clip_ratio` = c a batch can be learned from several times, as PPO does (Schulman et al. 2017, equation 7 and
algorithm 1): G_t log pi becomes min(rho G_t, clip(rho, 1 - c, 1 + c) G_t), rho = pi / pi_that_acted. Its gradient is
the same in the first update, and zero for a row once rho has moved by c in favour of G_t. Each of `num_updates` passes
over the batch is one update from all of its rows, or one from each of `num_minibatches` parts of them, shuffled; then
G_t is normalised over the part.

A batch is some whole episodes. -log pi is the cross-entropy with the sampled action as target, so that the gradient
is the mean of the notebook's per-step gradients, each times its normalised return. No factor gamma^t, as is usual.
Without a baseline nothing can be said of what lies beyond a time limit: the return of a truncated episode is what was
seen, less `truncation_penalty`.

Written for one trial; `engines/vectorized.py` maps it over trials.
Axes: R rows, E observations, A actions, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from rlexp.config.schema.algos import PGSettings
from rlexp.math import optimizers, returns, targets
from rlexp.networks.flat_model import FlatModel

State = dict[str, Any]
Scalars = dict[str, tf.Tensor]
Batch = dict[str, tf.Tensor]


class PG:
    """The agent of one trial, as pure functions on explicit state."""

    scalars = ("gamma", "entropy_coef", "lr")  # what may be scheduled; given to each call, [] per trial
    metrics: tuple[str, ...] = ("loss", "grad_norm", "entropy")  # what `learn` tells of an update

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

    def prepare(self, params: tf.Tensor, batch: Batch, scalars: Scalars) -> Batch:
        """What all updates from a batch have in common: what the policy that acted makes of it.

        Args:
            params: of the policy that acted.  # [P]
            batch: padded rows in the order of time; `mask` says which count.  # field: [R, ...]
            scalars: what is scheduled.  # name: []

        Returns:
            `o_tm1`, `a_tm1`, `mask`; `advantage` [R], how good each action turned out to be (here the discounted
            return); `log_prob` [R], of the actions.
        """
        mask = tf.cast(batch["mask"], tf.float32)  # [R]
        advantage = returns.discounted_sum(batch["r_t"], scalars["gamma"] * goes_on(batch))
        rows = {"o_tm1": batch["o_tm1"], "a_tm1": batch["a_tm1"], "mask": mask, "advantage": advantage}
        return {**rows, "log_prob": self.log_prob(params, batch)}

    def learn(self, state: State, rows: Batch, scalars: Scalars) -> tuple[State, Scalars]:
        """One update from rows that `prepare` returned, all of them or some, in any order."""
        online = state["online"]
        with tf.GradientTape() as tape:
            tape.watch(online)
            loss, metrics = self.loss(online, rows, scalars)
        grad = tape.gradient(loss, online)  # [P]
        clip_norm = self.config.optimizer.clip_norm
        online, optimizer, norm = optimizers.step(
            self.optimizer, online, grad, state["optimizer"], scalars["lr"], clip_norm
        )
        return {"online": online, "optimizer": optimizer}, {"loss": loss, "grad_norm": norm, **metrics}

    def loss(self, params: tf.Tensor, rows: Batch, scalars: Scalars) -> tuple[tf.Tensor, Scalars]:
        """The weighted cross-entropy of the sampled actions, and metrics."""
        mask, advantage = rows["mask"], rows["advantage"]  # [R], [R]
        weight = returns.normalize(advantage, mask) if self.config.normalize else advantage  # [R]
        log_pi = tf.nn.log_softmax(self.logits(params, rows["o_tm1"]))  # [R, A]
        chosen = targets.batched_index(log_pi, rows["a_tm1"])  # [R]
        entropy = returns.masked_mean(-tf.reduce_sum(tf.exp(log_pi) * log_pi, axis=-1), mask)
        clip_ratio = self.config.clip_ratio
        gain = weight * chosen if clip_ratio is None else clipped(weight, chosen - rows["log_prob"], clip_ratio)
        loss = returns.masked_mean(-gain, mask) - scalars["entropy_coef"] * entropy
        return loss, {"entropy": entropy}


def goes_on(batch: Batch) -> tf.Tensor:
    """1 for rows [R] whose next row is the next step of the same episode, else 0."""
    mask = tf.cast(batch["mask"], tf.float32)
    ended = tf.cast(batch["terminated"] | batch["truncated"], tf.float32)
    return (1.0 - ended) * tf.concat([mask[1:], tf.zeros_like(mask[:1])], axis=0)


def clipped(weight: tf.Tensor, log_ratio: tf.Tensor, clip_ratio: float) -> tf.Tensor:
    """The clipped surrogate [R] (Schulman et al. 2017, equation 7), from weights [R] and log rho [R]."""
    ratio = tf.exp(log_ratio)  # [R]
    return tf.minimum(ratio * weight, tf.clip_by_value(ratio, 1.0 - clip_ratio, 1.0 + clip_ratio) * weight)
