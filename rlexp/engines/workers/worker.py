"""What the first process knows of each worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlexp.data.checkpoint import State
from rlexp.engines.workers.handle import Handle
from rlexp.engines.workers.messages import Evaluated, Message, Phase


@dataclass
class Worker:
    """One worker, and what it has said.

    Attributes:
        handle: of its process.
        rows: its trials among all.
        initial: the weights that its trials began with.  # [n, P]
        training: whether it trains now.
        at: the lock-step at which it waits for a `GoTo` or a `Verdict`; None: it does not wait.
        evaluated: the evaluation for which it waits for a `Verdict`.
        share: of the budget of its trials that is spent.
        eval_return: their latest returns.  # [n]
        t: env steps so far of each trial that still trains.
        state: sent for the checkpoint that is being made.
        known: of the last checkpoint, but without what its loop would go on from.
        asked: whether it has been asked for its state.
        answer: to the latest order.
        phase: what it does after the training.
        note: why its trials failed, if its process has died.
    """

    handle: Handle
    rows: slice
    initial: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    training: bool = False
    at: int | None = None
    evaluated: Evaluated | None = None
    share: float = 0.0
    eval_return: np.ndarray = field(default_factory=lambda: np.zeros(0))
    t: int = 0
    state: State | None = None
    known: dict[str, Any] = field(default_factory=dict)
    asked: bool = False
    answer: Message | None = None
    phase: Phase | None = None
    note: str = ""

    @property
    def size(self) -> int:
        """n"""
        return self.rows.stop - self.rows.start

    def messages(self) -> Iterator[Message]:
        """What it has said since the last call; none if its process has died."""
        connection = self.handle.connection
        while True:
            try:
                if not connection.poll():
                    return
                message = connection.recv()
            except (EOFError, OSError):  # it has died, or is about to
                return
            yield message
