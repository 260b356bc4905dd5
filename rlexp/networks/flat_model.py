"""A Keras model as a function of one flat parameter vector.

One vector a trial, instead of a list of weights, makes optimisers, norms, masks, copies and checkpoints one line
each, and a compiled update a quarter faster (fewer tensors to hand over, one fused optimiser kernel).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from rlexp.system.errors import refusal


class FlatModel:
    """Calls a Keras model with its weights given as one vector [P].

    Attributes:
        sees_images: has the kernel of a convolution over images, alone among weights in having four axes.

    Raises:
        Refusal: if the model has state besides its trainable weights (batch normalisation, dropout seeds), which
            a pure function of the weights cannot carry.
    """

    def __init__(self, model: Any) -> None:
        if model.non_trainable_variables:
            names = ", ".join(v.path for v in model.non_trainable_variables)
            raise refusal(
                "network",
                "a model whose only state is trainable weights",
                f"non-trainable variables {names}",
                "Replace batch normalisation by layer normalisation, and leave out dropout.",
            )
        self.model = model
        self.shapes = [tuple(v.shape) for v in model.trainable_variables]
        self.sizes = [int(np.prod(shape)) for shape in self.shapes]
        self.size = sum(self.sizes)  # P
        self.sees_images = any(len(shape) == 4 for shape in self.shapes)

    def __call__(self, params: tf.Tensor | list[tf.Tensor], inputs: tf.Tensor) -> tf.Tensor:
        """Outputs of the model for `params`, [P] or what `unpack` made of it, and a batch of inputs [B, ...]."""
        weights = params if isinstance(params, list) else self.unpack(params)
        return self.model.stateless_call(weights, [], inputs)[0]

    def unpack(self, params: tf.Tensor) -> list[tf.Tensor]:
        """The model's weights, which are parts of `params` [P]; done once where many calls follow."""
        parts = tf.split(params, self.sizes)
        return [tf.reshape(part, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def get_params(self) -> np.ndarray:
        """The model's current weights as one vector [P]."""
        return np.concatenate([np.asarray(v).ravel() for v in self.model.trainable_variables])

    def set_params(self, params: np.ndarray) -> None:
        """Write one vector [P] into the model's weights."""
        parts = np.split(params, np.cumsum(self.sizes)[:-1])
        for variable, part in zip(self.model.trainable_variables, parts, strict=True):
            variable.assign(part.reshape(variable.shape))
