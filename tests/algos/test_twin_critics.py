"""SAC and TD3 by hand: networks without hidden layers, one observed number and actions in [-2, 4]."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlexp.algos.base import Batch, State
from rlexp.algos.sac import SAC
from rlexp.algos.td3 import TD3
from rlexp.config.schema.algos import OptimizerSettings
from rlexp.config.schema.network import NetworkSettings
from rlexp.config.schema.twin_critics import SACSettings, TD3Settings
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box
from rlexp.networks.building import Maker
from rlexp.networks.flat_model import FlatModel

INFO = EnvInfo(Box((1,), "float32"), Box((1,), "float32", (-2.0,), (4.0,)), None, False)
SGD = OptimizerSettings(name="sgd", clip_norm=None)  # w <- w - lr gradient
SAME = {"batch_size": 2, "optimizer": SGD, "policy_optimizer": SGD}
TANH_1, SLOPE_1 = 0.7615942, 0.4199743  # tanh(1), and its slope there


def made(kind: Any, config: Any, info: EnvInfo = INFO, network: NetworkSettings | None = None) -> Any:
    make = Maker(network or NetworkSettings("mlp", []), info)
    networks = {name: FlatModel(model) for name, model in kind.models(make, info, config).items()}
    return kind(config, networks, info)


def sac(**settings: Any) -> SAC:
    agent: SAC = made(SAC, SACSettings(**SAME, **settings))
    return agent


def td3(**settings: Any) -> TD3:
    agent: TD3 = made(TD3, TD3Settings(**SAME, **settings))
    return agent


def batch(a_tm1: float = 1.0) -> Batch:
    """Two rows; 1 is the middle of the bounds, which the critics see as 0. The second row is the last of its episode."""
    rows = {"o_tm1": [[1.0], [0.0]], "a_tm1": [[a_tm1], [1.0]], "r_t": [1.0, 2.0], "terminated": [0.0, 1.0],
            "num_steps": [1.0, 1.0], "o_t": [[1.0], [0.0]]}  # fmt: skip
    return {name: tf.constant(values) for name, values in rows.items()}


def scalars(tau: float = 0.25) -> dict[str, tf.Tensor]:
    numbers = {"gamma": 0.5, "optimizer.lr": 0.1, "policy_optimizer.lr": 0.1, "tau": tau}
    return {path: tf.constant(value) for path, value in numbers.items()}


def vector(*values: float) -> tf.Tensor:
    return tf.constant(values, tf.float32)


# Values are o w_o + a w_a + b. The first critic is o + 2 a in both networks; the second is never the lesser, but is 3
# off in the online network.
Q1, Q2, Q2_TARGET = vector(1, 2, 0), vector(1, 2, 3), vector(0, 0, 3)


def state_of(agent: Any, policy: tf.Tensor, **more: Any) -> State:
    state = agent.init({"policy": policy, "q1": Q1, "q2": Q2})
    return {**state, "target": {**state["target"], "q1": Q1, "q2": Q2_TARGET}, **more}


def sac_state(agent: SAC) -> State:
    """mu = o and sigma = 1: of the weights [1, 2] and the biases [2] of mu and log sigma."""
    return state_of(agent, vector(1, 0, 0, 0))


def test_the_soft_bellman_target() -> None:
    """y = 1 + .5 (min(1 + 2 tanh 1, 3) - .5 log pi), log pi = -.918939 + .867562; a terminated row's is its reward."""
    agent = sac(temperature=0.5)
    y = agent.target(sac_state(agent), batch(), tf.zeros(8), scalars())
    np.testing.assert_allclose(y, [1 + 0.5 * (1 + 2 * TANH_1 + 0.5 * 0.051377), 2.0], rtol=1e-5)
    # noise of 1 in the first row: 1 - u = exp(-1/2), at the angle 0
    u = tf.constant([1 - math.exp(-0.5), *[0] * 7], tf.float32)
    log_pi = -0.918939 - 0.5 - math.log(1 - math.tanh(2) ** 2)
    y = agent.target(sac_state(agent), batch(), u, scalars())
    np.testing.assert_allclose(y[0], 1 + 0.5 * (1 + 2 * math.tanh(2) - 0.5 * log_pi), rtol=1e-5)


def test_the_lesser_critic_counts_row_by_row() -> None:
    agent = sac()
    state = sac_state(agent)
    state["target"]["q2"] = vector(0, 0, 1)
    y = agent.target(state, {**batch(), "terminated": tf.zeros(2)}, tf.zeros(8), scalars())
    np.testing.assert_allclose(y, [1 + 0.5 * (1 + 0.051377), 2 + 0.5 * (0 + 0.918939)], rtol=1e-5)


def test_one_update_of_sac_by_hand() -> None:
    agent = sac(temperature=0.5)
    state = sac_state(agent)
    update = agent.learn(state, batch(a_tm1=4.0), tf.zeros(8), scalars())  # 4 is the upper bound: 1 for the critics
    new = update.state["online"]
    y = np.array([1 + 0.5 * (1 + 2 * TANH_1 + 0.5 * 0.051377), 2.0])
    inputs = np.array([[1, 1, 1], [0, 0, 1]])  # o, a and the bias's 1
    for name, before, q in (("q1", Q1, [3, 0]), ("q2", Q2, [6, 3])):
        np.testing.assert_allclose(new[name], before + 0.1 * np.mean((y - q)[:, None] * inputs, axis=0), rtol=1e-5)
    # d/dmu (alpha log pi - Q) = alpha 2 tanh mu - 2 (1 - tanh^2 mu); d/d log sigma = -alpha where the noise is 0
    d_mu = np.array([2 * 0.5 * TANH_1 - 2 * SLOPE_1, -2.0])
    gradient = np.array([d_mu[0] / 2, -0.5 / 2, d_mu.mean(), -0.5])
    np.testing.assert_allclose(new["policy"], [1, 0, 0, 0] - 0.1 * gradient, rtol=1e-5, atol=1e-6)
    # the entropy (.485) is above -1: less temperature
    too_sure = np.array([-0.051377 - 1, -0.918939 - 1]).mean()
    np.testing.assert_allclose(new["log_temperature"], [math.log(0.5) + 0.1 * too_sure], rtol=1e-5)
    metrics = {name: float(value) for name, value in update.metrics.items()}
    assert metrics["temperature"] == pytest.approx(0.5) and metrics["entropy"] == pytest.approx(0.485158, rel=1e-5)
    critic = 0.5 * ((y - [3, 0]) ** 2 + (y - [6, 3]) ** 2).mean()
    policy = np.mean([0.5 * -0.051377 - (1 + 2 * TANH_1), 0.5 * -0.918939])
    assert metrics["critic_loss"] == pytest.approx(critic, rel=1e-5)
    assert metrics["policy_loss"] == pytest.approx(policy, rel=1e-5)
    assert metrics["loss"] == pytest.approx(critic + policy - math.log(0.5) * too_sure, rel=1e-5)
    assert sorted(update.state["target"]) == ["q1", "q2"]
    np.testing.assert_allclose(update.state["target"]["q1"], 0.75 * Q1 + 0.25 * new["q1"], rtol=1e-6)


def test_the_temperature_rises_where_the_policy_is_too_sure() -> None:
    agent = sac(target_entropy=2.0)
    new = agent.learn(sac_state(agent), batch(), tf.zeros(8), scalars()).state["online"]
    np.testing.assert_allclose(new["log_temperature"], [0.1 * (2 - 0.485158)], rtol=1e-5)


def test_the_target_entropy_is_minus_the_size_of_an_action() -> None:
    assert sac().target_entropy == -1.0
    plane = EnvInfo(Box((3,), "float32"), Box((2, 2), "float32", (-1.0,), (1.0,)), None, False)
    agent = made(SAC, SACSettings(), plane)
    assert agent.target_entropy == -4.0 and agent.widths == {"act": 4, "learn": 2 * 256 * 4}
    assert agent.greedy({"policy": agent.networks["policy"].get_params()}, tf.ones((5, 3))).shape == (5, 2, 2)


def test_the_target_policy_is_smoothed_within_its_clip() -> None:
    """mu' = 0 (o_t = 0) with noise 0, 0.2 * 1 and 0.2 * 10, of which 0.5 are let through; Q = o + 2 a."""
    agent = made(TD3, TD3Settings(**{**SAME, "batch_size": 4}))
    state = state_of(agent, vector(0, 0))
    rows = {**{name: tf.repeat(values[:1], 4, axis=0) for name, values in batch().items()}, "o_t": tf.zeros((4, 1))}
    far = 1 - math.exp(-8.0)  # a normal number of 4, and 0.2 * 4 > 0.5
    u = tf.constant([0, 1 - math.exp(-0.5), far, far, 0, 0, 0, 0.5], tf.float32)
    y = agent.target(state, rows, tf.reshape(tf.gather(u, [0, 1, 2, 3, 4, 5, 6, 7]), [-1])[:4], scalars())
    assert y.shape == (4,)
    wide = made(TD3, TD3Settings(**{**SAME, "batch_size": 8}))
    rows = {name: tf.repeat(values[:1], 8, axis=0) for name, values in rows.items()}
    y = wide.target(state_of(wide, vector(0, 0)), rows, u, scalars())
    np.testing.assert_allclose(y[:4], 1 + 0.5 * 2 * np.array([0, 0.2, 0.5, -0.5]), rtol=1e-4, atol=1e-6)


def test_the_smoothed_action_stays_within_the_bounds() -> None:
    agent = td3()
    y = agent.target(state_of(agent, vector(0, 20)), batch(), tf.constant([1 - math.exp(-0.5), 0.0]), scalars())
    np.testing.assert_allclose(y, [1 + 0.5 * 3, 2.0], rtol=1e-6)  # min(1 + 2 * 1, 3)


def test_the_policy_and_the_targets_of_td3_wait_for_the_critics() -> None:
    agent = td3(policy_delay=3)
    state = state_of(agent, vector(1, 0))
    before = state
    for update in range(1, 7):
        state = agent.learn(state, batch(), tf.zeros(2), scalars()).state
        moved = {
            "policy": np.any(state["online"]["policy"] != before["online"]["policy"]),
            "target": np.any(state["target"]["q1"] != before["target"]["q1"]),
            "target policy": np.any(state["target"]["policy"] != before["target"]["policy"]),
            "q1": np.any(state["online"]["q1"] != before["online"]["q1"]),
        }
        assert moved == {**dict.fromkeys(moved, update % 3 == 0), "q1": True}
        before = state


def test_one_update_of_td3_by_hand() -> None:
    """The policy goes up the first critic: d/dmu -Q = -2 (1 - tanh^2 mu)."""
    agent = td3(policy_delay=1)
    new = agent.learn(state_of(agent, vector(1, 0)), batch(), tf.zeros(2), scalars()).state
    gradient = np.array([-SLOPE_1, -SLOPE_1 - 1])
    np.testing.assert_allclose(new["online"]["policy"], [1, 0] - 0.1 * gradient, rtol=1e-5)
    y = np.array([1 + 0.5 * min(1 + 2 * TANH_1, 3), 2.0])
    inputs = np.array([[1, 0, 1], [0, 0, 1]])
    q1 = Q1 + 0.1 * np.mean(2 * (y - [1, 0])[:, None] * inputs, axis=0)
    np.testing.assert_allclose(new["online"]["q1"], q1, rtol=1e-5)
    np.testing.assert_allclose(new["target"]["q1"], 0.75 * Q1 + 0.25 * q1, rtol=1e-5)
    np.testing.assert_allclose(new["target"]["policy"], [1, 0] - 0.25 * 0.1 * gradient, rtol=1e-5)


@pytest.mark.parametrize("kind", [SAC, TD3])
def test_actions_are_random_in_the_bounds_until_something_is_learned(kind: Any) -> None:
    agent = made(kind, (SACSettings if kind is SAC else TD3Settings)(**SAME))
    state = state_of(agent, vector(*[0.0] * (2 * agent.num_outputs)))
    o_t, u = tf.ones(1), tf.constant([0.25, 0.0])
    acting = agent.acting(state)
    assert agent.act(acting, o_t, u, {}).numpy().tolist() == [-0.5]  # a quarter of the way from -2 to 4
    learned = agent.acting(agent.learn(state, batch(), tf.zeros(agent.widths["learn"]), scalars()).state)
    weights = agent.unpack({**learned, "policy": acting["policy"]})
    noise = math.sqrt(-2 * math.log(0.75))
    expected = 1 + 3 * (math.tanh(noise) if kind is SAC else 0.1 * noise)
    np.testing.assert_allclose(agent.act(weights, o_t, u, {}), [expected], rtol=1e-6)
    assert agent.greedy(acting, o_t[None]).numpy().tolist() == [[1.0]]


@pytest.mark.parametrize("kind", [SAC, TD3])
def test_what_is_deployed_gives_the_greedy_action_in_the_bounds(kind: Any, tmp_path: Path) -> None:
    two = EnvInfo(Box((3,), "float32"), Box((2,), "float32", (-0.1, -2.0), (0.3, 1.0)), None, False)
    agent = made(kind, (SACSettings if kind is SAC else TD3Settings)(), two, NetworkSettings("mlp", [4]))
    params = {name: tf.constant(model.get_params()) for name, model in agent.networks.items()}
    acting = agent.acting(agent.init(params))
    assert list(agent.deploy(acting)) == ["policy"]
    agent.policy_model({"policy": agent.networks["policy"].model}).save(tmp_path / "best.keras")
    model = keras.models.load_model(tmp_path / "best.keras", safe_mode=True)
    o_t = tf.constant(np.random.default_rng(0).normal(size=(50, 3)) * 100, tf.float32)
    actions = np.asarray(model(o_t))
    np.testing.assert_allclose(actions, agent.greedy(acting, o_t), rtol=1e-6, atol=1e-7)
    assert (actions >= np.float32([-0.1, -2.0])).all() and (actions <= np.float32([0.3, 1.0])).all()


def test_critics_are_the_configured_network_of_observation_and_action() -> None:
    info = EnvInfo(Box((3,), "float32"), Box((2,), "float32", (-1.0,), (1.0,)), None, False)
    for name in ("mlp", "dueling"):  # a single value has no advantages
        make = Maker(NetworkSettings(name, [8, 8]), info)
        model = make.with_action(1)
        assert model.input_shape == (None, 5) and model.output_shape == (None, 1)
        assert [w.shape for w in model.weights] == [(5, 8), (8,), (8, 8), (8,), (8, 1), (1,)]
