"""A convolutional network for image observations: by default that of Mnih et al. 2015 ("Human-level control", Methods).

`network=minatar` is the one of Young and Tian 2019 ("MinAtar", section 3) for small images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rlexp.config import images
from rlexp.config.schema.network import MNIH_2015, NetworkSettings
from rlexp.networks.dueling import head
from rlexp.networks.mlp import check_options
from rlexp.networks.outputs import linear
from rlexp.networks.patches import compute_in_patches


def build(observation_shape: Sequence[int], output_shape: Sequence[int], network: NetworkSettings) -> keras.Model:
    """Convolutions without padding, the dense layers of `hidden_units`, and a plain or dueling head.

    Args:
        observation_shape: (height, width, channels), (channels, height, width) as frame stacks come, or
            (frames, height, width, channels).
        output_shape: of one output, as in `mlp.build`.
        network: `hidden_units`, `activation`, `options.dueling`, `.filters`, `.kernel_sizes`, `.strides`, `.channels`
            and `.divide_by` (auto, where `images.resolved` has not replaced it: 255).

    Returns:
        Model: images as floats, whose numbers it divides itself [B, *observation_shape] -> outputs
            [B, *output_shape].

    Raises:
        Refusal: where an observation is no image, or smaller than the convolutions need.
    """
    check_options(network, ("dueling", *MNIH_2015))
    images.check(observation_shape, network)
    options = images.options_of(network)
    inputs = keras.layers.Input(tuple(observation_shape), name="observation")
    hidden = _channels_last(inputs, options["channels"])
    divide_by = images.MAX_PIXEL if options["divide_by"] == "auto" else options["divide_by"]
    if divide_by != 1:
        hidden = keras.layers.Rescaling(1 / divide_by)(hidden)
    in_patches = images.in_patches(observation_shape, network)
    layers = zip(options["filters"], options["kernel_sizes"], options["strides"], strict=True)
    for filters, kernel_size, stride in layers:
        convolution = keras.layers.Conv2D(filters, kernel_size, stride, activation=network.activation)
        if in_patches:
            compute_in_patches(convolution)
        hidden = convolution(hidden)
    hidden = keras.layers.Flatten()(hidden)
    for units in network.hidden_units:
        hidden = keras.layers.Dense(units, activation=network.activation)(hidden)
    if network.options.get("dueling", False):
        outputs = head(hidden, output_shape, "mean")
    else:
        outputs = linear(hidden, output_shape, "outputs")
    return keras.Model(inputs, outputs, name="cnn")


def _channels_last(observation: Any, channels: str) -> Any:
    """Images [B, height, width, channels] of observations as they come; frames of a stack are further channels."""
    shape = observation.shape[1:]
    if len(shape) == 4:
        hidden = keras.layers.Permute((2, 3, 1, 4))(observation)
        return keras.layers.Reshape((shape[1], shape[2], shape[0] * shape[3]))(hidden)
    if images.channels_first(shape, channels):
        return keras.layers.Permute((2, 3, 1))(observation)
    return observation
