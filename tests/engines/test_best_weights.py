"""The choice of the best weights."""

from __future__ import annotations

import numpy as np
import pytest

from rlexp.engines.best_weights import BestWeights

NAN = float("nan")


def offer(best: BestWeights, step: int, *scores: float) -> None:
    """Offer weights that say when they were offered."""
    best.offer(np.array(scores), lambda: np.full((len(scores), 2), float(step)), np.full(len(scores), step))


@pytest.fixture
def best() -> BestWeights:
    """Two trials, three candidates each."""
    best = BestWeights(np.full((2, 2), -1.0), 3)
    offer(best, 1, 5.0, NAN)
    offer(best, 2, 7.0, NAN)
    offer(best, 3, 7.0, 2.0)
    offer(best, 4, 6.0, NAN)
    offer(best, 5, 4.0, 1.0)
    return best


def test_best_first_and_the_latest_among_equals(best: BestWeights) -> None:
    assert best.scores.tolist() == [[7.0, 7.0, 6.0], [2.0, 1.0, -np.inf]]
    assert best.steps.tolist() == [[3, 2, 4], [3, 5, 0]]
    assert best.params.tolist() == [[3.0, 3.0], [3.0, 3.0]]
    assert best.candidates[1, :, 0].tolist() == [3.0, 5.0, -1.0]


def test_initial_weights_until_there_is_a_score() -> None:
    best = BestWeights(np.full((1, 2), -1.0), 3)
    offer(best, 1, NAN)
    assert best.choose(lambda params, trials: np.where(trials, params[:, 0], NAN)).tolist() == [-1.0]  # they are scored
    assert best.params.tolist() == [[-1.0, -1.0]] and best.scores[0, 0] == -np.inf


def test_a_candidate_that_holds_its_score_ends_the_search(best: BestWeights) -> None:
    asked = []

    def score(params: np.ndarray, trials: np.ndarray) -> np.ndarray:
        asked.append((params[:, 0].tolist(), trials.tolist()))
        return np.array([{3.0: 6.5, 2.0: 7.0, 4.0: 9.0}.get(params[0, 0], NAN), 2.0])

    assert best.choose(score).tolist() == [7.0, 2.0]
    assert asked == [([3.0, 3.0], [True, True]), ([2.0, 5.0], [True, False])]
    assert best.params.tolist() == [[2.0, 2.0], [3.0, 3.0]]
    assert best.steps[:, 0].tolist() == [2, 3] and best.scores[:, 0].tolist() == [7.0, 2.0]


def test_if_no_candidate_holds_its_score_the_second_score_decides(best: BestWeights) -> None:
    second_look = best.choose(lambda params, trials: np.array([{3.0: 1.0, 2.0: 2.0, 4.0: 3.0}[params[0, 0]], 1.5]))
    assert second_look.tolist() == [3.0, 1.5]
    assert best.steps[:, 0].tolist() == [4, 3]  # trial 1: 1.5 < 2, then 1.5 >= 1 is no better
