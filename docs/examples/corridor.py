"""An environment of one's own: a corridor with its exit at the right end."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Corridor(gym.Env[np.ndarray, Any]):
    """Actions: left, right. Each step costs 1; the exit ends the episode."""

    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length: int = 8) -> None:
        self.length = length

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(self.length))  # all randomness from self.np_random
        return self._seen(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.place = max(self.place + (1 if action == 1 else -1), 0)
        return self._seen(), -1.0, self.place >= self.length, False, {}

    def _seen(self) -> np.ndarray:
        return np.array([min(self.place / self.length, 1.0)], np.float32)


gym.register("Corridor-v0", entry_point=f"{__name__}:Corridor", max_episode_steps=100)
