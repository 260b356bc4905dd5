"""Delivery of a job's folder to event files.

A delivery begins with new event files, which hold all records of `metrics.jsonl`, and appends to them while the job
runs. So whatever an earlier one has left, each point is there once. What is complete is not written again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rlexp.math.statistics import iqm
from rlexp.system.stored_files import MAX_RECORDS, check_file, digest_of, find_json, read_bytes, read_json, read_record
from rlexp.system.stored_schemas import JOB, SUMMARY
from rlexp.tracking.tensorboard import hyperparameters, place
from rlexp.tracking.tensorboard.event_file import EventFile, event_files

MOST_OPEN = 64  # trials whose files are open while the job runs; of more trials, the files are written at the end
CURVES = "iqm"  # run of a job's curves: the interquartile mean over its trials
SCORES = "final"  # run of its final scores and hyper-parameters; what is in it is a column of the HParams page


def is_delivered(folder: Path) -> bool:
    """Whether the event files of a job hold what its folder holds, and how it ended."""
    where = place.find(folder)
    receipt = place.read_receipt(where)
    if receipt is None or receipt["job"] != folder.name or receipt.get("status") is None:
        return False
    if receipt.get("hyperparameters") is False and hyperparameters.available():
        return False
    try:
        runs = (CURVES, SCORES, *_trials(read_json(folder / "job.json", JOB, "seeds")))
        return bool(receipt["content"] == _content(folder) and receipt["files"] == _sizes(where, runs))
    except (OSError, ValueError):  # a damaged folder, of which a delivery says what is wrong
        return False


def _trials(job: dict[str, Any]) -> dict[str, int]:
    """The runs of a job's trials, and their places in a record."""
    return {f"seed_{seed}": k for k, seed in enumerate(job["seeds"])}


def _sizes(where: Path, runs: Iterable[str]) -> dict[str, dict[str, int]]:
    """The event files of some runs, with their sizes in bytes."""
    return {run: event_files(where / run) for run in runs}


def _content(folder: Path) -> str:
    """The digest of what a job's event files depend on."""
    digests = (digest_of(_bytes(folder / name)) for name in ("metrics.jsonl", "config.yaml", "summary.json"))
    return digest_of("".join(digests).encode())


def _bytes(path: Path) -> bytes:
    return read_bytes(path, MAX_RECORDS) if path.exists() else b""


class Delivery:
    """Writes the event files of one job. Hold `place.lock` of its folder.

    Args:
        folder: the job's folder.

    Raises:
        FileNotFoundError: if there is no `job.json`.
        Damaged: if a file is not what rlexp writes.
        LinkFound: if a link is in the way.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._job = read_json(folder / "job.json", JOB, "seeds", "started")
        self._place = place.find(self._folder)
        place.check(self._place)
        self._trials = _trials(self._job)
        self._files: dict[str, EventFile] = {}  # open ones, by run
        self._position, self._digest = 0, ""  # what they hold of metrics.jsonl
        self._last = (0, float(self._job["started"]))  # step and time of the last record

    def send(self) -> int:
        """Write the complete lines of `metrics.jsonl` that are not in the files yet; returns how many."""
        try:
            return self._send()
        except BaseException:
            self.close()  # the next call begins anew
            raise

    def _send(self) -> int:
        path = self._folder / "metrics.jsonl"
        data = _bytes(path)
        check_file(path, data, find_json(self._folder / "summary.json", SUMMARY, "status"))
        if not self._files or digest_of(data[: self._position]) != self._digest:  # a resumed job writes lines again
            self._begin()
        done, complete = data[: self._position].count(b"\n"), data[: data.rfind(b"\n") + 1]
        lines = complete[self._position :].split(b"\n")[:-1]
        for number, line in enumerate(lines, start=done + 1):
            self._write(read_record(path, number, line, len(self._trials)), self._files)
        for file in self._files.values():
            file.publish()
        self._position, self._digest = len(complete), digest_of(complete)
        return len(lines)

    def _begin(self) -> None:
        """Open new files, and remember that the place is the job's."""
        self.close()
        place.check(self._place)
        for run in (CURVES, SCORES, *(self._trials if len(self._trials) <= MOST_OPEN else ())):
            self._files[run] = EventFile(self._place / run)
        self._write_receipt(None)
        self._position, self._last = 0, (0, float(self._job["started"]))
        if hyperparameters.available():
            started = self._last[1]
            summary = hyperparameters.session_start(place.config_of(self._folder), started)
            self._files[SCORES].add_summary(summary, started)

    def _write(self, record: dict[str, Any], files: dict[str, EventFile]) -> None:
        """Write a record to the files of some runs."""
        self._last = (record["step"], record["time"])
        for run, file in files.items():
            if values := self._values(record, run):
                file.add(values, *self._last)

    def _values(self, record: dict[str, Any], run: str) -> dict[str, float]:
        """The values of a run in a record, by metric; none for scores, which come from the summary."""
        metrics = record["metrics"]
        if run in self._trials:
            own = {name: values[self._trials[run]] for name, values in metrics.items()}
            return {name: value for name, value in own.items() if value is not None}
        if run == SCORES:
            return {}
        present = {name: [value for value in values if value is not None] for name, values in metrics.items()}
        return {name: float(iqm(values)) for name, values in present.items() if values}

    def finish(self, status: str) -> None:
        """Write everything, the final scores included, and close the files.

        Args:
            status: how the job ended.
        """
        try:
            self._send()
            content = _content(self._folder)
            self._write_end(status)
            self._files[SCORES].publish()
            self._write_closed(run for run in self._trials if run not in self._files)
        finally:
            self.close()
        self._write_receipt(status, content)

    def _write_end(self, status: str) -> None:
        file, (step, seconds) = self._files[SCORES], self._last
        summary = find_json(self._folder / "summary.json", SUMMARY, "status") or {}
        scores = summary.get("final/return") or {}
        final = {f"final/return/{name}": scores.get(name) for name in ("iqm", "min", "max")}
        final["time/wall_seconds"] = summary.get("wall_seconds")
        if values := {name: float(value) for name, value in final.items() if value is not None}:
            file.add(values, step, seconds)
        if hyperparameters.available():
            file.add_summary(hyperparameters.session_end(status, seconds), seconds)

    def _write_closed(self, runs: Iterable[str]) -> None:
        """Write whole files of runs that were not open, one after another."""
        runs = list(runs)
        path, number_of_trials = self._folder / "metrics.jsonl", len(self._trials)
        lines = _bytes(path)[: self._position].split(b"\n")[:-1] if runs else []
        records = [read_record(path, number, line, number_of_trials) for number, line in enumerate(lines, start=1)]
        for run in runs:
            file = EventFile(self._place / run)
            try:
                for record in records:
                    self._write(record, {run: file})
                file.publish()
            finally:
                file.close()

    def _write_receipt(self, status: str | None, content: str = "") -> None:
        runs = (CURVES, SCORES, *self._trials) if status is not None else ()
        receipt = {"job": self._folder.name, "content": content, "status": status, "files": _sizes(self._place, runs)}
        place.write_receipt(self._place, {**receipt, "hyperparameters": hyperparameters.available()})

    def close(self) -> None:
        """Close the files."""
        files, self._files = self._files, {}
        for file in files.values():
            file.close()
