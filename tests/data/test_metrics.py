"""Windows, and the record of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rlexp.data.metrics import Recorder, Window, check_records

ALL = np.array([True, True, True])


def test_window_means_are_per_trial_and_start_anew() -> None:
    window = Window(3)
    window.add("loss", np.array([1.0, 5.0, np.nan]), np.array([True, True, False]))
    window.add("loss", np.array([3.0, 0.0, 0.0]), np.array([True, False, False]))
    flushed = window.flush(ALL)["loss"]
    assert flushed[:2].tolist() == [2.0, 5.0] and np.isnan(flushed[2])
    assert window.flush(ALL) == {}


def test_a_window_of_one_trial_closes_without_touching_the_others() -> None:
    window = Window(2)
    both = np.array([True, True])
    window.add("loss", np.array([1.0, 5.0]), both)
    flushed = window.flush(np.array([False, True]))["loss"]
    assert np.isnan(flushed[0]) and flushed[1] == 5.0
    window.add("loss", np.array([3.0, 7.0]), both)
    assert window.flush(both)["loss"].tolist() == [2.0, 7.0]


def test_events_are_added_one_after_the_other_to_the_same_bits() -> None:
    events, rows = Window(2), Window(2)
    rng = np.random.default_rng(0)
    trials, values = rng.integers(2, size=100), rng.standard_normal(100)
    events.add_events("x", trials, values)
    for k, value in zip(trials, values, strict=True):
        rows.add("x", np.full(2, value), np.arange(2) == k)
    rows.add("y", np.array([1.0, 2.0]), np.array([True, True]))
    events.set_total("y", events.total("y") + np.array([1.0, 2.0]), np.array([1, 1]))
    flushed, expected = (window.flush(np.array([True, True])) for window in (events, rows))
    assert {name: v.tolist() for name, v in flushed.items()} == {name: v.tolist() for name, v in expected.items()}


def test_values_are_summed_later_to_the_same_bits() -> None:
    window, rng, expected, counts = Window(2), np.random.default_rng(1), np.zeros(2), np.zeros(2, np.int64)
    value, trials = np.empty(2), np.empty(2, bool)  # callers write over them
    for step in range(150):
        value[:], trials[:] = rng.standard_normal(2), rng.integers(2, size=2)
        window.add("x", value, trials)
        expected, counts = expected + np.where(trials, value, 0.0), counts + trials
        if step in (10, 70):
            window.add_one("x", 1, 0.1)
            expected, counts = expected + np.array([0.0, 0.1]), counts + np.array([0, 1])
    assert window.total("x").tolist() == expected.tolist()
    assert window.flush(np.array([True, True]))["x"].tolist() == (expected / counts).tolist()


def test_window_survives_a_checkpoint() -> None:
    window, copy = Window(1), Window(1)
    window.add("x", np.array([1.0]), np.array([True]))
    copy.set_state(window.get_state())
    copy.add("x", np.array([2.0]), np.array([True]))
    assert copy.flush(np.array([True]))["x"].tolist() == [1.5]


def test_records_are_plain_json_and_a_resumed_file_holds_each_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    recorder = Recorder(path)
    recorder.write(np.array([10]), {"train/loss": np.array([0.5, np.nan, np.inf])})
    position = recorder.sync()
    recorder.write(np.array([20]), {"train/loss": np.array([1.0, 1.0, 1.0])})
    recorder.close()
    resumed = Recorder(path, position)
    resumed.write(np.array([20]), {"train/loss": np.array([1.0, 1.0, 1.0])})
    resumed.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20]
    assert lines[0]["metrics"] == {"train/loss": [0.5, None, None]} and lines[0]["time"] > 1.7e9


def test_a_file_that_is_shorter_than_its_position_is_not_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"12345\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl has 6 bytes, and had 1,000 then"):
        Recorder(path, 1000)
    assert path.read_bytes() == b"12345\n"


def test_the_digest_is_that_of_the_file_whoever_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    recorder = Recorder(path)
    recorder.write(np.array([10]), {"train/loss": np.array([0.5])})
    position, digest = recorder.sync(), recorder.digest
    recorder.write(np.array([20]), {"train/loss": np.array([0.5])})
    recorder.close()
    check_records(path, position, digest)
    check_records(path, position, None)  # of an earlier version
    resumed = Recorder(path, position)
    assert resumed.digest == digest
    resumed.write(np.array([30]), {"train/loss": np.array([0.5])})
    end, digest = resumed.sync(), resumed.digest
    resumed.close()
    check_records(path, end, digest)
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.6", 1))
    with pytest.raises(ValueError, match=f"the first {end} bytes of metrics.jsonl have changed since"):
        check_records(path, end, digest)
