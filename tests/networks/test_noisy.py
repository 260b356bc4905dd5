"""Noise on weights: by hand, its distribution, and that it explores in training alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlexp.algos.ddqn import DoubleDQN
from rlexp.algos.dqn import DQN
from rlexp.config.schema.algos import FixedDQNSettings
from rlexp.config.schema.network import NetworkSettings
from rlexp.engines.vectorized import mapped
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete
from rlexp.jobs.runner import compose
from rlexp.math.normal import normal
from rlexp.networks import mlp
from rlexp.networks.building import build, redraw
from rlexp.networks.flat_model import FlatModel
from rlexp.networks.noisy import Noise, factors
from rlexp.system.errors import Refusal
from tests.algos.test_base import SGD, batch, scalars
from tests.engines.test_engines import trial

INFO = EnvInfo(Box((2,), "float32"), Discrete(3), None, False)


def agent_of(kind: type[DQN] = DQN, hidden: tuple[int, ...] = (), **settings: Any) -> DQN:
    def network() -> FlatModel:
        return FlatModel(mlp.build((2,), (3,), NetworkSettings("mlp", list(hidden))))

    config = FixedDQNSettings(optimizer=SGD, epsilon=0.0, **settings)
    return kind(config, {"q": network(), "sigma": network()}, INFO)


def test_factorised_noise_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs 4, -1 and output 9: f is 2, -1 and 3, so that weights have 6 and -3, and the bias has 3."""
    network = FlatModel(mlp.build((2,), (1,), NetworkSettings("mlp", [])))
    noise = Noise(network, 0.5)
    assert noise.width == 4  # three numbers, made in pairs
    np.testing.assert_allclose(factors(tf.constant([4.0, -1.0, 9.0])), [2, -1, 3])
    with monkeypatch.context() as patched:
        patched.setattr("rlexp.networks.noisy.normal", lambda u: tf.constant([4.0, -1.0, 9.0, 100.0]))
        weights, bias = noise.draw(tf.zeros(4))
    assert weights is not None and bias is not None
    assert weights.numpy().tolist() == [[6], [-3]] and bias.numpy().tolist() == [3]
    u = tf.constant([0.3, 0.9, 0.6, 0.2])
    f = factors(normal(u)).numpy()
    weights, bias = noise.draw(u)
    assert weights is not None and bias is not None
    np.testing.assert_allclose(weights, [[f[0] * f[2]], [f[1] * f[2]]])
    np.testing.assert_allclose(bias, [f[2]])


def test_sigma_starts_at_one_half_over_the_root_of_the_inputs() -> None:
    agent = agent_of(hidden=(4,))
    state = agent.init({name: tf.ones(network.size) for name, network in agent.networks.items()})
    kernel, bias, outputs, last = agent.networks["sigma"].unpack(state["online"]["sigma"])
    for sigma, inputs in ((kernel, 2), (bias, 2), (outputs, 4), (last, 4)):
        np.testing.assert_allclose(sigma, 0.5 / np.sqrt(inputs))


def test_it_is_drawn_for_each_step_and_update_and_off_in_evaluation() -> None:
    agent = agent_of(hidden=(8,), target="hard")
    generator = np.random.default_rng(1)
    state = agent.init({n: tf.constant(generator.normal(size=m.size), tf.float32) for n, m in agent.networks.items()})
    acting, o_t = agent.acting(state), tf.constant([1.0, -1.0])
    draws = [tf.constant(generator.random(agent.widths["act"]), tf.float32) for _ in range(200)]
    actions = {int(agent.act(acting, o_t, u, scalars())) for u in draws}
    assert len(actions) > 1  # without epsilon
    same = {int(agent.act(weights, o_t, draws[0], scalars())) for weights in (acting, agent.unpack(acting))}
    assert len(same) == 1
    assert len({int(agent.greedy(acting, o_t[None])[0]) for _ in range(3)}) == 1
    width = agent.noise.width if agent.noise else 0
    assert agent.widths == {"act": 2 + width, "learn": 2 * width}
    # The online and the target network have noise of their own; the target's moves the target, the online one the loss.
    u = [tf.constant(generator.random(2 * width), tf.float32) for _ in range(2)]
    mixed = tf.concat([u[0][:width], u[1][width:]], axis=0)
    losses = [float(agent.learn(state, batch(), given, scalars()).metrics["loss"]) for given in (*u, mixed)]
    assert len(set(losses)) == 3
    seen = agent.perturbed({"online": state["online"], "target": state["target"]}, u[0])
    assert all(np.abs(a - b).max() > 0.01 for a, b in zip(seen["online"]["q"], seen["target"]["q"], strict=True))


def test_weights_are_mu_and_sigma_times_noise() -> None:
    agent = agent_of()
    assert agent.noise is not None
    generator = np.random.default_rng(3)
    mu, sigma = (generator.normal(size=(2, agent.networks["q"].size))).astype(np.float32)
    u = tf.constant(generator.random(2 * agent.noise.width), tf.float32)
    kernel, bias = agent.noise.draw(u[: agent.noise.width])
    seen = agent.perturbed({"online": {"q": tf.constant(mu), "sigma": tf.constant(sigma)}}, u)["online"]["q"]
    np.testing.assert_allclose(seen[0], mu[:6].reshape(2, 3) + sigma[:6].reshape(2, 3) * kernel, rtol=1e-6)
    np.testing.assert_allclose(seen[1], mu[6:] + sigma[6:] * bias, rtol=1e-6)


def test_sigma_is_learned_and_what_is_saved_has_none() -> None:
    agent = agent_of(hidden=(8,), target="hard")
    generator = np.random.default_rng(1)
    state = agent.init({n: tf.constant(generator.normal(size=m.size), tf.float32) for n, m in agent.networks.items()})
    u = tf.constant(generator.random(agent.widths["learn"]), tf.float32)
    new = agent.learn(state, batch(), u, scalars()).state
    assert (new["online"]["sigma"] != state["online"]["sigma"]).numpy().any()
    assert [*agent.deploy(agent.acting(new))] == ["q"]


def test_each_trial_has_noise_of_its_own() -> None:
    """Mapped over two trials with the same weights and observations: actions and updates differ by their numbers alone."""
    agent = agent_of(hidden=(8,), target="hard")
    generator = np.random.default_rng(5)
    state = agent.init({n: tf.constant(generator.normal(size=m.size), tf.float32) for n, m in agent.networks.items()})
    both = tf.nest.map_structure(lambda x: tf.stack([x, x]), (state, batch(), scalars(), tf.constant([1.0, -1.0])))
    states, rows, now, o_t = both
    draws = tf.constant(generator.random((30, 2, agent.widths["act"])), tf.float32)
    act, learn = (tf.function(mapped(function), autograph=False) for function in (agent.act, agent.learn))
    actions = np.stack([act(agent.acting(states), o_t, u, now) for u in draws])
    assert (actions[:, 0] != actions[:, 1]).any() and len(set(actions[:, 1])) > 1
    u = tf.constant(generator.random((1, agent.widths["learn"])), tf.float32)
    other = tf.constant(generator.random((1, agent.widths["learn"])), tf.float32)
    losses = [learn(states, rows, tf.concat(pair, 0), now)[1]["loss"] for pair in ((u, u), (u, other))]
    assert losses[0][0] == losses[0][1] and losses[1][0] != losses[1][1]


def test_a_double_algorithm_chooses_by_the_perturbed_online_network() -> None:
    agent = agent_of(DoubleDQN, target="hard")
    state = agent.init({n: tf.zeros(m.size) for n, m in agent.networks.items()})
    draws = np.random.default_rng(2).random((50, agent.widths["learn"])).astype(np.float32)
    seen = [agent.perturbed({n: state[n] for n in ("online", "target")}, tf.constant(u)) for u in draws]
    assert len({int(agent.bootstrap_action(noisy, tf.ones((1, 2)))[0]) for noisy in seen}) == 3


@pytest.mark.parametrize("network", ["mlp", "dueling", "minatar"])
def test_the_networks_of_a_seed_do_not_depend_on_noise(network: str) -> None:
    shape = (10, 10, 4) if network == "minatar" else (4,)
    info = EnvInfo(Box(shape, "float32", (0.0,), (1.0,)), Discrete(2), None, False)
    plain, noisy = (
        build(compose("algo=ddqn", f"network={network}", f"network.noisy={on}"), info, 3) for on in ("false", "true")
    )
    assert [*noisy] == ["q", "sigma"] and (plain["q"].get_params() == noisy["q"].get_params()).all()
    assert (redraw(noisy, 3)["q"] == noisy["q"].get_params()).all()
    sigma = Noise(noisy["q"], 0.1).sigma()
    assert np.isclose(
        sigma.max(), 0.1 / np.sqrt(noisy["q"].model.layers[-1].input.shape[-1] if network == "minatar" else 4)
    )
    layers = noisy["q"].model.layers
    without = [layer for layer in layers if layer.weights and not isinstance(layer, keras.layers.Dense)]
    assert [layer.name.rstrip("_0123456789") for layer in without] == (
        ["conv2d"] if network == "minatar" else ["layer_normalization"] * 2
    )
    assert (sigma == 0).sum() == sum(np.prod(w.shape) for layer in without for w in layer.weights)


def test_refusals_and_names() -> None:
    with pytest.raises(Refusal, match=r"network\.noisy: expected false for ppo, received true\."):
        compose("algo=ppo", "network.noisy=true")
    with pytest.raises(Refusal, match=r"algo\.epsilon"):
        compose("algo=ddqn", "algo.epsilon=null")
    assert compose("algo=ddqn", "algo.epsilon=null", "network.noisy=true").algo.epsilon == 0.0
    ids = [compose("algo=ddqn", f"network.noisy={noisy}").config_id for noisy in ("false", "true")]
    assert ids[0] == compose("algo=ddqn").config_id != ids[1]
    assert compose("algo=ddqn", "algo.sigma0=.1").config_id == ids[0]  # read by noisy networks alone
    assert compose("algo=ddqn", "network.noisy=true", "algo.sigma0=.1").config_id not in ids
    assert compose("algo=ddqn", "network.noisy=true", "algo.sigma0=.5").config_id == ids[1]
    with pytest.raises(Refusal, match=r"network\.noisy: expected a network with dense layers"):
        Noise(FlatModel(keras.Sequential([keras.layers.Input((4, 1)), keras.layers.Conv1D(1, 2)])), 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "fused"])
@pytest.mark.parametrize("options", [("ddqn",), ("c51", "algo.double=true", "network=dueling")])
def test_a_trial_alone_equals_the_trial_in_a_batch(
    engine: str, options: tuple[str, ...], tiny: Callable[..., Any]
) -> None:
    more = (f"engine={engine}", *options[1:], "network.noisy=true", "network.hidden_units=[8]", "algo.epsilon=null")
    three, one = tiny(options[0], "trials=3", *more), tiny(options[0], "trials=1", "seed=2", *more)
    assert three["engine"] == engine and three["updates"][2] > 10
    assert trial(three, 2) == trial(one, 2) != trial(three, 0)
