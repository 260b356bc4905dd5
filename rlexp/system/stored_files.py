"""Reading the files that jobs and sweeps leave in their folders. Their content is never trusted.

    read_json(path, JOB, "seeds")      a mapping whose values are of the kinds that rlexp writes
    read_bytes(path)                   the content of a regular file; never waits for a pipe
    Damaged                            the error, which names the file: "<file>: expected ..., received ..."

JSON files hold a digest of their own content; those of a job also hold the digests of the files beside them (`files`).
This detects a digit that a disk has changed. Files of earlier versions have no digests and are read as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from rlexp.system.stored_schemas import COUNT, JOB, MAYBE_NUMBER, SUMMARY, TIME, Kind, Schema
from rlexp.system.text import clean, printable_tree

DIGEST = "digest"  # key of the digest of a JSON file itself
FILES = "files"  # key of the digests of the files beside it
MAX_JSON = 256 * 2**20  # bytes
MAX_RECORDS = 8 * 2**30  # bytes of metrics.jsonl


class Damaged(ValueError):
    """A file does not hold what rlexp writes.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, expected: str, received: str) -> None:
        super().__init__(f"{path}: expected {expected}, received {received}")
        self.path = path


def read_bytes(path: Path, most: int = MAX_JSON) -> bytes:
    """The content of a regular file.

    Args:
        path: the file.
        most: the largest permitted size in bytes.

    Raises:
        FileNotFoundError: if nothing has that name.
        Damaged: for a folder, a pipe, a device, a link to nothing, a file that is too large or cannot be read.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise Damaged(path, f"at most {most:,} bytes", f"{size:,}")
        return _content(path, file)


def read_from(path: Path, start: int) -> bytes:
    """The content of a growing regular file from byte `start` on; raises as `read_bytes` does."""
    with _opened(path) as file:
        file.seek(start)
        return _content(path, file)


def _opened(path: Path) -> BinaryIO:
    """A regular file, opened without waiting for a pipe; raises as `read_bytes` does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        if path.is_symlink():
            raise Damaged(path, "a file", "a symbolic link to nothing") from None
        raise
    except (OSError, ValueError) as error:
        raise Damaged(path, "a file that can be read", _first_line(error)) from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise Damaged(path, "a file", kind_of_entry(found.st_mode))
    return open(descriptor, "rb")


def _content(path: Path, file: BinaryIO) -> bytes:
    try:
        return file.read()
    except OSError as error:
        raise Damaged(path, "a file that can be read", _first_line(error)) from error


def kind_of_entry(mode: int) -> str:
    """The words for a folder, a pipe or a socket in place of a file, by its `st_mode`."""
    for test, words in ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket")):
        if test(mode):
            return words
    return "something else"


def read_json(path: Path, schema: Schema, *required: str) -> dict[str, Any]:
    """The mapping in a JSON file, without its digest; control characters in its strings are escaped.

    Args:
        path: the file.
        schema: the kinds of its values.
        *required: keys that it must have.

    Raises:
        FileNotFoundError: if nothing has that name.
        Damaged: if the file holds anything but what rlexp writes.
    """
    data = read_bytes(path)
    try:
        value = json.loads(data)
    except RecursionError:
        raise Damaged(path, "JSON", "values that are nested too deeply") from None
    except (ValueError, MemoryError) as error:
        raise Damaged(path, "JSON", _first_line(error) if data.strip() else "nothing") from error
    if not isinstance(value, dict):
        raise Damaged(path, "a mapping", shown(value))
    try:
        digest = value.pop(DIGEST, None)
        check(path, value, schema, *required)
        if digest is not None and digest != _digest_of_mapping(value):
            raise Damaged(path, "content that matches its digest", "content that has changed since")
        return printable_tree(value)
    except RecursionError:
        raise Damaged(path, "JSON", "values that are nested too deeply") from None


def find_json(path: Path, schema: Schema, *required: str) -> dict[str, Any] | None:
    """Like `read_json`, but None if there is no such file."""
    try:
        return read_json(path, schema, *required)
    except FileNotFoundError:
        return None


def check(path: Path, value: Mapping[str, Any], schema: Schema, *required: str, prefix: str = "") -> None:
    """Raise `Damaged` unless the values of a file are of the kinds in its schema."""
    for key in required:
        if key not in value:
            raise Damaged(path, f"the key {prefix}{key}", "none")
    for key, kind in schema.items():
        if key in value:
            _check_value(path, prefix + key, value[key], kind)


def _check_value(path: Path, key: str, value: Any, kind: Any) -> None:
    if isinstance(kind, Kind):
        if not kind.fits(value):
            raise Damaged(path, f"{kind.words} as {key}", shown(value))
    elif isinstance(kind, Schema):
        if value is None and key == "sweep":
            return
        if not isinstance(value, dict):
            raise Damaged(path, f"a mapping as {key}", shown(value))
        check(path, value, kind, prefix=f"{key}.")
    else:
        if not isinstance(value, list):
            raise Damaged(path, f"a list as {key}", shown(value))
        for number, item in enumerate(value):
            _check_value(path, f"{key}[{number}]", item, kind[0])


def read_job(folder: Path, *required: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The `job.json` of a folder and its `summary.json`, or None; both must be of the same trials.

    Args:
        folder: the job's folder.
        *required: keys that `job.json` must have, in addition to the seeds.

    Raises:
        FileNotFoundError: if there is no `job.json`.
        Damaged: if a file cannot be used, or the two do not belong together.
    """
    job = read_json(folder / "job.json", JOB, "seeds", *required)
    path = folder / "summary.json"
    summary = find_json(path, SUMMARY, "status")
    if summary is not None:
        _check_trials(path, job["seeds"], summary)
    return job, summary


def _check_trials(path: Path, seeds: list[int], summary: Mapping[str, Any]) -> None:
    if summary.get("seeds", seeds) != seeds:
        raise Damaged(path, f"the job's seeds {_shortened_seeds(seeds)}", shown(summary["seeds"]))
    for name in ("final/return", "final/value"):
        values = summary.get(name, {}).get("per_trial", seeds)
        if len(values) != len(seeds):
            raise Damaged(path, f"{len(seeds)} numbers as {name}.per_trial", str(len(values)))
    trials = summary.get("trials", [])
    if trials and len(trials) != len(seeds):
        raise Damaged(path, f"{len(seeds)} trials", str(len(trials)))
    named = [trial.get("seed", seed) for trial, seed in zip(trials, seeds, strict=False)]
    if trials and named != seeds:
        raise Damaged(path, f"trials of the seeds {_shortened_seeds(seeds)}", shown(named))


def read_record(path: Path, number: int, line: bytes, num_trials: int) -> dict[str, Any]:
    """The record in a line of `metrics.jsonl`: a step, a time, and under each metric a number or null per trial.

    Raises:
        Damaged: names the file and the line.
    """
    try:
        record = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError(shown(record))
        for key, kind in (("step", COUNT), ("time", TIME)):
            if key in record and not kind.fits(record[key]):
                raise ValueError(f"{key} = {shown(record[key])}")
            if key not in record:
                raise ValueError(f"no {key}")
        metrics = record.get("metrics")
        if not isinstance(metrics, dict):
            raise ValueError(f"metrics = {shown(metrics)}")
        for name, row in metrics.items():
            if not isinstance(row, list) or len(row) != num_trials or not all(map(MAYBE_NUMBER.fits, row)):
                raise ValueError(f"{name} = {shown(row)}")
        if record.get("sum", record_sum(record)) != record_sum(record):
            raise ValueError("numbers that have changed since")
        return record
    except RecursionError:
        received = "one that is nested too deeply"
    except ValueError as error:
        received = f"one with {_first_line(error)}" if line.strip() else "an empty line"
    where = path.with_name(f"{path.name}, line {number}")
    raise Damaged(where, f"a record of {num_trials} trials", received) from None


def record_sum(record: Mapping[str, Any]) -> str:
    """The checksum of a record's step and numbers. Its time does not count, so that equal records have equal sums."""
    return f"{zlib.crc32(json.dumps([record['step'], record['metrics']]).encode()):08x}"


def folders_with(path: Path, name: str, *below: str) -> list[Path]:
    """The folders that have an entry `name` of any kind: `path` itself, and those that match the patterns below it.

    A folder counts once: links to it count only if it is not found itself.
    """
    matches = [path, *(folder for pattern in below for folder in path.glob(pattern))]
    found = [folder for folder in dict.fromkeys(matches) if os.path.lexists(folder / name)]
    by_place = {os.path.realpath(folder): folder for folder in sorted(found, key=_is_linked, reverse=True)}
    return sorted(by_place.values())


def _is_linked(folder: Path) -> bool:
    """Whether the last two parts of a path, as a pattern matches them, lead through a symbolic link."""
    return folder.is_symlink() or folder.parent.is_symlink()


def check_file(path: Path, data: bytes, known: Mapping[str, Any] | None) -> None:
    """Raise `Damaged` if the digest of a file differs from that in the `files` of a job or a summary."""
    digest = ((known or {}).get(FILES) or {}).get(_key_of(path))
    if digest is not None and digest != digest_of(data):
        raise Damaged(path, "the file that the job wrote", "one that has changed since")


def check_later(path: Path, known: Mapping[str, Any] | None) -> None:
    """Like `check_file`, for a file that other code (a library, MLflow) reads afterwards."""
    if known and (known.get(FILES) or {}).get(_key_of(path)):
        check_file(path, read_bytes(path, MAX_RECORDS), known)


def _key_of(path: Path) -> str:
    return f"trials/{path.parent.name}/{path.name}" if path.stem == "best" else path.name


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """The value of `files` for those of the paths that exist."""
    return {_key_of(path): digest_of(path.read_bytes()) for path in paths if path.is_file()}


def digest_of(data: bytes) -> str:
    """The digest of a file's content: 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with a digest of its content, ready to be written as JSON."""
    return {
        **value,
        DIGEST: _digest_of_mapping(json.loads(json.dumps({k: v for k, v in value.items() if k != DIGEST}))),
    }


def _digest_of_mapping(value: Mapping[str, Any]) -> str:
    return digest_of(json.dumps(value, sort_keys=True).encode())


def remove(path: Path) -> None:
    """Remove a file, or the folder or link in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Rename a folder that is in the way of a file to `<name>.damaged`."""
    if path.is_dir() and not path.is_symlink():
        aside = path.with_name(f"{path.name}.damaged")
        remove(aside)
        path.replace(aside)


def set_aside(error: Damaged, warn: Callable[[str], None]) -> None:
    """Rename a damaged file to `<name>.damaged`, so that it can be written anew, and warn."""
    aside = error.path.with_name(f"{error.path.name}.damaged")
    remove(aside)
    error.path.replace(aside)
    warn(f"{error}; it is kept as {aside.name}")


@contextmanager
def skipping(warn: Callable[[str], None]) -> Iterator[None]:
    """Around the reading of one of several folders: if a file is damaged or missing, warn and skip the folder."""
    try:
        yield
    except Damaged as error:
        warn(str(error))
    except FileNotFoundError as error:  # removed in the meantime
        warn(f"{error.filename}: expected a file, received none")


def shown(value: Any) -> str:
    """A received value, shortened for a message."""
    if isinstance(value, dict | list):
        kind = "a mapping" if isinstance(value, dict) else "a list"
        return f"{kind} of {len(value)}" if value else f"an empty {kind.split()[1]}"
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    text = clean(repr(value), newlines=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shortened_seeds(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds)) if len(seeds) <= 5 else f"{seeds[0]}, ..., {seeds[-1]}"


def _first_line(error: Exception) -> str:
    """The first line of an error's message, without its file's name."""
    message = (error.strerror if isinstance(error, OSError) else None) or str(error).strip() or type(error).__name__
    return clean(message.splitlines()[0], newlines=False)
