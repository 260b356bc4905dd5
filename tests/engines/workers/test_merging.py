"""One file of records from those of several workers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlexp.engines.workers.merging import MergedRecords
from rlexp.engines.workers.messages import Record


class Kept:
    """Keeps records."""

    digest = ""

    def __init__(self) -> None:
        self.records: list[tuple[list[int], dict[str, list[float]]]] = []

    def write(self, steps: np.ndarray, metrics: Mapping[str, np.ndarray]) -> None:
        self.records.append((steps.tolist(), {name: values.tolist() for name, values in metrics.items()}))

    def sync(self) -> int:
        return 0


def record(t: int, n: int, **metrics: float) -> Record:
    return Record(t, np.full(n, t), {name: np.full(n, value) for name, value in metrics.items()})


def test_a_record_is_written_once_all_have_passed_it() -> None:
    kept = Kept()
    merged = MergedRecords(kept, [slice(0, 2), slice(2, 3)], np.zeros(3, np.int64))
    merged.add(0, record(5, 2, x=1))
    merged.add(0, record(10, 2, x=2, y=3))
    merged.write_complete([0, 1])
    assert kept.records == []
    merged.add(1, record(10, 1, x=4))
    merged.write_complete([0, 1])
    (first, second) = kept.records
    assert first[0] == [5, 5, 0] and str(first[1]) == "{'x': [1.0, 1.0, nan]}"
    assert second[0] == [10, 10, 10] and second[1]["x"] == [2, 2, 4] and str(second[1]["y"]) == "[3.0, 3.0, nan]"


def test_nobody_waits_for_a_worker_that_has_ended() -> None:
    kept = Kept()
    merged = MergedRecords(kept, [slice(0, 1), slice(1, 2)], np.zeros(2, np.int64))
    merged.add(1, record(3, 1, x=1))
    merged.add(0, record(5, 1, x=2))
    merged.write_complete([0])
    assert [steps for steps, _ in kept.records] == [[0, 3], [5, 3]]
    merged.add(0, record(8, 1, x=2))
    merged.write_complete([])
    assert len(kept.records) == 3


def test_a_checkpoint_takes_all_records_up_to_it() -> None:
    kept = Kept()
    merged = MergedRecords(kept, [slice(0, 1), slice(1, 2)], np.zeros(2, np.int64))
    for t in (4, 8):
        merged.add(0, record(t, 1, x=t))
    merged.write_up_to(6)
    assert [steps for steps, _ in kept.records] == [[4, 0]]


def test_of_the_phases_after_the_training_that_of_the_slowest_worker_is_shown() -> None:
    from multiprocessing import Pipe
    from typing import Any

    from rlexp.engines.workers.messages import Phase
    from rlexp.engines.workers.seat import Seat

    here, there = Pipe()
    board: Any = type("Board", (), {"request": 0})()
    seat = Seat(there, board, 0)
    for what, done in (("second look", 0), ("second look", 1), ("final episodes", 0), ("final episodes", 20)):
        seat.phase(what, done, 40)
    heard = [here.recv() for _ in range(4)]
    assert [phase.order() for phase in heard] == [(0, 0), (0, 1), (1, 0), (1, 20)]
    assert min(heard[1:], key=Phase.order) == Phase("second look", 1, 40, 0)
