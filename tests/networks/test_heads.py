"""The heads of networks: a number per action, or several, by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from rlexp.config.schema.network import NetworkSettings
from rlexp.networks import cnn, dueling, mlp
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
