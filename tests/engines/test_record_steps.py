"""The steps at which trials are recorded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlexp.engines import record_steps
from rlexp.engines.record_steps import MAX_RECORDS, RecordSteps
from tests.conftest import records


def points(folder: Path) -> int:
    """The most records that a metric of one trial has."""
    return max(
        Counter(
            (name, k)
            for record in records(folder)
            for name, values in record["metrics"].items()
            for k, value in enumerate(values)
            if value is not None
        ).values()
    )


@pytest.mark.parametrize(
    ("log_period", "period", "most", "eval_period", "num_records"),
    [
        (200, 2000, 50_000, 2000, 250),
        (1000, 1000, 2_000_000, 1000, 2000),  # as many as there may be
        (30, 2000, 60_000, 62_000, 2000),  # those of log.points=2000 tell of evaluations, too
        (1001, 500, 2_000_000, 1_000_500, 2000),  # log.points=1999 leaves room for one
        (200, 10, 10_010, 10, 1001),
        (8000, 1, 2_000_000, 1143, 1999),  # what is left by the 250 of log.points, and both meet at one step only
        (4_000_000, 1, 1_000_000_000, 571_103, 2000),
        (1000, 1143, 2_000_000, 2_000_250, 2000),
        (7, 3, 13_999, 14_001, 2000),
        (1, 1, 1, 1, 1),
    ],
)
def test_jobs_of_known_length_have_as_many_records_as_allowed(
    log_period: int, period: int, most: int, eval_period: int, num_records: int
) -> None:
    steps = RecordSteps(log_period, period, most, exact=True)
    assert (steps.eval_period, steps.eval_period % period) == (eval_period, 0)
    due = steps.count(most) + (not steps.due(most))
    assert due == num_records <= MAX_RECORDS
    if most < 100_000:
        assert steps.count(most) == sum(steps.due(t) for t in range(1, most + 1))


@pytest.mark.parametrize("period", [1, 7, 100, 10_000])
@pytest.mark.parametrize("log_period", [1, 9, 40])
def test_records_become_rarer_if_episodes_have_no_limit(log_period: int, period: int) -> None:
    steps = RecordSteps(log_period, period, None, exact=False)
    assert steps.thinning_start is not None and steps.eval_period == period
    assert (
        steps.count(steps.thinning_start) == record_steps.RECORD_THINNING_START > steps.count(steps.thinning_start - 1)
    )
    assert not any(steps.due(t) for t in range(steps.thinning_start + 1, steps.thinning_start + 1000) if t % log_period)
    rest = [
        n
        for n in range(steps.thinning_start // log_period + 1, 64 * steps.thinning_start // log_period)
        if steps.due(n * log_period)
    ]
    assert 16 <= len(rest) <= 4 * 7


@pytest.mark.parametrize(("period", "most"), [(10, 15_000), (10, 60_000), (7, 1_000_000), (1, 10**9)])
def test_late_records_are_thinned_if_there_may_be_too_many(period: int, most: int) -> None:
    log_period = math.ceil(most / 250)
    steps = RecordSteps(log_period, period, most, exact=False)
    if most == 15_000:
        assert steps.thinning_start is None and steps.count(most) <= MAX_RECORDS
        return
    assert steps.eval_period == period and steps.thinning_start is not None
    assert (
        steps.count(steps.thinning_start) == record_steps.RECORD_THINNING_START > steps.count(steps.thinning_start - 1)
    )
    later = [n for n in range(steps.thinning_start // log_period + 1, 251) if steps.due(n * log_period)]
    assert 50 <= len(later) <= MAX_RECORDS - record_steps.RECORD_THINNING_START - 1
    assert not any(steps.due(t) for t in range(steps.thinning_start + 1, steps.thinning_start + 1000) if t % log_period)


@pytest.mark.parametrize(("engine", "budget"), [
    ("host", "budget.steps=600"), pytest.param("fused", "budget.steps=600", marks=pytest.mark.slow),
    *(pytest.param(engine, "budget.episodes=60", marks=pytest.mark.slow) for engine in ("host", "fused")),
])  # fmt: skip
def test_many_evaluations_share_records(
    engine: str, budget: str, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ("q_learning", "env=frozen_lake", "trials=2", budget, "env.max_episode_steps=30", "evaluation.period=10",
           "log.points=6", "algo.epsilon=0.5", "evaluation.max_steps=20", f"engine={engine}")  # fmt: skip
    whole = tiny(*job, "study=whole")
    assert points(whole.folder) > 20
    with monkeypatch.context() as patched:
        patched.setattr(record_steps, "RECORD_THINNING_START", 66)  # 600 / 10 + 6
        patched.setattr(record_steps, "MAX_RECORDS", 68)
        same = tiny(*job, "study=same")
        patched.setattr(record_steps, "RECORD_THINNING_START", 10)
        patched.setattr(record_steps, "MAX_RECORDS", 20)
        fewer = tiny(*job, "study=fewer")
    assert len(records(whole.folder)) > len(records(fewer.folder))
    assert records(same.folder) == records(whole.folder)
    # Every evaluation has had its say: in the choice of weights, and in the means.
    timed = ("wall_seconds", "train_seconds", "steps_per_second", "finished", "study", "files")
    assert {k: v for k, v in fewer.items() if k not in (*timed, "curves")} == {
        k: v for k, v in whole.items() if k not in (*timed, "curves")
    }
    assert points(fewer.folder) <= 20
    for k in range(2):
        each, told = (
            {r["step"]: r["metrics"]["eval/return"][k] for r in records(job.folder) if "eval/return" in r["metrics"]}
            for job in (whole, fewer)
        )
        each, told = ({step: v for step, v in d.items() if v is not None} for d in (each, told))
        last = 0
        for step, value in told.items():
            assert value == pytest.approx(np.mean([v for t, v in each.items() if last < t <= step]))
            last = step
        assert last == max(each) and len(told) < len(each)


def test_a_job_that_evaluates_more_than_2000_times(tiny: Callable[..., Any]) -> None:
    job = tiny("q_learning", "env=frozen_lake", "trials=1", "budget.steps=2100", "evaluation.period=1",
               "evaluation.num_episodes=1", "evaluation.max_steps=1", "log.points=420")  # fmt: skip
    # Each second evaluation, since each one and the 420 would be too many; and every fifth step.
    assert [record["step"] for record in records(job.folder)][:6] == [2, 4, 5, 6, 8, 10]
    assert points(job.folder) == 1050 + 420 - 210
    assert len(records(job.folder)) == 1260 + 1  # the scores at the end are metrics of their own
