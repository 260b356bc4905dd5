"""Refusals of algorithms that do not suit their environment."""

from __future__ import annotations

import math

from rlexp.config import hints, registry
from rlexp.config.schema.algos import TabularSettings
from rlexp.config.schema.env import DiscretizerSettings
from rlexp.config.schema.job import Settings
from rlexp.engines.memory import check_tables
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import title
from rlexp.system.errors import refusal


def check_actions(settings: Settings, info: EnvInfo) -> None:
    """Raise `Refusal` for actions that the algorithm, by its own word in the registry, does not take."""
    algo, kind = registry.algo(settings.algo.name), info.action.kind
    if kind in algo.actions:
        return
    others = registry.algos_taking(kind)
    takers = f"These algorithms take them: algo={', '.join(others)}. " if others else ""
    raise refusal(
        "env.id",
        f"an environment with a {' or '.join(map(title, algo.actions))} action space",
        f"{settings.env.id!r} with {title(kind)} actions ({info.action})",
        (takers if kind == "discrete" else takers + hints.for_actions(settings.env.id, kind == "box")).rstrip(),
    )


def check_table(settings: Settings, info: EnvInfo) -> None:
    """Raise `Refusal` for an algorithm that needs a missing transition table, or cannot respect action masks."""
    algo = settings.algo
    if info.restricted and not registry.family(algo.name).tabular:
        raise refusal(
            "algo",
            f"one that heeds action masks, since {settings.env.id} has states in which some actions are impossible",
            repr(algo.name),
            "Such are the tabular ones, for example algo=q_learning.",
        )
    if registry.algo(algo.name).family == "planning" and not info.table:
        raise refusal(
            "env.id",
            f"an environment with a transition table P for {algo.name}",
            f"{settings.env.id!r}, which has none"
            + (" that env.wrappers leave as it is" if settings.env.wrappers else ""),
            f"Toy-text environments have one, for example env=frozen_lake; or learn: algo={_learner(info)}.",
        )


def check_states(settings: Settings, algo: TabularSettings, info: EnvInfo) -> None:
    """Raise `Refusal` unless a table has its states: the environment's own, or bins of a vector of numbers."""
    bins = algo.discretizer
    if settings.env.frame_stack > 1:
        raise refusal("env.frame_stack", f"1 for {algo.name}", str(settings.env.frame_stack))
    if info.num_states is not None:
        if bins.dimensions and bins != settings.env.discretizer:  # the environment's own are for other observations
            raise refusal(
                "algo.discretizer",
                f"no bins, since {settings.env.id} has numbered states",
                f"dimensions {bins.dimensions}",
            )
        check_tables("env.id", settings, info, info.num_states)
        return
    size = info.observation_shape[0] - info.masked * info.num_actions if len(info.observation_shape) == 1 else 0
    if not bins.dimensions or max(bins.dimensions) >= size:
        shape = f"observations of shape {info.observation_shape}"
        raise refusal(
            "algo.discretizer",
            f"bins of some of the {size} observed numbers for {algo.name}" if size else "an environment with states",
            f"dimensions {bins.dimensions} and {settings.env.id!r} with {shape}",
            _advice_on_bins(settings, bins)
            if size
            else "A table cannot hold such observations; use a network, for example algo=ddqn.",
        )
    check_tables("algo.discretizer.num_bins", settings, info, math.prod(bins.num_bins))


def _learner(info: EnvInfo) -> str:
    """An algorithm that learns in an environment: with a table if its states are numbered."""
    if info.num_states is not None:
        return "q_learning"
    return "ddqn" if len(info.observation_shape) == 1 else "dqn network=cnn"


def _advice_on_bins(settings: Settings, given: DiscretizerSettings) -> str:
    """What to do about bins that do not suit an environment."""
    if settings.env.discretizer.dimensions and given != settings.env.discretizer:
        return f"{settings.env.name} has bins of its own: leave out algo.discretizer (or +discretizer)."
    return (
        "Give env.discretizer.dimensions, .low, .high and .num_bins, one entry per binned number; "
        "or use a network, for example algo=ddqn."
    )
