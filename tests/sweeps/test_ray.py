"""`hydra/launcher=ray` on a real cluster of two nodes, started here; one of them is killed in mid-sweep."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.processes import descendants
from tests.sweeps.test_launchers import BAD, check_that_only_the_killer_is_lost
from tests.sweeps.test_sweeps import BAD_ENV, QUICK, rlexp, swept

pytest.importorskip("ray", reason="the extra rlexp[ray] is not installed")
pytestmark = pytest.mark.slow

# Each start of a job leaves a line with the node, the process and what it may use; a step takes a twentieth of a second.
SLOW_ENV = textwrap.dedent("""
    import json, os, time
    import gymnasium as gym, numpy as np, ray
    from pathlib import Path
    class Slow(gym.Env):
        observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
        action_space, started = gym.spaces.Discrete(2), False
        def __init__(self, way=0):
            self.way, self.steps = way, 0
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed); self.t = 0
            return np.zeros(4, np.float32), {}
        def step(self, action):
            self.t += 1; self.steps += 1
            if self.steps == 7 and not Slow.started:
                Slow.started = True
                seen = dict(way=self.way, node=ray.get_runtime_context().get_node_id(), pid=os.getpid(),
                            threads=os.environ["TF_NUM_INTRAOP_THREADS"], gpu=os.environ.get("CUDA_VISIBLE_DEVICES"))
                with open("started.jsonl", "a") as file: file.write(json.dumps(seen) + chr(10))
            time.sleep(0.05)
            return np.zeros(4, np.float32), 1.0, self.t == 10, False, {}
    gym.register("Slow-v0", Slow)
""")
SLOW = ("-m", "algo=random", "env.id=Slow-v0", "env.imports=[slow_env]", *QUICK, "hydra/launcher=ray")


class Node:
    """One `ray start` and its child processes."""

    def __init__(self, *args: str, env: dict[str, str]) -> None:
        start = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"]
        options = ("--num-cpus=1", "--num-gpus=2", "--disable-usage-stats", f"--object-store-memory={100 * 2**20}")
        self.process = subprocess.Popen([*start, *args, *options], env=env, stdout=subprocess.DEVNULL)

    def pids(self) -> set[int]:
        """The process, and its descendants."""
        return {self.process.pid, *descendants(self.process.pid)}

    def kill(self) -> None:
        """Kill all processes, as if the machine were switched off."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Cluster:
    address: str
    env: dict[str, str]
    nodes: list[Node]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes of one CPU each, and the module of the jobs in `tmp_path`."""
    (tmp_path / "slow_env.py").write_text(SLOW_ENV)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "5,6", **token}
    with socket.socket() as free, tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        head = ("--head", "--node-ip-address=127.0.0.1", f"--port={address.split(':')[1]}", "--include-dashboard=false")
        nodes: list[Node] = []
        try:
            nodes.append(Node(*head, f"--temp-dir={folder}", env=env))
            until(lambda: connects(address), nodes[0].process)
            nodes.append(Node(f"--address={address}", env=env))
            until(lambda: num_alive(address, env) == 2, nodes[1].process)
            yield Cluster(address, env, nodes)
        finally:
            for node in nodes:
                node.kill()


def connects(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


def num_alive(address: str, env: dict[str, str]) -> int:
    """Number of nodes that have joined, asked by another process: this one must not become part of the cluster."""
    code = f"import ray; ray.init({address!r}, log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))"
    asked = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert asked.returncode == 0, asked.stderr
    return int(asked.stdout.split()[-1])


def started(folder: Path) -> list[dict[str, Any]]:
    """The starts of jobs so far."""
    path = folder / "started.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def until(condition: Callable[[], bool], process: subprocess.Popen[Any], timeout: float = 120) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, "the process has ended"
        assert time.monotonic() < end, "nothing has happened"
        time.sleep(0.2)


def sweep(cluster: Cluster, *args: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rlexp", *SLOW, f"hydra.launcher.address={cluster.address}", *args]
    return subprocess.Popen(
        command, cwd=cwd, env=cluster.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_jobs_of_a_node_that_is_killed_run_again_on_another(cluster: Cluster, tmp_path: Path) -> None:
    process = sweep(cluster, "+env.kwargs.way=0,1,2,3,4,5", "budget.steps=100", cwd=tmp_path)
    staying, doomed = cluster.nodes
    until(lambda: len({start["node"] for start in started(tmp_path)}) == 2, process)
    before, there = started(tmp_path), doomed.pids()
    (killed,) = (start for start in before if start["pid"] in there)
    assert {start["pid"] for start in before} - there <= staying.pids()
    doomed.kill()
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err

    jobs = swept(tmp_path)["jobs"]
    assert len(jobs) == 6 and {job["status"] for job in jobs} == {"done"} and len({job["folder"] for job in jobs}) == 6
    for job in jobs:
        summary = json.loads((Path(job["folder"]) / "summary.json").read_text())
        assert (summary["status"], summary["steps"], job["score"]) == ("done", 100, 10.0)
    starts = started(tmp_path)
    assert Counter(start["way"] for start in starts) == Counter([*range(6), killed["way"]])
    assert [start["node"] == killed["node"] for start in starts if start["way"] == killed["way"]] == [True, False]
    assert {start["threads"] for start in starts} == {"1"}
    assert err.count("its node died; starting it again") == 1


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_interrupts_the_jobs_and_the_same_command_continues(
    signum: int, status: int, cluster: Cluster, tmp_path: Path
) -> None:
    command = ("+env.kwargs.way=0,1,2", "budget.steps=200")
    process = sweep(cluster, *command, cwd=tmp_path)
    until(lambda: len({start["node"] for start in started(tmp_path)}) == 2, process)
    os.kill(process.pid, signum)
    _, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert Counter(job["status"] for job in swept(tmp_path)["jobs"]) == {"killed": 2, "not run": 1}
    assert len(list(tmp_path.glob("outputs/*/*/checkpoint/*.npz"))) == 2

    process = sweep(cluster, *command, cwd=tmp_path)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert [(job["status"], job["score"]) for job in swept(tmp_path)["jobs"]] == [("done", 10.0)] * 3


@pytest.mark.parametrize(("num_gpus", "devices"), [(0, ["5", "6", "5", "6"]), (1, None)])
def test_each_job_has_a_gpu_of_its_own(
    num_gpus: int, devices: list[str] | None, cluster: Cluster, tmp_path: Path
) -> None:
    """Ray trusts the number of GPUs that it was given. With num_gpus Ray assigns them, otherwise the job's number does."""
    options = ("hydra.launcher.num_cpus=0.5", f"hydra.launcher.num_gpus={num_gpus}")
    process = sweep(cluster, "+env.kwargs.way=0,1,2,3", "budget.steps=100", *options, cwd=tmp_path)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    starts = started(tmp_path)
    if devices is not None:
        assert [start["gpu"] for start in sorted(starts, key=lambda start: start["way"])] == devices
    else:
        assert sorted(Counter(start["node"] for start in starts).values()) == [2, 2]
        assert Counter((start["node"], start["gpu"]) for start in starts).most_common(1)[0][1] == 1
        assert {start["gpu"] for start in starts} == {"5", "6"}


def test_a_job_that_kills_its_process_affects_no_other_on_a_cluster_of_the_sweeps_own(tmp_path: Path) -> None:
    (tmp_path / "bad_env.py").write_text(BAD_ENV)
    result = rlexp(*BAD, "hydra/launcher=ray", "hydra.launcher.init.num_cpus=2", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    check_that_only_the_killer_is_lost(tmp_path)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("address=auto", "hydra.launcher.address: expected a Ray cluster that can be reached, received 'auto' ("),
        ("address=127.0.0.1:1", "hydra.launcher.address: expected a Ray cluster that can be reached, received '127.0.0.1:1' ("),
        ("num_cpus=9999", "hydra.launcher.num_cpus and num_gpus: expected at most what a node of the cluster has ("),
        ("num_gpus=9999", "hydra.launcher.num_cpus and num_gpus: expected at most what a node of the cluster has ("),
    ],
)  # fmt: skip
def test_a_cluster_that_cannot_be_reached_is_refused_before_anything_is_written(
    option: str, said: str, tmp_path: Path
) -> None:
    result = rlexp("-m", "algo=random", *QUICK, "hydra/launcher=ray", f"hydra.launcher.{option}", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert f"refused: {said}" in result.stderr and list(tmp_path.iterdir()) == []
