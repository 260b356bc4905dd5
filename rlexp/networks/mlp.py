"""Multilayer perceptron: observation -> one number per action, or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rlexp.config.schema.network import NetworkSettings
from rlexp.networks.outputs import linear
from rlexp.system.errors import refusal

OPTIONS = ("initializer", "layer_norm")  # keys of network.options


def build(observation_shape: Sequence[int], output_shape: Sequence[int], network: NetworkSettings) -> keras.Model:
    """A dense network; observations of more than one axis are flattened.

    Args:
        observation_shape: shape of one observation.
        output_shape: of one output: (A,) for a number per action, (1,) for a value, (A, K) for K numbers per action.
        network: `hidden_units`, `activation`; `options.initializer` (of the hidden layers' weights; default:
            glorot_uniform), `options.layer_norm` (default: false; Ba et al. 2016, before each activation).

    Returns:
        Model [B, *observation_shape] -> outputs [B, *output_shape].
    """
    check_options(network, OPTIONS)
    inputs, hidden = body(observation_shape, network)
    return keras.Model(inputs, linear(hidden, output_shape, "outputs"), name="mlp")


def body(observation_shape: Sequence[int], network: NetworkSettings) -> tuple[Any, Any]:
    """Input and last hidden layer of the perceptron."""
    inputs = hidden = keras.layers.Input(tuple(observation_shape), name="observation")
    if len(observation_shape) != 1:
        hidden = keras.layers.Flatten()(hidden)
    initializer, norm = network.options.get("initializer", "glorot_uniform"), network.options.get("layer_norm", False)
    for units in network.hidden_units:
        if norm:
            hidden = keras.layers.Dense(units, kernel_initializer=initializer)(hidden)
            hidden = keras.layers.Activation(network.activation)(keras.layers.LayerNormalization()(hidden))
        else:
            hidden = keras.layers.Dense(units, network.activation, kernel_initializer=initializer)(hidden)
    return inputs, hidden


def check_options(network: NetworkSettings, known: Sequence[str]) -> None:
    """Refuse options that this network does not read."""
    for key in network.options:
        if key not in known:
            raise refusal(
                f"network.options.{key}", f"an option of network {network.name}", "an unknown one",
                f"It reads {', '.join(known)}." if known else "It reads none.",
            )  # fmt: skip
