"""What can be refused before TensorFlow is imported, and which engine runs a job."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlexp import registry
from rlexp.settings import (
    AnglePolicySettings,
    DQNSettings,
    NetworkSettings,
    PGSettings,
    Settings,
    TabularSettings,
    refusal,
)

if TYPE_CHECKING:
    from rlexp.envs.adapter import EnvInfo

FUSED_TABULAR_STEPS = 2_000_000  # env steps of all trials from which `engine=auto` fuses tables


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
    from rlexp.envs import adapter
    from rlexp.replay import ring_type

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
            f"{settings.env.id!r}, which has none",
            "Toy-text environments have one, for example env=frozen_lake; or learn: algo=q_learning.",
        )
    if isinstance(algo, TabularSettings):
        _check_states(settings, algo, info)
    if isinstance(algo, AnglePolicySettings) and (
        len(info.observation_shape) != 1 or info.observation_shape[0] <= algo.observation_index or info.num_actions != 2
    ):
        raise refusal(
            "algo",
            f"an environment with two actions and more than {algo.observation_index} observed numbers for angle_policy",
            f"{settings.env.id!r} with {info.num_actions} actions and observations of shape {info.observation_shape}",
            "It was made for env=cartpole.",
        )
    if family.keras:
        network = registry.network(settings.network.name)
        _check_network(settings.network, network, info)
        if network.dense and len(info.observation_shape) == 3 and min(sorted(info.observation_shape)[1:]) >= 36:
            raise refusal(
                "network",
                f"a convolutional network for images of shape {info.observation_shape}",
                f"{settings.network.name!r}, which has dense layers only",
                "Use network=dueling_cnn or network=cnn.",
            )
    if isinstance(algo, PGSettings) and algo.head == "sigmoid" and info.num_actions != 2:
        raise refusal(
            "algo.head",
            f"softmax for {info.num_actions} actions",
            "'sigmoid', which is for two",
        )
    if isinstance(algo, DQNSettings):
        ring = ring_type(settings.env.frame_stack)
        needed = settings.trials * ring.num_bytes(algo.replay_size, info.observation_shape, info.observation_dtype)
        _check_memory("algo.replay_size", f"rings of {algo.replay_size} transitions", needed, settings.trials)
    return info


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
    are long enough to earn its start back.

    Raises:
        Refusal: for engine=fused where it cannot run the job.
    """
    from rlexp.engines.trials import most_steps
    from rlexp.envs import tensor

    algo = settings.algo.name
    family = registry.family(algo)
    if family.fused is None:
        reason: str | None = f"algo {algo} has no fused loop"
    elif family.keras and registry.network(settings.network.name).convolutional:
        reason = f"network {settings.network.name} is convolutional, which XLA maps over trials too slowly"
    else:
        reason = tensor.why_not(settings.env, info)
    if reason is None:
        short = family.tabular and settings.trials * most_steps(settings, info) < FUSED_TABULAR_STEPS
        return "host" if settings.engine == "host" or (settings.engine == "auto" and short) else "fused"
    if settings.engine == "fused":
        raise refusal("engine", "auto or host", f"'fused', but {reason}",
                      "engine=host runs it: the same algorithm, configuration and metrics.")  # fmt: skip
    return "host"


def _check_network(config: NetworkSettings, network: registry.Network, info: EnvInfo) -> None:
    """What can be said of a network without Keras."""
    if ":" in config.name:
        module, _, function = config.name.partition(":")
        if not registry.can_import(module) or not function.isidentifier():
            raise refusal("network.name", "an importable module:function", repr(config.name))
    for key, value in config.options.items():
        if network.options is None:
            break
        if key not in network.options:
            reads = f"It reads {', '.join(network.options)}." if network.options else "It reads none."
            raise refusal(f"network.options.{key}", f"an option of network {config.name}", "an unknown one", reads)
        if value not in network.options[key]:
            choices = ", ".join(str(choice).lower() for choice in network.options[key])
            raise refusal(f"network.options.{key}", f"one of {choices}", repr(value))
    shape = info.observation_shape
    if network.convolutional and (len(shape) != 3 or min(sorted(shape)[1:]) < 36):
        raise refusal(
            "network",
            f"image observations of at least 36 x 36 pixels for {config.name}",
            f"shape {shape}",
            "Use network=mlp.",
        )


def _check_states(settings: Settings, algo: TabularSettings, info: EnvInfo) -> None:
    """A table needs numbered states: the environment's own, or bins of a vector of numbers."""
    bins = algo.discretizer
    if settings.env.frame_stack > 1:
        raise refusal("env.frame_stack", f"1 for {algo.name}", str(settings.env.frame_stack))
    if info.num_states is not None:
        if bins.dimensions:
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
            "Add +discretizer=cartpole, or give algo.discretizer.dimensions, .low, .high and .num_bins."
            if size
            else "A table cannot hold such observations; use a network, for example algo=ddqn.",
        )
    _check_tables("algo.discretizer.num_bins", settings, info, math.prod(bins.num_bins))


def _check_tables(where: str, settings: Settings, info: EnvInfo, num_states: int) -> None:
    needed = 24 * settings.trials * info.num_actions * num_states  # values, visits, best values
    _check_memory(where, f"tables of {num_states} states", needed, settings.trials)
