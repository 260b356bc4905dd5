"""What an agent is: the protocol that the engines run, and the update that agents with networks share.

An agent is written for one trial, as pure functions on explicit state. `engines/vectorized.py` maps it over trials, so
that no function here has an axis of trials. Random numbers are arguments (uniform, in [0, 1)), and so are scheduled
scalars, under their paths in the configuration without `algo.`: "gamma", "optimizer.lr".

Axes: B rows of a batch, E observations, A actions, P parameters of one network.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from rlexp.config.schedules import scalar_paths
from rlexp.envs.info import EnvInfo
from rlexp.math import optimizers, returns, targets
from rlexp.networks.flat_model import FlatModel

State = dict[str, Any]  # a tree of tensors under the names of its parts, e.g. {"online": {"q": [P]}, ...}
Params = dict[str, Any]  # of each network by its name: [P], or the weights that `unpack` made of it
Scalars = Mapping[str, tf.Tensor]  # path -> []
Batch = dict[str, tf.Tensor]  # field -> [B, ...]
Networks = Mapping[str, FlatModel]


class Make(Protocol):
    """Makes networks of observations as they are configured."""

    @property
    def dueling(self) -> str | None:
        """How the configured dueling head aggregates advantages, "mean" or "max"; None where there is none."""

    def __call__(self, output_shape: tuple[int, ...]) -> keras.Model:
        """The configured network: observations [B, ...] -> outputs [B, *output_shape]."""

    def features(self, number: int) -> keras.Model:
        """The same without its dueling head, whose aggregation has no sense for features: [B, ...] -> [B, number]."""

    def with_action(self, number: int) -> keras.Model:
        """The same of an observation and a continuous action, as one vector: [B, S + D] -> [B, number].

        One input, so that every network that can be configured, a user's own function included, can be a critic.
        """


class Update(NamedTuple):
    """What an agent has learned from a batch."""

    state: State
    metrics: dict[str, tf.Tensor]  # of `Agent.metrics`: name -> []
    priorities: tf.Tensor | None = None  # [B], for a replay that samples by them; None where the algorithm has none


class Agent(Protocol):
    """One trial's agent, as the engines call it: they know a state by these functions alone."""

    networks: Networks

    @property
    def scalars(self) -> tuple[str, ...]:
        """Paths of settings that may be scheduled; each call gets their values, [] per trial."""

    @property
    def logged(self) -> tuple[str, ...]:
        """Which of them a record shows, as train/<last part of the path>."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the numbers [] that `learn` returns for an update; "loss" is among them: a trial whose loss is not
        finite has diverged."""

    @property
    def widths(self) -> Mapping[str, int]:
        """Uniform numbers that one call of "act" and of "learn" is given."""

    @property
    def fixed(self) -> tuple[str, ...]:
        """Parts of the state that `learn` reads and returns as they are; `renew_target` changes them."""

    @property
    def prioritized(self) -> bool:
        """Whether batches are drawn by the priorities of earlier updates; the loops read it of replay agents."""

    @classmethod
    def models(cls, make: Make, info: EnvInfo, config: Any) -> dict[str, keras.Model]:
        """The networks of one trial, by name; their initial weights come from the trial's seed, in this order."""

    def init(self, params: Params) -> State:
        """The state of a trial whose networks start with `params`, [P] each."""

    def acting(self, state: State) -> Params:
        """What `act` and `greedy` read of a state. It selects and computes nothing: engines call it with an axis of
        trials, too."""

    def unpack(self, params: Params) -> Params:
        """The same, with each vector [P] taken apart into weights: once where many calls follow."""

    def act(self, params: Params, o_t: tf.Tensor, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """An exploring action: int32 [], int32 [*shape] of a MultiDiscrete, or float32 [*shape] of a Box.

        Args:
            params: what `acting` returned.
            o_t: one observation.  # [...]
            u: uniform numbers.  # [widths["act"]]
            scalars: what is scheduled, now.
        """

    def greedy(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """The best actions [E, ...] for observations [E, ...]."""

    def learn(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> Update:
        """One update.

        Args:
            state: before it.
            batch: the rows to learn from; "weight" [B], where there is one, are importance weights.
            u: uniform numbers.  # [widths["learn"]]
            scalars: what is scheduled, now.
        """

    def renew_target(self, state: State, due: tf.Tensor) -> State:
        """The state, with its target networks renewed where that is `due`, bool []."""

    def deploy(self, params: Params) -> Params:
        """What `best.keras` holds, of what `acting` returned: the networks that act without noise, usually one, by
        name. Of a network with several outputs the first is saved, so that heads that only train are left out."""

    def policy_model(self, models: Mapping[str, keras.Model]) -> keras.Model:
        """The model that `best.keras` holds, made of the networks that `deploy` names: its outputs are what the greedy
        action is the best of, [B, A], or actions of a Box, [B, *shape]."""


class RolloutAgent(Agent, Protocol):
    """An agent that learns from whole batches of its own latest steps."""

    num_updates: int  # passes over a batch
    num_minibatches: int  # parts that a batch is shuffled into in each pass, one update each

    def act_each(self, params: Params, o_t: tf.Tensor, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """Exploring actions in E environments: as `act` for each.

        Args:
            params: what `acting` returned.
            o_t: their observations.  # [E, ...]
            u: uniform numbers.  # [E, widths["act"]]
            scalars: what is scheduled, now.

        Returns:
            # int32 [E] or float32 [E, D]
        """

    def sample(self, params: Params, o_t: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """Actions drawn from the policy [E, ...], for observations [E, ...] and uniform numbers [E, widths["act"]]."""

    def prepare(self, params: Params, batch: Batch, scalars: Scalars) -> Batch:
        """What all updates from a batch have in common; the rows that `learn` is given are some of it.

        Args:
            params: what `acting` returned of the state that acted.
            batch: padded rows in the order of time; "mask" [R] says which count.  # field: [R, ...]
            scalars: what is scheduled, now.
        """

    def end_batch(self, state: State, batch: Batch, scalars: Scalars) -> State:
        """The state after all updates from a batch: where running statistics are updated, and what belongs to one batch
        is reset. A batch is acted with and learned from with the same statistics.

        Args:
            state: after the last update.
            batch: as `prepare` was given it.  # field: [R, ...]
            scalars: what is scheduled, now.
        """


class Losses(NamedTuple):
    """What the rows of a batch say of the parameters."""

    parts: dict[str, tf.Tensor]  # name -> [B]: the loss is the sum of their means, each times its coefficient
    metrics: Mapping[str, tf.Tensor] = MappingProxyType({})  # name -> []
    priorities: tf.Tensor | None = None  # [B]


class GradientAgent(abc.ABC):
    """An agent that learns by gradient descent: tape, importance weights, clipping, optimiser and target network.

    An algorithm says what its networks are (`models`), how it acts (`act`, `greedy`), what it learns towards (`target`)
    and the loss of each row (`losses`). Each network has an optimiser, with settings of its own where `optimizer_paths`
    says so; parts of the loss that must not move a network stop the gradient there. `init` may add parameters that are
    no network's, if `optimizers` has an entry for them. Its setting `target`, where there is one, says what target
    networks it has: "none", "hard" (the engine says when they are renewed) or "soft".

    Args:
        config: the algorithm's settings.
        networks: those that `models` has made, by the same names.
        info: the environment.
    """

    logged: tuple[str, ...] = ("optimizer.lr",)
    metrics: tuple[str, ...] = ("loss", "grad_norm")
    widths: Mapping[str, int] = {"act": 1, "learn": 0}
    optimizer_paths: Mapping[str, str] = {}
    target_networks: tuple[str, ...] | None = None  # those that have a target network; None: all

    def __init__(self, config: Any, networks: Networks, info: EnvInfo) -> None:
        self.config, self.networks, self.info = config, networks, info
        self.scalars = scalar_paths(config)
        self.target_update: str = getattr(config, "target", "none")
        self.prioritized = getattr(config, "replay", "uniform") == "prioritized"
        self.fixed = ("target",) if self.target_update == "hard" else ()
        self.optimizers = {name: self._optimizer(name) for name in networks}

    @property
    def num_actions(self) -> int:
        """A, of Discrete actions."""
        return self.info.num_actions

    def init(self, params: Params) -> State:
        optimizer = {name: self.optimizers[name].init(vector) for name, vector in params.items()}
        state = {"online": params, "optimizer": optimizer}
        return state if self.target_update == "none" else {**state, "target": self._followed(state)}

    def acting(self, state: State) -> Params:
        online: Params = state["online"]
        return online

    def unpack(self, params: Params) -> Params:
        return {n: self.networks[n].unpack(value) if n in self.networks else value for n, value in params.items()}

    def deploy(self, params: Params) -> Params:
        return params

    def policy_model(self, models: Mapping[str, keras.Model]) -> keras.Model:
        (model,) = models.values()
        return model

    def bootstrapping(self, state: State) -> Params:
        """The parameters that give targets: the target network's, or the online ones where there is none."""
        params: Params = state["online" if self.target_update == "none" else "target"]
        return params

    def perturbed(self, state: State, u: tf.Tensor) -> State:
        """Parameters with the noise of an update, where there is any: what `target` and `losses` are given.

        Args:
            state: "online", "target" or both -> parameters.
            u: the uniform numbers of the update.
        """
        return state

    def target(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> Any:
        """What each row is moved towards, a tree of [B, ...]; no gradient passes through it. By default nothing."""
        return ()

    @abc.abstractmethod
    def losses(self, params: Params, batch: Batch, target: Any, u: tf.Tensor, scalars: Scalars) -> Losses:
        """The losses of the rows; `target` as `target` has returned it."""

    def coefficients(self, scalars: Scalars) -> Mapping[str, float | tf.Tensor]:
        """Factors of parts of the loss; a part that is not named counts as it is."""
        return {}

    def learn(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> Update:
        online = state["online"]
        seen = {**state, **self.perturbed({name: state[name] for name in ("online", "target") if name in state}, u)}
        target = tf.nest.map_structure(tf.stop_gradient, self.target(seen, batch, u, scalars))
        with tf.GradientTape() as tape:
            tape.watch(online)
            losses = self.losses(self.perturbed({"online": online}, u)["online"], batch, target, u, scalars)
            loss = self._sum({name: mean(rows, batch) for name, rows in losses.parts.items()}, scalars)
        grads = tape.gradient(loss, online, unconnected_gradients="zero")
        new: State = {**state, "online": {}, "optimizer": {}}
        norms = []
        for name, grad in grads.items():
            where, before = self._optimizer_path(name), state["optimizer"][name]
            clip_norm, lr = self._optimizer_settings(name).clip_norm, scalars[f"{where}.lr"]
            stepped = optimizers.step(self.optimizers[name], online[name], grad, before, lr, clip_norm)
            new["online"][name], new["optimizer"][name], norm = stepped
            norms.append(norm)
        if self.target_update == "soft":
            pairs = (self._followed(new), state["target"])
            new["target"] = tf.nest.map_structure(lambda w, v: targets.polyak(w, v, scalars["tau"]), *pairs)
        means = {name: recorded_mean(rows, batch) for name, rows in losses.parts.items()}
        grad_norm = norms[0] if len(norms) == 1 else tf.norm(tf.stack(norms))
        known = {**means, **losses.metrics, "loss": self._sum(means, scalars), "grad_norm": grad_norm}
        return Update(new, {name: known[name] for name in self.metrics}, losses.priorities)

    def renew_target(self, state: State, due: tf.Tensor) -> State:
        if self.target_update != "hard":
            return state
        pairs = self._followed(state), state["target"]
        return {**state, "target": tf.nest.map_structure(lambda w, v: targets.periodic_copy(w, v, due), *pairs)}

    def end_batch(self, state: State, batch: Batch, scalars: Scalars) -> State:
        return state

    def _followed(self, state: State) -> Params:
        """The parameters that target networks follow."""
        online: Params = state["online"]
        return online if self.target_networks is None else {name: online[name] for name in self.target_networks}

    def _sum(self, means: Mapping[str, tf.Tensor], scalars: Scalars) -> tf.Tensor:
        factors = self.coefficients(scalars)
        first, *others = (factors[name] * value if name in factors else value for name, value in means.items())
        return sum(others, first)

    def _optimizer_path(self, network: str) -> str:
        return self.optimizer_paths.get(network, "optimizer")

    def _optimizer_settings(self, network: str) -> Any:
        return getattr(self.config, self._optimizer_path(network))

    def _optimizer(self, network: str) -> optimizers.Optimizer:
        settings = self._optimizer_settings(network)
        return optimizers.build(settings.name, **settings.options)


def rollout_discount(config: Any, batch: Batch, scalars: Scalars) -> tf.Tensor:
    """d_t [R] of the rows of a rollout: what counts of the value of o_t, 0 where `truncation` sees an end."""
    over = batch["terminated"] | batch["truncated"] if config.truncation == "terminate" else batch["terminated"]
    return targets.discount(scalars["gamma"], over)


def mean(rows: tf.Tensor, batch: Batch) -> tf.Tensor:
    """The mean of `rows` [B] times their importance weights (ones where replay is uniform), over those that count."""
    weighted = batch.get("weight", 1.0) * rows
    return returns.masked_mean(weighted, batch["mask"]) if "mask" in batch else tf.reduce_mean(weighted)


def recorded_mean(rows: tf.Tensor, batch: Batch) -> tf.Tensor:
    """The same number for a record, whose bits must not depend on the number of trials.

    XLA may fuse the loss of a row and the sum into one rounding, by the number of lanes: in float64 both ways come to
    the same float32. A batch with a mask is learned from by a fixed number of lanes.
    """
    if "mask" in batch:
        return mean(rows, batch)
    return tf.cast(tf.reduce_mean(tf.cast(batch.get("weight", 1.0) * rows, tf.float64)), tf.float32)
