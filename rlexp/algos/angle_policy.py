"""The chapter's hard-coded CartPole policy ("A simple hard-coded policy"): push to the side the pole leans to.

a_t = 0 if angle < threshold else 1
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlexp.config.schema.algos import AnglePolicySettings
from rlexp.envs.info import EnvInfo


class AnglePolicy:
    """A policy with nothing to learn; NumPy only."""

    widths: Mapping[str, int] = {"act": 1}

    def __init__(self, config: AnglePolicySettings, info: EnvInfo) -> None:
        self.config = config

    def act(self, o_t: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Actions [...] for observations [..., O]; the uniform numbers are not used."""
        return (o_t[..., self.config.observation_index] >= self.config.threshold).astype(np.int64)
