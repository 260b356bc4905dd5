"""Sweeps under launchers with real worker processes: see test_sweeps.py for Hydra's own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from rlexp.cli import run as command_line
from rlexp.jobs.runner import compose
from rlexp.sweeps import attempt, ray_cluster
from tests.sweeps.test_sweeps import BAD_ENV, QUICK, rlexp, swept

BAD = ("-m", "algo=random", "env.id=Bad-v0", "env.imports=[bad_env]", "+env.kwargs.way=good,kill,raise", *QUICK)


def check_that_only_the_killer_is_lost(folder: Path) -> None:
    jobs = {label.split("=")[1]: job for label, job in swept(folder)["by_label"].items()}
    assert {way: job["status"] for way, job in jobs.items()} == {"good": "done", "kill": "lost", "raise": "failed"}
    assert jobs["good"]["score"] == 10.0 and jobs["kill"]["error"] == "its process died 3 times"
    summary = json.loads((Path(jobs["good"]["folder"]) / "summary.json").read_text())
    assert summary["status"] == "done" and summary["steps"] == 50


@pytest.mark.slow
def test_killed_joblib_workers_affect_no_other_job(tmp_path: Path) -> None:
    (tmp_path / "bad_env.py").write_text(BAD_ENV)
    result = rlexp(*BAD, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    check_that_only_the_killer_is_lost(tmp_path)


@pytest.mark.slow
def test_killed_submitit_jobs_affect_no_other_job(tmp_path: Path) -> None:
    """submitit's local executor: it differs from Slurm's only in how it starts the processes."""
    (tmp_path / "bad_env.py").write_text(BAD_ENV)
    result = rlexp(*BAD, "hydra/launcher=submitit_local", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    check_that_only_the_killer_is_lost(tmp_path)


@pytest.mark.parametrize(
    ("options", "threads"),
    [
        (("algo=q_learning", "+discretizer=cartpole", "trials=10"), "1"),
        (("algo=ddqn", "trials=1", "network.hidden_units=[32,32]"), "1"),
        (("algo=ddqn", "trials=1", "network.hidden_units=[300]"), "1"),
        (("algo=ddqn", "trials=2", "network.hidden_units=[32,32]"), None),
        (("+experiment=cleanrl_dqn", "trials=1"), None),  # its products are shared by both cores
        (("algo=dueling_ddqn", "env=space_invaders", "network=dueling_cnn", "trials=1"), None),
        (("algo=pg", "trials=1", "network.hidden_units=[32,32]"), None),
    ],
)
def test_single_jobs_of_small_kernels_use_one_thread_per_operation(
    options: tuple[str, ...], threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    attempt._limit_threads(compose(*options))
    assert os.environ.get("TF_NUM_INTRAOP_THREADS") == threads


@pytest.mark.slow
def test_parallel_jobs_and_single_jobs_with_tables_use_one_thread_per_operation(tmp_path: Path) -> None:
    (tmp_path / "threads_env.py").write_text(
        BAD_ENV.replace("self.way = way", "self.way = way; Path(f'threads-{way}').write_text("
                        "os.environ.get('TF_NUM_INTRAOP_THREADS', 'all'))")
    )  # fmt: skip
    options = ("env.id=Bad-v0", "env.imports=[threads_env]", *QUICK)
    tables = ("algo=q_learning", "+discretizer=cartpole")
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=1")
    commands = {
        "a": ("-m", "algo=random", *joblib), "b": ("-m", "algo=random"),
        "c": tables, "d": ("-m", *tables), "e": ("algo=random",),
    }  # fmt: skip
    for way, command in commands.items():
        done = rlexp(*command, *options, f"+env.kwargs.way={way}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert [(tmp_path / f"threads-{way}").read_text() for way in commands] == ["1", "all", "1", "all", "all"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "hydra/launcher=ray: expected the package ray, which is not installed.\npip install -c constraints.txt 'rlexp[ray]'"),
        (("hydra.launcher.num_cpus=many",), "hydra.launcher.num_cpus: expected a number, 0 or more, received 'many'."),
        (("hydra.launcher.num_gpus=-1",), "hydra.launcher.num_gpus: expected a number, 0 or more, received -1."),
        (("hydra.launcher.max_retries=1.5",), "hydra.launcher.max_retries: expected a whole number, 0 or more, received 1.5."),
    ],
)  # fmt: skip
def test_ray_is_refused_if_it_is_missing_or_an_option_is_wrong(
    args: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ray_cluster, "installed", lambda: bool(args))
    monkeypatch.setattr(sys, "argv", ["rlexp", "-m", "algo=random", "hydra/launcher=ray", *args])
    monkeypatch.chdir(tmp_path)
    assert command_line._status() == 2
    assert capsys.readouterr().err == f"refused: {said}\n" and list(tmp_path.iterdir()) == []
