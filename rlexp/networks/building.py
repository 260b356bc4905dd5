"""The Keras models of one trial, from the configuration: the factory's, as the algorithm uses them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from rlexp.config import images, registry
from rlexp.config.schema.job import Settings
from rlexp.config.schema.network import NetworkSettings
from rlexp.data import seeding
from rlexp.envs.faults import first_line
from rlexp.envs.info import EnvInfo
from rlexp.networks import dueling
from rlexp.networks.flat_model import FlatModel
from rlexp.networks.outputs import checked
from rlexp.system.errors import Refusal, refusal


class Maker:
    """Makes the networks of one trial, as they are configured: see `algos.base.Make`."""

    def __init__(self, network: NetworkSettings, info: EnvInfo) -> None:
        entry = registry.network(network.name)
        if entry.options and "divide_by" in entry.options:
            network = images.resolved(network, info.small_numbers)
        self._network, self._shape, self._action_shape = network, info.observation_shape, info.action.shape
        self.dueling = dueling.aggregation(network)

    def __call__(self, output_shape: tuple[int, ...]) -> keras.Model:
        """The network: observations [B, ...] -> outputs [B, *output_shape]."""
        return self._made(self._network, output_shape, self._shape)

    def features(self, number: int) -> keras.Model:
        """The network without a dueling head: [B, ...] -> [B, number]"""
        return self._made(dueling.without_head(self._network), (number,), self._shape)

    def with_action(self, number: int) -> keras.Model:
        """The same of the numbers of an observation and an action, as one vector: [B, S + D] -> [B, number]"""
        shape = (math.prod(self._shape) + math.prod(self._action_shape),)
        return self._made(dueling.without_head(self._network), (number,), shape)

    def _made(
        self, network: NetworkSettings, output_shape: tuple[int, ...], input_shape: tuple[int, ...]
    ) -> keras.Model:
        factory = registry.load(registry.network(network.name).target)
        model = functional(factory(input_shape, output_shape, network), input_shape)
        return checked(model, network.name, input_shape, output_shape)


def build(settings: Settings, info: EnvInfo, seed: int) -> dict[str, FlatModel]:
    """The networks of the trial with this seed, by the names that its algorithm gives them.

    Raises:
        Refusal: for a network that cannot be built, or is none.
    """
    agent_class: Any = registry.load(registry.algo(settings.algo.name).target)
    config = settings.network
    make = Maker(config, info)
    try:
        models = seeding.with_keras_seed(seed, lambda: agent_class.models(make, info, settings.algo))
        if config.noisy:
            models["sigma"] = keras.models.clone_model(models["q"])  # one deviation for each weight
        return {name: FlatModel(model) for name, model in models.items()}
    except Exception as error:
        own = ":" in config.name  # anybody's code, which may raise anything
        if isinstance(error, Refusal) or not (own or isinstance(error, TypeError | ValueError)):
            raise
        raise Refusal(f"network: {first_line(error)}") from error


def redraw(networks: Mapping[str, FlatModel], seed: int) -> dict[str, np.ndarray]:
    """The initial weights that `build` would give the same networks for a seed, without building them.  # name: [P]

    An initialiser takes its seed from Python's generator when it is made, and the initialisers of rlexp's networks are
    made in the order of their weights. Networks of others may do anything: build them.
    """

    def draw() -> dict[str, np.ndarray]:
        fresh = {name: [made.clone() for made in _initializers(flat.model)] for name, flat in networks.items()}
        drawn = {}
        for name, flat in networks.items():
            values = [make(shape) for make, shape in zip(fresh[name], flat.shapes, strict=True)]
            drawn[name] = np.concatenate([np.asarray(value).ravel() for value in values])
        return drawn

    found: dict[str, np.ndarray] = seeding.with_keras_seed(seed, draw)
    return found


def _initializers(model: keras.Model) -> Iterator[keras.Initializer]:
    """The initialisers of all weights, in the order of the weights."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _initializers(layer)
        else:
            yield from (getattr(layer, f"{weight.name}_initializer") for weight in layer.weights)


def check_saved(model: keras.Model) -> None:
    """Refuse a model whose best weights could be saved and not be loaded again, as the best trial's are at the end.

    Raises:
        Refusal: for classes that are not registered, configurations that do not make the same layer, and lambdas.
    """
    try:
        written = keras.saving.serialize_keras_object(model)
        keras.saving.deserialize_keras_object(written, safe_mode=True)
    except Exception as error:
        said = str(error).strip()
        unknown = re.search(r"Could not locate class '(\w+)'", said)
        received = f"{unknown[1]}, which Keras does not know" if unknown else said.splitlines()[0]
        raise refusal(
            "network",
            "a model that Keras can save and load in safe mode",
            received,
            "Decorate classes of your own with @keras.saving.register_keras_serializable(), give them get_config, "
            "and use layers in place of lambdas.",
        ) from error


def functional(model: Any, observation_shape: tuple[int, ...]) -> Any:
    """The model itself, or one around a subclass of `keras.Model`, which has neither input nor weights until called.

    What is no model stays as it is: `outputs.checked` refuses it.
    """
    if not isinstance(model, keras.Model):
        return model
    try:
        model.input  # noqa: B018  (raises where there is none)
        return model
    except (AttributeError, ValueError):
        observation = keras.layers.Input(observation_shape, name="observation")
        return keras.Model(observation, model(observation))
