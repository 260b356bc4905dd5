"""Environments in processes of their own, for those that are slow: `env.workers` processes share a job's environments.

The first process sends actions and reset seeds, and gets back what the same calls would have returned in it, checked
and to the bit. A fault, or a process that dies, fails the trials whose environments it concerns, and no other. Each
process has its own watchdog for `env.step_timeout`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection, Pipe
from typing import Any

import numpy as np

from rlexp.config.schema.env import EnvSettings
from rlexp.envs import watchdog
from rlexp.envs.faults import Misbehaved
from rlexp.envs.guard import call, close_all, step_all
from rlexp.envs.info import EnvInfo
from rlexp.envs.making import make
from rlexp.envs.result_check import ResultCheck
from rlexp.envs.watchdog import watch
from rlexp.system import stopping, supervisor
from rlexp.system.watched import REASONS

# A new interpreter, not a fork: see `engines/workers/handle.py`.
BOOT = (
    "import sys, json; sys.path[:], descriptor = json.loads(sys.argv[1]); "
    "from rlexp.envs.env_process import main; main(descriptor)"
)
EXIT_TIMEOUT = 10.0  # seconds that a process has to close its environments and exit

Report = Callable[[int, str, str], None]


class EnvProcesses:
    """The first process's end.

    Args:
        settings, info: the environment.
        number: processes; environment `j` is in process `j % number`.
    """

    def __init__(self, settings: EnvSettings, info: EnvInfo, number: int) -> None:
        self._connections: list[Connection] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._died: dict[int, str] = {}  # by process: how
        for _ in range(number):
            ours, theirs = Pipe()
            try:
                with stopping.blocked():
                    self._processes.append(
                        subprocess.Popen(
                            [sys.executable, "-P", "-c", BOOT, json.dumps([sys.path, theirs.fileno()])],
                            pass_fds=[theirs.fileno()],
                            stdin=subprocess.DEVNULL,
                        )
                    )
            finally:
                theirs.close()
            self._connections.append(ours)
        self._end = weakref.finalize(self, _end, self._connections, self._processes)
        for i in range(number):
            self._send(i, (settings, info))

    def make(self, j: int) -> RemoteEnv:
        """Make environment `j`; raises `Misbehaved` if that fails."""
        return RemoteEnv(self, j, self._ask(j, ("make", j)))

    def reset(self, j: int, seed: int) -> np.ndarray:
        """Begin an episode; returns its first observation, raises `Misbehaved`."""
        observation: np.ndarray = self._ask(j, ("reset", j, seed))
        return observation

    def close(self, j: int) -> None:
        """Close environment `j`; raises `Misbehaved`."""
        self._ask(j, ("close", j))

    def step_all(
        self,
        actions: Sequence[Any],
        running: Sequence[int],
        observations: np.ndarray,
        rewards: list[float],
        report: Report,
    ) -> list[tuple[int, bool, bool]]:
        """As `guard.step_all`, all processes at the same time."""
        number = len(self._processes)
        parts = {i: own for i in range(number) if (own := [j for j in running if j % number == i])}
        for i, own in parts.items():
            self._send(i, ("step", own, [actions[j] for j in own]))
        ended: list[tuple[int, bool, bool]] = []
        faults: list[tuple[int, str, str]] = []
        for i, own in parts.items():
            try:
                seen, paid, over, wrong = self._receive(i)
            except Misbehaved as fault:
                faults += [(j, fault.text, fault.trace) for j in own]
                continue
            bad = {j for j, _, _ in wrong}
            for row, j in enumerate(own):
                if j not in bad:
                    observations[j], rewards[j] = seen[row], paid[row]
            ended += over
            faults += wrong
        for fault_of in sorted(faults):  # in the order of one process
            report(*fault_of)
        return sorted(ended)

    def release(self) -> None:
        """Let all processes exit."""
        self._end()

    def _ask(self, j: int, order: tuple[Any, ...]) -> Any:
        i = j % len(self._processes)
        self._send(i, order)
        return self._receive(i)

    def _send(self, i: int, order: tuple[Any, ...]) -> None:
        with contextlib.suppress(OSError):  # it has died, which `_receive` finds out
            self._connections[i].send(order)

    def _receive(self, i: int) -> Any:
        """The answer of a process; raises `Misbehaved` if the environment has misbehaved, or the process died."""
        inside, watch.inside = watch.inside, False  # the process that makes the call has the time limit
        try:
            if i in self._died:
                raise EOFError
            answer, fault = self._connections[i].recv()
        except (EOFError, OSError):
            raise Misbehaved(f"its process died ({self._how(i)})") from None
        finally:
            watch.inside = inside
        if fault is not None:
            raise Misbehaved(*fault)
        return answer

    def _how(self, i: int) -> str:
        """How a process has died."""
        if i not in self._died:
            try:
                code = self._processes[i].wait(EXIT_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._processes[i].kill()
                code = self._processes[i].wait()
            name = signal.Signals(-code).name if code < 0 else ""
            died = f"{name}: {REASONS[name]}" if name in REASONS else name
            self._died[i] = died or f"exit status {code}"
        return self._died[i]


class RemoteEnv:
    """One environment of another process, as `LockStep` calls it.

    Attributes:
        observation_space: of the environment.
    """

    def __init__(self, processes: EnvProcesses, j: int, observation_space: Any) -> None:
        self._processes, self._j, self.observation_space = processes, j, observation_space

    def reset(self, *, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        return self._processes.reset(self._j, seed), {}

    def close(self) -> None:
        """Close it."""
        self._processes.close(self._j)


def _end(connections: Sequence[Connection], processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let processes exit, which they do when nobody speaks to them any more."""
    for connection in connections:
        connection.close()
    for process in processes:
        try:
            process.wait(EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main(descriptor: int) -> None:
    """Serve the first process until it is gone.

    Args:
        descriptor: of the connection to it.
    """
    stopping.leave_to_another_process()
    if sys.platform == "linux":
        supervisor.die_with(os.getppid())
    supervisor.own_process()
    with Connection(descriptor) as first, contextlib.suppress(EOFError, OSError):
        settings, info = first.recv()
        served = _Served(settings, info)
        with watchdog.armed(settings.step_timeout):
            for order in _orders(first):
                first.send(served.answer(*order))


def _orders(first: Connection) -> Iterator[tuple[Any, ...]]:
    while True:
        yield first.recv()


class _Served:
    """The environments of this process, by number.

    Args:
        settings, info: the environment.
    """

    def __init__(self, settings: EnvSettings, info: EnvInfo) -> None:
        self._make = partial(make, settings, tabular=info.tabular)
        self._check, self._column = ResultCheck(info), info.observation
        self._envs: dict[int, Any] = {}

    def answer(self, what: str, *order: Any) -> tuple[Any, tuple[str, str] | None]:
        """What an order has come to, or the fault and its traceback."""
        try:
            return getattr(self, f"_{what}_it")(*order), None
        except Misbehaved as fault:
            return None, (fault.text, fault.trace)

    def _make_it(self, j: int) -> Any:
        watch.number = j
        self._envs[j] = call("__init__", self._make)
        return self._envs[j].observation_space

    def _reset_it(self, j: int, seed: int) -> np.ndarray:
        watch.number = j
        return np.asarray(self._check.reset_result(call("reset", partial(self._envs[j].reset, seed=seed))))

    def _step_it(self, running: list[int], actions: list[Any]) -> tuple[Any, ...]:
        rows = range(len(running))
        observations = np.zeros((len(running), *self._column.shape), self._column.dtype)
        rewards, faults = [0.0] * len(running), list[tuple[int, str, str]]()

        def report(row: int, problem: str, trace: str) -> None:
            faults.append((running[row], problem, trace))

        envs = [self._envs[j] for j in running]
        ended = step_all(envs, actions, rows, self._check, observations, rewards, report)
        return observations, rewards, [(running[row], *over) for row, *over in ended], faults

    def _close_it(self, j: int) -> None:
        for problem in close_all([self._envs[j]]):
            raise Misbehaved(problem)
