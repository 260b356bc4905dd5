"""The components of Rainbow (Hessel et al. 2018), and which of them a configuration of the DQN family has.

Components are read from settings, not from labels. Two configurations differ by one component if all else is equal but
the settings that belong to it: noisy networks have no epsilon, a distribution of returns has a loss of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlexp.config import registry
from rlexp.config.schema.algos import PRIORITY_KEYS, DistributionalSettings, DQNSettings
from rlexp.system import words
from rlexp.system.errors import Refusal


@dataclass(frozen=True)
class Component:
    """A component.

    Attributes:
        words: its name in a sentence.
        keys: settings that belong to it, of a flat configuration.
    """

    words: str
    keys: tuple[str, ...] = ()


COMPONENTS = {  # in the order of the paper's section "Extensions to DQN"
    "double": Component("double DQN"),
    "prioritized": Component("prioritised replay", tuple(f"algo.{key}" for key in PRIORITY_KEYS)),
    "dueling": Component("the dueling network", ("network.options.aggregation",)),
    "n_step": Component("n-step returns", ("algo.n_step",)),
    "distributional": Component("the distribution of returns", ("algo.loss", "head")),
    "noisy": Component("noisy networks", ("algo.epsilon", "algo.sigma0")),
}
DOUBLE = ("ddqn", "dueling_ddqn")  # algorithms that are double without a setting
PLAIN = ("dqn", "fixed_dqn", "dueling_dqn", *DOUBLE)  # algorithms that differ in nothing but components
BODIES = {"dueling": "mlp", "noisy_dueling": "mlp", "dueling_cnn": "cnn"}  # networks without their components
TOLD = ("algo.double", "algo.replay", "network.noisy", "network.name", "network.options.dueling")  # by the components


@dataclass(frozen=True)
class Composition:
    """A configuration, taken apart.

    Attributes:
        components: keys of `COMPONENTS` that it has.
        schema: name of its algorithm's schema; algorithms of different schemas have different keys.
        rest: all other settings that can move a curve, with their values as JSON.
    """

    components: frozenset[str]
    schema: str
    rest: Mapping[str, str]


def composition(algo: str, config: Mapping[str, Any]) -> Composition | None:
    """Take a configuration apart; None if its algorithm is not of the DQN family, or not installed here.

    Args:
        algo: registry key.
        config: as from `study_names.flat`.
    """
    try:
        schema = registry.algo(algo).schema
    except Refusal:
        return None
    if not issubclass(schema, DQNSettings):
        return None
    network, steps = str(config.get("network.name")), config.get("algo.n_step", 1)
    distributional = issubclass(schema, DistributionalSettings)
    has = {
        "double": config.get("algo.double", algo in DOUBLE),
        "prioritized": config.get("algo.replay") == "prioritized",
        "dueling": config.get("network.options.dueling", network in ("dueling", "noisy_dueling")),
        "n_step": isinstance(steps, int) and steps > 1,
        "distributional": distributional,
        "noisy": config.get("network.noisy"),
    }
    rest: dict[str, Any] = {key: value for key, value in config.items() if key not in TOLD and value != {}}
    rest["network"] = BODIES.get(network, network)
    rest["head"] = schema.__name__ if distributional else None
    rest["method"] = None if distributional or algo in PLAIN else algo
    found = frozenset(name for name, there in has.items() if there)
    return Composition(found, schema.__name__, {key: words.as_json(value) for key, value in rest.items()})


def difference(more: Composition, less: Composition) -> str | None:
    """The component that the first has and the second has not, if that is the only difference; else None."""
    extra = more.components - less.components
    if len(extra) != 1 or less.components - more.components:
        return None
    (name,) = extra
    for key in (set(more.rest) | set(less.rest)) - set(COMPONENTS[name].keys):
        if key in more.rest and key in less.rest:
            if more.rest[key] != less.rest[key]:
                return None
        elif more.schema == less.schema or not key.startswith("algo."):  # else a setting of one algorithm alone
            return None
    return name
