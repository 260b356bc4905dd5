"""What a network must be, whoever wrote it: one input, one output of the asked width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rlexp.system.errors import refusal


def checked(model: Any, name: str, observation_shape: Sequence[int], num_outputs: int) -> keras.Model:
    """The model, if it maps observations [B, *shape] to float32 outputs [B, num_outputs]; raises `Refusal`."""
    if not isinstance(model, keras.Model):
        received = f"{name!r}, which returns {type(model).__name__}"
        raise refusal("network.name", "a function that returns a keras.Model", received)
    if not model.built or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise refusal("network.name", "a functional Keras model with one input and one output", repr(name))
    inputs, outputs, expected = tuple(model.inputs[0].shape), tuple(model.outputs[0].shape), (None, num_outputs)
    if outputs != expected:
        raise refusal(
            "network.name",
            f"outputs of shape {_batch(expected)}",
            f"{name!r} with outputs of shape {_batch(outputs)}",
            "Its last layer needs as many units as the function's second argument says.",
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
