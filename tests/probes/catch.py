"""Catch: a ball falls from the top of a small image; a paddle in the last row must be below it at the end.

Registered as `probes/Catch-v0` on import. Observations are booleans (10 x 10 x 2: ball, paddle) or, with `symbols=True`,
bytes 0, 1 and 2 in one channel of three, declared as 0 to 255 like MiniGrid's. The return is 1 or -1; random play gets
about -0.6.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SIZE = 10


class Catch(gym.Env[np.ndarray, Any]):
    """Actions: left, stay, right. An episode has nine steps."""

    def __init__(self, symbols: bool = False) -> None:
        self.symbols, self.action_space = symbols, spaces.Discrete(3)
        space = (
            spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8) if symbols else spaces.Box(0, 1, (SIZE, SIZE, 2), np.bool_)
        )
        self.observation_space = space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.row, self.column, self.paddle = 0, int(SIZE * self.np_random.random()), SIZE // 2
        return self._look(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.paddle = min(max(self.paddle + int(action) - 1, 0), SIZE - 1)
        self.row += 1
        over = self.row == SIZE - 1
        return self._look(), float(2 * (self.paddle == self.column) - 1) if over else 0.0, over, False, {}

    def _look(self) -> np.ndarray:
        seen = np.zeros(self.observation_space.shape or (), self.observation_space.dtype)
        seen[self.row, self.column, 0] = 1
        seen[SIZE - 1, self.paddle, 0 if self.symbols else 1] = 2 if self.symbols else 1
        return seen


if "probes/Catch-v0" not in gym.registry:
    gym.register("probes/Catch-v0", entry_point=f"{__name__}:Catch")
