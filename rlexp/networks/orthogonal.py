"""Kernels that start orthogonal (Saxe et al. 2014), as is usual for actor-critics: those of hidden layers times sqrt 2,
that of the last layer times a gain of its own, so that a policy starts with almost even probabilities."""

from __future__ import annotations

import math
import random

import keras

HIDDEN_GAIN = math.sqrt(2.0)


def start_orthogonal(model: keras.Model, output_gain: float) -> keras.Model:
    """The model itself; the initialisers of its kernels are orthogonal now, and its kernels drawn by them.

    Args:
        model: with layers of its own.
        output_gain: of the last layer that has a kernel.
    """
    layers = [layer for layer in model.layers if hasattr(layer, "kernel")]
    for layer in layers:
        gain = output_gain if layer is layers[-1] else HIDDEN_GAIN
        layer.kernel_initializer = _in_place_of(layer.kernel_initializer, gain)
        layer.kernel.assign(layer.kernel_initializer(layer.kernel.shape))
    return model


def _in_place_of(initializer: keras.Initializer, gain: float) -> keras.Initializer:
    """An orthogonal initialiser that draws from the other's seed and takes none of its own from Python's generator: so
    `building.redraw`, which clones one initialiser after the other, comes to the same weights."""
    generator = random.getstate()
    orthogonal = keras.initializers.Orthogonal(gain)
    random.setstate(generator)
    orthogonal.seed = getattr(initializer, "seed", orthogonal.seed)
    return orthogonal
