"""What a worker's loop has for the job around it: records, checkpoints, progress and signals go to the first process.

Workers train side by side. For a checkpoint, which also comes before a stop, they meet: each says how far it is, and
all go on to the step of the one that is farthest. So that this takes no longer than a moment, none is ahead of the
slowest by more than `MOST_AHEAD` seconds of training.

Axes: N trials of one worker.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from rlexp.data.checkpoint import State
from rlexp.engines.workers.board import ENDED, Board
from rlexp.engines.workers.messages import At, Evaluated, GoTo, Phase, Record, Said, Saved, Shown, Verdict

MOST_AHEAD = 2.0  # seconds
SHOW_PERIOD = 0.1  # seconds between two messages of progress
PAUSE = 0.002  # seconds between two looks at how far the others are


class Seat:
    """A worker's end of the connection, as the parts of `Services`: `Records`, `Saves`, `Progress`, `stop`, `prune`.

    Args:
        connection: to the first process.
        board: shared with all.
        number: of this worker.
    """

    digest = ""  # the first process has the records

    def __init__(self, connection: Connection, board: Board, number: int) -> None:
        self._connection, self._board, self._number = connection, board, number
        self._answered = board.request  # number of the request that was answered last
        self._t = 0  # env steps so far of each trial that still trains
        self._meeting: GoTo | None = None
        self._shown, self._phases = 0.0, list[str]()
        self._began, self._first = 0.0, 0
        self._most_ahead = 1  # lock-steps

    def start(self, t: int) -> None:
        """Note that training begins at lock-step `t`."""
        self._began, self._first, self._t = time.monotonic(), t, t
        self._board.put(self._number, t)

    def end(self) -> None:
        """Note that this worker trains no more."""
        self._board.put(self._number, ENDED)

    def write(self, steps: np.ndarray, metrics: Mapping[str, np.ndarray]) -> None:
        """Send one record: the trials that it is about have taken the same number of steps."""
        self._connection.send(Record(int(steps.max()), steps.copy(), dict(metrics)))

    def sync(self) -> int:
        """Nothing is written here."""
        return 0

    def due(self) -> bool:
        """Whether all have agreed to save at this step."""
        return self._meeting is not None and self._meeting.step == self._t

    def agreed(self) -> int | None:
        """The lock-step of the next checkpoint, if it is agreed."""
        return None if self._meeting is None else self._meeting.step

    def saving(self) -> AbstractContextManager[None]:
        """The first process measures what a checkpoint costs."""
        return contextlib.nullcontext()

    def save(self, step: int, state: State) -> None:
        """Send the state."""
        self._meeting = None
        self._connection.send(Saved(step, state))

    def update(self, done: float, step: int, eval_return: np.ndarray) -> None:
        """Send progress now and then; meet the others if that is asked for, and wait for those who are far behind."""
        self._t = step
        board = self._board
        board.put(self._number, step)
        now = time.monotonic()
        if now - self._shown >= SHOW_PERIOD:
            self._shown = now
            self._connection.send(Shown(done, eval_return.copy()))
            pace = (step - self._first) / max(now - self._began, 1e-9)  # lock-steps per second
            self._most_ahead = max(1, int(pace * MOST_AHEAD))
        if board.request != self._answered:
            self._meet()
        while step - board.least() > self._most_ahead:
            time.sleep(PAUSE)
            if board.request != self._answered:
                self._meet()

    def phase(self, what: str, done: int = 0, total: int = 0) -> None:
        """Send what happens after the training."""
        if what not in self._phases:
            self._phases.append(what)
        self._connection.send(Phase(what, done, total, self._phases.index(what)))

    def say(self, text: str) -> None:
        """Send one line."""
        self._connection.send(Said(text, warning=False))

    def warn(self, text: str) -> None:
        """Send one warning."""
        self._connection.send(Said(text, warning=True))

    def stop(self) -> int | None:
        """The signal to stop with at this step."""
        return self._meeting.signum if self._meeting is not None and self._meeting.step == self._t else None

    def prune(self, t: int, done: float, eval_return: np.ndarray, active: bool) -> bool:
        """Send an evaluation and wait for what the search says to it."""
        self._connection.send(Evaluated(t, done, eval_return.copy(), active))
        while not isinstance(answer := self._hear(), Verdict):
            pass
        return answer.prune

    def _meet(self) -> None:
        """Say how far this worker is, and wait to hear where all go on to."""
        self._connection.send(At(self._board.request, self._t))
        self._hear()

    def _hear(self) -> Any:
        """Wait for what the first process says next."""
        message = self._connection.recv()
        if isinstance(message, GoTo):
            self._meeting, self._answered = message, message.number
        return message
