"""The agent that a family's loop runs, built from settings: networks checked, weights by seed, programs shared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rlexp.config import registry
from rlexp.config.schema.job import Settings
from rlexp.engines.memory import check_weights
from rlexp.envs.info import EnvInfo
from rlexp.system import supervisor
from rlexp.system.errors import Refusal, refusal

if TYPE_CHECKING:
    import keras
    import numpy as np

    from rlexp.engines.vectorized import Lanes
    from rlexp.networks.flat_model import FlatModel


@dataclass(frozen=True)
class BuiltAgent:
    """An agent for the trials of one or several jobs.

    Attributes:
        agent: what the family's loop takes: compiled lanes for algorithms with networks, else the agent itself.
        device: where its tensors are.
        deploy: the Keras model that is saved of a trial's weights [P], for algorithms with networks.
    """

    agent: Any
    device: str = "cpu"
    deploy: Callable[[np.ndarray], keras.Model] | None = None


def build_agent(settings: Settings, info: EnvInfo, warn: Callable[[str], None]) -> BuiltAgent:
    """Build the agent of a job whose engine is chosen.

    Args:
        settings, info: of the job.
        warn: called with each warning.

    Raises:
        Refusal: for a network or optimiser that cannot be built, or that does not suit the engine.
    """
    entry, family = registry.algo(settings.algo.name), registry.family(settings.algo.name)
    device = "cpu"
    if family.keras or settings.engine == "fused":
        from rlexp.system.backend import prepare

        alone = supervisor.owns_process() and not registry.brings_code(settings)
        device = prepare(settings.device, lean=alone)
    if family.keras:
        lanes = _build_lanes(settings, info, device, warn)
        return BuiltAgent(lanes, device, lanes.deploy)
    return BuiltAgent(registry.load(entry.target)(settings.algo, info), device)


def _build_lanes(settings: Settings, info: EnvInfo, device: str, warn: Callable[[str], None]) -> Lanes[Any]:
    """An agent with networks, mapped over trials."""
    from rlexp.config.images import is_picture
    from rlexp.engines import mapping
    from rlexp.engines.vectorized import INITIAL_PARAMS, compiled_settings
    from rlexp.networks.building import build, check_saved

    factory = registry.load(registry.network(settings.network.name).target)
    agent_class = registry.load(registry.algo(settings.algo.name).target)
    networks = build(settings, info, settings.seeds[0])
    check_weights(settings, sum(model.size for model in networks.values()))
    if ":" in settings.network.name:
        for model in networks.values():
            check_saved(model.model)
    why_not = mapping.why_not(settings, info, networks)
    if why_not and settings.engine == "fused":  # `engine=auto` has taken the host engine
        raise refusal("engine", "auto or host", f"'fused', but network {settings.network.name} {why_not}")
    if why_not and is_picture(info.observation_shape) and device == "cpu":
        warn("no GPU was found and the network is convolutional: training will be very slow")
    try:
        agent = agent_class(settings.algo, networks, info)
    except Refusal:
        raise
    except ValueError as error:
        raise Refusal(f"algo.optimizer: {error}") from error
    made_of = [compiled_settings(settings.algo, agent.scalars), asdict(settings.network), asdict(info)]
    graph = (agent_class, factory, json.dumps(made_of, sort_keys=True))
    key = (graph, tuple(settings.seeds))
    params = INITIAL_PARAMS.get(key, lambda: _initial_params(settings, info, networks))
    lanes_class = registry.load(registry.family(settings.algo.name).lanes)
    lanes: Lanes[Any] = lanes_class(agent, params, settings.exact_trials, why_not is not None, graph)
    return lanes


def _initial_params(settings: Settings, info: EnvInfo, first: dict[str, FlatModel]) -> dict[str, np.ndarray]:
    """The initial weights of every trial, each by its own seed.  # name: [N, P]

    Args:
        settings: of a job, or of jobs of a group, which may have the same seeds.
        info: of their environment.
        first: the networks of the first seed.
    """
    import numpy as np

    from rlexp.networks.building import build, redraw

    own = settings.algo.name in registry.ALGOS and settings.network.name in registry.NETWORKS
    params = {} if own else {settings.seeds[0]: {name: model.get_params() for name, model in first.items()}}
    for seed in settings.seeds:
        if seed in params:
            continue
        if own:
            params[seed] = redraw(first, seed)
        else:
            params[seed] = {name: model.get_params() for name, model in build(settings, info, seed).items()}
    return {name: np.stack([params[seed][name] for seed in settings.seeds]) for name in first}
