"""The agent that a job's loop runs, from its settings: networks built and checked, weights by seed, programs shared."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from rlexp.config import registry
from rlexp.config.images import is_picture
from rlexp.config.schema.job import Settings
from rlexp.engines import mapping
from rlexp.engines.vectorized import Lanes, Recent, compiled_settings
from rlexp.envs.info import EnvInfo
from rlexp.networks.building import build, check_saved
from rlexp.networks.flat_model import FlatModel
from rlexp.system.errors import Refusal, refusal

# By graph and seeds: the jobs of a sweep that differ in numbers alone start alike, and Keras takes some 30 ms to build
# a network.
INITIAL_PARAMS: Recent[dict[str, np.ndarray]] = Recent(4)  # name: [N, P]


def build_lanes(
    settings: Settings, info: EnvInfo, device: str, check_size: Callable[[int], None], warn: Callable[[str], None]
) -> Lanes[Any]:
    """The compiled lanes of a job whose agents have networks.

    Args:
        settings: the job, its engine chosen.
        info: its environment.
        device: where tensors live, "cpu" or "gpu".
        check_size: refuses networks of so many weights, where they do not fit into memory.
        warn: prints a warning.

    Raises:
        Refusal: for a network that the engine cannot run or that could not be saved, and for settings that the agent
            refuses.
    """
    entry, network = registry.algo(settings.algo.name), registry.network(settings.network.name)
    factory, agent_class = registry.load(network.target), registry.load(entry.target)
    networks = build(settings, info, settings.seeds[0])
    check_size(sum(model.size for model in networks.values()))
    if ":" in settings.network.name:
        for model in networks.values():
            check_saved(model.model)
    why_not = mapping.why_not(settings, info, networks)
    if why_not and settings.engine == "fused":  # else `preflight.choose_engine` has taken the host engine
        raise refusal("engine", "auto or host", f"'fused', but network {settings.network.name} {why_not}")
    if why_not and is_picture(info.observation_shape) and device == "cpu":
        warn("no GPU was found and the network is convolutional: training will be very slow")
    try:
        agent = agent_class(settings.algo, networks, info)
    except Refusal:
        raise
    except ValueError as error:
        raise Refusal(f"algo.optimizer: {error}") from error
    made_of = [
        compiled_settings(settings.algo, agent.scalars),
        dataclasses.asdict(settings.network),
        dataclasses.asdict(info),
    ]
    graph = (agent_class, factory, json.dumps(made_of, sort_keys=True))
    params = INITIAL_PARAMS.get((graph, tuple(settings.seeds)), lambda: initial_params(settings, info, networks))
    lanes_class = registry.load(registry.family(settings.algo.name).lanes)
    lanes: Lanes[Any] = lanes_class(agent, params, settings.exact_trials, why_not is not None, graph)
    return lanes


def initial_params(settings: Settings, info: EnvInfo, networks: dict[str, FlatModel]) -> dict[str, np.ndarray]:
    """The weights that the trials start with, each by its own seed.  # name: [N, P]

    Args:
        settings: the job, or jobs of a group, which may have the same seeds.
        info: the environment.
        networks: of the first seed.
    """
    params = {settings.seeds[0]: {name: model.get_params() for name, model in networks.items()}}
    for seed in settings.seeds:
        if seed not in params:
            params[seed] = {name: model.get_params() for name, model in build(settings, info, seed).items()}
    return {name: np.stack([params[seed][name] for seed in settings.seeds]) for name in networks}
