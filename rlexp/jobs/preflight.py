"""What can be refused before TensorFlow is imported, and which engine runs a job."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlexp.config import registry
from rlexp.config.images import is_picture
from rlexp.config.schema.algos import TabularSettings
from rlexp.config.schema.env import DiscretizerSettings
from rlexp.config.schema.job import Settings
from rlexp.config.schema.network import NetworkSettings
from rlexp.system import backend, packages
from rlexp.system.errors import refusal
from rlexp.tracking.base import resolve_uri

if TYPE_CHECKING:
    from rlexp.envs.info import EnvInfo


_resolved: list[Path] = []  # the folder of the job that was resolved last


def resolve(settings: Settings) -> tuple[Settings, EnvInfo]:
    """The settings with the engine that will run them, and so with the job's real folder; refusals as `preflight`."""
    forget()
    info = preflight(settings)
    settings = replace(settings, engine=choose_engine(settings, info))
    _resolved.append(settings.folder)
    return settings, info


def last_folder() -> Path | None:
    """The folder of the job that was resolved last; None where it was refused."""
    return _resolved[0] if _resolved else None


def forget() -> None:
    """Let `last_folder` be None until another job is resolved."""
    _resolved.clear()


def preflight(settings: Settings) -> EnvInfo:
    """Everything that can be refused without TensorFlow; returns the environment's description."""
    # What Gymnasium and the configuration import may import TensorFlow.
    backend.set_environment(settings.device if registry.brings_code(settings) else "auto")
    from rlexp.envs import adapter

    if settings.tracking.name == "mlflow":
        resolve_uri(settings.tracking.uri, Path(settings.output_dir))  # refuses addresses that hold a password
    algo = settings.algo
    entry = registry.algo(algo.name)
    family = registry.family(algo.name)
    info = adapter.inspect(settings.env, tabular=family.tabular)
    if info.restricted and not family.tabular:
        raise refusal(
            "algo",
            f"one that heeds action masks, since {settings.env.id} has states in which some actions are impossible",
            repr(algo.name),
            "Such are the tabular ones, for example algo=q_learning.",
        )
    if entry.family == "planning" and not info.table:
        raise refusal(
            "env.id",
            f"an environment with a transition table P for {algo.name}",
            f"{settings.env.id!r}, which has none"
            + (" that env.wrappers leave as it is" if settings.env.wrappers else ""),
            f"Toy-text environments have one, for example env=frozen_lake; or learn: algo={_learner(info)}.",
        )
    if isinstance(algo, TabularSettings):
        _check_states(settings, algo, info)
    if check := getattr(algo, "check_env", None):
        check(settings.env.id, info)
    if family.keras:
        network = registry.network(settings.network.name)
        _check_network(settings.network, network, info)
        if network.dense and is_picture(info.observation_shape):
            raise refusal(
                "network",
                f"a convolutional network for images of shape {info.observation_shape}",
                f"{settings.network.name!r}, which has dense layers only",
                "Use network=dueling_cnn or network=cnn.",
            )
    if entry.family == "replay":
        ring = registry.replay(algo.name)(settings.env.frame_stack)
        needed = settings.trials * ring.num_bytes(algo.replay_size, info.observation_shape, info.observation_dtype)
        _check_memory("algo.replay_size", f"rings of {algo.replay_size} transitions", needed, settings.trials)
    if family.keras and network.dense and network.options is not None:
        size = _num_weights(settings.network.hidden_units, info)
        check_weights(settings, size)
    return info


def _num_weights(hidden_units: list[int], info: EnvInfo) -> int:
    """Numbers in the weights of a dense network."""
    sizes = [math.prod(info.observation_shape), *hidden_units, info.num_actions]
    return sum((before + 1) * after for before, after in itertools.pairwise(sizes))


def check_weights(settings: Settings, size: int) -> None:
    """Raise `Refusal` where the weights of all trials, and what is kept of them, do not fit into memory.

    Args:
        settings: of the job.
        size: numbers in the weights of one trial.
    """
    copies = 5 + settings.evaluation.candidates  # gradient, two moments, target or second network; the best so far
    key = "network.hidden_units" if settings.network.name in ("mlp", "dueling") else "network"
    _check_memory(key, f"networks of {size:,} weights", 4 * copies * size * settings.trials, settings.trials)


def _learner(info: EnvInfo) -> str:
    """An algorithm that learns in an environment: with a table where its states are numbered."""
    if info.num_states is not None:
        return "q_learning"
    return "ddqn" if len(info.observation_shape) == 1 else "dqn network=cnn"


def _check_memory(where: str, what: str, needed: int, trials: int) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf
    if needed > memory:
        raise refusal(
            where,
            f"{what.split()[0]} that fit in this machine's memory ({memory / 2**30:.0f} GiB)",
            f"{trials} {what}, {needed / 2**30:.0f} GiB",
            "Lower trials." if where == "env.id" else f"Lower {where} or trials.",
        )


def choose_engine(settings: Settings, info: EnvInfo) -> str:
    """The engine that runs a job: "host" or "fused"; `auto` takes fused wherever it can.

    But agents with tables start without TensorFlow on the host, in a second; there `auto` takes fused for jobs that
    are long enough to earn its start back, by the estimate of `engines/costs.py`.

    Raises:
        Refusal: for engine=fused where it cannot run the job.
    """
    from rlexp.engines import costs
    from rlexp.envs import tensor

    algo = settings.algo.name
    family = registry.family(algo)
    if registry.fused_loop(algo) is None:
        reason: str | None = f"algo {algo} has no fused loop"
    else:
        reason = tensor.why_not(settings.env, info)
        if reason is None and family.keras and settings.engine != "host":
            reason = _why_not_mapped(settings, info)
    if reason is None:
        if settings.engine == "auto" and family.tabular:
            return costs.sooner(settings, info)
        return "host" if settings.engine == "host" else "fused"
    if settings.engine == "fused":
        raise refusal("engine", "auto or host", f"'fused', but {reason}",
                      "engine=host runs it: the same algorithm, configuration and metrics.")  # fmt: skip
    return "host"


def _why_not_mapped(settings: Settings, info: EnvInfo) -> str | None:
    """Why a network cannot be mapped over trials; built, which imports TensorFlow, where the registry does not say."""
    network, name = registry.network(settings.network.name), settings.network.name
    if network.dense:
        return None
    if network.convolutional:
        return f"network {name} is convolutional, which XLA maps over trials too slowly"
    from rlexp.system.backend import prepare

    prepare(settings.device)
    from rlexp.engines import mapping

    why = mapping.why_not(settings, info)
    return f"network {name} {why}" if why else None


def _check_network(config: NetworkSettings, network: registry.Network, info: EnvInfo) -> None:
    """What can be said of a network without Keras."""
    if ":" in config.name:
        module, _, function = config.name.partition(":")
        if not registry.can_import(module) or not function.isidentifier():
            fix = packages.for_module(module) if function.isidentifier() else ""
            raise refusal("network.name", "an importable module:function", repr(config.name), fix)
    for key, value in config.options.items():
        if network.options is None:
            break
        if key not in network.options:
            reads = f"It reads {', '.join(network.options)}." if network.options else "It reads none."
            raise refusal(f"network.options.{key}", f"an option of network {config.name}", "an unknown one", reads)
        allowed = network.options[key]
        if isinstance(allowed, registry.Rule):
            if not allowed.fits(value):
                raise refusal(f"network.options.{key}", allowed.expected, repr(value))
        elif value not in allowed:
            choices = ", ".join(str(choice).lower() for choice in allowed)
            raise refusal(f"network.options.{key}", f"one of {choices}", repr(value))
    if network.check:
        registry.load(network.check)(info.observation_shape, config)


def _check_states(settings: Settings, algo: TabularSettings, info: EnvInfo) -> None:
    """A table needs numbered states: the environment's own, or bins of a vector of numbers."""
    bins = algo.discretizer
    if settings.env.frame_stack > 1:
        raise refusal("env.frame_stack", f"1 for {algo.name}", str(settings.env.frame_stack))
    if info.num_states is not None:
        if bins.dimensions and bins != settings.env.discretizer:  # the environment's own wait for it to be a vector
            raise refusal(
                "algo.discretizer",
                f"no bins, since {settings.env.id} has numbered states",
                f"dimensions {bins.dimensions}",
            )
        _check_tables("env.id", settings, info, info.num_states)
        return
    size = info.observation_shape[0] - info.masked * info.num_actions if len(info.observation_shape) == 1 else 0
    if not bins.dimensions or max(bins.dimensions) >= size:
        shape = f"observations of shape {info.observation_shape}"
        raise refusal(
            "algo.discretizer",
            f"bins of some of the {size} observed numbers for {algo.name}" if size else "an environment with states",
            f"dimensions {bins.dimensions} and {settings.env.id!r} with {shape}",
            _advise_bins(settings, bins)
            if size
            else "A table cannot hold such observations; use a network, for example algo=ddqn.",
        )
    _check_tables("algo.discretizer.num_bins", settings, info, math.prod(bins.num_bins))


def _advise_bins(settings: Settings, given: DiscretizerSettings) -> str:
    """What to do where the bins do not suit an environment."""
    if settings.env.discretizer.dimensions and given != settings.env.discretizer:
        return f"{settings.env.name} has bins of its own: leave out algo.discretizer (or +discretizer)."
    return (
        "Give env.discretizer.dimensions, .low, .high and .num_bins, one entry per binned number; "
        "or use a network, for example algo=ddqn."
    )


def _check_tables(where: str, settings: Settings, info: EnvInfo, num_states: int) -> None:
    needed = 24 * settings.trials * info.num_actions * num_states  # values, visits, best values
    _check_memory(where, f"tables of {num_states} states", needed, settings.trials)
