"""Deep Q-network (Mnih et al. 2013, "Playing Atari"; 2015, "Human-level control", algorithm 1).

    act:     a_t = a random action with probability epsilon, else argmax_a Q(o_t, a; w)
    learn:   y = r_t + d_t max_a Q(o_t, a; w')        d_t = gamma^m (1 - terminated), r_t over the same m <= n steps
             w <- w - optimiser step of d/dw mean loss(y - Q(o_tm1, a_tm1; w))
    target:  none: w' = w | hard: w' <- w now and then | soft: w' <- (1 - tau) w' + tau w

Deviations from the papers: Adam in place of RMSprop, the gradient's global norm is clipped, truncated episodes
bootstrap (`truncation: terminate` gives the notebook's mask), and everything is configurable.

Axes: B batch, E observations, A actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from rlexp.algos.base import Batch, GradientAgent, Losses, Make, Networks, Params, Scalars, State
from rlexp.config.schema.algos import DQNSettings, check_target
from rlexp.envs.info import EnvInfo
from rlexp.math import targets
from rlexp.networks.noisy import Noise


class DQN(GradientAgent):
    """Acts by its action values, and moves them towards what a step has shown."""

    needs_target = False  # whether `target: none` would make another algorithm of it
    double = False  # whether the online network chooses the next action; a setting of this name says it for a job
    logged = ("epsilon", "optimizer.lr")
    metrics = ("loss", "q_mean", "grad_norm")
    widths: Mapping[str, int] = {"act": 2, "learn": 0}

    def __init__(self, config: DQNSettings, networks: Networks, info: EnvInfo) -> None:
        super().__init__(config, networks, info)
        if not self.prioritized:
            self.scalars = tuple(path for path in self.scalars if path != "priority_beta")
        if self.needs_target:
            check_target(config)
        self.double = getattr(config, "double", self.double)
        self.noise = Noise(networks["q"], config.sigma0) if "sigma" in networks else None  # see networks/noisy.py
        if self.noise is not None:
            self.widths = {"act": 2 + self.noise.width, "learn": 2 * self.noise.width}

    @classmethod
    def models(cls, make: Make, info: EnvInfo, config: DQNSettings) -> dict[str, keras.Model]:
        """One network: observations [B, ...] -> action values [B, A]."""
        return {"q": make((info.num_actions,))}

    def init(self, params: Params) -> State:
        """As of `GradientAgent`; the deviations of noise start as the paper has them."""
        if self.noise is not None:
            params = {**params, "sigma": tf.zeros_like(params["sigma"]) + self.noise.sigma()}
        return super().init(params)

    def deploy(self, params: Params) -> Params:
        """The networks without noise."""
        return {name: vector for name, vector in params.items() if name != "sigma"}

    def q_values(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """Action values [E, A] for observations [E, ...]."""
        return self.networks["q"](params["q"], o_t)

    def act(self, params: Params, o_t: tf.Tensor, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """Epsilon-greedy action for one observation; noise on the weights is drawn anew for each."""
        greedy = self.greedy(params if self.noise is None else self._noisy(params, u[2:]), o_t[None])[0]
        random_action = tf.cast(u[1] * self.num_actions, tf.int32)
        return tf.where(u[0] < scalars["epsilon"], random_action, greedy)

    def greedy(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """Best actions [E] for observations [E, ...]."""
        return tf.argmax(self.q_values(params, o_t), axis=-1, output_type=tf.int32)

    def perturbed(self, state: State, u: tf.Tensor) -> State:
        """As of `GradientAgent`: the online and the target network have noise of their own, one draw an update."""
        if self.noise is None:
            return state
        draws = dict(zip(("online", "target"), tf.split(u, 2), strict=True))
        return {name: self._noisy(params, draws[name]) for name, params in state.items()}

    def bootstrap_action(self, state: State, o_t: tf.Tensor) -> tf.Tensor:
        """The next actions [B] whose values count: the best by w', or by w where the algorithm is double."""
        return self.greedy(state["online"] if self.double else self.bootstrapping(state), o_t)

    def discount(self, batch: Batch, scalars: Scalars) -> tf.Tensor:
        """d_t = gamma^m (1 - terminated) [B]: what counts of the value of o_t."""
        return targets.discount(scalars["gamma"] ** batch["num_steps"], batch["terminated"])

    def target(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """What Q(o_tm1, a_tm1) is moved towards [B]."""
        d_t = self.discount(batch, scalars)  # [B]
        q_t = self.q_values(self.bootstrapping(state), batch["o_t"])  # [B, A]
        return targets.bootstrap_target(batch["r_t"], d_t, q_t, self.bootstrap_action(state, batch["o_t"]))

    def losses(self, params: Params, batch: Batch, target: Any, u: tf.Tensor, scalars: Scalars) -> Losses:
        """The loss of each row's TD error [B], whose size is its priority."""
        q_tm1 = targets.batched_index(self.q_values(params, batch["o_tm1"]), batch["a_tm1"])  # [B]
        td_error = target - q_tm1  # [B]
        return Losses(
            {"td": targets.LOSSES[self.config.loss](td_error)}, {"q_mean": tf.reduce_mean(q_tm1)}, tf.abs(td_error)
        )

    def _noisy(self, params: Params, u: tf.Tensor) -> Params:
        """Parameters whose weights are mu + sigma * epsilon, from uniform numbers [noise.width]."""
        assert self.noise is not None
        mu, sigma = (
            x if isinstance(x := params[name], list) else self.networks[name].unpack(x) for name in ("q", "sigma")
        )
        noise = self.noise.draw(u)
        return {**params, "q": [w if e is None else w + s * e for w, s, e in zip(mu, sigma, noise, strict=True)]}
