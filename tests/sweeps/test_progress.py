"""The place of a job in its sweep, the time that is left, and the line at its end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rlexp.sweeps import progress
from rlexp.sweeps.outcome import Outcome
from rlexp.sweeps.progress import announce, ended_line, place_of

STARTED = 1_000_000.0


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep of eight jobs, 60 seconds old, with job 2 about to start."""
    (tmp_path / "sweep.json").write_text(json.dumps({"started": STARTED}))
    announce(tmp_path / "jobs" / "2", 3, 8, "dqn lr=0.1")
    monkeypatch.setattr(progress.time, "time", lambda: STARTED + 60)
    return tmp_path


def ended(sweep: Path, number: int, outcome: Outcome, age: float = 0.0) -> None:
    folder = sweep / "jobs" / str(number)
    outcome.write(folder)
    os.utime(folder / "outcome.json", (STARTED + 30 - age, STARTED + 30 - age))


def test_the_time_left_is_that_of_the_jobs_that_were_trained(sweep: Path) -> None:
    """Neither jobs of earlier starts, nor those that were done before, nor refused ones say how long a job takes."""
    ended(sweep, 0, Outcome("done", seconds=30.0))
    ended(sweep, 1, Outcome("done", ran=False))
    ended(sweep, 3, Outcome("done", seconds=500.0), age=1000.0)
    ended(sweep, 4, Outcome("refused"))
    place = place_of(sweep / "jobs" / "2", beside=False)
    assert place is not None and place.heading == "[3/8] dqn lr=0.1"
    assert place.time_left(0.0) == pytest.approx(60.0 * 4)  # one job took 60 seconds, four are left
    assert place.time_left(0.5) == pytest.approx(60.0 / 1.5 * 3.5)
    beside = place_of(sweep / "jobs" / "2", beside=True)
    assert beside is not None and beside.time_left(0.5) == pytest.approx(60.0 * 3.5)


def test_at_the_beginning_nothing_is_known(sweep: Path) -> None:
    place = place_of(sweep / "jobs" / "2", beside=False)
    assert place is not None and place.time_left(0.05) is None
    assert place.time_left(0.5) == pytest.approx(60 / 0.5 * 7.5)


def test_a_place_that_cannot_be_read_is_none(sweep: Path) -> None:
    assert place_of(sweep / "jobs" / "7", beside=False) is None
    (sweep / "jobs" / "2" / "place.json").write_text("{}")
    assert place_of(sweep / "jobs" / "2", beside=False) is None


FINAL = {"iqm": -82.31, "ci95": [-90.0, -80.0]}


@pytest.mark.parametrize(
    ("outcome", "final", "words"),
    [
        (Outcome("done", -82.31, seconds=12.34), FINAL, "done, final return -82.3 [-90.0, -80.0], 12.3 s"),
        (Outcome("done", -82.31, seconds=8.0, grouped=4), {**FINAL, "ci95": [None, None]},
         "done, final return -82.3, 8.0 s (its share: 4 jobs trained together)"),
        (Outcome("done", -82.31, ran=False), FINAL, "already done, nothing was run, final return -82.3 [-90.0, -80.0]"),
        (Outcome("failed", error="ValueError: \x1b[31mred", seconds=1.0), None, "failed: ValueError: \\x1b[31mred, 1.0 s"),
        (Outcome("refused", error=f"algo: expected {'x' * 200}.", ran=False), None, f"refused: algo: expected {'x' * 82}..."),
        (Outcome("pruned", error="pruned at env step 400", seconds=1.0), None, "pruned at env step 400, 1.0 s"),
    ],
)  # fmt: skip
def test_one_line_about_a_job_that_has_ended(outcome: Outcome, final: dict | None, words: str, sweep: Path) -> None:
    place = place_of(sweep / "jobs" / "2", beside=False)
    assert place is not None
    ended(sweep, 2, outcome)
    left = "; about 7 min left for the sweep" if outcome.ran and outcome.grouped == 1 else ""
    assert ended_line(place, sweep / "jobs" / "2", outcome, final) == f"[3/8] dqn lr=0.1: {words}{left}"
