"""From observations to the rows of a table: numbered states as they are, numbers through uniform bins.

The bins are those of scikit-learn's `KBinsDiscretizer(strategy="uniform")`, which the chapter uses: a number on an edge
belongs to the bin above it, and what is below the first bin or above the last belongs to that bin.
"""

from __future__ import annotations

import math

import numpy as np

from rlexp.config.schema.env import DiscretizerSettings
from rlexp.envs.info import EnvInfo


class Discretizer:
    """Vectors of numbers -> states.

    Attributes:
        num_states: the product of the numbers of bins.
        dimensions, num_bins: what is binned, and into how many.
        edges: inner edges of the bins of each dimension.
    """

    def __init__(self, config: DiscretizerSettings) -> None:
        self.num_states = math.prod(config.num_bins)
        self.dimensions, self.num_bins = config.dimensions, config.num_bins
        self.edges = [
            np.linspace(low, high, bins + 1)[1:-1]
            for low, high, bins in zip(config.low, config.high, config.num_bins, strict=True)
        ]

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """States [...] of observations [..., D]; the last dimension that is listed varies fastest."""
        states = np.zeros(observations.shape[:-1], np.int64)
        for dimension, edges, bins in zip(self.dimensions, self.edges, self.num_bins, strict=True):
            states = states * bins + np.searchsorted(edges, observations[..., dimension], side="right")
        return states


class States:
    """Observations of tabular environments (see `making.make`) -> states and action masks, for all trials at once.

    Attributes:
        num_states: S.
        bins: how vectors of numbers are binned; None for numbered states.
    """

    def __init__(self, info: EnvInfo, discretizer: DiscretizerSettings | None) -> None:
        self._num_actions, self._masked = info.num_actions, info.masked
        self.bins = Discretizer(discretizer) if discretizer and info.num_states is None else None
        self.num_states = self.bins.num_states if self.bins else info.num_states or 0

    def __call__(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Observations [..., *shape] -> states [...] and possible actions [..., A] bool, None for all of them."""
        mask = None
        if self._masked:
            mask = observations[..., -self._num_actions :] > 0
            observations = observations[..., : -self._num_actions]
        if self.bins:
            return self.bins(observations), mask
        numbers = observations[..., 0] if self._masked else observations
        return numbers.copy(), mask  # environments write over what they have handed out


def masked(q: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Action values [..., A] with -inf where `mask` forbids; one that forbids everything (a last state) is ignored."""
    if mask is None:
        return q
    return np.where(mask | ~mask.any(axis=-1, keepdims=True), q, -np.inf)
