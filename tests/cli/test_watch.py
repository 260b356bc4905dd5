"""`rlexp ls STUDY --watch`: a study while its jobs run."""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from omegaconf import OmegaConf
from rich.console import Console

from rlexp.cli import watch
from rlexp.cli.listing import Listing, Warnings
from rlexp.cli.ls import main
from rlexp.config.schema.algos import DQNSettings
from rlexp.config.schema.job import BudgetSettings, Settings

NOW = 1_000_100.0


def job(study: Path, gamma: float, summary: dict[str, Any] | None, step: int = 0, **more: Any) -> Path:
    """A job of 1000 steps, whose last record is of `step`, with evaluations of 3 and 5."""
    folder = study / f"dqn-cartpole-{gamma}"
    folder.mkdir(parents=True)
    settings = Settings(algo=DQNSettings(gamma=gamma), budget=BudgetSettings(steps=1000), trials=2)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(settings.to_dict())))
    about = {
        "study": study.name,
        "name": folder.name,
        "env": "cartpole",
        "seeds": [0, 1],
        "started": 1_000_000.0 + gamma,
    }
    (folder / "job.json").write_text(json.dumps({**about, **more}))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    records = [
        {"step": s, "time": 1_000_000.0 + s / 5, "metrics": {"eval/return": [3.0, 5.0]}} for s in (step // 2, step)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records if step))
    (folder / ".lock").touch()
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "ladder"
    job(folder, 0.9, {"status": "done", "final/return": {"iqm": 4.5}})
    job(folder, 0.91, {"status": "done", "final/return": {"iqm": 4.75}})
    job(folder, 0.92, {"status": "failed", "error": "ValueError: the \x1b[31msensor"})
    job(folder, 0.93, {"status": "pruned", "pruned_at": 400})
    job(folder, 0.94, None, step=500)
    return folder


def test_running_failed_and_pruned_jobs_and_the_best_so_far(study: Path) -> None:
    sweep = study / "sweeps" / "x"
    for number in range(3):
        (sweep / "jobs" / str(number)).mkdir(parents=True)
        (sweep / "jobs" / str(number) / "outcome.json").write_text("{}")
    (sweep / "sweep.json").write_text(json.dumps({"total": 9, "status": "running"}))
    with FileLock(study / "dqn-cartpole-0.94" / ".lock"), FileLock(sweep / ".lock"):
        seen = watch.view(study, Listing(study, Warnings()), NOW)
    assert seen.running and seen.heading.endswith(": 1 running, 2 done, 1 failed, 1 pruned, 5 waiting")
    assert seen.rows == [
        ["dqn gamma=0.94", "running 50%", "500", "4", "about 2 min"],
        ["dqn gamma=0.92", "failed", "-", "-", "ValueError: the \\x1b[31msensor"],
        ["dqn gamma=0.93", "pruned", "400", "-", "-"],
    ]
    assert seen.best == ["best so far: dqn gamma=0.91: final return 4.75 (IQM over 2 trials)"]


def test_without_a_finished_job_the_best_is_by_evaluation(tmp_path: Path) -> None:
    folder = job(tmp_path / "s", 0.9, None, step=500)
    with FileLock(folder / ".lock"):
        seen = watch.view(tmp_path / "s", Listing(tmp_path / "s", Warnings()), NOW)
    assert seen.best == ["best so far: dqn: last evaluation 4 (IQM over 2 trials)"]


def test_what_has_not_changed_is_not_read_again(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlexp.cli import listing

    read: list[str] = []
    real = listing.listed
    monkeypatch.setattr(listing, "listed", lambda folder: read.append(folder.name[-4:]) or real(folder))  # type: ignore[func-returns-value]
    jobs = Listing(study, Warnings())
    with FileLock(study / "dqn-cartpole-0.94" / ".lock"):
        jobs.jobs()
        assert sorted(read) == ["-0.9", "0.91", "0.92", "0.93", "0.94"]
        (study / "dqn-cartpole-0.9" / "summary.json").write_text(json.dumps({"status": "failed"}))
        again = jobs.jobs()
    assert read[5:] == ["-0.9", "0.94"] and again[0].status == "failed"


def test_off_a_terminal_a_table_per_interval_until_nothing_runs(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock, slept = FileLock(study / "dqn-cartpole-0.94" / ".lock"), []
    lock.acquire()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        lock.release()

    monkeypatch.setattr(watch.time, "sleep", sleep)
    assert main(["ladder", "--watch", "--interval", "7", "--output-dir", str(study.parent)]) == 0
    said, error = capsys.readouterr()
    assert slept == [7.0] and error == "" and said.count("best so far: dqn gamma=0.91") == 2
    assert said.splitlines()[1].split() == ["job", "status", "step", "last", "evaluation", "(IQM)", "left"]
    assert "dqn gamma=0.94  running 50%  500" in said and "dqn gamma=0.94  killed" in said
    assert said.endswith("nothing of it runs any more\n") and "\x1b" not in said


def test_on_a_terminal_it_is_redrawn_and_ctrl_c_ends_it(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "__stdout__", screen)
    monkeypatch.setattr(
        "rich.console.Console", lambda **options: Console(force_terminal=True, width=100, height=20, **options)
    )
    monkeypatch.setattr(watch.sys.stdout, "isatty", lambda: True, raising=False)
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    with FileLock(study / "dqn-cartpole-0.94" / ".lock"):
        assert watch.watch(study, 0.5, Warnings()) == 0
    drawn = screen.getvalue()
    assert looks == [0.5, 0.5] and "\x1b[1A" in drawn  # the cursor goes up
    assert "running 50%" in drawn and "the \\x1b[31msensor" in drawn and drawn.rstrip().endswith("\x1b[?25h")


def test_more_jobs_than_the_terminal_has_lines(study: Path) -> None:
    rows = [[f"job {i}", "running", "1", "2", "3"] for i in range(50)]
    shown = io.StringIO()
    Console(file=shown, width=80).print(watch._drawn(watch.View("study x", rows, ["best so far: y"], False), 20))
    said = shown.getvalue()
    assert "job 10" in said and "job 11" not in said and "... and 39 more jobs" in said
    assert len(said.splitlines()) <= 20 and "nothing of it runs any more" in said


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--watch"], "--watch: expected the name of a study, received none."),
        (["ladder", "--interval", "3"], "--interval: expected --watch beside it, received none."),
        (["ladder", "--watch", "--interval", "nan"], "--interval: expected a number from 0.2 to 86400, received nan."),
        (["laddr", "--watch"], "STUDY: expected a study in OUT, received 'laddr'. Did you mean ladder?"),
    ],
)
def test_refusals(args: list[str], words: str, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*args, "--output-dir", str(study.parent)]) == 2
    assert capsys.readouterr().err.splitlines()[0] == "refused: " + words.replace("OUT", str(study.parent))


def test_a_study_whose_sweep_has_not_started_a_job_yet(tmp_path: Path) -> None:
    sweep = tmp_path / "new" / "sweeps" / "x"
    sweep.mkdir(parents=True)
    (sweep / "sweep.json").write_text(json.dumps({"total": 4}))
    with FileLock(sweep / ".lock"):
        assert watch.sweeps(tmp_path / "new") == [sweep]
        seen = watch.view(tmp_path / "new", Listing(tmp_path / "new", Warnings()), NOW)
    assert seen.running and seen.heading.endswith(": 4 waiting") and seen.rows == seen.best == []
