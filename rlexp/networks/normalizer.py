"""Observations with mean 0 and variance 1, by running statistics: a network whose numbers are updated, not learned.

    y = clip((o - mean) / sqrt(variance + 1e-8), -10, 10)

It is called like the other networks of an agent, and becomes a part of the model that `best.keras` holds: Keras' own
layer `Normalization`, which it loads in safe mode.

Axes: E observations, D numbers of one.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from rlexp.networks.flat_model import FlatModel

CLIP = 10.0  # in deviations
EPSILON = 1e-8  # of a variance: what has been the same in all observations is not blown up by rounding


class Normalizer(FlatModel):
    """The normaliser of observations of one shape; its parameters are the mean and the variance, [2 D].

    Args:
        shape: of one observation.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape, number = shape, int(np.prod(shape))
        super().__init__(self._model(np.zeros(number), np.ones(number)))
        self.shapes, self.sizes, self.size = [shape] * 2, [number] * 2, 2 * number

    def __call__(self, params: tf.Tensor | list[tf.Tensor], inputs: tf.Tensor) -> tf.Tensor:
        """Normalised observations [E, ...] of observations [E, ...]."""
        mean, variance = params if isinstance(params, list) else self.unpack(params)
        return tf.clip_by_value((inputs - mean) / tf.sqrt(variance + EPSILON), -CLIP, CLIP)

    def set_params(self, params: np.ndarray) -> None:
        """Make the model anew with these statistics [2 D]."""
        self.model = self._model(*np.split(params, 2))

    def _model(self, mean: np.ndarray, variance: np.ndarray) -> keras.Model:
        """Observations [B, ...] -> normalised ones; the statistics are written into the configuration of its layer."""
        inputs = keras.layers.Input(self._shape, name="observation")
        flat = inputs if len(self._shape) == 1 else keras.layers.Flatten()(inputs)
        statistics = {"mean": mean.tolist(), "variance": (variance + np.float32(EPSILON)).tolist()}
        scaled = keras.ops.clip(keras.layers.Normalization(name="normalization", **statistics)(flat), -CLIP, CLIP)
        if len(self._shape) != 1:
            scaled = keras.layers.Reshape(self._shape)(scaled)
        return keras.Model(inputs, scaled, name="normalizer")
