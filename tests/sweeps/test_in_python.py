"""`rlexp.sweep`: the jobs of a sweep in the calling process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

import rlexp

TINY: dict[str, Any] = {
    "trials": 2, "engine": "host", "tracking": "files", "animation": {"enabled": False}, "budget": {"steps": 60},
    "evaluation": {"period": 30, "num_episodes": 2, "candidate_episodes": 2, "final_episodes": 4}, "log": {"points": 5},
}  # fmt: skip


@pytest.fixture(autouse=True)
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rlexp.jobs.plots.learning_curve", lambda *args: None)  # it and the report take seconds
    monkeypatch.setattr("rlexp.report.study.write", lambda folder, command: folder / "report" / "index.html")


def test_choices_become_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    study = rlexp.sweep(algo="random", seed=[0, 5], study="two", **TINY)
    assert sorted(study.names) == ["random seeds 0-1", "random seeds 5-6"] and {job.status for job in study} == {"done"}
    (plan,) = (study.folder / "sweeps").glob("*/sweep.json")
    told = json.loads(plan.read_text())
    assert told["status"] == "done" and [job["status"] for job in told["jobs"]] == ["done"] * 2
    assert f"report: {study.folder / 'report' / 'index.html'}" in capsys.readouterr().out
    again = rlexp.sweep("algo=random", seed=0, study="two", **TINY)
    assert again.names == ["random seeds 0-1"]  # its own job, with its name in the study
    assert len(rlexp.load_study("two")) == 2 and "already done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ([], {"algo": ["dqm"]}, r"^algo: expected one of "),
        (["-m"], {}, r"^sweep: expected key=value, received '-m'"),
        (["sweep=dqn_ladder"], {}, r"^sweep: expected a key.*\nIt is added, with a plus"),
        ([], {"sweep": "no_such"}, r"no_such"),
        ([], {"trials": [0, -1]}, r"^all 2 jobs: trials: expected"),
    ],
)
def test_sweeps_that_cannot_run_are_refused(arguments: list[str], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(rlexp.Refusal, match=message):
        rlexp.sweep(*arguments, **settings)
    assert not GlobalHydra.instance().is_initialized() and not Path("outputs").exists()


def test_nothing_but_refused_jobs() -> None:
    """Those that are refused only when their environment is known."""
    with pytest.raises(rlexp.Refusal, match=r"^none of 2 jobs has begun: .*transition table"):
        rlexp.sweep(algo="q_value_iteration", seed=[0, 1], **TINY)


def test_failed_and_refused_jobs_stop_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process goes on, with Hydra as it was."""
    from rlexp.jobs import finishing

    finish = finishing.finish

    def failing(settings: Any, *args: Any) -> None:
        if settings.algo.name == "random":
            raise OSError("no such thing")
        finish(settings, *args)

    monkeypatch.setattr(finishing, "finish", failing)
    algos = ["random", "angle_policy", "q_value_iteration"]  # CartPole is no table
    study = rlexp.sweep(algo=algos, study="half", **TINY)
    assert [(job.name, job.status) for job in study] == [("angle_policy", "done"), ("random", "failed")]
    told = capsys.readouterr().err
    assert "no such thing" in study["random"]["error"] and "failed: " in told and "refused: " in told
    assert not GlobalHydra.instance().is_initialized() and "HYDRA_FULL_ERROR" not in os.environ
