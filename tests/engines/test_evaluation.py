"""The choice of the best weights, and the episodes that it looks at."""

from __future__ import annotations

import numpy as np
import pytest

from rlexp.engines.evaluation import BestWeights
from rlexp.envs import episodes, lock_step, making
from rlexp.jobs.runner import compose, resolve

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


def test_none_holds_its_score_the_best_of_the_second_look(best: BestWeights) -> None:
    second_look = best.choose(lambda params, trials: np.array([{3.0: 1.0, 2.0: 2.0, 4.0: 3.0}[params[0, 0]], 1.5]))
    assert second_look.tolist() == [3.0, 1.5]
    assert best.steps[:, 0].tolist() == [4, 3]  # trial 1: 1.5 < 2, then 1.5 >= 1 is no better


def test_environments_are_made_when_they_are_first_played(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, info = resolve(compose("algo=random", "trials=3"))
    make, made = making.make, []
    monkeypatch.setattr(lock_step, "make", lambda *args, **more: made.append(make(*args, **more)) or made[-1])
    player = episodes.EpisodePlayer(settings.env, info, settings.seeds, 50, 20)
    for trials, num_made in (([True, False, False], 2), ([True, False, True], 4), ([True, False, True], 4)):
        returns, lengths = player.play(lambda o_t: np.zeros(o_t.shape[:2], np.int64), [7, 8], np.array(trials))
        assert returns.shape == lengths.shape == (3, 2) and len(made) == num_made
        assert np.isnan(returns[1]).all() and returns[0].tolist() == lengths[0].tolist() == [9, 10]
    player.close()
