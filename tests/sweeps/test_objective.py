"""The objective of a search, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from rlexp.jobs.results import Curve, JobData
from rlexp.math.statistics import area_under_curve, steps_to
from rlexp.sweeps.search.objective import Objective
from rlexp.system.errors import Refusal

RETURNS = np.array([[0, 0, 0, 0, 9], [10, 4, 0, 2, 9], [10, 8, 8, 2, 9]], float)  # [T, N]
JOB = JobData(
    Path("j"),
    {"seeds": [0, 1, 2, 3, 4]},
    {"final/return": {"per_trial": [5.0, 1.0, 3.0, 100.0, None]}},
    {"eval/return": Curve(np.array([100, 200, 300]), RETURNS)},
)


def test_final_is_the_iqm_of_the_final_returns() -> None:
    assert Objective("final").score(JOB) == 4.0  # 1 and 100 are cut, the trial without one does not count


def test_a_search_for_final_returns_chooses_by_other_episodes_than_it_reports() -> None:
    def choice(selection: str | None, **columns: list[float | None]) -> tuple[list[float], str]:
        trials = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        summary = {**JOB.summary, "trials": trials, **({"selection": selection} if selection else {})}  # type: ignore[dict-item]
        values, words = Objective("final").choice(JobData(Path("j"), JOB.job, summary, JOB.curves))
        return values[:4].tolist(), words

    second, score, none = [4.0, 5, 6, 7, None], [1.0, 2, 3, 4, 5], [None] * 5
    looked = "return in the second look at the best weights"
    periodic = "return in the periodic evaluation (there was no second look)"
    assert choice("eval", candidate_return=second, best_eval_return=score) == ([4, 5, 6, 7], looked)
    assert choice("eval", candidate_return=none, best_eval_return=score) == ([1, 2, 3, 4], periodic)
    assert choice("last", candidate_return=none, last_eval_return=score) == ([1, 2, 3, 4], periodic)
    # The best training episode is one lucky episode: the highest evaluation stands in.
    assert choice("train_episode", candidate_return=none, best_train_episode=score) == ([10, 8, 8, 2], periodic)
    old = "final return (there is no other score)"
    assert choice(None, best_eval_return=score) == ([5, 1, 3, 100], old)
    assert Objective("area").choice(JOB)[0].tolist() == Objective("area").per_trial(JOB).tolist()


def test_a_trial_without_a_score_is_the_worst_of_all() -> None:
    values = np.array([5.0, np.nan])
    assert Objective().filled(values, [np.array([7.0, 2.0])]).tolist() == [5, 2]
    assert Objective("steps_to_threshold", 1).filled(values, [np.array([7.0, 2.0])]).tolist() == [5, 7]
    assert np.isnan(Objective().filled(np.array([np.nan]), [values])).all()  # nothing is known of it


def test_area_is_the_mean_height_of_the_curve() -> None:
    # trapezoids over two intervals of 100 steps: (0 + 10) / 4 + (10 + 10) / 4, ...
    assert Objective("area").per_trial(JOB).tolist() == [7.5, 4.0, 2.0, 1.5, 9.0]
    assert Objective("area").score(JOB) == pytest.approx((2.0 + 4.0 + 7.5) / 3)


def test_steps_to_a_threshold_that_is_never_reached_count_twice_the_budget() -> None:
    objective = Objective("steps_to_threshold", 8)
    assert objective.per_trial(JOB).tolist() == [200, 300, 300, 600, 100]
    assert objective.score(JOB) == pytest.approx((200 + 300 + 300) / 3)
    assert objective.smaller_is_better and str(objective) == "env steps to eval/return 8"


def test_a_job_without_scores_has_none() -> None:
    empty = JobData(Path("j"), {"seeds": [0, 1]}, None, {})
    for objective in (Objective("final"), Objective("area"), Objective("steps_to_threshold", 1)):
        assert math.isnan(objective.score(empty))


def test_trials_that_ended_early_or_never_started() -> None:
    values = np.array([[1.0, np.nan, 2.0], [3.0, np.nan, np.nan]])  # [T, N]
    np.testing.assert_array_equal(area_under_curve([0, 10], values), [2.0, np.nan, 2.0])
    np.testing.assert_array_equal(steps_to(3.0, [0, 10], values), [10.0, np.nan, np.inf])
    np.testing.assert_array_equal(area_under_curve([7], values[:1]), [1.0, np.nan, 2.0])


@pytest.mark.parametrize(
    ("name", "threshold", "words"),
    [
        ("finale", None, "objective: expected one of final, area, steps_to_threshold, received 'finale'.\nDid you mean final?"),
        ("steps_to_threshold", None, "threshold: expected a return to be reached, for objective=steps_to_threshold, received None."),
        ("area", 3.0, "threshold: expected none for objective=area, received 3.0."),
    ],
)  # fmt: skip
def test_refusals(name: str, threshold: float | None, words: str) -> None:
    with pytest.raises(Refusal) as refused:
        Objective(name, threshold)
    assert str(refused.value) == words
