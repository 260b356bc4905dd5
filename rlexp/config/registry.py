"""The one map from names to code. A name is the YAML's `name`, its file stem and the key here, always.

Nothing is imported until it is built, so that a refused configuration costs no TensorFlow. Other packages
add to the map through the entry-point groups `rlexp.algos`, `rlexp.networks` and `rlexp.envs`; their objects are the
same `Algo`, `Network` and `Dynamics` records.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from rlexp.config import hints
from rlexp.config.schema import algos, job, rollouts, twin_critics
from rlexp.config.schema.network import NetworkSettings
from rlexp.system import backend, errors, packages


@dataclass(frozen=True)
class Family:
    """What algorithms have in common: the loops that run them."""

    loop: str  # "module:Class"
    keras: bool  # its agents are pure functions of a Keras model's weights, mapped over trials by engines/vectorized.py
    tabular: bool = False  # its agents hold tables, respect action masks, and need no TensorFlow on the host engine
    fused: str | None = None  # "module:Class" of the fused engine's loop, where there is one
    lanes: str = "rlexp.engines.vectorized:Lanes"  # of agents with a Keras model: what maps them over trials


@dataclass(frozen=True)
class Algo:
    """One algorithm: its family, the schema of its YAML, where its class is, and what it says of itself before that is
    imported."""

    family: str  # a key of FAMILIES
    schema: type
    target: str  # "module:Class"
    actions: tuple[str, ...] = ("discrete",)  # kinds of action specs (rlexp/envs/spec.py) that it takes
    fused: bool = True  # runs in its family's fused loop, where there is one
    replay: str = "uniform"  # of the replay family: a key of REPLAYS


@dataclass(frozen=True)
class Rule:
    """What a value must be, where it is not one of some choices."""

    expected: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Network:
    """One Keras model factory: `build(observation_shape, output_shape, network_settings) -> keras.Model`.

    Whether its model has convolutions is found out from the model itself (engines/mapping.py), unless it is known to be
    mapped; `convolutional`, `dense` and `in_patches` say it where the engine is to be chosen before TensorFlow is
    imported.
    """

    target: str  # "module:function"
    convolutional: bool = False  # known to have convolutions: for the host engine, but for those in patches
    dense: bool = False  # known to have none, and not meant for pictures
    in_patches: str | None = (
        None  # "module:function" of (observation_shape, network_settings): whether all convolutions are in patches
    )
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
    "fixed": Family("rlexp.engines.host.fixed:FixedLoop", keras=False),
    "replay": Family(
        "rlexp.engines.host.replay:ReplayLoop", keras=True, fused="rlexp.engines.fused.replay:FusedReplayLoop"
    ),
    "rollout": Family(
        "rlexp.engines.host.rollout:RolloutLoop",
        keras=True,
        fused="rlexp.engines.fused.rollout:FusedRolloutLoop",
        lanes="rlexp.engines.rollout_lanes:RolloutLanes",
    ),
    "planning": Family("rlexp.engines.host.planning:PlanningLoop", keras=False, tabular=True),
    "tabular": Family(
        "rlexp.engines.host.tabular:TabularLoop",
        keras=False,
        tabular=True,
        fused="rlexp.engines.fused.tabular:FusedTabularLoop",
    ),
}

REPLAYS: dict[str, str] = {  # "module:function" of the frame stack, which returns a class like `ReplayRing`
    "uniform": "rlexp.data.replay_ring:ring_type",
}

ALL_ACTIONS = ("discrete", "multi_discrete", "box")

ALGOS: dict[str, Algo] = {
    "random": Algo("fixed", algos.RandomSettings, "rlexp.algos.random:Random", ALL_ACTIONS),
    "angle_policy": Algo("fixed", algos.AnglePolicySettings, "rlexp.algos.angle_policy:AnglePolicy"),
    "dqn": Algo("replay", algos.DQNSettings, "rlexp.algos.dqn:DQN"),
    "fixed_dqn": Algo("replay", algos.FixedDQNSettings, "rlexp.algos.dqn:DQN"),
    "ddqn": Algo("replay", algos.FixedDQNSettings, "rlexp.algos.ddqn:DoubleDQN"),
    "dueling_dqn": Algo("replay", algos.FixedDQNSettings, "rlexp.algos.dqn:DQN"),
    "dueling_ddqn": Algo("replay", algos.FixedDQNSettings, "rlexp.algos.ddqn:DoubleDQN"),
    "c51": Algo("replay", algos.C51Settings, "rlexp.algos.c51:C51"),
    "rainbow": Algo("replay", algos.C51Settings, "rlexp.algos.c51:C51"),
    "qr_dqn": Algo("replay", algos.QRDQNSettings, "rlexp.algos.qr_dqn:QRDQN"),
    "iqn": Algo("replay", algos.IQNSettings, "rlexp.algos.iqn:IQN"),
    "munchausen_dqn": Algo("replay", algos.MunchausenDQNSettings, "rlexp.algos.munchausen_dqn:MunchausenDQN"),
    "sac": Algo("replay", twin_critics.SACSettings, "rlexp.algos.sac:SAC", ("box",)),
    "td3": Algo("replay", twin_critics.TD3Settings, "rlexp.algos.td3:TD3", ("box",)),
    "pg": Algo("rollout", algos.PGSettings, "rlexp.algos.pg:PG", ALL_ACTIONS),
    "pg_baseline": Algo("rollout", algos.PGBaselineSettings, "rlexp.algos.pg_baseline:PGBaseline", ALL_ACTIONS),
    "a2c": Algo("rollout", rollouts.A2CSettings, "rlexp.algos.a2c:A2C", ALL_ACTIONS),
    "ppo": Algo("rollout", algos.PPOSettings, "rlexp.algos.ppo:PPO", ALL_ACTIONS),
    "pqn": Algo("rollout", rollouts.PQNSettings, "rlexp.algos.pqn:PQN"),
    "q_value_iteration": Algo(
        "planning", algos.QValueIterationSettings, "rlexp.algos.q_value_iteration:QValueIteration"
    ),
    "q_learning": Algo("tabular", algos.TabularSettings, "rlexp.algos.q_learning:QLearning"),
    "sarsa": Algo("tabular", algos.TabularSettings, "rlexp.algos.sarsa:Sarsa"),
    "expected_sarsa": Algo("tabular", algos.TabularSettings, "rlexp.algos.expected_sarsa:ExpectedSarsa"),
    "double_q_learning": Algo("tabular", algos.TabularSettings, "rlexp.algos.double_q_learning:DoubleQLearning"),
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
    check="rlexp.config.images:check",
    in_patches="rlexp.config.images:in_patches",
)
DENSE: dict[str, tuple[Any, ...]] = {  # options of dense layers
    "initializer": ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "orthogonal"),
    "layer_norm": (True, False),
}
DUELING = Network("rlexp.networks.dueling:build", dense=True, options={**DENSE, "aggregation": ("mean", "max")})
NETWORKS: dict[str, Network] = {
    "mlp": Network("rlexp.networks.mlp:build", dense=True, options=DENSE),
    "dueling": DUELING,
    "noisy_dueling": DUELING,
    "cnn": CNN,
    "dueling_cnn": CNN,
    "minatar": CNN,
}

DYNAMICS: dict[str, Dynamics] = {
    "CartPole-v1": Dynamics("rlexp.envs.tensor.cartpole:CartPole", ("sutton_barto_reward",)),
    "MountainCar-v0": Dynamics("rlexp.envs.tensor.mountain_car:MountainCar", ("goal_velocity",)),
    "Acrobot-v1": Dynamics("rlexp.envs.tensor.acrobot:Acrobot"),
    "Pendulum-v1": Dynamics("rlexp.envs.tensor.pendulum:Pendulum", ("g",)),
    "MountainCarContinuous-v0": Dynamics(
        "rlexp.envs.tensor.mountain_car_continuous:MountainCarContinuous", ("goal_velocity",)
    ),
}


def algo(name: str) -> Algo:
    """The registered algorithm `name`; raises `Refusal` with near matches for an unknown one."""
    return _find("algo.name", name, ALGOS, "rlexp.algos")


def algos_taking(kind: str) -> list[str]:
    """Names of the algorithms that take action specs of a kind, those of installed packages included."""
    names = [name for name, entry in ALGOS.items() if kind in entry.actions]
    for point in entry_points(group="rlexp.algos"):
        with contextlib.suppress(errors.Refusal):  # of a package that cannot be imported
            if kind in _loaded(point, "algo.name").actions:
                names.append(point.name)
    return names


def distributional() -> list[str]:
    """Names of this package's algorithms that learn the distribution of returns."""
    return sorted(name for name, entry in ALGOS.items() if issubclass(entry.schema, algos.DistributionalSettings))


def family(algo_name: str) -> Family:
    """The family of the registered algorithm `algo_name`."""
    return FAMILIES[algo(algo_name).family]


def fused_loop(algo_name: str) -> str | None:
    """The fused engine's loop for the registered algorithm `algo_name`; None where it is for the host engine alone."""
    return family(algo_name).fused if algo(algo_name).fused else None


def replay(algo_name: str) -> Callable[..., Any]:
    """What makes the replay ring of the registered algorithm `algo_name`; raises `Refusal` for an unknown kind."""
    kind = algo(algo_name).replay
    if kind not in REPLAYS:
        raise errors.refusal(
            "algo.name", f"an algorithm with replay {' or '.join(REPLAYS)}", f"{algo_name}, with {kind!r}"
        )
    return load(REPLAYS[kind])


def network(name: str) -> Network:
    """The registered network `name`, or the factory that `name` itself points to as "module:function"."""
    if ":" in name:
        return Network(name)
    return _find("network.name", name, NETWORKS, "rlexp.networks")


def is_mapped(config: NetworkSettings, observation_shape: Sequence[int]) -> bool | None:
    """Whether a network is known to be mapped over trials; None where only its model tells (engines/mapping.py)."""
    entry = network(config.name)
    if entry.dense or (entry.in_patches and load(entry.in_patches)(observation_shape, config)):
        return True
    return False if entry.convolutional else None


def dynamics(env_id: str) -> Dynamics | None:
    """The tensor dynamics registered for a Gymnasium id, if any.

    The module of a "module:Id" only says who registers the id: with or without it, in the configuration or in the name
    of an entry point, the environment is the same.
    """
    bare = env_id.rpartition(":")[2]
    if bare in DYNAMICS:
        return DYNAMICS[bare]
    others = {point.name.rpartition(":")[2]: point for point in entry_points(group="rlexp.envs")}
    found: Dynamics | None = _loaded(others[bare], "env.id") if bare in others else None
    return found


def load(target: str) -> Callable[..., Any]:
    """Import the object that "module:attribute" names; raises `Refusal` where there is none."""
    module, _, attribute = target.partition(":")
    ours = module.partition(".")[0] == "rlexp"
    try:
        with contextlib.nullcontext() if ours else backend.importing_others():
            found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        fix = packages.for_error(error) or "Is its package installed here?"
        raise errors.refusal(target, "an importable 'module:attribute'", str(error), fix) from error
    return found


def can_import(module: str) -> bool:
    """Whether there is a module of this name, without importing it (only the packages that it is in)."""
    try:
        with backend.importing_others() if "." in module else contextlib.nullcontext():
            return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def brings_code(configuration: job.Settings) -> bool:
    """Whether a job imports modules that are neither rlexp's nor Gymnasium's, which may import TensorFlow."""
    env, network_name = configuration.env, configuration.network.name
    named = env.imports or env.wrappers or ":" in env.id or network_name not in NETWORKS
    return bool(named) or configuration.algo.name not in ALGOS


def plugin_without_yaml(group: str, name: str) -> errors.Refusal | None:
    """The refusal of a name that another package registers, but whose YAML is not found; None for other names."""
    if group == "env":
        ids = [point.name for point in entry_points(group="rlexp.envs")]
        if name not in ids:
            return None
        return errors.refusal(group, f"a file env/{name}.yaml, which does not exist", repr(name),
                                f"There are tensor dynamics for this id, which is given by env.id={name}")  # fmt: skip
    point = next((point for point in entry_points(group=f"rlexp.{group}s") if point.name == name), None)
    if point is None:
        return None
    return errors.refusal(
        group, f"a YAML {group}/{name}.yaml on the search path", f"none, though {_owner(point)} registers {name!r}",
        f"It belongs beside the package's module; elsewhere: --config-dir <folder of {group}/{name}.yaml>",
    )  # fmt: skip


def of_another_yaml(name: str, refused: errors.Refusal) -> errors.Refusal:
    """What is wrong with keys of `algo`, which may come from another algorithm's YAML where `algo.name` was changed."""
    point = next((p for p in entry_points(group="rlexp.algos") if p.name == name), None)
    if name in ALGOS or point is None or "expected a key of the configuration" not in str(refused):
        return refused
    key = str(refused).partition(":")[0]
    return errors.refusal(
        key, f"a key of {name!r}, which {_owner(point)} registers", "one that it does not have",
        f"See its keys: rlexp algo={name} --cfg job",
    )  # fmt: skip


def _owner(point: EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist else f"the entry point {point.value}"


def _loaded(point: EntryPoint, where: str) -> Any:
    """The object of an entry point, whose module may import TensorFlow."""
    try:
        with backend.importing_others():
            return point.load()
    except Exception as error:  # the module's own errors included
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise errors.refusal(
            where, f"an entry point that can be loaded for {point.name!r}", f"{point.value} ({said})",
            packages.for_error(error) or f"It belongs to {_owner(point)}.",
        ) from error  # fmt: skip


def _find(where: str, name: str, table: Mapping[str, Any], points: str) -> Any:
    if name in table:
        return table[name]
    others = {point.name: point for point in entry_points(group=points)}
    if name in others:
        return _loaded(others[name], where)
    known = sorted({*table, *others})
    group = where.partition(".")[0]
    hint = hints.for_choice(group, name) or errors.did_you_mean(name, known) or hints.where_nothing_is_near(group)
    raise errors.refusal(where, f"one of {', '.join(known)}", repr(name), hint)
