"""Checkpoints: everything a job needs to continue bit for bit, as data that cannot run code (npz and JSON).

A checkpoint is written to a temporary file, fsynced and renamed; the last few are kept. Each ends with a digest of
itself and names its job. One that is damaged, cannot be read or belongs to another job is reported and set aside
(renamed), and the one before it is used.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.system.archives import open_npz
from rlexp.system.links import open_to_write
from rlexp.system.stored_files import remove_folder, seal
from rlexp.system.text import mask_tree

State = dict[str, Any]

BESIDE = ".part-"  # prefix of an unfinished file whose writer needs the usual ending
DIGEST_SIZE = 16  # bytes
MAX_SHARE = 0.05  # of the wall time, for checkpoints
ASIDE = ".unusable"  # ending of a checkpoint that is set aside
MAX_ASIDE = 2  # of those that are kept: they may be as large as a ring
NOT_NOW = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM)  # say nothing about a file's content


class CheckpointPace:
    """When the next checkpoint is due: after `every` seconds, or later if one costs more than 5 % of that."""

    def __init__(self, every: float) -> None:
        self._every, self._last, self._cost = every, time.monotonic(), 0.0

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() - self._last >= max(self._every, self._cost / MAX_SHARE)

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Measure the cost of one in this context: collecting the state as well as writing it."""
        began = time.monotonic()
        yield
        self._last = time.monotonic()
        self._cost = self._last - began


class Checkpoints:
    """The checkpoints of one job.

    Args:
        folder: for the checkpoints; made if missing.
        every: seconds between two; more if one costs more than 5 % of that.
        keep: number of checkpoints that are kept.
        job: identity of the job (plain values), which each of them contains; `load` accepts no others.
    """

    def __init__(self, folder: Path, every: float, keep: int, job: Mapping[str, Any] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._keep, self._job = folder, keep, job
        self._pace = CheckpointPace(every)

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return self._pace.due()

    def agreed(self) -> int | None:
        """None: the next one is due at some time, at any step."""
        return None

    def saving(self) -> contextlib.AbstractContextManager[None]:
        """Measure the cost of one in this context; the time of the next depends on it."""
        return self._pace.saving()

    def save(self, step: int, state: State) -> Path:
        """Write a checkpoint; `state`: nested dicts and lists of arrays, numbers, texts and None."""
        arrays: dict[str, np.ndarray] = {}
        tree = _strip({**state, "job": self._job} if self._job else state, arrays)
        arrays["tree"] = np.frombuffer(json.dumps(tree).encode(), np.uint8)
        path = self._folder / f"{step:012d}.npz"
        write_atomically(path, lambda file: _write_sealed(file, arrays))
        found = self.paths()
        last = found.index(path) + 1
        for later in found[last:]:  # a job is never behind its own checkpoints: it came from elsewhere
            self._set_aside(later)
        for old in found[: max(last - self._keep, 0)]:
            if old.is_dir():
                self._set_aside(old)
            else:
                old.unlink()
        return path

    def load(self, warn: Callable[[str], None], check: Callable[[State], None] | None = None) -> State | None:
        """The newest usable checkpoint, or None; later ones are set aside with a warning.

        Args:
            warn: called with the reason why a checkpoint cannot be used.
            check: raises ValueError for a state that the job cannot continue from.

        Raises:
            OSError: if a checkpoint cannot be read at the moment (no file handles, no permission).
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                state = self._read(path)
                if check is not None:
                    check(state)
                return state
            except MemoryError:
                raise
            except Exception as error:  # a file may hold anything
                if isinstance(error, OSError) and error.errno in NOT_NOW:
                    raise
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                then = "the job starts afresh" if path == paths[0] else "the one before it is used"
                aside = self._set_aside(path)
                where = f"it is set aside as {aside.name}, and " if aside else ""
                warn(f"checkpoint {path} cannot be used ({reason}); {where}{then}")
        return None

    def _read(self, path: Path) -> State:
        if not path.is_file():
            raise ValueError("it is not a file")
        _check_seal(path)
        with open_npz(path) as file:
            tree = json.loads(file["tree"].tobytes())
            state: State = _fill(tree, file)
        if not {"trials", "loop"} <= state.keys():
            raise ValueError("it is no job's")
        job = state.pop("job", self._job)  # checkpoints of earlier versions name no job
        if self._job is not None and job != self._job:
            raise ValueError("it is another job's")
        return state

    def _set_aside(self, path: Path) -> Path | None:
        """Rename an unusable checkpoint and remove all but the last few of these; None if that is not possible."""
        aside = path.with_name(path.name + ASIDE)
        try:
            _remove(aside)
            path.replace(aside)
            kept = sorted(self._folder.glob(f"*{ASIDE}"), key=lambda file: file.lstat().st_ctime_ns)
            for old in kept[:-MAX_ASIDE]:
                _remove(old)
        except OSError:
            return None
        return aside

    def paths(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return sorted(self._folder.glob("[0-9]*.npz"))

    def clear(self) -> None:
        """Remove all of them."""
        for path in self.paths():
            path.unlink()


def _write_sealed(file: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as npz, with a digest of the file in the comment that the zip format allows at the end."""
    np.savez(file, allow_pickle=False, **arrays)
    file.seek(-2, os.SEEK_END)
    file.write(DIGEST_SIZE.to_bytes(2, "little"))  # length of the comment
    file.seek(0)
    digest = hashlib.file_digest(file, _digest).digest()
    file.seek(0, os.SEEK_END)
    file.write(digest)


def _check_seal(path: Path) -> None:
    """Raise `ValueError` for a checkpoint that is not what was written."""
    with path.open("rb") as file:
        left, digest = path.stat().st_size - DIGEST_SIZE, _digest()
        while left > 0:
            part = file.read(min(left, 2**20))
            if not part:
                break
            digest.update(part)
            left -= len(part)
        if left != 0 or file.read() != digest.digest():
            raise ValueError("its checksum does not match: it is cut short or damaged")


def _remove(path: Path) -> None:
    """Remove a file, or a folder of its name."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _digest() -> Any:
    return hashlib.blake2b(digest_size=DIGEST_SIZE)


def write_atomically(path: Path, write: Callable[[Any], None]) -> None:
    """Write a file completely or not at all: `write` fills a temporary binary file, which is fsynced and renamed."""
    beside = path.with_name(f".{path.name}.part")
    try:
        with open_to_write(beside, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        remove_folder(path)
        beside.replace(path)
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # the error that matters is that of writing
            beside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Fsync a folder, so that a rename survives a power cut; without error on file systems that cannot do it."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def unfinished(folder: Path) -> list[Path]:
    """Files of a job's folder that are being written, or were being written when their process was killed."""
    return [*folder.rglob(".*.part"), *folder.rglob(f"{BESIDE}*")]


def remove_unfinished(folder: Path) -> None:
    """Remove the unfinished files of killed processes, which may be as large as a ring.

    Args:
        folder: of a job; no process may be at work in it.
    """
    for path in unfinished(folder):
        path.unlink()


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays atomically."""
    write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def write_json(path: Path, value: Any) -> None:
    """Write a mapping to a JSON file, atomically and with its digest; anything that looks like a secret is masked."""
    text = json.dumps(seal(mask_tree(value)), indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def _strip(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A tree with references into `arrays` in place of its arrays, which are added there."""
    if isinstance(node, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = node
        return {"array": name}
    if isinstance(node, Mapping):
        return {"dict": {key: _strip(value, arrays) for key, value in node.items()}}
    if isinstance(node, list | tuple):
        return {"list": [_strip(value, arrays) for value in node]}
    if isinstance(node, np.generic):
        node = node.item()
    if node is None or isinstance(node, bool | int | float | str):
        return {"value": node}
    raise TypeError(f"a checkpoint holds arrays, numbers and texts, not {type(node).__name__}")


def _fill(tree: Any, file: Mapping[str, np.ndarray]) -> Any:
    """The tree that `_strip` was given."""
    ((kind, value),) = tree.items()
    if kind == "array":
        return file[value]
    if kind == "dict":
        return {key: _fill(node, file) for key, node in value.items()}
    if kind == "list":
        return [_fill(node, file) for node in value]
    return value
