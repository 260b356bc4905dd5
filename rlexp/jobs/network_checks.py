"""Refusals of networks, as far as they can be judged without Keras."""

from __future__ import annotations

import itertools
import math

from rlexp.config import registry
from rlexp.config.images import is_picture
from rlexp.config.schema.job import Settings
from rlexp.config.schema.network import NetworkSettings
from rlexp.engines.memory import check_weights
from rlexp.envs.info import EnvInfo
from rlexp.system import packages
from rlexp.system.errors import refusal


def check_network(settings: Settings, info: EnvInfo) -> None:
    """Raise `Refusal` for a network that does not exist, has wrong options, or does not suit the observations."""
    config, network = settings.network, registry.network(settings.network.name)
    if ":" in config.name:
        module, _, function = config.name.partition(":")
        if not registry.can_import(module) or not function.isidentifier():
            fix = packages.for_module(module) if function.isidentifier() else ""
            raise refusal("network.name", "an importable module:function", repr(config.name), fix)
    _check_options(config, network)
    if network.check:
        registry.load(network.check)(info.observation_shape, config)
    if network.dense and is_picture(info.observation_shape):
        raise refusal(
            "network",
            f"a convolutional network for images of shape {info.observation_shape}",
            f"{config.name!r}, which has dense layers only",
            "Use network=dueling_cnn or network=cnn.",
        )


def check_dense_size(settings: Settings, info: EnvInfo) -> None:
    """Raise `Refusal` for a dense network whose weights do not fit in memory."""
    network = registry.network(settings.network.name)
    if network.dense and network.options is not None:
        sizes = [math.prod(info.observation_shape), *settings.network.hidden_units, math.prod(info.action.output_shape)]
        weights = sum((before + 1) * after for before, after in itertools.pairwise(sizes))
        check_weights(settings, weights * (1 + settings.network.noisy))


def _check_options(config: NetworkSettings, network: registry.Network) -> None:
    if network.options is None:
        return
    for key, value in config.options.items():
        where = f"network.options.{key}"
        if key not in network.options:
            reads = f"It reads {', '.join(network.options)}." if network.options else "It reads none."
            raise refusal(where, f"an option of network {config.name}", "an unknown one", reads)
        allowed = network.options[key]
        if isinstance(allowed, registry.Rule):
            if not allowed.fits(value):
                raise refusal(where, allowed.expected, repr(value))
        elif value not in allowed:
            choices = ", ".join(str(choice).lower() for choice in allowed)
            raise refusal(where, f"one of {choices}", repr(value))
