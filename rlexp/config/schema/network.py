"""The schema of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlexp.config.schema.fields import opt

ACTIVATIONS = (  # the names that Keras knows
    "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
    "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
    "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus",
    "swish", "tanh", "tanh_shrink", "threshold",
)  # fmt: skip


@dataclass
class NetworkSettings:
    """A Keras model for one trial."""

    name: str = opt("mlp", "registry key, or module:function of your own")
    hidden_units: list[int] = opt([64, 64], "units of the hidden layers", low=1)
    activation: str = opt("tanh", "Keras name of the hidden activation")
    options: dict[str, Any] = opt({}, "further options of the network")
    noisy: bool = opt(False, "noise on the weights of dense layers explores (Fortunato et al. 2018); DQN family")


MNIH_2015: dict[str, Any] = {  # defaults of the options of `cnn`
    "filters": [32, 64, 64],
    "kernel_sizes": [8, 4, 3],
    "strides": [4, 2, 1],
    "channels": "auto",
    "divide_by": "auto",
}


def options_that_differ(network: NetworkSettings) -> dict[str, Any]:
    """The network's options that differ from Mnih et al. 2015."""
    return {name: value for name, value in network.options.items() if name not in MNIH_2015 or MNIH_2015[name] != value}
