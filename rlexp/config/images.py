"""What can be said of image observations without Keras: their axes, the smallest image, the unit of their numbers.

An image is (height, width, channels), or (channels, height, width) as stacks of grey frames come; a stack of images
with channels of their own has four axes, (frames, height, width, channels).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rlexp.config.schema.network import MNIH_2015, NetworkSettings
from rlexp.system.errors import refusal

PICTURE = 36  # pixels from which an image is a picture: the smallest that the layers of Mnih et al. 2015 take
BRIGHTEST = 255.0
LARGEST_SYMBOL = 31  # numbers up to this are symbols or scaled brightnesses (MiniGrid's symbols end at 10)


def options_of(network: NetworkSettings) -> dict[str, Any]:
    """The network's options, those that are not given as in Mnih et al. 2015."""
    return {**MNIH_2015, **network.options}


def channels_first(shape: Sequence[int], channels: str = "auto") -> bool:
    """Whether the first of three axes are the channels.

    Args:
        shape: of an image.
        channels: auto | first | last. auto: a square image has its channels elsewhere; in others, they are the shorter
            one of the first and the last axis.
    """
    if len(shape) != 3 or channels != "auto":
        return len(shape) == 3 and channels == "first"
    first, middle, last = shape
    if (first == middle) != (middle == last):
        return middle == last
    return first < last


def size(shape: Sequence[int], channels: str = "auto") -> tuple[int, int] | None:
    """Height and width of an image, None for observations that are none."""
    if len(shape) == 4:
        return shape[1], shape[2]
    if len(shape) != 3:
        return None
    return (shape[1], shape[2]) if channels_first(shape, channels) else (shape[0], shape[1])


def is_picture(shape: Sequence[int]) -> bool:
    """Whether an observation is an image that needs convolutions: dense layers would have too many weights."""
    pixels = size(shape)
    return pixels is not None and min(pixels) >= PICTURE


def smallest(kernel_sizes: Sequence[int], strides: Sequence[int]) -> int:
    """The side of the smallest image of which convolutions without padding leave something."""
    side = 1
    for kernel, stride in zip(reversed(kernel_sizes), reversed(strides), strict=True):
        side = (side - 1) * stride + kernel
    return side


def check(shape: Sequence[int], network: NetworkSettings) -> None:
    """Refuse what the convolutions of `options` cannot take.

    Raises:
        Refusal: for lists of unlike lengths, and observations that are no image, or a smaller one than they need.
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
    """The settings with the number that observations are divided by.

    Args:
        network: the network's settings.
        small_numbers: what `has_small_numbers` said of the environment.
    """
    if options_of(network)["divide_by"] != "auto":
        return network
    return replace(network, options={**network.options, "divide_by": 1.0 if small_numbers else BRIGHTEST})


def has_small_numbers(env: Any) -> bool:
    """Whether an environment's images hold no brightnesses from 0 to 255, but booleans, symbols or scaled brightnesses.

    The space says so for booleans and for pictures with bounds. Small images of bytes may be both (MiniGrid's symbols,
    at most 10, are declared as 0 to 255), and numbers without bounds anything: there the first observation tells.

    Args:
        env: a Gymnasium environment with a Box of observations.
    """
    import numpy as np

    space = env.observation_space
    pixels = size(space.shape)
    if pixels is None:
        return False
    high = float(np.max(space.high))
    if space.dtype == bool or high < BRIGHTEST:
        return True
    if high == BRIGHTEST and min(pixels) >= PICTURE:
        return False
    try:
        first, _ = env.reset(seed=0)
        return bool(np.max(np.abs(np.asarray(first, np.float64))) <= LARGEST_SYMBOL)
    except Exception:  # the job itself says what is wrong with its environment, in its own words
        return False
