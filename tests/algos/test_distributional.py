"""Distributional algorithms and Munchausen DQN: targets, losses and what is saved, by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlexp.algos.c51 import C51
from rlexp.algos.distributional import DistributionalDQN
from rlexp.algos.munchausen_dqn import MunchausenDQN
from rlexp.algos.qr_dqn import QRDQN
from rlexp.config.schema.algos import C51Settings, MunchausenDQNSettings, QRDQNSettings
from rlexp.config.schema.network import NetworkSettings
from rlexp.jobs.runner import compose
from rlexp.jobs.weights import save_model
from rlexp.networks import dueling, mlp
from rlexp.networks.flat_model import FlatModel
from rlexp.system.errors import Refusal
from tests.algos.test_base import INFO, NO_NUMBERS, SGD, batch, made, scalars
from tests.engines.test_engines import trial

C51_CONFIG = {"num_atoms": 3, "v_min": 0.0, "v_max": 2.0, "optimizer": SGD}
QR_CONFIG = {"num_quantiles": 2, "kappa": 0.0, "optimizer": SGD}


def with_biases(agent: DistributionalDQN, online: list[list[float]], target: list[list[float]]) -> dict[str, Any]:
    """A state whose networks have these outputs [A, K] for any observation: weights 0, biases as given."""
    size = agent.networks["q"].size

    def params(outputs: list[list[float]]) -> dict[str, tf.Tensor]:
        biases = np.ravel(outputs)
        return {"q": tf.constant(np.concatenate([np.zeros(size - biases.size), biases]), tf.float32)}

    return {**agent.init(params(online)), "target": params(target)}


@pytest.mark.parametrize(("double", "action"), [(False, 0), (True, 2)])
def test_the_target_of_c51(double: bool, action: int) -> None:
    """Returns 0, 1, 2: the target network's best action by the mean is the first, the online network's the third."""
    agent = made(C51, C51Settings(**C51_CONFIG, double=double))
    online = [[0.0, 0, 0], [9, 0, 0], [0, 0, 9]]
    target = np.log([[0.2, 0.3, 0.5], [0.9, 0.05, 0.05], [0.5, 0.3, 0.2]])
    state = with_biases(agent, online, target.tolist())
    np.testing.assert_allclose(agent.q_values(state["target"], tf.zeros((1, 2)))[0], [1.3, 0.15, 0.7], rtol=1e-5)
    y = agent.target(state, batch(r_t=[0.5, 1.0]), NO_NUMBERS, scalars())
    p = np.exp(target[action])
    moved = [p[0] * 0.5, p[0] * 0.5 + p[1] + p[2] * 0.5, p[2] * 0.5]  # atoms .5, 1, 1.5; the second row is terminal
    np.testing.assert_allclose(y, [moved, [0, 1, 0]], atol=1e-6)
    update = agent.learn(state, batch(r_t=[0.5, 1.0]), NO_NUMBERS, scalars())
    chosen = [0, 2]  # the actions of the batch
    losses = [-(y[b] * tf.nn.log_softmax(np.float32(online[a]))).numpy().sum() for b, a in enumerate(chosen)]
    np.testing.assert_allclose(update.priorities, losses, rtol=1e-5)  # the cross-entropy, not a TD error
    assert float(update.metrics["loss"]) == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize(("double", "action"), [(False, 0), (True, 2)])
def test_the_target_of_qr_dqn(double: bool, action: int) -> None:
    agent = made(QRDQN, QRDQNSettings(**QR_CONFIG, double=double))
    online, target = [[0.0, 0], [1, 1], [2, 2]], [[8.0, 4], [0, 0], [-3, 5]]
    state = with_biases(agent, online, target)
    y = agent.target(state, batch(), NO_NUMBERS, scalars())
    np.testing.assert_allclose(y, [1 + 0.5 * np.array(target[action]), [2, 2]])
    update = agent.learn(state, batch(), NO_NUMBERS, scalars())
    # The online quantiles of both rows are equal: (0, 0) below the target, (2, 2) at it; shares 1/4 and 3/4 add up to 1.
    losses = [np.mean(y[0]), 0.0] if not double else [0.5 * (0.25 + 0.75) * 3.5 + 0.5 * (0.75 + 0.25) * 0.5, 0.0]
    np.testing.assert_allclose(update.priorities, losses, rtol=1e-6)


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, [1.281936, 1.9]), (0.03, [1.0, 1.9])])
def test_the_target_of_munchausen_dqn(temperature: float, expected: list[float]) -> None:
    """Published by hand in the notes on breadth: Q' = 1, 2 before and 0, 1 after; r 1, gamma .9, alpha .9, l_0 -1."""
    agent = MunchausenDQN(MunchausenDQNSettings(temperature=temperature), {}, INFO)
    agent.q_values = lambda params, o_t: o_t  # type: ignore[method-assign]  # what is observed are the values
    rows = batch(o_tm1=[[1.0, 2.0]] * 2, o_t=[[0.0, 1.0]] * 2, a_tm1=[0, 1], r_t=[1.0, 1.0], terminated=[0.0, 0.0])
    y = agent.target({"online": {}, "target": {}}, rows, NO_NUMBERS, scalars(gamma=0.9))
    np.testing.assert_allclose(y, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", [C51, QRDQN])
@pytest.mark.parametrize("is_dueling", [False, True], ids=["plain", "dueling"])
def test_what_is_saved_has_action_values(kind: Any, is_dueling: bool, tmp_path: Path) -> None:
    config = C51Settings(**C51_CONFIG) if kind is C51 else QRDQNSettings(**QR_CONFIG)

    def make(shape: tuple[int, ...]) -> keras.Model:
        if is_dueling:
            return dueling.build((2,), shape, NetworkSettings("dueling", [4]))
        return mlp.build((2,), shape, NetworkSettings("mlp", [4]))

    network = FlatModel(kind.models(make, INFO, config)["q"])
    agent = kind(config, {"q": network}, INFO)
    observations = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    save_model(agent.policy_model({"q": network.model}), tmp_path / "best.keras")
    loaded = keras.saving.load_model(tmp_path / "best.keras", safe_mode=True)
    values = agent.q_values({"q": tf.constant(network.get_params())}, tf.constant(observations))
    assert loaded.output_shape == (None, 3)
    np.testing.assert_allclose(loaded(observations), values, rtol=1e-5, atol=1e-6)


def test_a_support_without_a_length_is_refused() -> None:
    with pytest.raises(Refusal, match=r"algo\.v_max: expected a number above algo\.v_min \(2\), received 1"):
        compose("algo=c51", "algo.v_min=2", "algo.v_max=1")
    with pytest.raises(Refusal, match=r"algo\.loss: expected"):
        compose("algo=qr_dqn", "algo.loss=mse")


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["c51", "qr_dqn", "munchausen_dqn"])
@pytest.mark.parametrize("engine", ["host", "fused"])
def test_a_trial_alone_equals_the_trial_in_a_batch(algo: str, engine: str, tiny: Callable[..., Any]) -> None:
    options = (f"engine={engine}", "network.hidden_units=[8]", "algo.target_period=20")
    three, one = tiny(algo, "trials=3", *options), tiny(algo, "trials=1", "seed=2", *options)
    assert three["engine"] == engine and three["updates"][2] > 10
    assert trial(three, 2) == trial(one, 2) != trial(three, 0)
