"""Uniformly random actions: the floor of every comparison.

a_t = floor(u A)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlexp.config.schema.algos import RandomSettings
from rlexp.envs.info import EnvInfo


class Random:
    """A policy with nothing to learn; NumPy only."""

    widths: Mapping[str, int] = {"act": 1}

    def __init__(self, config: RandomSettings, info: EnvInfo) -> None:
        self.num_actions = info.num_actions

    def act(self, o_t: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Actions [...] for observations [..., *shape] and uniform numbers [...]."""
        return (u * self.num_actions).astype(np.int64)
