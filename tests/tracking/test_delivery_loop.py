"""The states of a followed job, and what its training process says."""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rlexp.tracking.delivery_loop import GRACE, LONGEST_PAUSE, FollowedJob, State, TrainingProcess
from tests.tracking.test_trackers import make_job


class Clock:
    """`time.monotonic` in the hands of a test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "monotonic", found)
    return found


def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *outcomes: Any) -> FollowedJob:
    """A followed job whose deliveries have these outcomes: what could not be sent, or an error; the last one stays."""
    left = list(outcomes)

    def send(self: FollowedJob) -> list[str]:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]

    monkeypatch.setattr(FollowedJob, "_send", send)
    return FollowedJob(make_job(tmp_path), None, 2.0)


def log(followed: FollowedJob) -> list[str]:
    path = followed.folder / "tracking.log"
    return path.read_text().splitlines() if path.exists() else []


def test_a_running_job_is_delivered_at_intervals_and_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    followed = job(tmp_path, monkeypatch, [])
    followed.deliver()
    assert (followed.state, followed.due, followed.reached) == (State.RUNNING, clock.now + 2.0, True)
    followed.end("done")
    followed.end("killed")  # the first word counts
    assert followed.state is State.ENDED and followed.open and followed._final_status == "done"
    followed.deliver()
    assert followed.state is State.DELIVERED and not followed.open and log(followed) == ["Delivered."]
    followed.end("failed")
    assert followed.state is State.DELIVERED


def test_an_outage_is_waited_out_with_growing_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    followed, pauses = job(tmp_path, monkeypatch, OSError("no route")), []
    for _ in range(6):
        clock.now = max(clock.now, followed.due)
        followed.deliver()
        pauses.append(followed.due - clock.now)
    assert pauses == [4.0, 8.0, 16.0, 32.0, LONGEST_PAUSE, LONGEST_PAUSE] and not followed.reached
    assert log(followed)[0] == "Not delivered, next attempt within 4 s: no route"


def test_what_fails_after_the_end_is_tried_again_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    followed = job(tmp_path, monkeypatch, [], ["model best: no"])
    followed.deliver()
    followed.end("done")
    followed.deliver()
    assert followed.state is State.ENDED and followed.due == clock.now + 1.0
    clock.now += GRACE + 0.1
    followed.deliver()
    assert followed.state is State.GIVEN_UP and log(followed) == ["Not delivered: model best: no"]


def test_what_the_training_process_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("follow /a b/c\n\ndone /a b/c\n"))
    training = TrainingProcess()
    assert [training.hear(1.0) for _ in range(3)] == [("follow", "/a b/c"), None, ("done", "/a b/c")]
    assert training.open
    assert training.hear(1.0) is None and not training.open  # the end of standard input


def test_a_dead_training_process_is_noticed_while_standard_input_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingProcess, "_listen", lambda self: None)
    training = TrainingProcess()
    assert training.hear(0.0) is None and training.open
    monkeypatch.setattr(os, "getppid", lambda: 1)
    training._pid = 2
    assert training.hear(0.0) is None and not training.open
