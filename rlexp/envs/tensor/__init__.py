"""Environments written in TensorFlow for one trial, which the fused engine compiles together with the learner."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from rlexp.config import registry
from rlexp.config.schema.env import EnvSettings
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Spec
from rlexp.envs.toy_text import table_parts


def build(settings: EnvSettings, action: Spec | None = None) -> Any:
    """The tensor environment (a `base.TensorEnv`) of settings that `registry.dynamics` or a table describes.

    Args:
        settings: the environment.
        action: what agents choose; numbers of a Box are clipped at its bounds before each step.
    """
    known = registry.dynamics(settings.id)
    if known is not None:
        env = registry.load(known.target)(**settings.kwargs)
        if isinstance(action, Box) and action.dtype == "float32":
            from rlexp.envs.tensor.base import Clipped

            return Clipped(env, action)
        return env
    from rlexp.envs.tensor.table import Table

    return Table(*table_parts(settings))


def why_not(settings: EnvSettings, info: EnvInfo) -> str | None:
    """Why an environment cannot run on the fused engine; None if it can. Imports no TensorFlow."""
    if settings.preprocessing != "none" or settings.frame_stack > 1:
        return "env.preprocessing and env.frame_stack exist on the host engine only"
    if settings.wrappers:
        return "env.wrappers exist on the host engine only"
    known = registry.dynamics(settings.id)
    if known is not None and _is_replaced(settings.id):
        return f"{settings.id} is registered with another class than the one whose tensor dynamics are known"
    if known is None:
        if info.is_table:
            return None
        return f"{settings.id} has neither tensor dynamics (an entry of rlexp.envs) nor a transition table P"
    if info.masked or (info.tabular and info.num_states is not None):
        return f"the tensor dynamics of {settings.id} have neither numbered states nor action masks"
    unknown = [name for name in settings.kwargs if name not in known.kwargs]
    return f"the tensor dynamics of {settings.id} do not know env.kwargs.{unknown[0]}" if unknown else None


def _is_replaced(env_id: str) -> bool:
    """Whether one of Gymnasium's ids is registered with a third-party class, or with further wrappers."""
    bare = env_id.rpartition(":")[2]
    spec = gym.registry.get(bare)
    return (
        bare in registry.DYNAMICS
        and spec is not None
        and (not str(spec.entry_point).startswith("gymnasium.envs.") or bool(spec.additional_wrappers))
    )
