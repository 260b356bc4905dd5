"""What actor-critics share beside the policy gradient with a baseline: how they start, and normalisation by running
statistics (Andrychowicz et al. 2021, "What matters in on-policy reinforcement learning"; Huang et al. 2022, "The 37
implementation details of proximal policy optimization").

    normalize_observations:  o <- clip((o - mean) / sqrt(variance + 1e-8), -10, 10)
    normalize_rewards:       r <- clip(r / sqrt(variance of R + 1e-8), -10, 10),   R_t = gamma R_(t-1) + r_t
    orthogonal:              kernels start orthogonal, times sqrt 2; of outputs times .01 (policy) and 1 (value)

The statistics are of all batches so far, and a part of the trial's state. Those of observations are updated when a
batch is over, so that it is acted with and learned from with the same numbers; a batch's own rewards count in the
variance that they are divided by. R starts anew with each episode, and goes on from one batch to the next. Evaluation
uses the statistics and updates none.

Axes: R rows, E environments.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from rlexp.algos.base import Batch, Make, Networks, Params, Scalars, State
from rlexp.algos.pg import PG
from rlexp.algos.pg_baseline import PGBaseline, side_by_side
from rlexp.config.schema.algos import ActorCriticSettings, PGSettings
from rlexp.envs.info import EnvInfo
from rlexp.math import returns, running
from rlexp.networks.normalizer import CLIP, EPSILON, Normalizer
from rlexp.networks.orthogonal import start_orthogonal

OBSERVATIONS, REWARDS = "observations", "rewards"  # among what acts of a state: their statistics


POLICY_GAIN, VALUE_GAIN = 0.01, 1.0  # of the kernels of outputs that start orthogonal


class Orthogonal:
    """Makes networks as another does, and starts them orthogonal.

    Args:
        make: the other.
        gain: of the outputs' kernels.
    """

    def __init__(self, make: Make, gain: float) -> None:
        self._make, self._gain, self.dueling = make, gain, make.dueling

    def __call__(self, output_shape: tuple[int, ...]) -> keras.Model:
        """As of `Make`."""
        return start_orthogonal(self._make(output_shape), self._gain)

    def features(self, number: int) -> keras.Model:
        """As of `Make`."""
        return start_orthogonal(self._make.features(number), self._gain)

    def with_action(self, number: int) -> keras.Model:
        """As of `Make`."""
        return start_orthogonal(self._make.with_action(number), self._gain)


class ActorCritic(PGBaseline):
    """Policy gradients with a baseline, and running statistics."""

    config: ActorCriticSettings

    def __init__(self, config: ActorCriticSettings, networks: Networks, info: EnvInfo) -> None:
        super().__init__(config, networks, info)
        self.shape, self.num_envs = info.observation_shape, config.num_envs
        if config.normalize_observations:
            self.networks = {**networks, OBSERVATIONS: Normalizer(self.shape)}

    @classmethod
    def models(cls, make: Make, info: EnvInfo, config: PGSettings) -> dict[str, keras.Model]:
        """As of `PGBaseline`."""
        assert isinstance(config, ActorCriticSettings)
        if not config.orthogonal:
            return super().models(make, info, config)
        policy = PG.models(Orthogonal(make, POLICY_GAIN), info, config)["policy"]
        return {"policy": side_by_side(policy, Orthogonal(make, VALUE_GAIN)((1,)))}

    def init(self, params: Params) -> State:
        """As of `GradientAgent`, with statistics of nothing."""
        state = super().init(params)
        if self.config.normalize_observations:
            moments = running.start(self.shape)
            state[OBSERVATIONS] = {"count": moments.count, "moments": _as_vector(moments)}
        if self.config.normalize_rewards:
            state[REWARDS] = {**running.start(())._asdict(), "running": tf.zeros(self.num_envs)}
        return state

    def acting(self, state: State) -> Params:
        """The policy's parameters, and the statistics."""
        found = super().acting(state)
        if self.config.normalize_observations:
            found = {**found, OBSERVATIONS: state[OBSERVATIONS]["moments"]}
        return {**found, REWARDS: state[REWARDS]} if self.config.normalize_rewards else found

    def unpack(self, params: Params) -> Params:
        """As of `GradientAgent`; what is known of rewards is no vector of weights."""
        weights = super().unpack({name: vector for name, vector in params.items() if name != REWARDS})
        return {**weights, REWARDS: params[REWARDS]} if REWARDS in params else weights

    def deploy(self, params: Params) -> Params:
        """The policy, and the normaliser of what it observes."""
        return {name: vector for name, vector in super().deploy(params).items() if name != REWARDS}

    def policy_model(self, models: Mapping[str, keras.Model]) -> keras.Model:
        """The policy's model; observations are normalised by its first layer."""
        policy = super().policy_model({name: model for name, model in models.items() if name != OBSERVATIONS})
        if OBSERVATIONS not in models:
            return policy
        actor, normalizer = keras.Model(policy.input, policy.outputs[0], name="policy"), models[OBSERVATIONS]
        return keras.Model(normalizer.input, actor(normalizer.output), name="normalized_policy")

    def sample(self, params: Params, o_t: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """As of `PG`."""
        return super().sample(params, self._normalized(params, o_t), u)

    def greedy(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """As of `PG`."""
        return super().greedy(params, self._normalized(params, o_t))

    def prepare(self, params: Params, batch: Batch, scalars: Scalars) -> Batch:
        """As of `PGBaseline`, of normalised observations and rewards: the updates see no others."""
        seen = {name: self._normalized(params, batch[name]) for name in ("o_tm1", "o_t")}
        if self.config.normalize_rewards:
            variance = self._rewards(params[REWARDS], batch, scalars)["variance"]
            seen["r_t"] = tf.clip_by_value(batch["r_t"] / tf.sqrt(variance + EPSILON), -CLIP, CLIP)
        return super().prepare(params, {**batch, **seen}, scalars)

    def end_batch(self, state: State, batch: Batch, scalars: Scalars) -> State:
        """The statistics with this batch."""
        state = super().end_batch(state, batch, scalars)
        if self.config.normalize_observations:
            known = state[OBSERVATIONS]
            before = running.Moments(known["count"], *self.networks[OBSERVATIONS].unpack(known["moments"]))
            moments = running.add(before, batch["o_tm1"], batch["mask"])
            state = {**state, OBSERVATIONS: {"count": moments.count, "moments": _as_vector(moments)}}
        if self.config.normalize_rewards:
            state = {**state, REWARDS: self._rewards(state[REWARDS], batch, scalars)}
        return state

    def _normalized(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """Observations as the networks see them.  # [E, ...]"""
        return self.networks[OBSERVATIONS](params[OBSERVATIONS], o_t) if OBSERVATIONS in params else o_t

    def _rewards(self, known: State, batch: Batch, scalars: Scalars) -> State:
        """What is known of discounted returns, with this batch."""
        before = running.Moments(known["count"], known["mean"], known["variance"])
        total, last = returns.running_sum(batch, scalars["gamma"], known["running"])
        return {**running.add(before, total, batch["mask"])._asdict(), "running": last}


def _as_vector(moments: running.Moments) -> tf.Tensor:
    """Mean and variance as the parameters of a `Normalizer`, [2 D]."""
    return tf.concat([tf.reshape(moments.mean, [-1]), tf.reshape(moments.variance, [-1])], axis=0)
