"""Implicit quantile networks: quantiles, targets and what is saved, by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlexp.algos.iqn import IQN
from rlexp.config.schema.algos import IQNSettings
from rlexp.config.schema.network import NetworkSettings
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose
from rlexp.jobs.weights import save_model
from rlexp.networks.building import Maker, build, redraw
from rlexp.networks.flat_model import FlatModel
from rlexp.system.errors import Refusal
from tests.algos.test_base import INFO, SGD, batch, made, scalars
from tests.engines.test_engines import trial

SMALL = {"num_taus": 2, "num_target_taus": 3, "num_greedy_taus": 4, "num_cosines": 2, "num_features": 1}


def agent_of(**settings: Any) -> IQN:
    agent: IQN = made(IQN, IQNSettings(optimizer=SGD, batch_size=2, kappa=0.0, **{**SMALL, **settings}))
    return agent


def params(head: list[float], bias: list[float]) -> dict[str, tf.Tensor]:
    """psi = 1; phi = relu(1 + cos(pi tau)), so that i begins at 0; the head's hidden unit is the product itself."""
    return {
        "psi": tf.constant([0.0, 0.0, 1.0]),  # two observed numbers and the bias
        "phi": tf.constant([1.0, 1.0, 0.0]),  # of cos(0) and cos(pi tau)
        "head": tf.constant([1.0, 0.0, *head, *bias]),
    }


def test_quantiles_by_hand() -> None:
    agent = agent_of()
    z = agent.quantiles(params([2.0, 0.0, -1.0], [0.0, 3.0, 0.0]), tf.zeros((1, 2)), tf.constant([[0.0, 0.5, 1.0]]))
    np.testing.assert_allclose(z[0], [[4, 3, -2], [2, 3, -1], [0, 3, 0]], atol=1e-6)  # 1 + cos: 2, 1, 0


@pytest.mark.parametrize(
    ("cvar", "first"), [(1.0, 1.0), (0.5, 1 + np.mean(np.cos(np.pi * np.array([1, 3, 5, 7]) / 16)))]
)
def test_values_are_means_at_fixed_shares(cvar: float, first: float) -> None:
    """At 1/8, 3/8, 5/8 and 7/8 the cosines cancel; the worst half of returns is at half these shares."""
    agent = agent_of(cvar=cvar)
    values = agent.q_values(params([1.0, 0.0, 0.0], [0.0, 1.2, 0.0]), tf.zeros((1, 2)))
    np.testing.assert_allclose(values[0], [first, 1.2, 0], atol=1e-6)
    assert int(agent.greedy(params([1.0, 0.0, 0.0], [0.0, 1.2, 0.0]), tf.zeros((1, 2)))[0]) == (1 if cvar == 1 else 0)


@pytest.mark.parametrize(("cvar", "third", "action"), [(1.0, 1.1, 2), (1.0, 0.9, 0), (0.5, 1.1, 0)])
def test_the_next_action_is_chosen_at_three_shares(cvar: float, third: float, action: int) -> None:
    """1 + cos(pi tau) has the mean 1 at 1/6, 1/2 and 5/6, and 1.56 at the worst half of them."""
    agent = agent_of(cvar=cvar)
    state = agent.init(params([1.0, 0.0, 0.0], [0.0, 0.0, third]))
    assert agent.bootstrap_action(state, tf.zeros((1, 2))).numpy().tolist() == [action]


@pytest.mark.parametrize(("double", "action"), [(False, 0), (True, 2)])
def test_the_target_has_shares_of_its_own(double: bool, action: int) -> None:
    """The target network's best action is the first, the online network's the third; both rows have five shares."""
    agent = agent_of(double=double)
    online, target = params([0.0, 0.0, 0.0], [0.0, 1.0, 2.0]), params([1.0, 0.0, 4.0], [9.0, 0.0, -4.0])
    state = {**agent.init(online), "target": target}
    u = tf.constant([0.1, 0.2, 0.0, 0.5, 1.0, 0.3, 0.4, 0.0, 0.0, 0.0])
    assert agent.widths == {"act": 2, "learn": 10}
    y = agent.target(state, batch(), u, scalars())
    z = {0: [11, 10, 9], 2: [4, 0, -4]}[action]  # at 0, 1/2 and 1
    np.testing.assert_allclose(y, [1 + 0.5 * np.array(z), [2, 2, 2]], atol=1e-5)
    losses = agent.losses(online, batch(), y, u, scalars())
    first = sum(np.mean([abs(tau - (v < 0)) * abs(v) for v in y[0].numpy()]) for tau in (0.1, 0.2))
    np.testing.assert_allclose(
        losses.priorities, [first, 0.0], rtol=1e-5, atol=1e-6
    )  # Z = 0 of the first, 2 of the third


def dueling_agent(network: NetworkSettings, **settings: Any) -> IQN:
    config = IQNSettings(optimizer=SGD, batch_size=2, kappa=0.0, **{**SMALL, **settings})
    models = IQN.models(Maker(network, INFO), INFO, config)
    return IQN(config, {name: FlatModel(model) for name, model in models.items()}, INFO)


@pytest.mark.parametrize(
    ("aggregation", "baselines"), [("mean", [15 / 3, 9 / 3, 3 / 3]), ("max", [8, 4, 3])], ids=["mean", "max"]
)
def test_a_dueling_head_by_hand(aggregation: str, baselines: list[float]) -> None:
    """1 + cos(pi tau) is 2, 1 and 0 at 0, 1/2 and 1: there V is 3 times that and 1, and A [4, 0, 2] times that and [0, 3, 0].

    psi is the features as they are: a head over features would take their mean from them, which of one leaves 0.
    """
    agent = dueling_agent(NetworkSettings("dueling", [], "tanh", {"aggregation": aggregation}))
    psi_and_phi = params([0.0] * 3, [0.0] * 3)
    head = tf.constant([1.0, 0.0, 3.0, 1.0, 4.0, 0.0, 2.0, 0.0, 3.0, 0.0])  # of the hidden unit, V and A
    z = agent.quantiles({**psi_and_phi, "head": head}, tf.zeros((1, 2)), tf.constant([[0.0, 0.5, 1.0]]))
    values, advantages = np.array([[7], [4], [1]]), np.array([[8, 3, 4], [4, 3, 2], [0, 3, 0]])
    np.testing.assert_allclose(z[0], values + advantages - np.array(baselines)[:, None], rtol=1e-5)


@pytest.mark.parametrize("network", ["dueling", "dueling_cnn", "minatar"])
def test_a_dueling_network_is_one_of_quantiles_and_not_of_features(network: str) -> None:
    """The features are those of the same network without its head, from the same seed."""
    shape, plain = ((4,), "mlp") if network == "dueling" else ((36, 36, 4), network.removeprefix("dueling_"))
    info = EnvInfo(Box(shape, "float32", (0.0,), (1.0,)), Discrete(3), None, False)
    more = ["network.options.dueling=true"] if network == "minatar" else []
    given = compose("algo=iqn", f"network={network}", "network.hidden_units=[8]", *more)
    without = compose(
        "algo=iqn", f"network={plain}", "network.hidden_units=[8]", f"network.activation={given.network.activation}"
    )
    found, other = build(given, info, 3), build(without, info, 3)
    assert [*found] == ["psi", "phi", "head"]
    assert (redraw(found, 3)["psi"] == redraw(other, 3)["psi"]).all()
    assert found["psi"].shapes == other["psi"].shapes and found["psi"].model.output_shape == (None, 64)
    assert found["head"].shapes == [(64, 64), (64,), (64, 1), (1,), (64, 3), (3,)]
    assert other["head"].shapes == [(64, 64), (64,), (64, 3), (3,)]


@pytest.mark.parametrize("network", ["mlp", "dueling"])
def test_what_is_saved_has_action_values(network: str, tmp_path: Path) -> None:
    agent = dueling_agent(NetworkSettings(network, [4]), num_features=5, num_cosines=7)
    networks = agent.networks
    observations = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    given = {name: tf.constant(network.get_params()) for name, network in networks.items()}
    assert [*agent.deploy(given)] == ["psi", "phi", "head"]
    models = {name: network.model for name, network in networks.items()}
    save_model(agent.policy_model(models), tmp_path / "best.keras")
    loaded = keras.saving.load_model(tmp_path / "best.keras", safe_mode=True)
    assert loaded.output_shape == (None, 3)
    np.testing.assert_allclose(
        loaded(observations), agent.q_values(given, tf.constant(observations)), rtol=1e-4, atol=1e-6
    )


def test_noise_is_refused() -> None:
    with pytest.raises(Refusal, match=r"network\.noisy: expected false for iqn, received true\."):
        resolve(compose("algo=iqn", "network.noisy=true"))


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "dueling"])
@pytest.mark.parametrize("engine", ["host", "fused"])
def test_a_trial_alone_equals_the_trial_in_a_batch(engine: str, network: str, tiny: Callable[..., Any]) -> None:
    options = (
        f"engine={engine}",
        f"network={network}",
        "network.hidden_units=[8]",
        "algo.target_period=20",
        "algo.num_features=8",
    )
    three, one = tiny("iqn", "trials=3", *options), tiny("iqn", "trials=1", "seed=2", *options)
    assert three["engine"] == engine and three["updates"][2] > 10
    assert trial(three, 2) == trial(one, 2) != trial(three, 0)
