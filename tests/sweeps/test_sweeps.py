"""Sweeps: their identity, their files, and that they finish whatever single jobs do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from rlexp.jobs import runner
from rlexp.sweeps.outcome import Outcome
from rlexp.sweeps.sweep import Planned, Sweep, labels
from rlexp.system import cores
from rlexp.system.errors import Refusal

QUICK = (
    "trials=1",
    "budget.steps=50",
    "tracking=files",
    "evaluation.num_episodes=1",
    "evaluation.final_episodes=1",
    "evaluation.candidates=1",
    "animation.enabled=false",
)
BAD_ENV = textwrap.dedent("""
    import os, signal, sys
    import gymnasium as gym, numpy as np
    from pathlib import Path
    class Bad(gym.Env):
        observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
        action_space = gym.spaces.Discrete(2)
        def __init__(self, way="good"):
            self.way = way
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed); self.t = 0
            if seed == 200_000 and self.way == "late": os.kill(os.getpid(), signal.SIGTERM)  # the first final episode
            return np.zeros(4, np.float32), {}
        def step(self, action):
            self.t += 1
            if self.t == 7 and self.way == "raise": raise ValueError("the sensor fell off")
            if self.t == 7 and self.way == "exit": sys.exit(3)
            if self.t == 7 and self.way == "kill": os.kill(os.getpid(), signal.SIGKILL)
            return np.zeros(4, np.float32), 1.0, self.t == 10, False, {}
    gym.register("Bad-v0", Bad)
""")


def rlexp(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rlexp", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def planned(*jobs: str, output: Path) -> list[Planned]:
    return [Planned([job], runner.compose(job, "tracking=files", f"output_dir={output}", "study=s")) for job in jobs]


def swept(cwd: Path) -> dict:
    """The one sweep's record, its jobs by label."""
    (path,) = cwd.glob("outputs/*/sweeps/*/sweep.json")
    sweep = json.loads(path.read_text())
    sweep["by_label"] = {job["label"]: job for job in sweep["jobs"]}
    return sweep


def test_the_same_jobs_in_any_order_are_the_same_sweep(tmp_path: Path) -> None:
    one = Sweep(planned("algo=random", "algo=dqn", output=tmp_path), "sweep", "x")
    same = Sweep(planned("algo=dqn", "algo=random", output=tmp_path), "sweep", "y")
    other = Sweep(planned("algo=dqn", "algo=ddqn", output=tmp_path), "sweep", "x")
    assert one.id == same.id != other.id
    assert one.folder == tmp_path / "s" / "sweeps" / one.id


def test_a_sweep_keeps_its_name_in_mlflow_and_deletes_old_outcomes(tmp_path: Path) -> None:
    sweep = Sweep(planned("algo=random", "algo=dqn", output=tmp_path), "sweep", "x")
    sweep.begin()
    name = json.loads((sweep.folder / "sweep.json").read_text())["local_id"]
    Outcome("done", 3.5, "/somewhere").write(sweep.job_folder(0))
    assert sweep.pending() == [1] and sweep.end() == "failed" and sweep.exit_status() == 0
    sweep.begin()
    assert json.loads((sweep.folder / "sweep.json").read_text())["local_id"] == name
    assert sweep.pending() == [0, 1]


@pytest.mark.parametrize(
    ("statuses", "status", "exit_status"),
    [
        (["done", "done"], "done", 0),
        (["done", "refused"], "failed", 2),
        (["refused", "failed"], "failed", 1),
        (["lost", "done"], "failed", 1),
    ],
)
def test_how_a_sweep_ends(statuses: list[str], status: str, exit_status: int, tmp_path: Path) -> None:
    sweep = Sweep(planned("algo=random", "algo=dqn", output=tmp_path), "sweep", "x")
    sweep.begin()
    for index, ended in enumerate(statuses):
        Outcome(ended, error="so it was").write(sweep.job_folder(index))
    assert (sweep.end(), sweep.exit_status()) == (status, exit_status)
    assert [job["status"] for job in json.loads((sweep.folder / "sweep.json").read_text())["jobs"]] == statuses


def test_two_processes_cannot_run_one_sweep(tmp_path: Path) -> None:
    jobs = planned("algo=random", output=tmp_path)
    refused = pytest.raises(Refusal, match=r"where process [0-9]+ on .* is at work")
    with Sweep(jobs, "sweep", "x").lock(), refused, Sweep(jobs, "sweep", "x").lock():
        pass


def test_labels_are_the_overrides_that_differ() -> None:
    assert labels([["algo=dqn", "seed=1", "trials=2"], ["algo=ddqn", "seed=1", "trials=2"]]) == [
        "algo=dqn",
        "algo=ddqn",
    ]
    assert labels([["algo=dqn"]]) == ["algo=dqn"] and labels([[]]) == ["(as it is)"]


def test_jobs_have_one_name_and_a_refused_job_that_of_its_overrides(tmp_path: Path) -> None:
    jobs = planned("algo=random", "algo=dqn", output=tmp_path)
    sweep = Sweep([*jobs, Planned(["algo=dqn", "algo.gamma=2"], None, "algo.gamma: no")], "sweep", "x")
    sweep.begin()
    assert sweep.names == ["random", "dqn", "algo=dqn algo.gamma=2"]
    sweep.announce([1])
    assert json.loads((sweep.job_folder(1) / "place.json").read_text())["name"] == "dqn"
    sweep.end()
    record = json.loads((sweep.folder / "sweep.json").read_text())
    assert [job["label"] for job in record["jobs"]] == sweep.names and record["total"] == 3


def test_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert cores.gpus() == ["2", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert cores.gpus() == []


@pytest.mark.slow
def test_jobs_that_raise_or_exit_do_not_stop_the_others_and_a_second_start_runs_only_them(tmp_path: Path) -> None:
    (tmp_path / "bad_env.py").write_text(BAD_ENV)
    sweep = ("-m", "algo=random", "env.id=Bad-v0", "env.imports=[bad_env]", "+env.kwargs.way=raise,exit,good", *QUICK)
    result = rlexp(*sweep, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    found = swept(tmp_path)
    jobs = {label.split("=")[1]: job for label, job in found["by_label"].items()}
    assert found["status"] == "failed" and {way: job["status"] for way, job in jobs.items()} == {
        "raise": "failed", "exit": "failed", "good": "done",
    }  # fmt: skip
    assert "step 7: step raised ValueError: the sensor fell off" in jobs["raise"]["error"]
    assert "step 7: step raised SystemExit: 3 (bad_env.py, line 17)" in jobs["exit"]["error"]
    assert jobs["good"]["score"] == 10.0
    for way in ("raise", "exit"):
        folder = Path(jobs[way]["folder"])
        assert json.loads((folder / "summary.json").read_text())["status"] == "failed"
        assert (folder / "error.txt").is_file()
    assert "sweep " in result.stdout and "failed" in result.stdout

    again = rlexp(*sweep, cwd=tmp_path)
    assert again.returncode == 1 and again.stdout.count("already done, nothing was run") == 1


def test_a_job_that_kills_its_process_is_given_up_and_the_others_are_done(tmp_path: Path) -> None:
    """Also jobs that follow it in the same process; and the sweep ends like any other."""
    (tmp_path / "bad_env.py").write_text(BAD_ENV)
    sweep = ("-m", "algo=random", "env.id=Bad-v0", "env.imports=[bad_env]", "+env.kwargs.way=kill,good", *QUICK)
    result = rlexp(*sweep, cwd=tmp_path)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    lost, good = swept(tmp_path)["jobs"]
    killed = "SIGKILL: ended by another process, or by the system for lack of memory"
    assert (lost["status"], lost["error"]) == ("lost", f"its process died 3 times ({killed})")
    assert good["status"] == "done" and swept(tmp_path)["status"] == "failed" and "report: " in result.stdout
    assert result.stderr.splitlines()[-1] == (
        f"lost: random on Bad-v0 way=kill: its process died 3 times ({killed}); the other jobs continue; its folder: {lost['folder']}"
    )


def test_termination_between_jobs_closes_a_sweep_as_killed(tmp_path: Path) -> None:
    long = [o for o in QUICK if not o.startswith("budget")]
    process = subprocess.Popen(
        [sys.executable, "-m", "rlexp", "-m", "algo=random", "seed=0,1", "budget.steps=10000000", *long],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("outputs/default/*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert [job["status"] for job in swept(tmp_path)["jobs"]] == ["killed", "not run"]
    assert swept(tmp_path)["status"] == "killed"


@pytest.mark.slow
def test_termination_while_a_job_is_scored_lets_it_end_and_stops_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "bad_env.py").write_text(BAD_ENV)
    bad = ("algo=random", "env.id=Bad-v0", "env.imports=[bad_env]", *QUICK)
    assert rlexp(*bad, "+env.kwargs.way=late", "study=alone", cwd=tmp_path).returncode == 0
    sweep = rlexp("-m", *bad, "+env.kwargs.way=late,good", cwd=tmp_path)
    assert sweep.returncode == 143, sweep.stderr
    assert [job["status"] for job in swept(tmp_path)["jobs"]] == ["done", "not run"]
    assert swept(tmp_path)["status"] == "killed"


def test_a_named_sweep_runs_without_m_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    result = rlexp("+sweep=dqn_laddr", cwd=tmp_path)
    assert result.returncode == 2 and "Did you mean dqn_ladder?" in result.stderr
    assert list(tmp_path.iterdir()) == []
    composed = rlexp("+sweep=dqn_ladder", "--cfg", "hydra", cwd=tmp_path)
    assert "mode: MULTIRUN" in composed.stdout and "algo: dqn,fixed_dqn,ddqn,dueling_ddqn" in composed.stdout


def test_a_sweep_without_a_job_that_can_run_writes_nothing(tmp_path: Path) -> None:
    result = rlexp("-m", "algo=dqn", "algo.gamma=2,3", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "refused: all 2 jobs: algo.gamma: expected a number >= 0 and <= 1, received 2.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("width", [80, 110])
def test_the_table_keeps_names_whole_beside_long_errors(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rlexp.sweeps.sweeper import table

    sweep = Sweep(planned("algo=random", "algo=q_learning", output=tmp_path), "sweep", "x")
    sweep.begin()
    Outcome("done", 0.5, seconds=12.0).write(sweep.job_folder(0))
    Outcome("failed", error="ValueError: " + "x" * 300).write(sweep.job_folder(1))
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    table(sweep, "failed")
    said = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, said.splitlines())) <= width
    assert "│ q_learning │ failed │                  - │     0.0 │ ValueError: xx" in said
    assert "│ random     │ done   │                0.5 │    12.0 │ " in said
