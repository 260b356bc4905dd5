"""The process that watches the one which does the work: signals, orphans, what it costs, what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlexp.system import stopping, supervisor
from rlexp.system.folder_lock import folder_lock
from tests.processes import descendants
from tests.sweeps.test_sweeps import QUICK

LONG = ("algo=random", "engine=host", "budget.steps=100000000", *(o for o in QUICK if not o.startswith("budget")))
linux = pytest.mark.skipif(not hasattr(signal, "sigtimedwait"), reason="the supervisor needs sigtimedwait")


def start(*args: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rlexp", *args],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def trains(cwd: Path) -> Callable[[], object]:
    return lambda: list(cwd.glob("outputs/default/*/metrics.jsonl"))


@linux
def test_a_worker_answers_dies_and_says_how() -> None:
    """In forks of this process: each is told to do one thing."""

    def serve(what: str) -> None:
        supervisor.note(env="Some-v0")
        if what == "exit":
            os._exit(0)
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "stop":
            raise stopping.Interrupted(signal.SIGTERM)

    try:
        how = {}
        for what in ("exit", "kill"):
            worker = supervisor.Worker(serve)
            assert worker.ask("nothing") is None and worker.alive()
            death = worker.ask(what)
            assert death is not None and not worker.alive()
            how[what] = death.sentence()
            worker.close()
        worker = supervisor.Worker(serve)
        with pytest.raises(stopping.Interrupted):
            worker.ask("stop")
        worker.close()
    finally:
        stopping.acknowledge_once(lambda: False)
    end = "before its training began; nothing was written"
    assert how["exit"] == f"the process of Some-v0 died (something called os._exit(0)) {end}"
    reason = "ended by another process, or by the system for lack of memory"
    assert how["kill"] == f"the process of Some-v0 died (SIGKILL: {reason}) {end}"


@linux
def test_a_worker_dies_with_its_supervisor_and_frees_its_folder(tmp_path: Path) -> None:
    process = start(*LONG, cwd=tmp_path)
    wait_for(trains(tmp_path))
    (worker,) = descendants(process.pid)
    (folder,) = tmp_path.glob("outputs/default/random-*")
    assert json.loads((folder / "owner.json").read_text())["pid"] == worker
    process.kill()
    process.communicate()
    wait_for(lambda: not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text(), 5)
    with folder_lock(folder):
        pass


@linux
@pytest.mark.parametrize(
    ("to", "signum", "status"),
    [
        ("supervisor", signal.SIGINT, 130),
        ("group", signal.SIGTERM, 143),
        pytest.param("group", signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param("supervisor", signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_a_signal_is_acknowledged_once_and_stops_the_job_with_a_checkpoint(
    to: str, signum: signal.Signals, status: int, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "rlexp", *LONG], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    wait_for(trains(tmp_path))
    (os.killpg if to == "group" else os.kill)(process.pid, signum)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == status, said + errors
    assert errors == f"{signum.name}: stopping after this step, the checkpoint is kept; a second one stops at once\n"
    assert "stopped; the same command continues from the checkpoint in " in said
    assert list(tmp_path.glob("outputs/default/*/checkpoint/*.npz"))


def test_without_a_supervisor(tmp_path: Path) -> None:
    process = start(*LONG, cwd=tmp_path, RLEXP_SUPERVISE="0")
    wait_for(trains(tmp_path))
    assert descendants(process.pid) == []
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143 and errors.startswith("SIGTERM: stopping after this step")


SLOW_FINAL = textwrap.dedent("""
    import time
    import gymnasium as gym, numpy as np
    class Slow(gym.Env):
        observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
        action_space = gym.spaces.Discrete(2)
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed); self.t = 0
            self.final = seed is not None and 200_000 <= seed < 201_000
            if self.final:
                open("scoring", "w").close()
            return np.zeros(4, np.float32), {}
        def step(self, action):
            self.t += 1
            time.sleep(0.02 * self.final)
            return np.zeros(4, np.float32), 1.0, self.t == 10, False, {}
    gym.register("Slow-v0", Slow)
""")


@pytest.mark.slow
def test_a_signal_stops_the_scoring_at_the_end_and_the_same_command_scores_again(tmp_path: Path) -> None:
    (tmp_path / "slow_env.py").write_text(SLOW_FINAL)
    job = [*(o for o in QUICK if "final" not in o), "algo=random", "env.id=Slow-v0", "env.imports=[slow_env]"]
    process = start(*job, "evaluation.final_episodes=400", cwd=tmp_path)
    wait_for((tmp_path / "scoring").exists)
    process.terminate()
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 143 and errors.startswith("SIGTERM: stopping after this step"), said + errors
    (summary,) = tmp_path.glob("outputs/default/*/summary.json")
    assert json.loads(summary.read_text())["status"] == "killed"
    (tmp_path / "slow_env.py").write_text(SLOW_FINAL.replace("0.02", "0"))
    again = start(*job, "evaluation.final_episodes=400", cwd=tmp_path)
    said, errors = again.communicate(timeout=120)
    assert again.returncode == 0 and "continuing from env step 50" in said, said + errors
    found = json.loads(summary.read_text())
    assert found["status"] == "done" and found["final/return"]["mean"] == 10.0


def test_help_and_refusals_of_the_configuration_have_no_second_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from rlexp.cli import run as command_line

    monkeypatch.setattr(supervisor, "_enabled", True)
    monkeypatch.setattr(supervisor.os, "fork", lambda: pytest.fail("a second process"))
    for args, status in ((["--help"], 0), (["algo=nope"], 2), (["algo.gamma=2"], 2), (["--cfg", "job"], 0)):
        monkeypatch.setattr(sys, "argv", ["rlexp", *args])
        assert command_line._status() == status
