"""The outputs of networks: their layers, and what they must be, whoever wrote the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from rlexp.system.errors import refusal


def linear(hidden: Any, shape: Sequence[int], name: str) -> Any:
    """A linear layer on the last hidden one, [B, *shape]."""
    outputs = keras.layers.Dense(math.prod(shape), name=name)(hidden)
    return outputs if len(shape) == 1 else keras.layers.Reshape(tuple(shape), name=f"{name}_shape")(outputs)


def with_zero_logit(model: keras.Model) -> keras.Model:
    """A model of one output z [B, 1] as one of two logits, [z, 0]: softmax([z, 0]) = [sigmoid(z), 1 - sigmoid(z)]."""
    logits = keras.layers.Concatenate()([model.output, keras.ops.zeros_like(model.output)])
    return keras.Model(model.input, logits, name="sigmoid")


def checked(model: Any, name: str, observation_shape: Sequence[int], output_shape: Sequence[int]) -> keras.Model:
    """The model, if it maps observations [B, *shape] to float32 outputs [B, *output_shape]; raises `Refusal`."""
    if not isinstance(model, keras.Model):
        received = f"{name!r}, which returns {type(model).__name__}"
        raise refusal("network.name", "a function that returns a keras.Model", received)
    if not model.built or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise refusal("network.name", "a functional Keras model with one input and one output", repr(name))
    inputs, outputs, expected = tuple(model.inputs[0].shape), tuple(model.outputs[0].shape), (None, *output_shape)
    if outputs != expected:
        raise refusal(
            "network.name",
            f"outputs of shape {_batch(expected)}",
            f"{name!r} with outputs of shape {_batch(outputs)}",
            "The function's second argument is the shape of one output, e.g. (2,): Dense(math.prod(output_shape)).",
        )
    if inputs[1:] != tuple(observation_shape):
        wanted = f"inputs of shape {_batch((None, *observation_shape))}"
        raise refusal("network.name", wanted, f"{name!r} with inputs of shape {_batch(inputs)}")
    dtype = keras.backend.standardize_dtype(model.outputs[0].dtype)
    if dtype != "float32":
        raise refusal("network.name", "outputs of float32", f"{name!r} with outputs of {dtype}")
    return model


def _batch(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('B' if i == 0 else str(size) for i, size in enumerate(shape))}]"
