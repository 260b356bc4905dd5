"""Dueling network (Wang et al. 2016, "Dueling network architectures", section 3).

    Q(o, a) = V(o) + A(o, a) - mean_a' A(o, a')      (eq. 9, aggregation: mean)
    Q(o, a) = V(o) + A(o, a) - max_a' A(o, a')       (eq. 8, aggregation: max; the notebook's)

A distributional algorithm has K numbers in the place of each: V(o) [K], A(o, a) [A, K].

Deviation: both heads are one linear layer on the shared body (as in the notebook), without hidden layers of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from rlexp.config import registry
from rlexp.config.schema.network import NetworkSettings
from rlexp.networks.mlp import OPTIONS, body, check_options
from rlexp.networks.outputs import linear
from rlexp.system.errors import refusal

BASELINES = {"mean": keras.ops.mean, "max": keras.ops.max}


def build(observation_shape: Sequence[int], output_shape: Sequence[int], network: NetworkSettings) -> keras.Model:
    """Dueling head on a multilayer perceptron; arguments and options as in `mlp.build`, and `options.aggregation`."""
    check_options(network, (*OPTIONS, "aggregation"))
    inputs, hidden = body(observation_shape, network)
    outputs = head(hidden, output_shape, network.options.get("aggregation", "mean"))
    return keras.Model(inputs, outputs, name="dueling")


def head(hidden: Any, output_shape: Sequence[int], aggregation: str) -> Any:
    """Outputs [B, A] or [B, A, K] from the last hidden layer; the mean or maximum over actions is one for each k."""
    if aggregation not in BASELINES:
        raise refusal("network.options.aggregation", f"one of {', '.join(BASELINES)}", repr(aggregation))
    value = linear(hidden, (1, *output_shape[1:]), "value")  # [B, 1, ...]
    advantage = linear(hidden, output_shape, "advantage")  # [B, A, ...]
    return value + advantage - BASELINES[aggregation](advantage, axis=-len(output_shape), keepdims=True)


def aggregation(network: NetworkSettings) -> str | None:
    """How the dueling head of a network of rlexp's aggregates advantages; None where it has no such head."""
    target = registry.network(network.name).target
    if target == registry.DUELING.target:
        return str(network.options.get("aggregation", "mean"))
    return "mean" if target == registry.CNN.target and network.options.get("dueling", False) else None


def without_head(network: NetworkSettings) -> NetworkSettings:
    """The same network with one linear layer in the place of its dueling head, if it has one."""
    if aggregation(network) is None:
        return network
    name = "mlp" if registry.network(network.name).target == registry.DUELING.target else network.name
    options = {key: value for key, value in network.options.items() if key not in ("aggregation", "dueling")}
    return replace(network, name=name, options=options)
