"""Processes that are killed with those that deliver for them: their runs are set right by the next start or `rlexp sync`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlexp.cli import sync as sync_command
from rlexp.tracking import leftovers
from rlexp.tracking.addresses import resolve_uri
from tests.processes import descendants
from tests.tracking.test_sync import free_port, wait_until
from tests.tracking.test_trackers import make_job

JOB = ["algo=random", "trials=2", "engine=host", "evaluation.period=500", "evaluation.num_episodes=1",
       "evaluation.final_episodes=1", "animation.enabled=false", "log.points=20", "study=s"]  # fmt: skip


def start(output: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "rlexp", *options, *JOB, f"output_dir={output}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_with_followers(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a process and its children, the followers first, so that they do not see it die."""
    children = descendants(process.pid)
    assert children
    for pid in (*reversed(children), process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(map(alive, children)))  # their locks are theirs until then


def alive(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has asked for its status has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def runs(output: Path) -> Callable[[], dict[str, set[str]]]:
    """What the runs of each kind are in MLflow: a function, since the store is not there at first."""
    from mlflow import MlflowClient

    def now() -> dict[str, set[str]]:
        client = MlflowClient(tracking_uri=resolve_uri(None, output))
        experiment = client.get_experiment_by_name("s")
        found: dict[str, set[str]] = {}
        for run in client.search_runs([experiment.experiment_id]):
            kind = run.data.tags["rlexp.kind"]
            name = run.data.params.get("seed", "") + kind if kind != "sweep" else kind
            status = run.info.status + (" (lost)" if "rlexp.lost" in run.data.tags else "")
            found.setdefault(name, set()).add(status)
        return found

    return now


def lines_of(output: Path) -> int:
    """Records that MLflow has of the first job."""
    states = [json.loads(path.read_text()) for path in output.glob("s/random-*/tracking.json")]
    return max((state["lines"] for state in states), default=0)


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, []), ("Delivered.\n", ["Delivered."]), ("Not delivered: no answer\nDelivered.\n", ["Delivered."])],
)
def test_what_a_start_could_not_set_right_is_in_its_log(before: str | None, after: list[str], tmp_path: Path) -> None:
    """And the log's last line still says whether the job itself was delivered."""
    server = f"http://127.0.0.1:{free_port()}"
    folder = make_job(tmp_path, uri=server, num_records=1)
    if before is not None:
        (folder / "tracking.log").write_text(before)
    assert list(leftovers.tidy(folder, server)) == []
    lines = (folder / "tracking.log").read_text().splitlines()[len((before or "").splitlines()) :]
    assert lines[0].startswith("The silent runs of study one were not closed: API request to ")
    assert lines[1:] == after


@pytest.mark.slow
@pytest.mark.parametrize("by", ["the next start", "rlexp sync"])
def test_a_job_that_is_killed_with_its_follower(by: str, tmp_path: Path) -> None:
    first = start(tmp_path, "budget.steps=50000000", "checkpoint.every=1")
    wait_until(lambda: lines_of(tmp_path) > 0)
    now = runs(tmp_path)
    kill_with_followers(first)
    assert now() == {"0job": {"RUNNING"}, "0trial": {"RUNNING"}, "1trial": {"RUNNING"}}
    if by == "the next start":  # of another job in the same output folder
        assert start(tmp_path, "budget.steps=1000", "seed=7").wait(timeout=200) == 0
        others = {"7job": {"FINISHED"}, "7trial": {"FINISHED"}, "8trial": {"FINISHED"}}
    else:
        assert sync_command.main([str(tmp_path)]) == 0
        others = {}
    dead = {"0job": {"KILLED (lost)"}, "0trial": {"KILLED"}, "1trial": {"KILLED"}}
    assert now() == {**dead, **others}
    second = start(tmp_path, "budget.steps=50000000", "checkpoint.every=1")
    wait_until(lambda: now() == {"0job": {"RUNNING"}, "0trial": {"RUNNING"}, "1trial": {"RUNNING"}, **others})
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=200) == 143
    assert now() == {"0job": {"KILLED"}, "0trial": {"KILLED"}, "1trial": {"KILLED"}, **others}


@pytest.mark.slow
def test_a_sweep_that_is_killed_with_its_follower(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = start(tmp_path, "-m", "seed=0,4", "budget.steps=50000000")
    wait_until(lambda: lines_of(tmp_path) > 0)
    now = runs(tmp_path)
    running: dict[str, Any] = {"sweep": {"RUNNING"}, "0job": {"RUNNING"}, "0trial": {"RUNNING"}, "1trial": {"RUNNING"}}
    assert now() == running
    assert sync_command.main([str(tmp_path)]) == 1 and now() == running
    assert "another process delivers it now" in capsys.readouterr().out
    kill_with_followers(sweep)
    assert now() == running
    assert sync_command.main([str(tmp_path)]) == 0
    assert now() == {"sweep": {"KILLED (lost)"}, "0job": {"KILLED (lost)"}, "0trial": {"KILLED"}, "1trial": {"KILLED"}}
