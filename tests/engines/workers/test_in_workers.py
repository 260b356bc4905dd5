"""The trials of a job in workers: the results of one process, whatever happens.

Most tests run the workers as threads of this process, which start at once; what needs processes is at the end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import rlexp
from rlexp.data.checkpoint import Checkpoints
from rlexp.engines.services import Pruned
from rlexp.engines.workers import choice, in_workers, process, seat
from rlexp.engines.workers.board import Board
from rlexp.engines.workers.messages import Close
from rlexp.jobs import training
from rlexp.jobs.runner import compose, run_job
from rlexp.system import stopping
from rlexp.system.errors import Diverged, Failure, Refusal
from rlexp.system.watched import Death

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
from evidence import differences  # noqa: E402

sys.path.remove(str(ROOT / "scripts"))

LAKE = ("env=frozen_lake", "trials=5", "budget.steps=500", "evaluation.period=100")


class ThreadHandle:
    """A worker as a thread, with the interface of `Handle`."""

    started: ClassVar[list[ThreadHandle]] = []

    def __init__(self, number: int, num_workers: int, board: int, environment: dict[str, str]) -> None:
        self.number, self.dead, self.killed = number, None, False
        self.connection, theirs = Pipe()
        page = Board(board, num_workers)
        self._thread = threading.Thread(target=self._work, args=(theirs, page), daemon=True)
        self._thread.start()
        ThreadHandle.started.append(self)

    dead: Death | None

    def _work(self, connection: Connection, board: Board) -> None:
        worker = process._Worker(connection, seat.Seat(connection, board, self.number))
        try:
            while not isinstance(order := connection.recv(), Close):
                worker.carry_out(order)
            worker.close()
        except (EOFError, OSError):  # released
            return

    def send(self, order: Any) -> None:
        self.connection.send(order)

    def is_dead(self, folder: Path) -> bool:
        if self.killed and self.dead is None:
            self.dead = Death("SIGKILL: for this test")
        return self.dead is not None

    def crash_text(self) -> str:
        return ""

    def close(self) -> None:
        self.send(Close())

    def exit_status(self) -> int | None:
        return None if self._thread.is_alive() else 0

    def release(self) -> None:
        self.connection.close()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers as threads."""
    monkeypatch.setattr(in_workers, "Handle", ThreadHandle)
    ThreadHandle.started.clear()
    yield
    for handle in ThreadHandle.started:
        handle._thread.join(10)
        assert handle.exit_status() == 0, "no worker is left"


Tiny = Callable[..., Any]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("algo", "overrides"),
    [
        ("q_learning", LAKE),
        ("sarsa", ("env=frozen_lake", "trials=4", "budget.episodes=20", "checkpoint.every=0")),
        ("random", ("env=cartpole", "trials=3", "checkpoint.every=0")),
    ],
)
@pytest.mark.parametrize("number", [3])
def test_equal_to_one_process(tiny: Tiny, tmp_path: Path, algo: str, overrides: tuple[str, ...], number: int) -> None:
    one = tiny(algo, *overrides, f"output_dir={tmp_path / 'one'}", "workers=1")
    several = tiny(algo, *overrides, f"output_dir={tmp_path / 'several'}", f"workers={number}")
    assert len(ThreadHandle.started) == number
    assert differences(one.folder, several.folder) == []


@pytest.mark.slow  # in processes: Keras' random numbers are of a process, not of a thread
@pytest.mark.parametrize("engine", ["host", "fused"])
@pytest.mark.parametrize(
    ("algo", "overrides"),
    [
        ("ddqn", ("trials=3", "checkpoint.every=0")),
        ("dqn", ("trials=3", "budget.episodes=8")),
        ("pg", ("trials=3", "checkpoint.every=0")),
        ("ppo", ("trials=3", "budget.episodes=8")),
        ("expected_sarsa", ("trials=3", "budget.episodes=30", "checkpoint.every=0")),
        ("q_learning", ("trials=5", "budget.steps=2000", "checkpoint.every=0")),
    ],
)
def test_every_family_and_engine_equal_one_process(
    tiny: Tiny, tmp_path: Path, algo: str, overrides: tuple[str, ...], engine: str
) -> None:
    jobs = [
        tiny(algo, *overrides, f"engine={engine}", f"output_dir={tmp_path / str(number)}", f"workers={number}")
        for number in (1, 2, 3)
    ]
    assert differences(jobs[0].folder, jobs[1].folder) == []
    assert differences(jobs[0].folder, jobs[2].folder) == []


@pytest.mark.slow
def test_frame_stacks_and_rings_that_come_round(tiny: Tiny, tmp_path: Path) -> None:
    options = ("env.frame_stack=3", "trials=3", "checkpoint.every=0", "algo.replay_size=100")
    one = tiny("ddqn", *options, f"output_dir={tmp_path / 'one'}", "workers=1")
    two = tiny("ddqn", *options, f"output_dir={tmp_path / 'two'}", "workers=2")
    assert differences(one.folder, two.folder) == []


@pytest.mark.usefixtures("threads")
def test_a_stopped_job_goes_on_with_another_number(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tiny("q_learning", *LAKE, f"output_dir={tmp_path / 'whole'}", "workers=1")
    stopped = (*LAKE, f"output_dir={tmp_path / 'stopped'}")
    for number in (2, 3):  # each goes on from the checkpoint of the one before
        with monkeypatch.context() as patch:
            patch.setattr(training, "stop_signals", _Asked)
            with pytest.raises(stopping.Interrupted) as interrupted:
                tiny("q_learning", *stopped, f"workers={number}")
        assert interrupted.value.signum == signal.SIGTERM
    assert differences(whole.folder, tiny("q_learning", *stopped, "workers=1").folder) == []


class _Asked:
    """In the place of `stop_signals`: SIGTERM, a moment after training has begun."""

    def __enter__(self) -> Callable[[], int | None]:
        self._times = 0
        return self._stop

    def __exit__(self, *error: object) -> None:
        """Nothing to put back."""

    def _stop(self) -> int | None:
        self._times += 1
        return signal.SIGTERM if self._times > 3 else None


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("number", [1, 3])
def test_a_search_ends_a_job_at_the_same_step(tiny: Tiny, tmp_path: Path, number: int) -> None:
    asked: list[tuple[int, float, list[float]]] = []

    def prune(t: int, done: float, returns: np.ndarray) -> bool:
        asked.append((t, done, returns.tolist()))
        return t == 300

    done = tiny("q_learning", *LAKE, f"output_dir={tmp_path / 'done'}", "workers=1")
    settings = compose(
        *("algo=q_learning", *LAKE, "engine=host", "tracking=files", "evaluation.num_episodes=2"),
        *("evaluation.candidate_episodes=2", "evaluation.final_episodes=4", "log.points=10"),
        *("animation.enabled=false", f"output_dir={tmp_path / 'pruned'}", f"workers={number}"),
    )
    with pytest.raises(Pruned, match="at env step 300"):
        run_job(settings, quiet=True, prune=prune)
    curve = rlexp.jobs.results.load_job(done.folder).curves["eval/return"]
    assert asked == [(t, t / 500, curve.values[i].tolist()) for i, t in enumerate((100, 200, 300))]
    state = Checkpoints(settings.folder / "checkpoint", 0, 1).load(pytest.fail)
    assert state is not None and state["trials"]["t"] == 300


@pytest.mark.usefixtures("threads")
def test_a_worker_that_dies_fails_its_trials_alone(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tiny("q_learning", *LAKE, f"output_dir={tmp_path / 'whole'}", "workers=1")
    _kill_at_step(monkeypatch, worker=1, step=250)
    with pytest.raises(Diverged) as failed:
        tiny("q_learning", *LAKE, f"output_dir={tmp_path / 'failed'}", "workers=2")
    text = str(failed.value)
    assert text.startswith(
        "3 of 5 trials failed (seeds 2, 3, 4): its process died (SIGKILL: for this test); the others"
    )
    (folder,) = (tmp_path / "failed").glob("*/*")
    summary = json.loads((folder / "summary.json").read_text())
    expected = json.loads((whole.folder / "summary.json").read_text())
    assert [trial["status"] for trial in summary["trials"]] == ["done", "done", "failed", "failed", "failed"]
    assert summary["final/return"]["per_trial"] == [*expected["final/return"]["per_trial"][:2], None, None, None]
    assert summary["trials"][:2] == expected["trials"][:2]


@pytest.mark.usefixtures("threads")
def test_a_job_without_workers_fails(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _kill_at_step(monkeypatch, worker=0, step=100)
    _kill_at_step(monkeypatch, worker=1, step=150)
    with pytest.raises(Failure, match="the processes of all trials have died; the last one: SIGKILL: for this test"):
        tiny("q_learning", *LAKE, "workers=2")


def _kill_at_step(monkeypatch: pytest.MonkeyPatch, worker: int, step: int) -> None:
    """Let a thread's worker fall silent for good at a lock-step, as one that has been killed."""
    update = seat.Seat.update

    def dying(self: seat.Seat, done: float, t: int, eval_return: np.ndarray) -> None:
        if self._number == worker and t == step:
            ThreadHandle.started[-2 + worker].killed = True
            raise EOFError
        update(self, done, t, eval_return)

    carry_out = process._Worker.carry_out

    def carry_out_or_die(self: process._Worker, order: Any) -> None:
        handle = ThreadHandle.started[-2 + self._seat._number]
        answer = self._answer_to

        def answer_or_die(order: Any) -> Any:
            try:
                return answer(order)
            except EOFError:
                if handle.killed:
                    return None
                raise

        self._answer_to = answer_or_die  # type: ignore[method-assign]
        carry_out(self, order)

    monkeypatch.setattr(seat.Seat, "update", dying)
    monkeypatch.setattr(process._Worker, "carry_out", carry_out_or_die)


@pytest.mark.usefixtures("threads")
def test_an_agent_that_cannot_be_built_is_refused_as_ever(tiny: Tiny, tmp_path: Path) -> None:
    said = []
    for number in (1, 2):
        with pytest.raises(Refusal) as refused:
            tiny("ddqn", "trials=2", "algo.optimizer.options={beta_1: 3}", f"workers={number}")
        said.append(str(refused.value))
    assert said[0] == said[1] and said[0].startswith("algo.optimizer: ")
    assert not list(tmp_path.glob("*/*/job.json"))


@pytest.mark.usefixtures("threads")
def test_workers_that_cannot_start(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """A number that was asked for fails; auto trains in this process and says so."""
    monkeypatch.setattr(ThreadHandle, "send", lambda self, order: setattr(self, "killed", True))
    with pytest.raises(Failure, match="worker processes cannot start"):
        tiny("q_learning", *LAKE, "workers=2")
    monkeypatch.setattr(choice, "num_workers", lambda settings, info: 2)
    monkeypatch.setattr(rlexp, "run", lambda *o, quiet: rlexp.jobs.runner.run(*o))  # warnings are not for the quiet
    assert tiny("q_learning", *LAKE, "workers=auto")["status"] == "done"
    assert "the last one: SIGKILL: for this test; all trials train in this process" in capfd.readouterr().err


def test_real_processes(tiny: Tiny, tmp_path: Path) -> None:
    one = tiny("q_learning", *LAKE, f"output_dir={tmp_path / 'one'}", "workers=1")
    two = tiny("q_learning", *LAKE, f"output_dir={tmp_path / 'two'}", "workers=2")
    assert differences(one.folder, two.folder) == []


LONG = ("algo=q_learning", "env=frozen_lake", "engine=host", "trials=4", "workers=2", "budget.steps=2000000",
        "tracking=files", "animation.enabled=false", "evaluation.num_episodes=2")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("which", ["first", "supervisor", "worker", "group"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left(tmp_path: Path, which: str, signum: int) -> None:
    command = [sys.executable, "-m", "rlexp", *LONG, f"output_dir={tmp_path}"]
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        while not list(tmp_path.glob("*/*/metrics.jsonl")):
            time.sleep(0.05)
        family = _family(job.pid)  # supervisor, first process, two workers
        assert len(family) == 4
        target = {"supervisor": 0, "first": 1, "worker": 2, "group": 0}[which]
        if which == "group":
            os.killpg(job.pid, signum)
        else:
            os.kill(family[target], signum)
        if which == "worker":  # it leaves signals to the first process, and dies alone of SIGKILL
            time.sleep(2)
            assert job.poll() is None
            assert len(_alive(family)) == (3 if signum == signal.SIGKILL else 4)
            os.kill(family[1], signal.SIGTERM)
            signum = signal.SIGTERM
        status = job.wait(30)
        deadline = time.monotonic() + 10
        while _alive(family) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _alive(family) == []
        expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[signal.Signals(signum)]
        assert status == (1 if which == "first" and signum == signal.SIGKILL else expected)
    finally:
        job.kill()


def _family(pid: int) -> list[int]:
    """A process, its child, and the children of that."""
    found = [pid]
    for parent in found:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        found += [int(child) for child in children]
    return found


def _alive(pids: list[int]) -> list[int]:
    """Those that have not ended (zombies have)."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it has ended
            continue
        found += [pid] * (state != "Z")
    return found
