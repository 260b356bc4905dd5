"""A worker process: trains a part of a job's trials as if they were a job, and tells the first process everything."""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from rlexp.engines.in_process import InProcess
from rlexp.engines.services import Pruned, Services
from rlexp.engines.workers.board import Board
from rlexp.engines.workers.messages import (
    Build,
    Built,
    Close,
    Failed,
    Message,
    Open,
    Opened,
    Save,
    Score,
    Scored,
    Train,
    Trained,
)
from rlexp.engines.workers.seat import Seat
from rlexp.envs import watchdog
from rlexp.system import stopping, supervisor
from rlexp.system.errors import Failure
from rlexp.system.watched import Link


def main(connection: int, board: int, page: int, notes: int, crash: int, number: int, num_workers: int) -> None:
    """Carry out the orders of the first process until it says `Close`.

    Args:
        connection, board, page, notes, crash: file descriptors, see `Connection`, `Board`, `Link`.
        number: of this worker.
        num_workers: of all.
    """
    stopping.leave_to_another_process()
    if sys.platform == "linux":
        supervisor.die_with(os.getppid())
    supervisor.own_process()
    supervisor.connect(Link(notes, mmap.mmap(page, mmap.PAGESIZE), os.fdopen(crash, "w")))
    with Connection(connection) as first, contextlib.suppress(EOFError, OSError):  # the first process has died
        worker = _Worker(first, Seat(first, Board(board, num_workers), number))
        while not isinstance(order := first.recv(), Close):
            worker.carry_out(order)
        worker.close()


class _Worker:
    """What carries out the orders.

    Args:
        first: the connection to the first process.
        seat: of this worker.
    """

    def __init__(self, first: Connection, seat: Seat) -> None:
        self._first, self._seat = first, seat
        self._trainer: InProcess | None = None
        self._order: Build | None = None

    def carry_out(self, order: Message) -> None:
        """Carry out one order, and answer."""
        try:
            with watchdog.armed(self._order.settings.env.step_timeout if self._order else None):
                answer = self._answer_to(order)
        except (stopping.Interrupted, Pruned):  # the first process has asked for it, and has the state
            return
        except BaseException as error:
            answer = Failed(_for_the_first_process(error))
        if answer is not None:
            self._first.send(answer)

    def close(self) -> None:
        """Close the environments, if there are any."""
        if self._trainer is not None and self._order is not None:
            with watchdog.armed(self._order.settings.env.step_timeout):
                self._trainer.close()

    def _answer_to(self, order: Message) -> Message | None:
        if isinstance(order, Build):
            trainer = self._trainer = InProcess(order.settings, order.info, self._seat.warn)
            self._order = order
            return Built(trainer.device, trainer.deploy is not None)
        assert self._trainer is not None and self._order is not None, "the first order is Build"
        trainer = self._trainer
        if isinstance(order, Open):
            trainer.open(self._services(order.prunes), order.state)
            return Opened(trainer.t, trainer.best_params().copy())
        if isinstance(order, Train):
            self._seat.start(trainer.t)
            try:
                trainer.train()
            finally:
                self._seat.end()
            return Trained(trainer.t)
        if isinstance(order, Save):
            trainer.save()  # the seat sends the state
            return None
        assert isinstance(order, Score), f"an unknown order: {type(order).__name__}"
        return Scored(trainer.score(), trainer.results())

    def _services(self, prunes: bool) -> Services:
        """The job around the loop, which is in the first process."""
        assert self._order is not None
        seat = self._seat

        def prune(t: int, done: float, eval_return: Any) -> bool:
            assert self._trainer is not None
            return seat.prune(t, done, eval_return, bool(self._trainer.loop.trials.active.any()))

        return Services(
            self._order.settings, self._order.info, seat, seat, seat, seat.stop, lambda: 0.0, prune if prunes else None
        )


def _for_the_first_process(error: BaseException) -> BaseException:
    """An error that can be sent, with the traceback as a note."""
    trace = "".join(traceback.format_exception(error)).rstrip()
    with contextlib.suppress(Exception):
        copy: BaseException = pickle.loads(pickle.dumps(error))
        if type(copy) is type(error) and str(copy) == str(error) and _loads_elsewhere(type(error)):
            copy.add_note(f"in a worker process:\n{trace}")
            return copy
    sent = Failure(f"{type(error).__name__}: {error}")
    sent.add_note(f"in a worker process:\n{trace}")
    return sent


def _loads_elsewhere(kind: type) -> bool:
    """Whether the first process has this type of error without importing third-party code."""
    return kind.__module__.partition(".")[0] in ("builtins", "rlexp", "numpy")
