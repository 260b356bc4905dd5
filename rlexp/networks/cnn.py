"""The convolutional network of Mnih et al. 2015 ("Human-level control", Methods) for image observations."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from rlexp.networks.dueling import head
from rlexp.networks.mlp import check_options
from rlexp.settings import NetworkSettings, refusal


def build(observation_shape: Sequence[int], num_outputs: int, network: NetworkSettings) -> keras.Model:
    """Three convolutions, the dense layers of `hidden_units`, and a plain or dueling head.

    Args:
        observation_shape: (height, width, channels), or (channels, height, width) as frame stacks come.
        num_outputs: A, the number of outputs.
        network: `hidden_units`, `activation`, `options.dueling`.

    Returns:
        Model: images of 0 to 255 as floats (it scales them itself) [B, *observation_shape] -> outputs [B, A].

    Raises:
        Refusal: where an observation is no image of at least 36 x 36 pixels.
    """
    check_options(network, ("dueling",))
    shape = tuple(observation_shape)
    channels_first = len(shape) == 3 and shape[0] < min(shape[1:])
    if len(shape) != 3 or min(shape[1:] if channels_first else shape[:2]) < 36:
        raise refusal(
            "network",
            "image observations of at least 36 x 36 pixels for cnn",
            f"shape {shape}",
            "Use network=mlp.",
        )
    inputs = keras.layers.Input(shape, name="observation")
    hidden = keras.layers.Permute((2, 3, 1))(inputs) if channels_first else inputs
    hidden = keras.layers.Rescaling(1 / 255)(hidden)
    for filters, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
        hidden = keras.layers.Conv2D(filters, kernel, stride, activation=network.activation)(hidden)
    hidden = keras.layers.Flatten()(hidden)
    for units in network.hidden_units:
        hidden = keras.layers.Dense(units, activation=network.activation)(hidden)
    if network.options.get("dueling", False):
        outputs = head(hidden, num_outputs, "mean")
    else:
        outputs = keras.layers.Dense(num_outputs, name="outputs")(hidden)
    return keras.Model(inputs, outputs, name="cnn")
