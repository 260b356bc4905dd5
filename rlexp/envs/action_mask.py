"""Action masks: `info["action_mask"]` says which actions are possible in the state that was just observed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from rlexp.envs.faults import Misbehaved, Unfit, raised
from rlexp.envs.guard import call
from rlexp.system.errors import refusal


class MaskedObservation(gym.Wrapper):
    """Puts the action mask behind the observation, so that it goes wherever the observation goes.  # [D + A]"""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        space, num_actions = env.observation_space, int(env.action_space.n)  # type: ignore[attr-defined]
        self._num_actions = num_actions
        if isinstance(space, gym.spaces.Discrete):
            space = gym.spaces.Box(int(space.start), int(space.start + space.n - 1), (1,), np.int64)
        assert isinstance(space, gym.spaces.Box)
        low = np.append(space.low.ravel(), np.zeros(num_actions, space.dtype))
        high = np.append(space.high.ravel(), np.ones(num_actions, space.dtype))
        self.observation_space = gym.spaces.Box(low, high, dtype=space.dtype)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Reset, with the mask of the first state."""
        observation, info = self.env.reset(**options)
        return self._with_mask(observation, info), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, with the mask of the new state."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._with_mask(observation, info), reward, terminated, truncated, info

    def _with_mask(self, observation: Any, info: dict[str, Any]) -> np.ndarray:
        mask = mask_of(info, self._num_actions)
        joined = np.concatenate((np.ravel(observation), mask), dtype=self.observation_space.dtype)
        return joined  # [D + A]


def has_action_mask(env: gym.Env, env_id: str) -> bool:
    """Whether an environment with Discrete actions gives a mask; raises `Refusal` if it cannot be reset."""
    if not isinstance(env.action_space, gym.spaces.Discrete):
        return False
    try:
        return "action_mask" in call("reset", partial(env.reset, seed=0))[1]
    except Misbehaved as fault:
        raise refusal("env.id", "an environment that can be reset", f"{env_id!r} ({fault.text})") from fault
    except Exception as error:
        raise refusal("env.id", "an environment that can be reset", f"{env_id!r} ({raised(error)})") from error


def mask_of(info: Any, num_actions: int) -> Any:
    """The action mask of an `info`, one number for each action; raises `Unfit` if there is none."""
    mask = info.get("action_mask") if isinstance(info, Mapping) else None
    if mask is None:
        raise Unfit("expected an action_mask in info, as after the first reset, received none")
    if np.shape(mask) != (num_actions,):
        raise Unfit(f"expected an action_mask of shape ({num_actions},), received shape {np.shape(mask)}")
    return mask
