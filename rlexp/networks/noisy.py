"""Noise on the weights of dense layers: noisy networks (Fortunato et al. 2018, "Noisy networks for exploration").

    w = mu + sigma * epsilon,   epsilon_ij = f(e_i) f(e_j),   b = mu_b + sigma_b f(e_j)      (equations 9 to 11)
    f(x) = sign(x) sqrt(|x|),   e normal, a number for each input and each output of a layer

mu are the weights of an ordinary network, sigma those of a second one of the same shape. A network without noise is
then mu alone: it is what evaluates and what is saved, and any Keras model with dense layers can be made noisy.

Deviation: mu start as the network's initialisers have them.

Axes: W uniform numbers of one draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rlexp.math.normal import normal
from rlexp.networks.flat_model import FlatModel
from rlexp.system.errors import refusal


class Noise:
    """The noise of the dense layers of one network; other layers have none.

    Args:
        network: the network.
        sigma0: the initial deviation of a layer's weights times the square root of its inputs.

    Attributes:
        width: W, uniform numbers of one draw.

    Raises:
        Refusal: for a network without dense layers.
    """

    def __init__(self, network: FlatModel, sigma0: float) -> None:
        layers = {id(layer.kernel): (k, layer) for k, layer in enumerate(_dense_layers(network.model))}
        if not layers:
            raise refusal("network.noisy", "a network with dense layers", "one without", "It would have no noise.")
        biases = {id(layer.bias): k for k, layer in layers.values() if layer.bias is not None}
        self._shapes, self._sigma0 = network.shapes, sigma0
        self._ends = [(int(layer.kernel.shape[0]), int(layer.kernel.shape[1])) for _, layer in layers.values()]
        variables = network.model.trainable_variables
        # Of each weight: the layer whose noise it has, and whether it is the layer's kernel.
        self._of = [(layers[id(v)][0], True) if id(v) in layers else (biases.get(id(v)), False) for v in variables]
        numbers = sum(map(sum, self._ends))
        self.width = numbers + numbers % 2

    def sigma(self) -> np.ndarray:
        """The initial sigma, sigma_0 / sqrt(inputs), as one vector of the network's weights; 0 without noise.  # [P]"""
        values = [0.0 if k is None else self._sigma0 / np.sqrt(self._ends[k][0]) for k, _ in self._of]
        parts = [np.full(shape, value, np.float32).ravel() for shape, value in zip(self._shapes, values, strict=True)]
        return np.concatenate(parts)

    def draw(self, u: tf.Tensor) -> list[tf.Tensor | None]:
        """Noise for each weight of the network from uniform numbers [W]; None for a weight without."""
        scaled = tf.split(factors(normal(u))[: sum(map(sum, self._ends))], [n for ends in self._ends for n in ends])
        noise: list[tf.Tensor | None] = []
        for k, is_kernel in self._of:
            if k is None:
                noise.append(None)
            else:
                inputs, outputs = scaled[2 * k], scaled[2 * k + 1]
                noise.append(inputs[:, None] * outputs if is_kernel else outputs)
        return noise


def factors(e: tf.Tensor) -> tf.Tensor:
    """f(e) = sign(e) sqrt(|e|), whose products are the noise of weights."""
    return tf.sign(e) * tf.sqrt(tf.abs(e))


def _dense_layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _dense_layers(layer)
        elif isinstance(layer, keras.layers.Dense):
            yield layer
