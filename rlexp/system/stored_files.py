"""The one reader of what jobs and sweeps have left in their folders: whatever is in a file, it is only a file.

    read_json(path, JOB, "seeds")      a mapping whose keys have the types that rlexp writes
    read_bytes(path)                   a regular file's content; never waits for a pipe
    Damaged                            what is wrong, with the file's name: "<file>: expected ..., received ..."

JSON files hold a digest of their own content, and those of a job the digests of the files beside them (`files`): a
digit that a disk has changed is noticed. Files of earlier versions have none and are read as they are.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlexp.system.text import clean, printable_tree

DIGEST = "digest"  # key of a JSON file's own digest
FILES = "files"  # key of the digests of the files beside it
MAX_JSON = 256 * 2**20  # bytes
MAX_RECORDS = 8 * 2**30  # bytes of metrics.jsonl
LAST_SECOND = 253_402_300_799  # of the year 9999
STATUSES = ("done", "failed", "killed", "pruned")  # of a job that has ended


class Damaged(ValueError):
    """A file is not what rlexp writes.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, expected: str, received: str) -> None:
        super().__init__(f"{path}: expected {expected}, received {received}")
        self.path = path


@dataclass(frozen=True)
class Kind:
    """What a value may be: in words, and as a question."""

    words: str
    fits: Callable[[Any], bool]


def _number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -(2**63) <= value < 2**63 if isinstance(value, int) else math.isfinite(value)


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value < high


def _distinct_seeds(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) == len({v for v in value if _whole(0, 2**32)(v)})


NUMBER = Kind("a finite number", _number)
COUNT = Kind("a whole number >= 0", _whole(0, 2**63))
SEED = Kind("a seed", _whole(0, 2**32))
TEXT = Kind("a text", lambda value: isinstance(value, str) and 0 < len(value) <= 2**20)
NOTE = Kind("a text", lambda value: isinstance(value, str))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TIME = Kind("seconds since 1970", lambda value: _number(value) and 0 <= value <= LAST_SECOND)
SECONDS = Kind("a number of seconds", lambda value: _number(value) and value >= 0)
SEEDS = Kind("a list of different seeds", _distinct_seeds)


def maybe(kind: Kind) -> Kind:
    """Or null."""
    return Kind(f"{kind.words} or null", lambda value: value is None or kind.fits(value))


def list_of(kind: Kind) -> Kind:
    """A list of any length."""
    return Kind(f"a list of {kind.words}", lambda value: isinstance(value, list) and all(map(kind.fits, value)))


def mapping_of(kind: Kind) -> Kind:
    """Any keys."""
    return Kind(
        f"a mapping to {kind.words}", lambda value: isinstance(value, dict) and all(map(kind.fits, value.values()))
    )


def one_of(*names: str) -> Kind:
    """One of some texts."""
    return Kind(f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names)


class Schema(dict[str, Any]):
    """Key -> its kind, or the schema of a mapping below it, or a list with the schema of its mappings.

    A key may be missing, unless whoever reads asks for it; other keys are left alone.
    """


MAYBE_NUMBER = maybe(NUMBER)
SCORES = Schema(dict.fromkeys(("mean", "std", "iqm", "min", "max"), MAYBE_NUMBER), per_trial=list_of(MAYBE_NUMBER))
SWEEP_OF_JOB = Schema(id=TEXT, local_id=TEXT, name=TEXT, command=TEXT, started=TIME)
JOB = Schema(
    study=TEXT, name=TEXT, algo=TEXT, env=TEXT, config_id=TEXT, group_id=TEXT, seeds=SEEDS, command=NOTE, started=TIME,
    overrides=maybe(list_of(NOTE)), sweep=SWEEP_OF_JOB, tags=mapping_of(NOTE), files=mapping_of(TEXT),
)  # fmt: skip
TRIAL = Schema(
    seed=SEED, status=one_of("done", "diverged", "failed"), note=NOTE, restarted_episodes=COUNT, steps=COUNT,
    best_eval_return=MAYBE_NUMBER, last_eval_return=MAYBE_NUMBER, best_train_episode=MAYBE_NUMBER,
    best_step=Kind("a step", _whole(-1, 2**63)), candidate_return=MAYBE_NUMBER, final_return=MAYBE_NUMBER,
)  # fmt: skip
SPEC = Schema(
    kind=one_of("discrete", "box"), n=COUNT, start=Kind("a whole number", _whole(-(2**63), 2**63)), dtype=TEXT,
    shape=list_of(COUNT),
)  # fmt: skip
SUMMARY = Schema(
    {"final/return": SCORES, "final/value": SCORES},
    algo=TEXT, env=TEXT, env_id=TEXT, study=TEXT, config_id=TEXT, group_id=TEXT, seeds=SEEDS, status=one_of(*STATUSES),
    steps=COUNT, total_steps=COUNT, episodes=list_of(COUNT), updates=list_of(COUNT), wall_seconds=SECONDS,
    train_seconds=SECONDS, grouped=COUNT, steps_per_second=NUMBER, optimum=MAYBE_NUMBER, selection=TEXT, best_seed=SEED,
    trials=[TRIAL], observation_shape=list_of(COUNT), observation_dtype=TEXT, num_actions=COUNT, action=SPEC,
    device=TEXT, engine=TEXT, finished=TIME, error=NOTE, pruned_at=COUNT, files=mapping_of(TEXT),
)  # fmt: skip
OUTCOME = Schema(
    status=one_of("done", "failed", "refused", "killed", "pruned", "lost"), score=MAYBE_NUMBER, folder=maybe(TEXT),
    error=NOTE, seconds=SECONDS,
)  # fmt: skip
SEARCH = Schema(
    num_candidates=COUNT, batch_size=COUNT, objective=TEXT, threshold=MAYBE_NUMBER, seed=COUNT, startup=COUNT,
    prune=FLAG, warmup=NUMBER, space=Kind("a list", lambda value: isinstance(value, list)),
)  # fmt: skip
SWEEP = Schema(
    id=TEXT, local_id=TEXT, name=TEXT, study=TEXT, command=NOTE, started=TIME, tracking_uri=maybe(NOTE),
    status=one_of("running", "done", "failed", "killed"), wall_seconds=SECONDS, jobs=[Schema(status=TEXT)],
    search=SEARCH, scores=list_of(MAYBE_NUMBER),
)  # fmt: skip
TRACKING = Schema(
    uri=TEXT, local_id=TEXT, experiment_id=TEXT, run_id=maybe(TEXT), trial_runs=mapping_of(TEXT), lines=COUNT,
    last=maybe(list_of(NUMBER)), sending=list_of(TIME), artifacts=mapping_of(TEXT), status=maybe(NOTE),
    missing=list_of(NOTE),
)  # fmt: skip
OWNER = Schema(pid=COUNT, host=TEXT)
CONFIG = Schema(
    algo=Schema(name=TEXT), budget=Schema(steps=maybe(COUNT), episodes=maybe(COUNT)),
    env=Schema(name=TEXT, id=TEXT, kwargs=maybe(mapping_of(Kind("anything", lambda value: True)))),
    network=Schema(name=TEXT), evaluation=Schema(), tracking=Schema(uri=maybe(NOTE)),
    study=TEXT, seed=SEED, trials=COUNT,
)  # fmt: skip


def read_bytes(path: Path, most: int = MAX_JSON) -> bytes:
    """The content of a regular file.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        FileNotFoundError: where there is nothing of that name.
        Damaged: for a folder, a pipe, a device, a link to nothing, and what may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        if path.is_symlink():
            raise Damaged(path, "a file", "a symbolic link to nothing") from None
        raise
    except (OSError, ValueError) as error:
        raise Damaged(path, "a file that can be read", _said(error)) from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise Damaged(path, "a file", what_is(found.st_mode))
    with open(descriptor, "rb") as file:
        if found.st_size > most:
            raise Damaged(path, f"at most {most:,} bytes", f"{found.st_size:,}")
        try:
            return file.read()
        except OSError as error:
            raise Damaged(path, "a file that can be read", _said(error)) from error


def what_is(mode: int) -> str:
    """What is found in place of a file, in words."""
    for test, words in ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket")):
        if test(mode):
            return words
    return "something else"


def read_json(path: Path, schema: Schema, *required: str) -> dict[str, Any]:
    """A JSON file that holds a mapping; its texts fit to be printed, without its digest.

    Args:
        path: of the file.
        schema: kinds of its values.
        *required: keys that it must have.

    Raises:
        FileNotFoundError: where there is nothing of that name.
        Damaged: for anything else than what rlexp writes.
    """
    data = read_bytes(path)
    try:
        value = json.loads(data)
    except RecursionError:
        raise Damaged(path, "JSON", "values that are nested too deeply") from None
    except (ValueError, MemoryError) as error:
        raise Damaged(path, "JSON", _said(error) if data.strip() else "nothing") from error
    if not isinstance(value, dict):
        raise Damaged(path, "a mapping", shown(value))
    try:
        sealed = value.pop(DIGEST, None)
        check(path, value, schema, *required)
        if sealed is not None and sealed != _digest_of(value):
            raise Damaged(path, "what its digest was made of", "something that was changed since")
        return printable_tree(value)
    except RecursionError:
        raise Damaged(path, "JSON", "values that are nested too deeply") from None


def find_json(path: Path, schema: Schema, *required: str) -> dict[str, Any] | None:
    """`read_json`; None where there is no such file."""
    try:
        return read_json(path, schema, *required)
    except FileNotFoundError:
        return None


def check(path: Path, value: Mapping[str, Any], schema: Schema, *required: str, prefix: str = "") -> None:
    """Raise `Damaged` unless the values of a file are of the kinds that they must be."""
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
    """The `job.json` of a folder, and its `summary.json` where it has one, which must be of the same trials.

    Args:
        folder: of the job.
        *required: keys of `job.json` that are needed, besides the seeds.

    Raises:
        FileNotFoundError: where it has no `job.json`.
        Damaged: for one that cannot be used.
    """
    job = read_json(folder / "job.json", JOB, "seeds", *required)
    path = folder / "summary.json"
    summary = find_json(path, SUMMARY, "status")
    if summary is not None:
        _check_trials(path, job["seeds"], summary)
    return job, summary


def _check_trials(path: Path, seeds: list[int], summary: Mapping[str, Any]) -> None:
    if summary.get("seeds", seeds) != seeds:
        raise Damaged(path, f"the job's seeds {_span(seeds)}", shown(summary["seeds"]))
    for name in ("final/return", "final/value"):
        values = summary.get(name, {}).get("per_trial", seeds)
        if len(values) != len(seeds):
            raise Damaged(path, f"{len(seeds)} numbers as {name}.per_trial", str(len(values)))
    trials = summary.get("trials", [])
    if trials and len(trials) != len(seeds):
        raise Damaged(path, f"{len(seeds)} trials", str(len(trials)))
    named = [trial.get("seed", seed) for trial, seed in zip(trials, seeds, strict=False)]
    if trials and named != seeds:
        raise Damaged(path, f"trials of the seeds {_span(seeds)}", shown(named))


def read_record(path: Path, number: int, line: bytes, num_trials: int) -> dict[str, Any]:
    """A line of `metrics.jsonl`: a step, a time, and a number or null for each trial under each name.

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
            if not isinstance(row, list) or len(row) != num_trials or not all(map(_VALUE.fits, row)):
                raise ValueError(f"{name} = {shown(row)}")
        if record.get("sum", record_sum(record)) != record_sum(record):
            raise ValueError("numbers that were changed since")
        return record
    except RecursionError:
        said = "one that is nested too deeply"
    except ValueError as error:
        said = f"one with {_said(error)}" if line.strip() else "an empty line"
    where = path.with_name(f"{path.name}, line {number}")
    raise Damaged(where, f"a record of {num_trials} trials", said) from None


def record_sum(record: Mapping[str, Any]) -> str:
    """Of the step and the numbers of a record: the same whenever it was written."""
    return f"{zlib.crc32(json.dumps([record['step'], record['metrics']]).encode()):08x}"


_VALUE = Kind(
    "a number or null",
    lambda value: value is None or NUMBER.fits(value),
)


def folders_with(path: Path, name: str, *below: str) -> list[Path]:
    """The folders that hold something of a name, whatever it is: `path` itself, and those that patterns find below."""
    found = [path, *(folder for pattern in below for folder in path.glob(pattern))]
    return sorted(folder for folder in dict.fromkeys(found) if os.path.lexists(folder / name))


def check_file(path: Path, data: bytes, known: Mapping[str, Any] | None) -> None:
    """Raise `Damaged` where a file is not the one whose digest a job's or a summary's `files` hold."""
    digest = ((known or {}).get(FILES) or {}).get(_name(path))
    if digest is not None and digest != digest_of(data):
        raise Damaged(path, "the file that the job wrote", "one that was changed since")


def check_later(path: Path, known: Mapping[str, Any] | None) -> None:
    """`check_file` of a file that somebody else reads."""
    if known and (known.get(FILES) or {}).get(_name(path)):
        check_file(path, read_bytes(path, MAX_RECORDS), known)


def _name(path: Path) -> str:
    return f"trials/{path.parent.name}/{path.name}" if path.stem == "best" else path.name


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """What `files` holds of those files that are there."""
    return {_name(path): digest_of(path.read_bytes()) for path in paths if path.is_file()}


def digest_of(data: bytes) -> str:
    """Of a file's content."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with a digest of all that, to be written as JSON."""
    return {**value, DIGEST: _digest_of(json.loads(json.dumps({k: v for k, v in value.items() if k != DIGEST})))}


def _digest_of(value: Mapping[str, Any]) -> str:
    return digest_of(json.dumps(value, sort_keys=True).encode())


def remove(path: Path) -> None:
    """Remove a file, or whatever stands in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Set a folder aside that stands in the place of a file which is to be written."""
    if path.is_dir() and not path.is_symlink():
        aside = path.with_name(f"{path.name}.damaged")
        remove(aside)
        path.replace(aside)


def set_aside(error: Damaged, tell: Callable[[str], None]) -> None:
    """Rename a damaged file to `<name>.damaged`, so that it can be made anew; `tell` says so."""
    aside = error.path.with_name(f"{error.path.name}.damaged")
    remove(aside)
    error.path.replace(aside)
    tell(f"{error}; it is kept as {aside.name}")


@contextmanager
def skipping(tell: Callable[[str], None]) -> Iterator[None]:
    """Around what reads one folder of several: a damaged one is told, and the others go on."""
    try:
        yield
    except Damaged as error:
        tell(str(error))
    except FileNotFoundError as error:  # removed while we looked
        tell(f"{error.filename}: expected a file, received none")


def shown(value: Any) -> str:
    """What was received, in short."""
    if isinstance(value, dict | list):
        kind = "a mapping" if isinstance(value, dict) else "a list"
        return f"{kind} of {len(value)}" if value else f"an empty {kind.split()[1]}"
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    text = clean(repr(value), newlines=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _span(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds)) if len(seeds) <= 5 else f"{seeds[0]}, ..., {seeds[-1]}"


def _said(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) else None
    return clean((said or str(error).strip() or type(error).__name__).splitlines()[0], newlines=False)
