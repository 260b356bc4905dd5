"""The distribution of returns that a trained policy expects of each action, and its histogram.

It is in `best.keras` of the distributional algorithms: the saved model computes action values as means of it.

Axes: B observations, A actions, K numbers of a distribution, H bars of a histogram.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rlexp.config import registry
from rlexp.config.schema.job import Settings
from rlexp.jobs.policy import Policy
from rlexp.jobs.stored_models import reason
from rlexp.system.errors import Refusal, refusal
from rlexp.system.words import number

NUM_BARS = 25  # of quantiles, which have no bars of their own
LEAST_SHOWN = 1e-3  # probability of an atom that is shown
NEEDED = "an algorithm that learns the distribution of returns"


class Returns(NamedTuple):
    """Distributions of discounted returns.

    Attributes:
        values: returns.  # [B, A, K]
        probabilities: of these; those of an action add up to 1.  # [B, A, K]
    """

    values: np.ndarray
    probabilities: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """The action values.  # [B, A]"""
        means: np.ndarray = (self.values * self.probabilities).sum(axis=-1)
        return means


class Histogram(NamedTuple):
    """Bars of distributions.

    Attributes:
        edges: of the bars.  # [H + 1]
        heights: probabilities; those of an action add up to 1.  # [B, A, H]
        limits: the part of the axis that has something to show.
    """

    edges: np.ndarray
    heights: np.ndarray
    limits: tuple[float, float]


def check_algorithm(algo: str, where: str) -> None:
    """Raise `Refusal` unless an algorithm learns the distribution of returns; `where` that was asked for."""
    if not hasattr(registry.load(registry.algo(algo).target), "return_model"):
        known = registry.distributional()
        raise refusal(where, f"{NEEDED} ({', '.join(known)})", repr(algo))


def returns_of(policy: Policy) -> Callable[[np.ndarray], Returns]:
    """What gives a policy's distributions for observations [B, ...].

    Raises:
        Refusal: if its algorithm has none, or its model does not hold them.
    """
    algo = policy.settings.algo.name
    check_algorithm(algo, "distribution")
    try:
        model = registry.load(registry.algo(algo).target).return_model(policy.model)  # type: ignore[attr-defined]
    except Refusal:
        raise
    except Exception as error:  # a file may hold any model
        raise refusal("distribution", f"a saved model of {algo} with distributions", reason(error)) from error
    return lambda observations: Returns(*model(policy.observed(observations)))


def histogram(returns: Returns) -> Histogram:
    """The distributions as bars, the same for all observations and actions.

    Returns that all have in common (the atoms of C51) have a bar each; others fall into bars of equal width.
    """
    values, probabilities = returns
    atoms = values[0, 0]
    if np.array_equal(values, np.broadcast_to(atoms, values.shape)) and len(atoms) > 1 and (np.diff(atoms) > 0).all():
        middles = (atoms[1:] + atoms[:-1]) / 2
        edges = np.concatenate([[2 * atoms[0] - middles[0]], middles, [2 * atoms[-1] - middles[-1]]])
        shown = np.flatnonzero((probabilities > LEAST_SHOWN).any(axis=(0, 1)))
        first, last = (int(shown[0]), int(shown[-1])) if len(shown) else (0, len(atoms) - 1)
        return Histogram(edges, probabilities, (float(edges[first]), float(edges[last + 1])))
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6 * max(1.0, abs(low)):
        low, high = low - 0.5, high + 0.5
    places = np.clip(((values - low) / (high - low) * NUM_BARS).astype(int), 0, NUM_BARS - 1)  # [B, A, K]
    heights = np.zeros((*values.shape[:2], NUM_BARS))
    rows, columns = np.indices(values.shape)[:2]
    np.add.at(heights, (rows, columns, places), probabilities)
    return Histogram(np.linspace(low, high, NUM_BARS + 1), heights, (low, high))


def quantity(settings: Settings) -> str:
    """What a job's distributions are of."""
    algo = settings.algo
    name = "discounted return"
    if (cvar := getattr(algo, "cvar", 1.0)) < 1:
        name += f", its worst {number(100 * cvar)} %"
    if getattr(algo, "reward_clip", None) is not None:
        name += " (of clipped rewards)"
    return name
