"""The best weights of each trial, and the rule that chooses them.

Axes: N trials, K candidates, P parameters of a trial.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any  # of NumPy or TensorFlow


def is_as_good(score: Array, best: Array) -> Array:
    """The selection rule: whether weights with `score` replace those with the score `best`.

    Among equals the latest weights win; a score that is NaN never does. The rule is the same on both engines.

    Args:
        score, best: arrays of NumPy or TensorFlow.  # [...] each

    Returns:
        # [...] bool
    """
    return score >= best


class BestWeights:
    """The weights of each trial with the highest scores, best first; among equals the latest.

    Several candidates are kept because the best of many scores owes something to luck: at the end all candidates are
    scored again, and the best is chosen by the second score.

    Args:
        params: weights to start with, the first choice until better ones are offered.  # [N, P]
        num_candidates: K.

    Attributes:
        candidates: the weights.  # [N, K, P]
        scores: their scores, -inf where there is no candidate yet.  # [N, K]
        steps: env steps of the trial when they were offered.  # [N, K]
    """

    def __init__(self, params: np.ndarray, num_candidates: int) -> None:
        self.candidates = np.repeat(params[:, None], num_candidates, axis=1)
        self.scores: np.ndarray = np.full(self.candidates.shape[:2], -np.inf)
        self.steps = np.zeros(self.candidates.shape[:2], np.int64)

    @property
    def params(self) -> np.ndarray:
        """The first choice of every trial.  # [N, P]"""
        return self.candidates[:, 0]

    def take(self, trials: np.ndarray, scores: np.ndarray, params: np.ndarray, steps: np.ndarray) -> None:
        """Make weights [N, P] the first choice of the chosen trials [N] bool, whatever their scores [N]."""
        for rows, values in ((self.candidates, params), (self.scores, scores), (self.steps, steps)):
            rows[trials, 0] = values[trials]

    def offer(self, scores: np.ndarray, params: Callable[[], np.ndarray], steps: np.ndarray) -> None:
        """Keep the weights of trials whose score [N] is as good as that of their last candidate; NaN never is."""
        chosen = np.flatnonzero(is_as_good(scores, self.scores[:, -1]))
        if not len(chosen):
            return
        values = params()
        for k in chosen:
            place = int((self.scores[k] > scores[k]).sum())
            for rows, value in ((self.candidates, values), (self.scores, scores), (self.steps, steps)):
                rows[k, place + 1 :] = rows[k, place:-1].copy()
                rows[k, place] = value[k]

    def choose(self, score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """Score the candidates again, in order, and put the best one first.

        The search of a trial ends at the first candidate that scores no less than before. A trial without a candidate
        (it diverged before its first evaluation) keeps its first weights, which are scored as well.

        Args:
            score: weights [N, P], trials that take part [N] bool -> scores [N].

        Returns:
            The second score of the chosen weights, NaN where there is none.  # [N]
        """
        trials = np.arange(len(self.scores))
        best, best_score = np.zeros(len(trials), np.int64), np.full(len(trials), -np.inf)
        open_ = np.ones(len(trials), bool)
        for i in range(self.scores.shape[1]):
            open_ &= np.isfinite(self.scores[:, i]) | (i == 0)
            if not open_.any():
                break
            again = np.where(open_, score(self.candidates[:, i], open_), -np.inf)
            best = np.where(again > best_score, i, best)
            best_score = np.maximum(again, best_score)
            open_ &= again < self.scores[:, i]
        for rows in (self.candidates, self.scores, self.steps):
            rows[:, 0] = rows[trials, best]
        return np.where(np.isfinite(best_score), best_score, np.nan)

    def get_state(self) -> dict[str, np.ndarray]:
        """Candidates, scores and steps."""
        return {"candidates": self.candidates, "scores": self.scores, "steps": self.steps}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Put back what `get_state` returned."""
        self.candidates, self.scores, self.steps = (state[name] for name in ("candidates", "scores", "steps"))
