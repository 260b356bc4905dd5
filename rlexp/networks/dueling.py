"""Dueling network (Wang et al. 2016, "Dueling network architectures", section 3).

    Q(o, a) = V(o) + A(o, a) - mean_a' A(o, a')      (eq. 9, aggregation: mean)
    Q(o, a) = V(o) + A(o, a) - max_a' A(o, a')       (eq. 8, aggregation: max; the notebook's)

Deviation: both heads are one linear layer on the shared body (as in the notebook), without hidden layers of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rlexp.config.schema.network import NetworkSettings
from rlexp.networks.mlp import body, check_options
from rlexp.system.errors import refusal

BASELINES = {"mean": keras.ops.mean, "max": keras.ops.max}


def build(observation_shape: Sequence[int], num_outputs: int, network: NetworkSettings) -> keras.Model:
    """Dueling head on a multilayer perceptron; arguments as in `mlp.build`, and `options.aggregation`."""
    check_options(network, ("aggregation",))
    inputs, hidden = body(observation_shape, network)
    outputs = head(hidden, num_outputs, network.options.get("aggregation", "mean"))
    return keras.Model(inputs, outputs, name="dueling")


def head(hidden: Any, num_outputs: int, aggregation: str) -> Any:
    """Q-values [B, A] from the last hidden layer."""
    if aggregation not in BASELINES:
        raise refusal("network.options.aggregation", f"one of {', '.join(BASELINES)}", repr(aggregation))
    value = keras.layers.Dense(1, name="value")(hidden)  # [B, 1]
    advantage = keras.layers.Dense(num_outputs, name="advantage")(hidden)  # [B, A]
    return value + advantage - BASELINES[aggregation](advantage, axis=-1, keepdims=True)
