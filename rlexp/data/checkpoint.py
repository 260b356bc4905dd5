"""Checkpoints: everything a job needs to continue bit for bit, as data that cannot run code (npz and JSON).

Written beside, fsynced, renamed; the last few are kept. Each ends with a digest of itself and names its job; one that
does not match, cannot be read or is another job's is named and set aside (renamed, out of the way of later ones), and
the one before is used.
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

BESIDE = ".part-"  # begins the name of a file under way whose writer insists on the ending
DIGEST_SIZE = 16  # bytes
MAX_SHARE = 0.05  # of the wall time that checkpoints may cost
ASIDE = ".unusable"  # ends the name of a checkpoint that is set aside
MAX_ASIDE = 2  # of those are kept: they may be as large as a ring
NOT_NOW = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM)  # say nothing of a file's content


class CheckpointPace:
    """When the next checkpoint is due: after `every` seconds, or more where one costs more than 5 % of that."""

    def __init__(self, every: float) -> None:
        self._every, self._last, self._cost = every, time.monotonic(), 0.0

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() - self._last >= max(self._every, self._cost / MAX_SHARE)

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Around one: what it takes to collect the state, as well as to write it."""
        began = time.monotonic()
        yield
        self._last = time.monotonic()
        self._cost = self._last - began


class Checkpoints:
    """The checkpoints of one job.

    Args:
        folder: where they live; made if missing.
        every: seconds between two, stretched where one costs more than 5 % of that.
        keep: how many are kept.
        job: names their job in each of them (plain values); `load` takes those of no other.
    """

    def __init__(self, folder: Path, every: float, keep: int, job: Mapping[str, Any] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._keep, self._job = folder, keep, job
        self._pace = CheckpointPace(every)

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return self._pace.due()

    def saving(self) -> contextlib.AbstractContextManager[None]:
        """Around all that one costs, by which the next is due."""
        return self._pace.saving()

    def save(self, step: int, state: State) -> Path:
        """Write a checkpoint: nested dicts and lists of arrays, numbers, texts and None."""
        arrays: dict[str, np.ndarray] = {}
        tree = _strip({**state, "job": self._job} if self._job else state, arrays)
        arrays["tree"] = np.frombuffer(json.dumps(tree).encode(), np.uint8)
        path = self._folder / f"{step:012d}.npz"
        write_atomically(path, lambda file: _sealed(file, arrays))
        found = self.paths()
        last = found.index(path) + 1
        for later in found[last:]:  # a job is never behind its own checkpoint: somebody has put it there
            self._set_aside(later)
        for old in found[: max(last - self._keep, 0)]:
            if old.is_dir():
                self._set_aside(old)
            else:
                old.unlink()
        return path

    def load(self, warn: Callable[[str], None], check: Callable[[State], None] | None = None) -> State | None:
        """The newest checkpoint that can be used, or None; the later ones are set aside, and `warn` is told of each.

        Args:
            warn: is told why a checkpoint cannot be used.
            check: raises ValueError for a state that the job cannot continue from.

        Raises:
            OSError: where a checkpoint cannot be read now (no file handles, no permission), whatever it holds.
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
            except Exception as error:  # whatever is in the file, it is only a file
                if isinstance(error, OSError) and error.errno in NOT_NOW:
                    raise
                said = (str(error).strip() or type(error).__name__).splitlines()[0]
                then = "the job starts afresh" if path == paths[0] else "the one before it is used"
                aside = self._set_aside(path)
                where = f"it is set aside as {aside.name}, and " if aside else ""
                warn(f"checkpoint {path} cannot be used ({said}); {where}{then}")
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
        job = state.pop("job", self._job)  # those of earlier versions do not say whose they are
        if self._job is not None and job != self._job:
            raise ValueError("it is another job's")
        return state

    def _set_aside(self, path: Path) -> Path | None:
        """Rename what cannot be used, and remove all but the last few of these; None where that is not possible."""
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


def _sealed(file: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as npz, and a digest of all that as the comment at the end that the zip format allows."""
    np.savez(file, allow_pickle=False, **arrays)
    file.seek(-2, os.SEEK_END)
    file.write(DIGEST_SIZE.to_bytes(2, "little"))  # length of the comment
    file.seek(0)
    digest = hashlib.file_digest(file, _digest).digest()
    file.seek(0, os.SEEK_END)
    file.write(digest)


def _check_seal(path: Path) -> None:
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
    """Remove a file, or a folder that stands in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _digest() -> Any:
    return hashlib.blake2b(digest_size=DIGEST_SIZE)


def write_atomically(path: Path, write: Callable[[Any], None]) -> None:
    """Let `write` fill a binary file beside `path`, bring it to the disk, and rename it: all of it or nothing."""
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
        with contextlib.suppress(OSError):  # the reason why nothing can be written is the one to hear of
            beside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, so that a rename outlives a power cut; no error where that is not known."""
    with contextlib.suppress(OSError):  # not of every file system
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def unfinished(folder: Path) -> list[Path]:
    """Files of a job's folder that are being written, or were when their process was killed."""
    return [*folder.rglob(".*.part"), *folder.rglob(f"{BESIDE}*")]


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes were writing into a job's folder: nobody reads it, and it may be as large as a ring.

    Args:
        folder: in which no process is at work.
    """
    for path in unfinished(folder):
        path.unlink()


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays atomically."""
    write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def write_json(path: Path, value: Any) -> None:
    """Write a mapping to a JSON file, atomically and with its digest; what looks like a secret in it is masked."""
    text = json.dumps(seal(mask_tree(value)), indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def _strip(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The tree with its arrays replaced by references into `arrays`."""
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
    ((kind, value),) = tree.items()
    if kind == "array":
        return file[value]
    if kind == "dict":
        return {key: _fill(node, file) for key, node in value.items()}
    if kind == "list":
        return [_fill(node, file) for node in value]
    return value
