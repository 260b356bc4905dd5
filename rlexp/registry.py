"""The one map from names to code. A name is the YAML's `name`, its file stem and the key here, always.

Nothing is imported until it is built, so that a refused configuration costs no TensorFlow. Other packages
add to the map through the entry-point groups `rlexp.algos`, `rlexp.networks` and `rlexp.envs`; their objects are the
same `Algo`, `Network` and `Dynamics` records.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from rlexp import settings


@dataclass(frozen=True)
class Family:
    """What algorithms have in common: the loops that run them."""

    loop: str  # "module:Class"
    keras: bool  # its agents are pure functions of a Keras model's weights, mapped over trials by engines/lanes.py
    tabular: bool = (
        False  # its agents hold tables over numbered states, and heed action masks; on the host engine NumPy only
    )
    fused: str | None = None  # "module:Class" of the fused engine's loop, where there is one


@dataclass(frozen=True)
class Algo:
    """One algorithm: its family, the schema of its YAML, and where its class is."""

    family: str  # a key of FAMILIES
    schema: type
    target: str  # "module:Class"


@dataclass(frozen=True)
class Rule:
    """What a value must be, where it is not one of some choices."""

    expected: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Network:
    """One Keras model factory: `build(observation_shape, num_outputs, network_settings) -> keras.Model`.

    Whether its model has convolutions is found out from the model itself (engines/mapping.py); `convolutional` and
    `dense` say it where the engine is to be chosen before TensorFlow is imported.
    """

    target: str  # "module:function"
    convolutional: bool = False  # known to have convolutions: for the host engine
    dense: bool = False  # known to have none, and not meant for pictures
    options: Mapping[str, tuple[Any, ...] | Rule] | None = (
        None  # keys of network.options and their choices or rule; None: its own affair
    )
    check: str | None = None  # "module:function" of (observation_shape, network_settings), which refuses without Keras


@dataclass(frozen=True)
class Dynamics:
    """A tensor environment for the fused engine, registered under the Gymnasium id whose dynamics it has."""

    target: str  # "module:Class" of a `rlexp.envs.tensor.base.TensorEnv`
    kwargs: tuple[str, ...] = ()  # arguments of gymnasium.make that it knows as well


FAMILIES: dict[str, Family] = {
    "fixed": Family("rlexp.engines.fixed:FixedLoop", keras=False),
    "replay": Family("rlexp.engines.replay:ReplayLoop", keras=True, fused="rlexp.engines.fused_replay:FusedReplayLoop"),
    "rollout": Family(
        "rlexp.engines.rollout:RolloutLoop", keras=True, fused="rlexp.engines.fused_rollout:FusedRolloutLoop"
    ),
    "planning": Family("rlexp.engines.planning:PlanningLoop", keras=False, tabular=True),
    "tabular": Family(
        "rlexp.engines.tabular:TabularLoop",
        keras=False,
        tabular=True,
        fused="rlexp.engines.fused_tabular:FusedTabularLoop",
    ),
}

ALGOS: dict[str, Algo] = {
    "random": Algo("fixed", settings.RandomSettings, "rlexp.algos.random:Random"),
    "angle_policy": Algo("fixed", settings.AnglePolicySettings, "rlexp.algos.angle_policy:AnglePolicy"),
    "dqn": Algo("replay", settings.DQNSettings, "rlexp.algos.dqn:DQN"),
    "fixed_dqn": Algo("replay", settings.DQNSettings, "rlexp.algos.dqn:DQN"),
    "ddqn": Algo("replay", settings.DQNSettings, "rlexp.algos.ddqn:DoubleDQN"),
    "dueling_dqn": Algo("replay", settings.DQNSettings, "rlexp.algos.dqn:DQN"),
    "dueling_ddqn": Algo("replay", settings.DQNSettings, "rlexp.algos.ddqn:DoubleDQN"),
    "pg": Algo("rollout", settings.PGSettings, "rlexp.algos.pg:PG"),
    "pg_baseline": Algo("rollout", settings.PGBaselineSettings, "rlexp.algos.pg_baseline:PGBaseline"),
    "q_value_iteration": Algo(
        "planning", settings.QValueIterationSettings, "rlexp.algos.q_value_iteration:QValueIteration"
    ),
    "q_learning": Algo("tabular", settings.TabularSettings, "rlexp.algos.q_learning:QLearning"),
    "sarsa": Algo("tabular", settings.TabularSettings, "rlexp.algos.sarsa:Sarsa"),
    "expected_sarsa": Algo("tabular", settings.TabularSettings, "rlexp.algos.expected_sarsa:ExpectedSarsa"),
    "double_q_learning": Algo("tabular", settings.TabularSettings, "rlexp.algos.double_q_learning:DoubleQLearning"),
}


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(n) is int and 1 <= n <= 100_000 for n in value)


SIZES = Rule("a list of whole numbers from 1 to 100000", _are_sizes)
DIVISOR = Rule("auto or a number > 0", lambda n: n == "auto" or (type(n) in (int, float) and 0 < n < math.inf))
CNN = Network(
    "rlexp.networks.cnn:build",
    convolutional=True,
    options={
        "dueling": (True, False),
        "filters": SIZES,
        "kernel_sizes": SIZES,
        "strides": SIZES,
        "channels": ("auto", "first", "last"),
        "divide_by": DIVISOR,
    },
    check="rlexp.networks.images:check",
)
NETWORKS: dict[str, Network] = {
    "mlp": Network("rlexp.networks.mlp:build", dense=True, options={}),
    "dueling": Network("rlexp.networks.dueling:build", dense=True, options={"aggregation": ("mean", "max")}),
    "cnn": CNN,
    "dueling_cnn": CNN,
    "minatar": CNN,
}

DYNAMICS: dict[str, Dynamics] = {
    "CartPole-v1": Dynamics("rlexp.envs.tensor.cartpole:CartPole", ("sutton_barto_reward",)),
    "MountainCar-v0": Dynamics("rlexp.envs.tensor.mountain_car:MountainCar", ("goal_velocity",)),
    "Acrobot-v1": Dynamics("rlexp.envs.tensor.acrobot:Acrobot"),
}


def algo(name: str) -> Algo:
    """The registered algorithm `name`; raises `Refusal` with near matches for an unknown one."""
    return _find("algo.name", name, ALGOS, "rlexp.algos")


def family(algo_name: str) -> Family:
    """The family of the registered algorithm `algo_name`."""
    return FAMILIES[algo(algo_name).family]


def network(name: str) -> Network:
    """The registered network `name`, or the factory that `name` itself points to as "module:function"."""
    if ":" in name:
        return Network(name)
    return _find("network.name", name, NETWORKS, "rlexp.networks")


def dynamics(env_id: str) -> Dynamics | None:
    """The tensor dynamics registered for a Gymnasium id, if any."""
    if env_id in DYNAMICS:
        return DYNAMICS[env_id]
    others = {point.name: point for point in entry_points(group="rlexp.envs")}
    found: Dynamics | None = others[env_id].load() if env_id in others else None
    return found


def load(target: str) -> Callable[..., Any]:
    """Import the object that "module:attribute" names; raises `Refusal` where there is none."""
    module, _, attribute = target.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise settings.refusal(
            target, "an importable 'module:attribute'", str(error), "Is its package installed here?"
        ) from error
    return found


def can_import(module: str) -> bool:
    """Whether there is a module of this name, without importing it (only the packages that it is in)."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def configured(group: str) -> list[str]:
    """Names of the YAML files of one group, e.g. `configured("env")`."""
    root = settings.conf_dir() / group
    return sorted(str(Path(p).relative_to(root).with_suffix("")) for p in root.rglob("*.yaml"))


def _find(where: str, name: str, table: Mapping[str, Any], group: str) -> Any:
    if name in table:
        return table[name]
    others = {point.name: point for point in entry_points(group=group)}
    if name in others:
        return others[name].load()
    known = sorted({*table, *others})
    raise settings.refusal(where, f"one of {', '.join(known)}", repr(name), settings.did_you_mean(name, known))
