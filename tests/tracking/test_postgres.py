"""CLUSTER.md's tracking server: a PostgreSQL and an `mlflow server` on it, both real, started here on loopback."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlexp.cli import sync as sync_command
from rlexp.tracking import leftovers
from tests.sweeps.test_sweeps import QUICK
from tests.tracking.test_sync import free_port, wait_until
from tests.tracking.test_trackers import expected_points, long_ago, make_job, points, statuses

pytestmark = pytest.mark.slow

PASSWORD = "only-for-this-test"
ENV = """
import time
import gymnasium as gym
from pathlib import Path

class Waits(gym.Env):
    "Two states; training waits at its 500th step for the file `first`, at its 1500th for the file `second`."
    observation_space, action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)
    steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return 0, {}

    def step(self, action):
        self.t, self.steps = self.t + 1, self.steps + 1
        for number, name in ((500, "first"), (1500, "second")):
            while self.steps == number and not Path(name).exists():
                time.sleep(0.05)
        return self.t % 2, float(action), self.t == 10, False, {}

gym.register("Waits-v0", Waits)
"""


class Postgres:
    """A PostgreSQL of its own in a folder; it refuses to run as root, who lends it to the user `postgres`."""

    def __init__(self, folder: Path) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
        if not programs:
            pytest.skip("PostgreSQL is not installed: no /usr/lib/postgresql/*/bin/initdb")
        self.programs, self.owner = programs[-1].parent, None
        self.folder = folder
        if os.geteuid() == 0:
            try:
                self.owner = pwd.getpwnam("postgres")
            except KeyError:
                pytest.skip("PostgreSQL does not run as root, and there is no user postgres to run it")
            os.chown(self.folder, self.owner.pw_uid, self.owner.pw_gid)
        self.port = free_port()
        self.uri = f"postgresql+psycopg2://mlflow:{PASSWORD}@127.0.0.1:{self.port}/mlflow"
        (self.folder / "password").write_text(PASSWORD)
        self._run("initdb", "-D", "data", "-U", "mlflow", "-E", "UTF8", "-A", "scram-sha-256", "--pwfile=password")
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow", "mlflow")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *args: str) -> None:
        own: dict[str, Any] = {"user": self.owner.pw_uid, "group": self.owner.pw_gid} if self.owner else {}
        with (self.folder / "said").open("a+") as said:  # a pipe would wait for the server's end
            result = subprocess.run(
                [str(self.programs / program), *args],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD, "LC_ALL": "C"},
                timeout=120,
                **own,
            )
            said.seek(0)
            assert result.returncode == 0, said.read()


class Server:
    """`mlflow server` as CLUSTER.md starts it."""

    def __init__(self, store: str, artifacts: Path) -> None:
        self.store, self.artifacts, self.port = store, artifacts, free_port()
        self.log = artifacts.with_suffix(".log")
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = self._start(log)
        wait_until(self._answers)

    def _start(self, log: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.store, "--artifacts-destination",
             str(self.artifacts), "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                 "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )  # fmt: skip

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed: pip install psycopg2-binary")
    with tempfile.TemporaryDirectory(prefix="rlexp-postgres-") as folder:  # nobody but us can enter pytest's own
        postgres = Postgres(Path(folder))
        try:
            server = Server(postgres.uri, tmp_path_factory.mktemp("artifacts"))
            yield server
            server.kill()
        finally:
            postgres.stop()


def start(server: Server, folder: Path, study: str, *options: str) -> subprocess.Popen[str]:
    (folder / "waits_env.py").write_text(ENV)
    quick = [option for option in QUICK if not option.startswith(("tracking=", "trials=", "budget."))]
    return subprocess.Popen(
        [sys.executable, "-m", "rlexp", "-m", "algo=q_learning", "seed=0,10", "trials=2", "budget.steps=2000",
         "env.id=Waits-v0", "env.imports=[waits_env]", "env.step_timeout=500", "log.points=40", f"study={study}",
         f"tracking.uri={server.uri}", *quick, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(folder)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def check_that_all_is_there_once(server: Server, folder: Path, study: str) -> None:
    """One sweep, two jobs in it, two trials in each, every point of metrics.jsonl once, and the artifacts."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=server.uri)
    experiment = client.get_experiment_by_name(study)
    runs: dict[str, list[Any]] = {"sweep": [], "job": [], "trial": []}
    for run in client.search_runs([experiment.experiment_id]):
        runs[run.data.tags["rlexp.kind"]].append(run)
    assert {kind: len(found) for kind, found in runs.items()} == {"sweep": 1, "job": 2, "trial": 4}
    assert {run.info.status for found in runs.values() for run in found} == {"FINISHED"}
    (sweep,) = runs["sweep"]
    assert {"sweep.json", "report"} <= {file.path for file in client.list_artifacts(sweep.info.run_id)}
    assert sweep.data.metrics == {"jobs/done": 2.0}
    for job in runs["job"]:
        assert job.data.tags["mlflow.parentRunId"] == sweep.info.run_id
        own = folder / "outputs" / study / job.data.tags["rlexp.job"]
        records = [json.loads(line) for line in (own / "metrics.jsonl").read_text().splitlines()]
        assert len(records) >= 40
        trials = [run for run in runs["trial"] if run.data.tags["mlflow.parentRunId"] == job.info.run_id]
        assert len(trials) == 2
        for trial in trials:
            k = int(trial.data.tags["rlexp.seed"]) - int(job.data.params["seed"])
            for name in {name for record in records for name in record["metrics"]}:
                rows = [
                    (r["step"], r["metrics"][name][k], int(r["time"] * 1000)) for r in records if name in r["metrics"]
                ]
                assert points(client, trial.info.run_id, name) == [row for row in rows if row[1] is not None], name
            weights = client.list_artifacts(trial.info.run_id, "weights")
            assert [file.path for file in weights] == ["weights/best.npz"]
        artifacts = {file.path for file in client.list_artifacts(job.info.run_id)}
        assert artifacts == {
            "config.yaml", "evaluation.csv", "learning_curve.png", "metrics.jsonl", "summary.json",
        }  # fmt: skip
        fetched = client.download_artifacts(job.info.run_id, "metrics.jsonl", str(folder))
        assert Path(fetched).read_bytes() == (own / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_sweep_of_parallel_jobs(launcher: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / "first").touch(), (tmp_path / "second").touch()
    options = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    sweep = start(server, tmp_path, launcher, f"hydra/launcher={launcher}", *options)
    said = sweep.communicate(timeout=280)
    assert sweep.returncode == 0, said
    check_that_all_is_there_once(server, tmp_path, launcher)


def test_a_sweep_whose_server_is_killed_and_comes_back(server: Server, tmp_path: Path) -> None:
    sweep = start(server, tmp_path, "outage")

    def lines(name: str) -> list[Any]:
        found = sorted((tmp_path / "outputs/outage").glob(f"*/{name}"))
        return [json.loads(line) for line in (found[0].read_text() if found else "").splitlines() if line[-1] == "}"]

    def delivered() -> int:
        found = list((tmp_path / "outputs/outage").glob("q_learning-*/tracking.json"))
        return json.loads(found[0].read_text())["lines"] if found else 0

    wait_until(lambda: delivered() >= 9)
    server.kill()
    (tmp_path / "first").touch()
    wait_until(lambda: len(lines("metrics.jsonl")) >= 29)  # training goes on
    assert sweep.poll() is None and delivered() < 15
    time.sleep(5)  # the follower meets the outage
    assert sweep.poll() is None
    server.start()
    (tmp_path / "second").touch()
    said = sweep.communicate(timeout=280)
    assert sweep.returncode == 0, said
    assert "Not delivered, next attempt within" in "".join(
        path.read_text() for path in (tmp_path / "outputs/outage").glob("q_learning-*/tracking.log")
    )
    check_that_all_is_there_once(server, tmp_path, "outage")


def test_runs_of_the_dead_are_found_on_it(server: Server, tmp_path: Path) -> None:
    """What SQLite is asked in test_trackers.py."""
    from mlflow import MlflowClient

    from rlexp.tracking.mlflow.deliver import Delivery

    client = MlflowClient(tracking_uri=server.uri)
    folders = [make_job(tmp_path, name, server.uri, num_records=3, status=None) for name in ("silent", "dead")]
    for folder in folders:
        delivery = Delivery(folder, server.uri, running=True)
        delivery.send()
    long_ago(client, json.loads((folders[0] / "tracking.json").read_text())["run_id"])
    assert leftovers.close_silent(tmp_path, "study one", server.uri) == ["silent"]
    assert [statuses(client, folder) for folder in folders] == [{"KILLED"}, {"RUNNING"}]
    assert sync_command.main([str(tmp_path)]) == 0
    assert statuses(client, folders[1]) == {"KILLED"}
    records = [json.loads(line) for line in (folders[1] / "metrics.jsonl").read_text().splitlines()]
    for k, run_id in enumerate(delivery.receipt["trial_runs"].values()):
        assert points(client, run_id, "train/return") == expected_points(records, "train/return", k)
