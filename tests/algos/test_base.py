"""The contract: what a gradient update does, whose ever the losses are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlexp.algos.base import Batch, GradientAgent, Losses, Make, Params, Scalars, State, Update
from rlexp.algos.ddqn import DoubleDQN
from rlexp.algos.dqn import DQN
from rlexp.config import registry
from rlexp.config.schedules import scalar_paths
from rlexp.config.schema.algos import DQNSettings, FixedDQNSettings, OptimizerSettings, PPOSettings
from rlexp.config.schema.network import NetworkSettings
from rlexp.engines.vectorized import Lanes
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete
from rlexp.math import targets
from rlexp.networks.building import Maker
from rlexp.networks.flat_model import FlatModel
from rlexp.system.errors import Refusal

INFO = EnvInfo(Box((2,), "float32"), Discrete(3), None, False)
SGD = OptimizerSettings(name="sgd", clip_norm=None)  # w <- w - lr gradient
NO_NUMBERS = tf.zeros(0)
linear = Maker(NetworkSettings("mlp", []), INFO)
TORQUES = EnvInfo(Box((2,), "float32"), Box((2,), "float32", (-1.0,), (1.0,)), None, False)


def made(kind: Any, config: Any, info: EnvInfo = INFO) -> Any:
    make = linear if info == INFO else Maker(NetworkSettings("mlp", []), info)
    networks = {name: FlatModel(model) for name, model in kind.models(make, info, config).items()}
    return kind(config, networks, info)


def batch(**more: Any) -> Batch:
    rows = {"o_tm1": [[1.0, 0.0], [0.0, 1.0]], "a_tm1": [0, 2], "r_t": [1.0, 2.0], "terminated": [0.0, 1.0],
            "num_steps": [1.0, 1.0], "o_t": [[1.0, 1.0], [0.0, 0.0]], **more}  # fmt: skip
    return {name: tf.constant(values) for name, values in rows.items()}


# Q(o, a) = o W: rows of W are the values of the two actions that one observed number at a time makes.
ONLINE = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
TARGET = np.array([[9, 0, 1], [9, 0, 1]], np.float32)


def flat(weights: np.ndarray) -> tf.Tensor:
    return tf.constant(np.concatenate([weights.ravel(), np.zeros(3, np.float32)]))


def state_of(agent: DQN, target: np.ndarray | None = None) -> State:
    state = agent.init({"q": flat(ONLINE)})
    return state if target is None else {**state, "target": {"q": flat(target)}}


def scalars(**values: float) -> dict[str, tf.Tensor]:
    given = {"gamma": 0.5, "epsilon": 0.0, "tau": 0.25, "optimizer.lr": 1.0, **values}
    return {name: tf.constant(value) for name, value in given.items()}


def weights(agent: Any, state: State, name: str = "q") -> np.ndarray:
    vector: np.ndarray = agent.acting(state)[name].numpy()
    return vector[:6].reshape(2, 3)


@pytest.mark.parametrize(
    ("kind", "bootstrap"),
    [(DQN, 9 + 9), (DoubleDQN, 1 + 1)],  # max of the target's [18, 0, 2]; its value of the online's best, the third
    ids=["plain", "double"],
)
def test_targets_and_an_update_by_hand(kind: type[DQN], bootstrap: float) -> None:
    """y = [1 + 0.5 bootstrap, 2], Q = [1, 6]; d/dw of the mean of (y - Q)^2 is -2 (y - Q) / 2 at each chosen weight."""
    agent = made(kind, FixedDQNSettings(optimizer=SGD, loss="mse", target="hard"))
    state = state_of(agent, TARGET)
    y = agent.target(state, batch(), NO_NUMBERS, scalars())
    assert y.numpy().tolist() == [1 + 0.5 * bootstrap, 2]
    new, metrics, priorities = agent.learn(state, batch(), NO_NUMBERS, scalars())
    errors = y.numpy() - [1, 6]
    expected = ONLINE.copy()
    expected[0, 0] += errors[0]
    expected[1, 2] += errors[1]
    np.testing.assert_allclose(weights(agent, new), expected)
    assert float(metrics["loss"]) == np.mean(errors**2) and float(metrics["q_mean"]) == 3.5
    assert priorities.numpy().tolist() == np.abs(errors).tolist()
    assert set(metrics) == set(agent.metrics)
    assert (new["target"]["q"] == flat(TARGET)).numpy().all()  # fixed, as it says
    assert agent.fixed == ("target",)


def test_importance_weights_reach_the_gradient_and_the_recorded_loss() -> None:
    agent = made(DQN, DQNSettings(optimizer=SGD, loss="mse"))
    once, weighted = (
        agent.learn(state_of(agent), batch(**more), NO_NUMBERS, scalars()) for more in ({}, {"weight": [0.5, 0.0]})
    )
    moved, moved_weighted = (weights(agent, update.state) - ONLINE for update in (once, weighted))
    assert moved[1, 2] != 0 and moved_weighted[1, 2] == 0 and moved_weighted[0, 0] == 0.5 * moved[0, 0]
    ones = agent.learn(state_of(agent), batch(weight=[1.0, 1.0]), NO_NUMBERS, scalars())
    assert (weights(agent, ones.state) == weights(agent, once.state)).all()
    td_error = once.priorities.numpy()
    assert float(weighted.metrics["loss"]) == pytest.approx(0.5 * td_error[0] ** 2 / 2)


@pytest.mark.parametrize("target", ["none", "hard", "soft"])
def test_target_networks(target: str) -> None:
    """None: w' = w. Hard: w' stays until it is due. Soft: w' <- (1 - tau) w' + tau w, with the new w."""
    agent = made(DQN, DQNSettings(optimizer=SGD, target=target))
    state = state_of(agent)
    assert ("target" in state) == (target != "none")
    new = agent.learn(state, batch(), NO_NUMBERS, scalars()).state
    online = new["online"]["q"]
    for due in (False, True):
        after = agent.renew_target(new, tf.constant(due))
        before = flat(ONLINE)
        kept = {"none": online, "hard": online if due else before, "soft": 0.25 * online + 0.75 * before}[target]
        np.testing.assert_allclose(agent.bootstrapping(after)["q"], kept, rtol=1e-6)


def test_an_algorithm_that_needs_a_target_network_is_refused_without_one() -> None:
    """Also a third party's, whose schema is DQN's own."""

    class Theirs(DoubleDQN):
        pass

    with pytest.raises(Refusal) as refused:
        made(Theirs, DQNSettings(name="their_double_dqn", target="none"))
    assert str(refused.value) == (
        "algo.target: expected hard or soft for their_double_dqn, received 'none'.\n"
        "Without a target network the algorithm is algo=dqn."
    )


def test_scalars_are_the_paths_that_the_schema_marks() -> None:
    assert made(DQN, DQNSettings()).scalars == ("gamma", "optimizer.lr", "tau", "epsilon")
    assert scalar_paths(PPOSettings()) == ("gamma", "optimizer.lr", "entropy_coef")


def test_every_agent_with_networks_says_what_the_protocol_asks() -> None:
    for name, entry in registry.ALGOS.items():
        if not registry.FAMILIES[entry.family].keras:
            continue
        info = INFO if "discrete" in entry.actions else TORQUES
        agent = made(registry.load(entry.target), entry.schema(name=name), info)
        assert set(agent.logged) <= set(agent.scalars) and "loss" in agent.metrics
        assert set(agent.widths) == {"act", "learn"}
        params = {network: tf.constant(model.get_params()) for network, model in agent.networks.items()}
        state = agent.init(params)
        acting = agent.acting(state)
        assert {*agent.deploy(acting)} <= {*acting} & {*agent.networks} and set(agent.fixed) <= set(state)
        u, o_t = tf.fill([agent.widths["act"]], 0.9), tf.ones(2)
        now = {path: tf.constant(0.5) for path in agent.scalars}
        actions = [agent.act(weights, o_t, u, now) for weights in (acting, agent.unpack(acting))]
        assert actions[0].dtype == info.action.dtype and actions[0].shape == info.action.shape
        assert np.array_equal(*actions) and agent.greedy(acting, o_t[None]).shape == (1, *info.action.shape)


class Atoms(DQN):
    """A distributional head: K numbers for each action, whose mean is the action's value. Losses are of all numbers."""

    @classmethod
    def models(cls, make: Make, info: EnvInfo, config: DQNSettings) -> dict[str, keras.Model]:
        return {"q": make((info.num_actions, 2))}

    def atoms(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        return self.networks["q"](params["q"], o_t)  # [B, A, K]

    def q_values(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(self.atoms(params, o_t), axis=-1)

    def target(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        atoms = self.atoms(self.bootstrapping(state), batch["o_t"])
        chosen = targets.batched_index(atoms, self.bootstrap_action(state, batch["o_t"]))  # [B, K]
        return batch["r_t"][:, None] + self.discount(batch, scalars)[:, None] * chosen

    def losses(self, params: Params, batch: Batch, target: Any, u: tf.Tensor, scalars: Scalars) -> Losses:
        chosen = targets.batched_index(self.atoms(params, batch["o_tm1"]), batch["a_tm1"])  # [B, K]
        losses = tf.reduce_mean(tf.square(target - chosen), axis=-1)  # [B]
        return Losses({"td": losses}, {"q_mean": tf.reduce_mean(chosen)}, losses)


class DoubleAtoms(DoubleDQN, Atoms):
    """The double form of a distributional algorithm, for nothing."""


@pytest.mark.parametrize(("kind", "action"), [(Atoms, 0), (DoubleAtoms, 2)], ids=["plain", "double"])
def test_a_double_distributional_algorithm_costs_nothing(kind: type[DQN], action: int) -> None:
    """The target network's best action is the first, the online network's the third; the target's atoms are taken."""
    agent = made(kind, FixedDQNSettings(optimizer=SGD, loss="mse", target="hard"))
    online, target = (np.zeros((3, 6), np.float32) for _ in range(2))  # two observed numbers and the bias
    online[2], target[2] = [0, 0, 1, 1, 2, 2], [8, 4, 0, 0, -3, 5]  # pairs of atoms of the three actions
    state = {**agent.init({"q": tf.constant(online.ravel())}), "target": {"q": tf.constant(target.ravel())}}
    y = agent.target(state, batch(), NO_NUMBERS, scalars())
    np.testing.assert_allclose(y, [1 + 0.5 * target[2, 2 * action : 2 * action + 2], [2, 2]])
    update = agent.learn(state, batch(), NO_NUMBERS, scalars())
    chosen = np.array([[0, 0], [2, 2]])
    np.testing.assert_allclose(update.priorities, np.square(y - chosen).mean(axis=1))
    assert float(update.metrics["loss"]) == pytest.approx(np.square(y - chosen).mean())


@dataclass
class ActorCriticSettings:
    """One optimiser for each network."""

    name: str = "actor_critic"
    optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(name="sgd", lr=0.5, clip_norm=None))
    critic_optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(name="adam", lr=0.25))


class ActorCritic(GradientAgent):
    """Two networks, two optimisers; noise in the update. Only the actor acts, and only it is saved."""

    metrics = ("loss", "grad_norm", "critic")
    widths: Mapping[str, int] = {"act": 1, "learn": 3}
    optimizer_paths: Mapping[str, str] = {"critic": "critic_optimizer"}

    @classmethod
    def models(cls, make: Make, info: EnvInfo, config: ActorCriticSettings) -> dict[str, keras.Model]:
        return {"actor": make((info.num_actions,)), "critic": make((1,))}

    def acting(self, state: State) -> Params:
        return {"actor": state["online"]["actor"]}

    def act(self, params: Params, o_t: tf.Tensor, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        return self.greedy(params, o_t[None])[0]

    def greedy(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        return tf.argmax(self.networks["actor"](params["actor"], o_t), axis=-1, output_type=tf.int32)

    def losses(self, params: Params, batch: Batch, target: Any, u: tf.Tensor, scalars: Scalars) -> Losses:
        value = self.networks["critic"](params["critic"], batch["o_tm1"])[:, 0]
        logits = self.networks["actor"](params["actor"], batch["o_tm1"]) + u
        return Losses({"actor": tf.reduce_sum(logits, axis=-1), "critic": tf.square(batch["r_t"] - value)})

    def coefficients(self, scalars: Scalars) -> Mapping[str, float]:
        return {"critic": 2.0}


def test_several_networks_each_with_its_optimiser() -> None:
    agent = made(ActorCritic, ActorCriticSettings())
    assert agent.scalars == ("optimizer.lr", "critic_optimizer.lr")
    params = {name: tf.ones(network.size) for name, network in agent.networks.items()}
    now = {"optimizer.lr": tf.constant(0.5), "critic_optimizer.lr": tf.constant(0.25)}
    update: Update = agent.learn(agent.init(params), batch(), tf.zeros(3), now)
    # The actor's gradient is the mean observation, [.5, .5], for each of three actions, and 1 for their biases: sgd at .5.
    np.testing.assert_allclose(update.state["online"]["actor"], [0.75] * 6 + [0.5] * 3)
    # V = 2 for both rows, r = 1, 2: 2 d/dw mean (r - V)^2 > 0 where the first observation is 1; adam's first step is lr.
    np.testing.assert_allclose(update.state["online"]["critic"], [0.75, 1.0, 0.75], atol=1e-5)
    assert float(update.metrics["critic"]) == 0.5
    assert float(update.metrics["loss"]) == pytest.approx(3 * 2 + 2 * 0.5)
    actor, critic = np.sqrt(6 * 0.5**2 + 3 * 1**2), np.sqrt(2**2 + 2**2)
    assert float(update.metrics["grad_norm"]) == pytest.approx(np.hypot(actor, critic), rel=1e-5)
    noisy = agent.learn(agent.init(params), batch(), tf.constant([1.0, 0.0, 0.0]), now)
    assert float(noisy.metrics["loss"]) == float(update.metrics["loss"]) + 1.0


def test_lanes_hold_what_acts_as_rows_and_deploy_it() -> None:
    agent = made(ActorCritic, ActorCriticSettings())
    params = {name: np.arange(2 * m.size, dtype=np.float32).reshape(2, -1) for name, m in agent.networks.items()}
    lanes = Lanes(agent, params, exact=True, side_by_side=False, graph="test_lanes_hold")
    assert (lanes.params() == params["actor"]).all()  # the critic does not act
    acting = lanes.acting_of(lanes.params())
    assert [*acting] == ["actor"] and (lanes.rows(acting) == params["actor"]).all()
    model = lanes.deploy(lanes.params()[1])
    assert np.concatenate([w.ravel() for w in model.get_weights()]).tolist() == params["actor"][1].tolist()
    rows = {name: np.stack([values.numpy()] * 2) for name, values in batch().items()}
    now = {"optimizer.lr": np.full(2, 0.5, np.float32), "critic_optimizer.lr": np.full(2, 0.25, np.float32)}
    due, copy = np.array([True, False]), np.zeros(2, bool)
    metrics = lanes.learn(rows, np.zeros((2, 3), np.float32), now, due, copy)
    assert set(metrics) == set(agent.metrics)
    moved = lanes.params() != params["actor"]
    assert moved[0].any() and not moved[1].any()
    assert [*lanes.logged(now)] == ["lr"] and lanes.logged(now)["lr"].tolist() == [0.5, 0.5]
