"""An environment with one fault, registered as `probes/Misbehaving-v0` on import."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

UNSEEDED = np.random.default_rng()
PLAYED: set[int | None] = set()  # seeds of episodes in this process


class Misbehaving(gym.Env[Any, Any]):
    """Observes two numbers or, with `states`, one of three discrete states; reward 1; episodes end after 10 steps.

    Args:
        fault: the fault, at every step from the third on of a bad episode. "unseeded ..." draws numbers that do not depend
            on the seed; "shorter again" ends an episode at its third step if its seed has been played before.
        remainder, modulus: an episode is bad if seed % modulus == remainder. Default: all are.
        states: whether observations are discrete states.
        train_only: whether evaluation episodes, with seeds 100,000 to 400,000, are never bad.
    """

    def __init__(
        self, fault: str, remainder: int = 0, modulus: int = 1, states: bool = False, train_only: bool = False
    ) -> None:
        self.action_space = spaces.Discrete(2)
        self.observation_space = spaces.Discrete(3) if states else spaces.Box(-1, 1, (2,), np.float32)
        self.fault, self.modulus, self.remainder, self.train_only = fault, modulus, remainder, train_only
        self.good: Any = 1 if states else np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t, self.again = 0, seed in PLAYED
        PLAYED.add(seed)
        number = 0 if seed is None else seed
        self.bad = number % self.modulus == self.remainder
        self.bad &= seed is not None and not (self.train_only and 100_000 <= number < 400_000)
        if self.bad and self.fault == "reset raises":
            raise RuntimeError("no level of this number")
        if self.bad and self.fault == "reset hangs":
            time.sleep(60)
        if self.bad and self.fault == "reset nan":
            return self.good * np.nan, {}
        return self.good, {}

    def step(self, action: Any) -> Any:
        self.t += 1
        observation, reward, terminated, info = self.good, 1.0, self.t == 10 and self.fault != "endless", {}
        if not self.bad or self.t < 3 or self.fault == "endless":
            return observation, reward, terminated, False, info
        if self.fault == "raises":
            raise ValueError("the sensor fell off")
        if self.fault == "hangs":
            time.sleep(60)
        if self.fault == "loops":
            while True:
                pass
        if self.fault == "four values":
            return observation, reward, terminated, info
        wrong: dict[str, tuple[Any, Any, Any]] = {
            "nan": (np.array([0, np.nan], np.float32), reward, terminated),
            "inf": (np.array([np.inf, 0], np.float32), reward, terminated),
            "shape": (np.zeros(3, np.float32), reward, terminated),
            "scalar": (0.0, reward, terminated),
            "short": (np.zeros(1, np.float32), reward, terminated),
            "None": (None, reward, terminated),
            "words": (["a", "b"], reward, terminated),
            "state": (3, reward, terminated),
            "negative state": (-1, reward, terminated),
            "half a state": (0.5, reward, terminated),
            "nan reward": (observation, np.nan, terminated),
            "inf reward": (observation, -np.inf, terminated),
            "huge reward": (observation, 1e300, terminated),
            "no reward": (observation, None, terminated),
            "two rewards": (observation, np.ones(2), terminated),
            "unseeded observation": (UNSEEDED.random(2, np.float32), reward, terminated),
            "unseeded reward": (observation, UNSEEDED.random(), terminated),
            "shorter again": (observation, reward, terminated or self.again),
            "two ends": (observation, reward, np.ones(2, bool)),
        }
        return *wrong[self.fault], False, info


if "probes/Misbehaving-v0" not in gym.registry:
    gym.register("probes/Misbehaving-v0", entry_point=f"{__name__}:Misbehaving", disable_env_checker=True)
