"""States of a table for observations: numbered states as they are, vectors of numbers by uniform bins.

The bins are those of scikit-learn's `KBinsDiscretizer(strategy="uniform")`, which the chapter uses: a number on an edge
belongs to the bin above it, a number beyond the first or last bin to that bin.
"""

from __future__ import annotations

import math

import numpy as np

from rlexp.config.schema.env import DiscretizerSettings
from rlexp.envs.info import EnvInfo


class Discretizer:
    """Maps vectors of numbers to states.

    Attributes:
        num_states: the product of `num_bins`.
        dimensions: those that are binned.
        num_bins: bins of each of these.
        edges: inner edges of the bins of each of these.
    """

    def __init__(self, config: DiscretizerSettings) -> None:
        self.num_states = math.prod(config.num_bins)
        self.dimensions, self.num_bins = config.dimensions, config.num_bins
        self.edges = [
            np.linspace(low, high, bins + 1)[1:-1]
            for low, high, bins in zip(config.low, config.high, config.num_bins, strict=True)
        ]

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """States [...] of observations [..., D]; the last of `dimensions` varies fastest."""
        states = np.zeros(observations.shape[:-1], np.int64)
        for dimension, edges, bins in zip(self.dimensions, self.edges, self.num_bins, strict=True):
            states = states * bins + np.searchsorted(edges, observations[..., dimension], side="right")
        return states


class States:
    """Maps observations for algorithms with tables (see `making.make`) to states and action masks.

    Attributes:
        num_states: S.
        bins: of vectors of numbers; None for numbered states.
    """

    def __init__(self, info: EnvInfo, discretizer: DiscretizerSettings | None) -> None:
        self._num_actions, self._masked = info.num_actions, info.masked
        self.bins = Discretizer(discretizer) if discretizer and info.num_states is None else None
        self.num_states = self.bins.num_states if self.bins else info.num_states or 0

    def __call__(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """States [...] and possible actions [..., A] bool (None: all of them) of observations [..., *shape]."""
        mask = None
        if self._masked:
            mask = observations[..., -self._num_actions :] > 0
            observations = observations[..., : -self._num_actions]
        if self.bins:
            return self.bins(observations), mask
        numbers = observations[..., 0] if self._masked else observations
        return numbers.copy(), mask  # a copy: environments may write over the array


def masked(q: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Action values [..., A] with -inf for forbidden actions; a mask that forbids all (of a last state) is ignored."""
    if mask is None:
        return q
    return np.where(mask | ~mask.any(axis=-1, keepdims=True), q, -np.inf)
