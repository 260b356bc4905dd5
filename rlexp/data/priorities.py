"""Priorities of N replay rings, and draws in proportion to them (Schaul et al. 2016, "Prioritized experience replay").

    P(i) = p_i^alpha / sum_k p_k^alpha,   p_i = |error| + epsilon      (proportional: section 3.3)
    w_i = (C P(i))^-beta, divided by the largest of the batch          (section 3.4)

A batch is stratified: one draw from each of B equal parts of the sum. A new transition has the largest priority that
any has had so far, 1 at first. The fused engine's form is in `engines/fused/prioritized.py`.

Sums are kept for blocks of slots, so that a draw looks at the sums of blocks and at one block: of two levels, both are
about the root of the ring's size.

Axes: N trials, C slots of a ring, K blocks, B batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BLOCK = 256  # slots


class Priorities:
    """The priorities of N rings of `size` slots.

    Args:
        num_trials: N.
        size: C.
        alpha: exponent of priorities; 0 draws uniformly.
        epsilon: added to each error, so that every transition can be drawn again.
    """

    def __init__(self, num_trials: int, size: int, alpha: float, epsilon: float) -> None:
        self._alpha, self._epsilon = alpha, epsilon
        num_blocks = -(-size // BLOCK)
        self._powers = np.zeros((num_trials, num_blocks, BLOCK))  # p^alpha of each slot, 0 of an empty one
        self._sums = np.zeros((num_trials, num_blocks))
        self._highest = np.ones(num_trials)  # p, not p^alpha
        self._trials = np.arange(num_trials)

    def add(self, active: np.ndarray, slots: np.ndarray) -> None:
        """New transitions of the active trials [N] bool, at `slots` [N]: the highest priority so far."""
        trials = self._trials[active]
        self._write(trials, slots[active], self._highest[active] ** self._alpha)

    def draw(self, u: np.ndarray, held: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw transitions and their importance weights.

        Args:
            u: uniform numbers in [0, 1), one for each part of the sum.  # [N, B]
            held: transitions in each ring.  # [N]
            beta: exponents of the weights.  # [N]

        Returns:
            Slots and weights.  # [N, B] int64, [N, B] float32
        """
        trials, parts = self._trials[:, None], np.arange(u.shape[1])
        ends = np.cumsum(self._sums, axis=1)  # [N, K]
        total = ends[:, -1:]  # [N, 1]
        points = (parts + u.astype(np.float64)) / u.shape[1] * total  # [N, B]
        block = np.minimum((ends[:, None, :] <= points[..., None]).sum(axis=-1), ends.shape[1] - 1)  # [N, B]
        inside = np.cumsum(self._powers[trials, block], axis=-1)  # [N, B, BLOCK]
        rest = points - (ends - self._sums)[trials, block]
        place = np.minimum((inside <= rest[..., None]).sum(axis=-1), BLOCK - 1)
        # Sums round: a point at the very end may come to lie behind the last transition.
        slots = np.minimum(block * BLOCK + place, np.maximum(held[:, None] - 1, 0))
        share = self._powers[trials, slots // BLOCK, slots % BLOCK] / np.where(total > 0, total, 1.0)
        with np.errstate(divide="ignore"):  # a trial that does not learn yet has an empty ring
            weights = np.where(share > 0, (held[:, None] * share) ** -beta[:, None], 1.0)
        return slots, (weights / weights.max(axis=1, keepdims=True)).astype(np.float32)

    def update(self, due: np.ndarray, slots: np.ndarray, errors: np.ndarray) -> None:
        """Set the priorities of what the due trials [N] bool have learned from.

        Args:
            due: trials that have learned.  # [N] bool
            slots: as `draw` has returned them.  # [N, B]
            errors: sizes of errors, of which those that are not finite are left out.  # [N, B]
        """
        priorities = np.abs(errors.astype(np.float64)) + self._epsilon
        good = np.isfinite(priorities) & due[:, None]
        if not good.any():
            return
        self._highest = np.maximum(self._highest, np.where(good, priorities, 0.0).max(axis=1))
        trials = np.broadcast_to(self._trials[:, None], slots.shape)[good]
        self._write(trials, slots[good], priorities[good] ** self._alpha)

    def get_state(self, held: int) -> dict[str, Any]:
        """The priorities of the first `held` slots, and the highest.  # [N, held], [N]"""
        powers = self._powers.reshape(len(self._trials), -1)[:, :held]
        return {"powers": powers.copy(), "highest": self._highest.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        powers = state["powers"]
        self._powers.reshape(len(self._trials), -1)[:, : powers.shape[1]] = powers
        self._sums = np.cumsum(self._powers, axis=-1)[..., -1]
        self._highest = state["highest"].copy()

    def _write(self, trials: np.ndarray, slots: np.ndarray, powers: np.ndarray) -> None:
        """Set p^alpha of some slots, and the sums of their blocks; all [M]."""
        block = slots // BLOCK
        self._powers[trials, block, slots % BLOCK] = powers
        # Summed anew, from the first slot to the last: a sum that is only added to would drift, and depend on history.
        self._sums[trials, block] = np.cumsum(self._powers[trials, block], axis=-1)[:, -1]
