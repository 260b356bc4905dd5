"""Image observations: their axes, the smallest image of a network, the scale of their values. Imports no Keras.

An image has the shape (height, width, channels), or (channels, height, width) for stacks of grey frames. A stack of
colour images has four axes, (frames, height, width, channels).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from rlexp.config.schema.network import MNIH_2015, NetworkSettings
from rlexp.system.errors import refusal

MIN_PICTURE = 36  # pixels: the smallest image that the layers of Mnih et al. 2015 take; larger ones are pictures
MAX_PIXEL = 255.0
MAX_SYMBOL = 31  # values up to this are symbols or scaled pixel values (MiniGrid's largest symbol is 10)
# Largest image, counted in the numbers of its patches, whose convolutions are computed in patches. Processor time of an
# update of ten trials, batches of 32, in patches and by Keras' convolution side by side:
#    2,304 numbers  `minatar`, 10 x 10 x 4                20 ms    37 ms
#    5,760          `minatar`, 10 x 10 x 10               25       37
#    7,488          16 and 32 filters of 3 x 3, 10 x 10    39       54
#    8,748          `minatar`, 20 x 20 x 3               108      160
#    9,280          `cnn`, 36 x 36 x 1                    97       54
#   21,568          `cnn`, 36 x 36 x 4                   154       78
#  172,096          `cnn`, 84 x 84 x 4                 1,570    1,042
MAX_PATCHES = 9_000


def options_of(network: NetworkSettings) -> dict[str, Any]:
    """The network's options; the default of a missing one is the value of Mnih et al. 2015."""
    return {**MNIH_2015, **network.options}


def channels_first(shape: Sequence[int], channels: str = "auto") -> bool:
    """Whether the first of three axes are the channels.

    Args:
        shape: the shape of the observation.
        channels: auto | first | last. With auto, two equal neighbouring axes are height and width, and the third one is
            the channels; otherwise the shorter one of the first and the last axis is the channels.
    """
    if len(shape) != 3 or channels != "auto":
        return len(shape) == 3 and channels == "first"
    first, middle, last = shape
    if (first == middle) != (middle == last):
        return middle == last
    return first < last


def size(shape: Sequence[int], channels: str = "auto") -> tuple[int, int] | None:
    """Height and width of an image in pixels; None for other observations."""
    if len(shape) == 4:
        return shape[1], shape[2]
    if len(shape) != 3:
        return None
    return (shape[1], shape[2]) if channels_first(shape, channels) else (shape[0], shape[1])


def is_picture(shape: Sequence[int]) -> bool:
    """Whether an observation is so large an image that dense layers would have too many weights."""
    pixels = size(shape)
    return pixels is not None and min(pixels) >= MIN_PICTURE


def smallest(kernel_sizes: Sequence[int], strides: Sequence[int]) -> int:
    """The side in pixels of the smallest image for which convolutions without padding have an output."""
    side = 1
    for kernel, stride in zip(reversed(kernel_sizes), reversed(strides), strict=True):
        side = (side - 1) * stride + kernel
    return side


def in_patches(shape: Sequence[int], network: NetworkSettings) -> bool:
    """Whether the network computes its convolutions as patches and a matrix product (networks/patches.py).

    Args:
        shape: the shape of the observation.
        network: settings of one of the networks with convolutions.
    """
    if size(shape) is None:
        return False
    return sum(layer.places * layer.patch for layer in convolutions(shape, network)) <= MAX_PATCHES


class Convolution(NamedTuple):
    """The sizes of one convolution: its outputs are `places` times `filters` numbers."""

    places: int  # where it looks at its image
    patch: int  # numbers that it sees there
    filters: int


def convolutions(shape: Sequence[int], network: NetworkSettings) -> list[Convolution]:
    """The convolutions of a network, without padding; arguments as of `in_patches`, of an image."""
    options = options_of(network)
    height, width = size(shape, options["channels"]) or (1, 1)
    channels, found = math.prod(shape) // (height * width), []
    layers = zip(options["filters"], options["kernel_sizes"], options["strides"], strict=True)
    for filters, kernel, stride in layers:
        height, width = (max(1, (side - kernel) // stride + 1) for side in (height, width))  # smaller ones are refused
        found.append(Convolution(height * width, kernel * kernel * channels, filters))
        channels = filters
    return found


def check(shape: Sequence[int], network: NetworkSettings) -> None:
    """Refuse observations that the network's convolutions cannot take.

    Raises:
        Refusal: for option lists of different lengths, observations that are not images, and images that are too small.
    """
    options = options_of(network)
    lists = [options[name] for name in ("filters", "kernel_sizes", "strides")]
    if len({len(values) for values in lists}) > 1:
        raise refusal(
            "network.options",
            "as many kernel_sizes and strides as filters, one per convolution",
            f"filters {lists[0]}, kernel_sizes {lists[1]} and strides {lists[2]}",
        )
    side, pixels = smallest(*lists[1:]), size(shape, options["channels"])
    if pixels is None or min(pixels) < side:
        fix = "Use network=mlp."
        if pixels is not None and min(pixels) >= 3:
            fix = "Use network=minatar, or smaller network.options.kernel_sizes and network.options.strides."
        expected = f"image observations of at least {side} x {side} pixels for {network.name}"
        raise refusal("network", expected, f"shape {tuple(shape)}", fix)


def resolved(network: NetworkSettings, small_numbers: bool) -> NetworkSettings:
    """The settings with a number as `divide_by`.

    Args:
        network: the network's settings.
        small_numbers: the result of `has_small_numbers` for the environment.
    """
    if options_of(network)["divide_by"] != "auto":
        return network
    return replace(network, options={**network.options, "divide_by": 1.0 if small_numbers else MAX_PIXEL})


def has_small_numbers(env: Any) -> bool:
    """Whether an environment's images hold booleans, symbols or scaled pixel values instead of pixel values 0 to 255.

    The space decides for booleans and for pictures with bounds. For small images of bytes (MiniGrid's symbols, at most
    10, are declared as 0 to 255) and for values without bounds, the first observation decides.

    Args:
        env: a Gymnasium environment with a Box observation space.
    """
    import numpy as np

    space = env.observation_space
    pixels = size(space.shape)
    if pixels is None:
        return False
    high = float(np.max(space.high))
    if space.dtype == bool or high < MAX_PIXEL:
        return True
    if high == MAX_PIXEL and min(pixels) >= MIN_PICTURE:
        return False
    try:
        first, _ = env.reset(seed=0)
        return bool(np.max(np.abs(np.asarray(first, np.float64))) <= MAX_SYMBOL)
    except Exception:  # the job reports the fault of its environment later
        return False
