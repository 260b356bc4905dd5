"""The heads of networks: a number per action, or several, by hand."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlexp.algos.c51 import C51
from rlexp.algos.dqn import DQN
from rlexp.algos.qr_dqn import QRDQN
from rlexp.config.schema.algos import C51Settings, FixedDQNSettings, QRDQNSettings
from rlexp.config.schema.network import NetworkSettings
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete
from rlexp.networks import cnn, dueling, mlp
from rlexp.networks.flat_model import FlatModel
from rlexp.networks.noisy import factors, normal
from rlexp.networks.outputs import checked, with_zero_logit
from rlexp.system.errors import Refusal


def dueling_of_three_atoms(aggregation: str) -> keras.Model:
    """Two actions, three numbers each; the one observed number is 1 and there is no hidden layer, so that the weights are
    V = [1, 2, 3] and A = [[1, 2, 3], [5, 10, 15]]."""
    network = NetworkSettings("dueling", [], "tanh", {"aggregation": aggregation})
    model = dueling.build((1,), (2, 3), network)
    model.get_layer("value").set_weights([np.array([[1.0, 2.0, 3.0]]), np.zeros(3)])
    model.get_layer("advantage").set_weights([np.array([[1.0, 2.0, 3.0, 5.0, 10.0, 15.0]]), np.zeros(6)])
    return model


def test_the_dueling_mean_and_maximum_are_over_actions_for_each_atom() -> None:
    """The means over the two actions are [3, 6, 9], the maxima [5, 10, 15]; over all six numbers the mean would be 6."""
    mean, maximum = (dueling_of_three_atoms(aggregation)(np.ones((1, 1)))[0] for aggregation in ("mean", "max"))
    np.testing.assert_allclose(mean, [[1 + 1 - 3, 2 + 2 - 6, 3 + 3 - 9], [1 + 5 - 3, 2 + 10 - 6, 3 + 15 - 9]])
    np.testing.assert_allclose(maximum, [[1 + 1 - 5, 2 + 2 - 10, 3 + 3 - 15], [1, 2, 3]])


def test_a_dueling_head_of_one_number_per_action() -> None:
    model = dueling.build((1,), (2,), NetworkSettings("dueling", [], "tanh"))
    assert [layer.name for layer in model.layers if layer.weights] == ["value", "advantage"]
    model.get_layer("value").set_weights([np.array([[7.0]]), np.zeros(1)])
    model.get_layer("advantage").set_weights([np.array([[1.0, 5.0]]), np.zeros(2)])
    np.testing.assert_allclose(model(np.ones((1, 1))), [[7 + 1 - 3, 7 + 5 - 3]])


def test_the_dueling_head_of_images_by_hand() -> None:
    """No convolution and no hidden layer: the four pixels, 0, 1, 2 and 3, are what both heads see.

    V = 1 + 2 + 3 = 6, and A = [0 + 3, 2 * 1 + 3, 10 * 2 + 3] = [3, 5, 23] with a mean of 31/3.
    """
    network = NetworkSettings("minatar", [], "relu", {"dueling": True, "filters": [], "kernel_sizes": [], "strides": [],
                                                      "divide_by": 1})  # fmt: skip
    model = cnn.build((2, 2, 1), (3,), network)
    model.get_layer("value").set_weights([np.ones((4, 1)), np.zeros(1)])
    kernel = np.array([[9.0, 9, 9], [0, 2, 0], [0, 0, 10], [1, 1, 1]])
    model.get_layer("advantage").set_weights([kernel, np.zeros(3)])
    image = np.arange(4.0).reshape((1, 2, 2, 1))
    np.testing.assert_allclose(model(image), [[6 + 3 - 31 / 3, 6 + 5 - 31 / 3, 6 + 23 - 31 / 3]], rtol=1e-6)
    # Frames of a stack and channels before pixels are the same image.
    for shape in ((2, 2, 2, 1), (2, 8, 8)):
        other = cnn.build(shape, (3,), NetworkSettings("cnn", [], "relu", network.options))
        sizes = [layer.kernel.shape[0] for layer in other.layers if layer.weights]
        assert sizes == [int(np.prod(shape))] * 2


def test_a_noisy_dueling_head_by_hand() -> None:
    """V = 7 + .5 e_v and A = [1, 5] + [.5, 2] e_a, with factors of the input and of each output: Q has both noises."""
    model = FlatModel(dueling.build((1,), (2,), NetworkSettings("dueling", [], "tanh")))
    info = EnvInfo(Box((1,), "float32"), Discrete(2), None, False)
    agent = DQN(FixedDQNSettings(epsilon=0.0), {"q": model, "sigma": model}, info)
    assert agent.noise is not None and agent.noise.width == 2 + 3 + 1  # an input and outputs of two layers; pairs
    u = tf.constant(np.random.default_rng(0).random(6), tf.float32)
    f = factors(normal(u)).numpy()  # of V's input and output, then A's input and two outputs
    mu, sigma = tf.constant([7.0, 0, 1, 5, 0, 0]), tf.constant([0.5, 0, 0.5, 2, 0, 0])  # kernel and bias, of V and of A
    params = agent.perturbed({"online": {"q": mu, "sigma": sigma}}, tf.concat([u, u], axis=0))["online"]
    value, advantage = 7 + 0.5 * f[0] * f[1], np.array([1 + 0.5 * f[2] * f[3], 5 + 2 * f[2] * f[4]])
    np.testing.assert_allclose(
        agent.q_values(params, tf.ones((1, 1))), [value + advantage - advantage.mean()], rtol=1e-5
    )
    assert np.abs(f[:5]).min() > 0.1  # nothing of it is missing by chance


def test_the_dueling_heads_of_distributions_by_hand() -> None:
    """C51, returns 0 and 1: V = [0, ln 3], A = [0, 2 ln 3] and [0, 0], whose mean is [0, ln 3], so that the logits are
    [0, 2 ln 3] and [0, 0]: returns of 1 have probabilities 9/10 and 1/2.

    QR-DQN: V = [1, 3], A = [2, 4] and [0, 0], with a mean of [1, 2]: quantiles [2, 5] and [0, 1], means 3.5 and .5.
    """
    ln3 = np.log(3)
    kind: Any
    for kind, config, value, advantage, expected in (
        (C51, C51Settings(num_atoms=2, v_min=0.0, v_max=1.0), [0, ln3], [0, 2 * ln3, 0, 0], [0.9, 0.5]),
        (QRDQN, QRDQNSettings(num_quantiles=2), [1, 3], [2, 4, 0, 0], [3.5, 0.5]),
    ):
        model = dueling.build((1,), (2, 2), NetworkSettings("dueling", [], "tanh"))
        model.get_layer("value").set_weights([np.zeros((1, 2)), np.array(value)])
        model.get_layer("advantage").set_weights([np.zeros((1, 4)), np.array(advantage)])
        network = FlatModel(model)
        agent = kind(config, {"q": network}, EnvInfo(Box((1,), "float32"), Discrete(2), None, False))
        params = {"q": tf.constant(network.get_params())}
        np.testing.assert_allclose(agent.q_values(params, tf.ones((1, 1))), [expected], rtol=1e-5)
        np.testing.assert_allclose(agent.policy_model({"q": model})(np.ones((1, 1))), [expected], rtol=1e-5)


@pytest.mark.parametrize("shape", [(1,), (4,), (4, 51)])
def test_every_network_has_outputs_of_the_shape_it_is_asked_for(shape: tuple[int, ...]) -> None:
    image = NetworkSettings("minatar", [8], "relu", {"filters": [4], "kernel_sizes": [3], "strides": [1]})
    for model in (
        mlp.build((3,), shape, NetworkSettings("mlp", [8])),
        dueling.build((3,), shape, NetworkSettings("dueling", [8])),
        cnn.build((10, 10, 4), shape, image),
        cnn.build((10, 10, 4), shape, NetworkSettings("minatar", [8], "relu", {**image.options, "dueling": True})),
    ):
        assert model.output_shape == (None, *shape)
        assert checked(model, "own", model.input_shape[1:], shape) is model


def test_a_network_of_another_shape_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        checked(mlp.build((3,), (4,), NetworkSettings("mlp", [])), "mine:net", (3,), (4, 51))
    assert str(refused.value) == (
        "network.name: expected outputs of shape [B, 4, 51], received 'mine:net' with outputs of shape [B, 4].\n"
        "The function's second argument is the shape of one output, e.g. (2,): Dense(math.prod(output_shape))."
    )


def test_a_logit_of_zero_beside_the_one_output() -> None:
    model = with_zero_logit(mlp.build((3,), (1,), NetworkSettings("mlp", [])))
    logits = np.asarray(model(np.ones((2, 3))))
    assert logits.shape == (2, 2) and not logits[:, 1].any() and logits[:, 0].all()
