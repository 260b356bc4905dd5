"""A network of one's own: two branches that are joined before the output."""

from __future__ import annotations

import keras

from rlexp.config.schema.network import NetworkSettings


def build(observation_shape: tuple[int, ...], output_shape: tuple[int, ...], network: NetworkSettings) -> keras.Model:
    """Observations [B, *observation_shape] to outputs [B, *output_shape]; (A,) of action values."""
    inputs = keras.Input(observation_shape)
    wide = keras.layers.Dense(network.hidden_units[0], activation=network.activation)(inputs)
    deep = wide
    for units in network.hidden_units[1:]:
        deep = keras.layers.Dense(units, activation=network.activation)(deep)
    joined = keras.layers.Concatenate()([wide, deep])
    return keras.Model(inputs, keras.layers.Dense(output_shape[0])(joined))
