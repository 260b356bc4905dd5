"""How far a running job is, by its growing records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlexp.jobs import live
from rlexp.jobs.live import LiveJob

CONFIG = {"budget": {"steps": None, "episodes": None}, "env": {"default_steps": 1000}}


def line(step: int, time: float, **metrics: Any) -> str:
    return (
        json.dumps({"step": step, "time": time, "metrics": {k.replace("_", "/", 1): v for k, v in metrics.items()}})
        + "\n"
    )


def write(folder: Path, *lines: str, mode: str = "a") -> None:
    with (folder / "metrics.jsonl").open(mode) as file:
        file.write("".join(lines))


def test_only_what_is_new_is_read_and_half_a_line_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = LiveJob(tmp_path, 10.0, 2, CONFIG)
    job.look()
    assert (job.share, job.step, job.evaluation, job.left(0.0)) == (0.0, None, None, None)
    write(tmp_path, line(100, 20.0, train_loss=[1.0, 2.0]), line(200, 30.0, eval_return=[5.0, 7.0])[:20])
    job.look()
    assert (job.share, job.step, job.evaluation) == (0.1, 100, None)
    starts = []
    real = live.read_from
    monkeypatch.setattr(live, "read_from", lambda path, start: starts.append(start) or real(path, start))  # type: ignore[func-returns-value]
    size = (tmp_path / "metrics.jsonl").stat().st_size
    write(tmp_path, line(200, 30.0, eval_return=[5.0, 7.0])[20:], line(300, 40.0, eval_return=[None, 9.0]))
    job.look()
    assert starts == [size] and (job.share, job.step, job.evaluation) == (0.3, 300, 7.0)
    assert job.left(40.0) == pytest.approx(70.0) and job.left(50.0) == pytest.approx(60.0)


def test_a_job_that_continues_from_a_checkpoint_is_read_anew(tmp_path: Path) -> None:
    job = LiveJob(tmp_path, 10.0, 1, CONFIG)
    write(tmp_path, *(line(100 * i, 20.0 + i, eval_return=[float(i)]) for i in range(1, 6)))
    job.look()
    assert (job.share, job.evaluation) == (0.5, 5.0)
    write(tmp_path, line(100, 21.0, eval_return=[1.0]), mode="w")
    job.look()
    assert (job.share, job.evaluation) == (0.1, 1.0)


def test_the_pace_is_that_of_this_start(tmp_path: Path) -> None:
    """Records of an earlier start are older than the job's."""
    write(tmp_path, line(100, 1.0, train_loss=[1.0]), line(500, 2.0, train_loss=[1.0]))
    job = LiveJob(tmp_path, 1000.0, 1, CONFIG)
    job.look()
    assert job.share == 0.5 and job.left(1000.0) is None
    write(tmp_path, line(600, 1010.0, train_loss=[1.0]), line(700, 1020.0, train_loss=[1.0]))
    job.look()
    assert job.left(1020.0) == pytest.approx(30.0)


def test_episodes_are_counted_by_their_lengths(tmp_path: Path) -> None:
    job = LiveJob(tmp_path, 0.0, 2, {"budget": {"steps": None, "episodes": 20}})
    write(tmp_path, line(50, 1.0, train_length=[10.0, 10.0]), line(100, 2.0, train_length=[None, 25.0]))
    job.look()
    assert job.share == pytest.approx((5 + 2) / 20)
    assert LiveJob(tmp_path, 0.0, 2, {}).share is None


def test_of_a_large_file_the_end_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "TAIL", 200)
    write(tmp_path, *(line(i, float(i), eval_return=[float(i)]) for i in range(1, 500)))
    job = LiveJob(tmp_path, 0.0, 1, CONFIG)
    job.look()
    assert (job.step, job.evaluation) == (499, 499.0) and job._lines < 5
    assert job.left(499.0) == pytest.approx(501.0)


def test_damaged_lines_and_things_that_are_no_files_change_nothing(tmp_path: Path) -> None:
    write(tmp_path, line(100, 1.0, eval_return=[1.0]), "{broken\n", line(1, 2.0, eval_return=[1.0, 2.0]),
          line(200, 3.0, eval_return=[2.0]))  # fmt: skip
    job = LiveJob(tmp_path, 0.0, 1, CONFIG)
    job.look()
    assert (job.step, job.evaluation) == (200, 2.0)
    (tmp_path / "pipe").mkdir()
    (tmp_path / "pipe" / "metrics.jsonl").mkdir()
    folder = LiveJob(tmp_path / "pipe", 0.0, 1, CONFIG)
    folder.look()
    assert folder.step is None
