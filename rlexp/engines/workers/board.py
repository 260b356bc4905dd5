"""Memory that the first process shares with its workers: a request to meet, and how far each worker is."""

from __future__ import annotations

import mmap
import os
import tempfile

ENDED = 2**62  # lock-steps of a worker that has ended: nobody waits for it


def shared_file() -> int:
    """A file of one page for shared memory; returns its descriptor.

    In memory where the system can: with a full disk, writing into a page of a file would end the process.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("rlexp")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, mmap.PAGESIZE)
    return descriptor


class Board:
    """One page of shared memory: [request, lock-steps of worker 0, of worker 1, ...], numbers of 64 bits.

    It is read and written at each lock-step: a view of memory takes a tenth of the time of a NumPy array.

    Args:
        descriptor: of a file of one page, which every process maps.
        num_workers: how many places are in use.
    """

    def __init__(self, descriptor: int, num_workers: int) -> None:
        self._numbers = memoryview(mmap.mmap(descriptor, mmap.PAGESIZE)).cast("q")
        self._steps = self._numbers[1 : 1 + num_workers]

    @property
    def request(self) -> int:
        """Number of the latest request to meet."""
        return self._numbers[0]

    @request.setter
    def request(self, number: int) -> None:
        self._numbers[0] = number

    def put(self, worker: int, t: int) -> None:
        """Note that a worker has taken `t` lock-steps."""
        self._steps[worker] = t

    def least(self) -> int:
        """The lock-steps of the worker that has taken the fewest."""
        return min(self._steps)
