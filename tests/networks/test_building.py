"""The initial weights of networks, by seed."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from rlexp.config.schema.network import NetworkSettings
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose
from rlexp.networks import mlp
from rlexp.networks.building import build, redraw
from rlexp.system.errors import Refusal

OPTIONS = ["network.options.initializer=he_normal", "network.options.layer_norm=true"]


@pytest.mark.parametrize("network", ["mlp", "dueling", "minatar", "with options"])
@pytest.mark.parametrize(
    "algo",
    [["algo=ddqn"], ["algo=pg", "algo.head=sigmoid"], ["algo=pg_baseline"], ["algo=ppo"],
     ["algo=ppo", "algo.orthogonal=true"]],
)  # fmt: skip
def test_weights_are_drawn_for_a_seed_as_a_network_built_for_it_has_them(algo: list[str], network: str) -> None:
    settings = compose(*algo, *(OPTIONS if network == "with options" else [f"network={network}"]))
    shape = (10, 10, 4) if network == "minatar" else (4,)
    info = EnvInfo(Box(shape, "float32", (0.0,), (1.0,)), Discrete(2), None, False)
    first, third = (build(settings, info, seed) for seed in (0, 2))
    drawn = redraw(first, 2)
    assert {name: drawn[name].tobytes() for name in drawn} == {
        name: model.get_params().tobytes() for name, model in third.items()
    }


@pytest.mark.parametrize(
    ("initializer", "deviation"),
    [("glorot_uniform", np.sqrt(2 / 128)), ("he_normal", np.sqrt(2 / 64)), ("orthogonal", np.sqrt(1 / 64))],
)
def test_the_initializer_is_of_hidden_layers(initializer: str, deviation: float) -> None:
    """Of 64 inputs and 64 units: Glorot 2 / (in + out), He 2 / in; columns of an orthogonal matrix have length 1."""
    settings = NetworkSettings("mlp", [64], "relu", {"initializer": initializer, "layer_norm": True})
    model = mlp.build((64,), (3,), settings)
    assert [type(layer).__name__ for layer in model.layers] == [
        "InputLayer", "Dense", "LayerNormalization", "Activation", "Dense",
    ]  # fmt: skip
    kernel, outputs = model.layers[1].kernel.numpy(), model.layers[-1].kernel.numpy()
    assert kernel.std() == pytest.approx(deviation, rel=0.1) and outputs.std() == pytest.approx(
        np.sqrt(2 / 67), rel=0.2
    )
    hidden = keras.Model(model.input, model.layers[2].output)(np.random.default_rng(0).normal(size=(5, 64)))
    np.testing.assert_allclose(np.std(hidden, axis=1), 1, atol=0.01)
    orthogonal = np.allclose(kernel.T @ kernel, np.eye(64), atol=1e-5)
    assert orthogonal == (initializer == "orthogonal")


def test_kernels_start_orthogonal_with_their_gains() -> None:
    """Rows or columns of a kernel have the length sqrt 2 in hidden layers, .01 for logits and 1 for values."""
    settings = compose("algo=ppo", "algo.orthogonal=true", "network.hidden_units=[16,8]")
    info = EnvInfo(Box((4,), "float32"), Discrete(3), None, False)
    model = build(settings, info, 7)["policy"].model
    kernels = [weight.numpy() for weight in model.weights if weight.name == "kernel"]
    gains = [np.sqrt(2)] * 2 + [0.01] + [np.sqrt(2)] * 2 + [1.0]
    assert [kernel.shape for kernel in kernels] == [(4, 16), (16, 8), (8, 3), (4, 16), (16, 8), (8, 1)]
    for kernel, gain in zip(kernels, gains, strict=True):
        short = kernel if kernel.shape[0] <= kernel.shape[1] else kernel.T
        np.testing.assert_allclose(short @ short.T, gain**2 * np.eye(len(short)), atol=1e-5)
    assert not np.allclose(kernels[0], kernels[3])  # each has its own


def test_unknown_options_are_refused() -> None:
    for option, said in (
        ("initializer=he", "network.options.initializer: expected"),
        ("layer_nrom=true", "network.options.layer_nrom: expected"),
    ):
        with pytest.raises(Refusal) as refused:
            resolve(compose("algo=ddqn", f"network.options.{option}"))
        assert str(refused.value).startswith(said)
