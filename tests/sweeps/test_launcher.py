"""The fused launcher: jobs trained together equal jobs trained alone, bit for bit, and each has its own outcome."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlexp.cli import run as command_line
from rlexp.config.schema.job import Settings
from rlexp.engines.bookkeeping import Interrupted, Trials
from rlexp.engines.fused import base
from rlexp.jobs import finishing, runner
from rlexp.jobs.job import Job
from rlexp.jobs.preflight import preflight
from rlexp.jobs.runner import compose
from rlexp.sweeps.launcher import Groups
from rlexp.system.errors import Diverged, Refusal
from rlexp.system.folder_lock import folder_lock
from tests.conftest import TINY, TINY_DQN
from tests.data.test_checkpoint import results
from tests.engines.test_engines import trial

TINY_FUSED = [*(o for o in (*TINY, *TINY_DQN) if not o.startswith(("engine", "network", "algo.replay"))), "algo=dqn",
              "network.hidden_units=[8]", "evaluation.max_steps=100", "algo.replay_size=60", "algo.n_step=2"]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def no_pictures() -> Iterator[None]:
    """Draw no learning curves: each takes half a second, and other tests cover them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlexp.jobs.plots.learning_curve", lambda *args: None)
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    def make(study: str, *overrides: str) -> Settings:
        return runner.resolve(compose(*TINY_FUSED, f"output_dir={tmp_path}", f"study={study}", *overrides))[0]

    return make


def together(jobs: list[Settings]) -> dict[Path, Job | Exception]:
    return runner.run_together(jobs, preflight(jobs[0]), quiet=True)


def everything(folder: Path) -> list[Any]:
    """The results of a job, without times: its records, last checkpoint, scores, episodes and weights."""
    summary = json.loads((folder / "summary.json").read_text())
    unlike = {"study", "wall_seconds", "train_seconds", "steps_per_second", "grouped", "finished", "files", "digest"}
    job = Job(folder)
    with np.load(folder / "episodes.npz") as file:
        episodes = {name: file[name].tobytes() for name in file.files}
    weights = [trial(job, seed)[1] for seed in job["seeds"]]
    table = (folder / "evaluation.csv").read_text()
    return [results(folder), {k: v for k, v in summary.items() if k not in unlike}, episodes, weights, table]


# All tests here use two programs, of two lanes and of four.
JOBS = [("trials=2", "algo.optimizer.lr=1e-3"), ("trials=1", "algo.optimizer.lr=1e-2", "algo.gamma=0.9"),
        ("trials=1", "seed=1", "algo.epsilon.final=0.5")]  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """The results of each of JOBS when it runs alone."""
    output = f"output_dir={tmp_path_factory.mktemp('alone')}"
    return [everything(runner.run_job(compose(*TINY_FUSED, output, *job), quiet=True).folder) for job in JOBS]


@pytest.mark.slow
def test_jobs_together_equal_jobs_alone_even_after_interruptions(
    settings: Callable[..., Settings], alone: list[list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit. The second time the group is stopped, its jobs continue alone, and then those at one step together."""
    jobs = [settings("group", *job) for job in JOBS]
    ended = together(jobs)
    assert [ended[job.folder]["grouped"] for job in jobs] == [3, 3, 3]  # type: ignore[index]
    assert [everything(job.folder) for job in jobs] == alone
    assert len({str(part[0][2]) for part in alone}) == 3  # the jobs do differ

    real = Trials.housekeeping

    def stop_at(step: int) -> Callable[..., None]:
        def housekeeping(self: Trials, *args: Any) -> None:
            self.services.stop = lambda: signal.SIGTERM if self.t >= step else None
            real(self, *args)

        return housekeeping

    jobs = [settings("stopped", *job) for job in JOBS]
    monkeypatch.setattr(base.Pace, "stop", lambda self, steps: setattr(self, "steps", 17))
    for step, some in ((130, jobs), (190, jobs[1:2]), (190, jobs[2:])):
        monkeypatch.setattr(Trials, "housekeeping", stop_at(step))
        with pytest.raises(Interrupted):
            together(some)
    monkeypatch.setattr(Trials, "housekeeping", real)
    summaries = [json.loads((job.folder / "summary.json").read_text()) for job in jobs]
    assert [summary["status"] for summary in summaries] == ["killed"] * 3
    ended = together(jobs)
    assert [ended[job.folder]["grouped"] for job in jobs] == [1, 2, 2]  # type: ignore[index]
    assert [everything(job.folder) for job in jobs] == alone


@pytest.mark.slow
def test_episode_budgets_end_each_job_at_its_own_step(settings: Callable[..., Settings]) -> None:
    options = ("budget.steps=null", "budget.episodes=8", "trials=2")
    studies = [[settings(study, *options, f"seed={seed}") for seed in (0, 4)] for study in ("alone", "group")]
    for job in studies[0]:
        runner.run_job(job, quiet=True)
    together(studies[1])
    kept = [[everything(job.folder) for job in jobs] for jobs in studies]
    for one, other in zip(*kept, strict=True):
        assert [one[0][0], one[0][2], *one[1:]] == [
            other[0][0],
            other[0][2],
            *other[1:],
        ]  # rings go on as the group does
    assert len({one[1]["steps"] for one in kept[0]}) == 2


@pytest.mark.slow
def test_tables_together_equal_tables_alone(tmp_path: Path) -> None:
    """On-policy, with visit counts: all that a checkpoint of tables may hold."""

    def jobs(study: str, algo: str) -> list[Settings]:
        options = (f"algo={algo}", "env=frozen_lake", "engine=fused", "trials=2", "budget.steps=300", "tracking=files",
                   "algo.visit_power=0.5", "evaluation.period=100", "evaluation.num_episodes=2", "animation.enabled=false",
                   "evaluation.final_episodes=2", "evaluation.candidate_episodes=2", f"output_dir={tmp_path}")  # fmt: skip
        return [
            runner.resolve(compose(*options, f"algo.alpha={alpha}", f"study={study}"))[0] for alpha in ("0.1", "0.9")
        ]

    group = jobs("group", "sarsa")
    assert [job["grouped"] for job in together(group).values()] == [2, 2]  # type: ignore[index]
    for one, same in zip(group, jobs("alone", "sarsa"), strict=True):
        together([same])
        assert everything(one.folder) == everything(same.folder)


@pytest.mark.slow
def test_policy_gradients_together_equal_policy_gradients_alone(tmp_path: Path) -> None:
    """Batches that trials complete at different steps; learning rates, discounts and entropy bonuses of each job."""

    def jobs(study: str) -> list[Settings]:
        options = ("algo=pg_baseline", "engine=fused", "trials=2", "budget.steps=200", "tracking=files", "algo.batch_size=2",
                   "algo.batch_unit=episode", "evaluation.period=100", "evaluation.num_episodes=2", "animation.enabled=false",
                   "evaluation.final_episodes=2", "evaluation.candidate_episodes=2", "network.hidden_units=[8]",
                   f"output_dir={tmp_path}", f"study={study}")  # fmt: skip
        scalars = (
            ("algo.optimizer.lr=1e-2", "algo.gamma=0.9"),
            ("algo.optimizer.lr=1e-3", "algo.entropy_coef=0.1"),
        )
        return [runner.resolve(compose(*options, *own))[0] for own in scalars]

    group = jobs("group")
    assert [job["grouped"] for job in together(group).values()] == [2, 2]  # type: ignore[index]
    for one, same in zip(group, jobs("alone"), strict=True):
        together([same])
        assert everything(one.folder) == everything(same.folder)


@pytest.mark.slow
def test_a_job_that_diverges_does_not_change_the_others(
    settings: Callable[..., Settings], alone: list[list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    healthy, sick = jobs = [settings("group", *JOBS[0]), settings("group", "trials=2", "algo.optimizer.lr=1e30")]
    ended = runner.run_together(jobs, preflight(jobs[0]))
    assert isinstance(ended[sick.folder], Diverged)
    assert str(ended[sick.folder]).startswith("2 of 2 trials diverged (seeds 0, 1)")
    said = capsys.readouterr().out
    assert "dqn on CartPole-v1, group of 2 jobs, 4 trials: one program, 300 env steps each" in said
    assert f"trial seed=1 of {sick.job_name} diverged: the loss is not finite at env step " in said
    assert (sick.folder / "error.txt").exists() and not (healthy.folder / "error.txt").exists()
    summary = json.loads((sick.folder / "summary.json").read_text())
    assert (summary["status"], [t["status"] for t in summary["trials"]]) == ("failed", ["diverged"] * 2)
    assert summary["steps"] < 300 == json.loads((healthy.folder / "summary.json").read_text())["steps"]
    assert everything(healthy.folder) == alone[0]


def test_a_folder_in_use_and_a_job_that_cannot_be_finished_do_not_affect_the_others(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [settings("group", "trials=1", f"seed={seed}") for seed in range(3)]
    real = finishing.finish

    def finish(job: Settings, *args: Any) -> None:
        if job.folder == jobs[2].folder:
            raise OSError("the disk is full")
        real(job, *args)

    monkeypatch.setattr(finishing, "finish", finish)
    with folder_lock(jobs[0].folder):
        ended = together(jobs)
    assert isinstance(ended[jobs[0].folder], Refusal) and "is at work" in str(ended[jobs[0].folder])
    assert isinstance(ended[jobs[2].folder], OSError)
    assert ended[jobs[1].folder]["grouped"] == 2  # type: ignore[index]
    assert (jobs[2].folder / "error.txt").read_text().endswith("OSError: the disk is full\n")
    unfinished = json.loads((jobs[2].folder / "summary.json").read_text())
    assert (unfinished["status"], unfinished["error"]) == ("failed", "OSError: the disk is full")
    assert not (jobs[0].folder / "job.json").exists()


def test_a_sweep_runs_a_group_when_its_first_job_is_due(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished jobs, repeated jobs and jobs without a shared program run by themselves."""
    calls: list[list[str]] = []

    def run_together(jobs: list[Settings], info: Any, **_: Any) -> dict[Path, Any]:
        calls.append([job.study for job in jobs])
        return {job.folder: OSError("no") if job.study == "c" else {"of": job.study} for job in jobs}

    monkeypatch.setattr(runner, "run_together", run_together)
    monkeypatch.setattr(runner, "finished", lambda job: job.study == "d")
    monkeypatch.setattr(runner, "run_job", lambda job, **_: {"alone": job.study})
    a, b, c, d = (settings(study) for study in "abcd")
    other, host = settings("e", "algo.batch_size=4"), settings("f", "engine=host")
    sweep = Groups([replace(job, engine="auto").to_dict() for job in (a, other, b, a, c, d)] + [host.to_dict()], 100)
    assert sweep(replace(b, engine="auto")) == {"of": "b"}
    with pytest.raises(OSError, match="no"):
        sweep(c)
    assert [sweep(job) for job in (a, a, d, other, host)] == [
        {"of": "a"}, {"alone": "a"}, {"alone": "d"}, {"alone": "e"}, {"alone": "f"}]  # fmt: skip
    assert calls == [["a", "b", "c"]]
    assert {share.jobs for share in sweep.shares.values()} == {3} and set(sweep.shares) == {
        a.folder,
        b.folder,
        c.folder,
    }
    assert sum(share.seconds for share in sweep.shares.values()) == pytest.approx(sweep.shares[a.folder].of_all)


def test_a_refusal_of_a_group_refuses_each_job(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **_: Any) -> None:
        raise Refusal("network: no")

    monkeypatch.setattr(runner, "run_together", refuse)
    jobs = [settings(study) for study in "ab"]
    sweep = Groups([job.to_dict() for job in jobs], 100)
    for job in jobs:
        with pytest.raises(Refusal, match="network: no"):
            sweep(job)


@pytest.mark.slow
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Four jobs of two groups, of which one is too large for its own program, and one that is refused."""
    sweep = ["algo.optimizer.lr=1e-3,2e-3", "algo.gamma=.9,.95,2", "hydra.launcher.max_trials=2", "trials=1"]
    monkeypatch.setattr(
        sys, "argv", ["rlexp", "-m", "hydra/launcher=fused", *TINY_FUSED, *sweep, f"output_dir={tmp_path}"]
    )
    assert command_line._status() == 2
    said = capsys.readouterr()
    assert said.out.count("group of 2 jobs, 2 trials: one program") == 2
    assert said.out.count("s (its share: 2 jobs trained together)") == 4 == said.out.count(": done, final return ")
    assert "] dqn gamma=0.9 lr=0.001 and 1 more: group of 2 jobs" in said.out and "┃ at step" not in said.out
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("default/sweeps/*/sweep.json"))
    done = [job for job in record["jobs"] if job["status"] == "done"]
    assert [job["label"] for job in done] == [f"dqn gamma={g} lr={lr}" for lr in (0.001, 0.002) for g in (0.9, 0.95)]
    assert [job["grouped"] for job in done] == [2] * 4 and sum(job["seconds"] for job in done) < record["wall_seconds"]
    assert said.err.count("algo.gamma=2: algo.gamma: expected a number >= 0 and <= 1, received 2.") == 2
    folders = sorted(tmp_path.glob("default/dqn-cartpole-*"))
    assert [json.loads((folder / "summary.json").read_text())["grouped"] for folder in folders] == [2] * 4
    assert command_line._status() == 2
    assert capsys.readouterr().out.count("already done, nothing was run") == 4


@pytest.mark.slow
def test_a_group_that_is_killed_continues_to_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL twice, at any moment, and then the same command to the end."""
    options = [
        *TINY_FUSED,
        "trials=2",
        "algo.optimizer.lr=1e-3,1e-2,2e-2",
        "checkpoint.every=0",
        "hydra/launcher=fused",
    ]
    options = [o for o in options if not o.startswith("budget")] + ["budget.steps=40000", "evaluation.period=2000"]

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "rlexp", "-m", *options, f"output_dir={tmp_path / name}"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})

    def jobs(name: str) -> list[Path]:
        return sorted((tmp_path / name).glob("default/dqn-*"))

    whole = start("whole")
    assert whole.communicate(timeout=600) and whole.returncode == 0
    reached = 0
    for _ in range(2):
        killed, deadline = start("killed"), time.monotonic() + 300
        while time.monotonic() < deadline:
            steps = [int(path.stem) for job in jobs("killed") for path in job.glob("checkpoint/[0-9]*.npz")]
            if max(steps, default=0) > reached + 2_000:
                break
            assert killed.poll() is None
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        reached = max(steps)
        assert not list((tmp_path / "killed").glob("default/*/summary.json"))
    last = start("killed")
    out, errors = last.communicate(timeout=600)
    assert last.returncode == 0, errors.decode()
    assert b"continuing from env step " in out
    assert [everything(job) for job in jobs("killed")] == [everything(job) for job in jobs("whole")]
