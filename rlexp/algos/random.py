"""Uniformly random actions: the floor of every comparison.

Discrete, MultiDiscrete   a_t = floor(u n), n: how many there are to choose from
Box                       a_t = low + u (high - low)
"""

from __future__ import annotations

import math

import numpy as np

from rlexp.config.schema.algos import RandomSettings
from rlexp.envs.info import EnvInfo


class Random:
    """A policy with nothing to learn; NumPy only."""

    def __init__(self, config: RandomSettings, info: EnvInfo) -> None:
        self.action = info.action
        self.widths = {"act": math.prod(self.action.shape)}

    def act(self, o_t: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Actions [..., *action shape] for observations [..., *shape] and uniform numbers [..., W]."""
        return self.action.uniform(u)
