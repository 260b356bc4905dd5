"""The contents of the SQLite file in which MLflow keeps its runs: created whole or not at all, set aside when damaged.

MLflow creates its schema in place, in some sixty steps: a process that is killed during them leaves a file that no
later start can open. Here the schema is created in a file beside it (`.<name>.making-<process>`), flushed to the disk,
and linked to its name. A file that is incomplete, cut short, or no database at all is renamed, never deleted, and
created anew: the jobs' folders hold everything that was in it. A store of another version of MLflow, a database of
another program, and a locked store are left as they are.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rlexp.data.checkpoint import sync_folder
from rlexp.tracking.mlflow import internals
from rlexp.tracking.store_file import Foreign, Unusable, has_rows, store_path, unfinished_path

SIDES = ("-journal", "-wal", "-shm")  # files that SQLite keeps beside a database
QUIET = 5.0  # seconds without a change after which an incomplete store counts as abandoned
PATIENCE = 60.0  # seconds to wait for an incomplete store to become quiet
USED_TABLES = ("experiments", "runs")  # each store that was ever used has a row in one of them
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_known: dict[Path, tuple[int, int]] = {}  # stores that this process has found good -> device and inode


@dataclass(frozen=True)
class Condition:
    """The condition of a store.

    Attributes:
        kind: "missing", "good", "incomplete", or "damaged".
        why: the reason; for a good store, why it could not be examined further.
    """

    kind: str
    why: str = ""


def prepare(path: Path, say: Callable[[str], None]) -> None:
    """Create a missing store, and replace a damaged one; the caller holds the `store_file.lock`.

    Args:
        path: of the SQLite file.
        say: called with a sentence about a store that was set aside, before the new one is created.

    Raises:
        Unusable: for a store of another version of MLflow, or a database of another program.
        OSError, Exception: if the store cannot be created; nothing of the attempt is left.
    """
    _remove_orphans(path)
    if path in _known and _identity(path) == _known[path]:
        return
    if path in _known:  # the file was replaced, and MLflow still has the old one open
        _close_engines(path)
    condition = _settled(path)
    if condition.kind in ("incomplete", "damaged"):
        aside = set_aside(path)
        say(
            f"{path} was {condition.kind} ({condition.why}): "
            f"it was set aside as {aside.name}, and a new one was created."
        )
    if condition.kind != "good":
        create(path)
    _known[path] = _identity(path)


def examine(path: Path) -> Condition:
    """Examine a store; opening it lets SQLite roll back what a killed process was writing.

    Raises:
        Unusable: as in `prepare`.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return Condition("missing")
    if not path.is_file():
        raise Foreign(
            f"{path}: expected an SQLite file, received a folder or a special file. Move it, or choose tracking.uri."
        )
    if size == 0 and not any(_side(path, side).exists() for side in SIDES):
        return Condition("incomplete", "the file is empty")
    connection = sqlite3.connect(path)
    try:
        return _examine(path, connection)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _DAMAGED:
            return Condition("damaged", str(error))
        return Condition("good", str(error))  # locked, or not readable by this user: MLflow waits, or reports it
    finally:
        connection.close()


def trouble(uri: str) -> str | None:
    """Why a store cannot be read, and what to do about it; None for a good store and for a server."""
    path = store_path(uri)
    try:
        condition = examine(path) if path is not None else Condition("good")
    except Unusable as error:
        return str(error)
    if path is None or condition.kind not in ("incomplete", "damaged"):
        return None
    return (f"{path} is {condition.kind} ({condition.why}). The next job sets it aside; this recreates it from the "
            f"jobs' folders: rlexp sync --rebuild {path.parent}")  # fmt: skip


def _examine(path: Path, connection: sqlite3.Connection) -> Condition:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    expected = internals.schema_tables()
    bookkeeping = {name for name in tables if name.startswith(("sqlite_", "alembic_", "_alembic_"))}
    if tables - bookkeeping and not tables & {"experiments", "runs", "metrics", "_alembic_tmp_experiments"}:
        names = ", ".join(sorted(tables - bookkeeping)[:3])
        raise Foreign(f"{path}: expected a store of MLflow, received a database of another program ({names}). "
                       "Choose another file by tracking.uri.")  # fmt: skip
    has_version = "alembic_version" in tables
    versions = [version for (version,) in connection.execute("SELECT * FROM alembic_version")] if has_version else []
    missing = expected - tables
    if versions == [internals.schema_revision()] and not missing:
        return Condition("good")
    used = any(has_rows(connection, table) for table in USED_TABLES if table in tables)
    others = tables - expected - bookkeeping
    if not used and not any(has_rows(connection, table) for table in others):
        return Condition("incomplete", f"{len(expected & tables)} of {len(expected)} tables are there")
    raise Unusable(_other_version(path, versions))


def _other_version(path: Path, versions: list[str]) -> str:
    """What to do about a used store whose schema is not the installed MLflow's."""
    import mlflow

    recreate = f"or recreate it from the jobs' folders: rlexp sync --rebuild {path.parent}"
    if versions and not set(versions) <= internals.known_revisions():
        return (f"{path}: expected a store of MLflow {mlflow.__version__} or older, received a newer one's "
                f"(schema {versions[0]}). Install that version, {recreate}")  # fmt: skip
    schema = ", ".join(versions) or "unknown"
    return (f"{path}: expected a store of MLflow {mlflow.__version__}, received one of another version "
            f"(schema {schema}). Copy it, then: mlflow db upgrade sqlite:///{path}; {recreate}")  # fmt: skip


def _settled(path: Path) -> Condition:
    """`examine`, once no process can still be creating the store: MLflow's own server takes no `store_file.lock`."""
    deadline = time.monotonic() + PATIENCE
    while True:
        condition = examine(path)
        if condition.kind not in ("incomplete", "damaged"):
            return condition
        quiet = time.time() - max(file.stat().st_mtime for file in _files(path))
        if not 0 <= quiet < QUIET or time.monotonic() > deadline:
            return condition
        time.sleep(min(QUIET - quiet, 1.0))


def set_aside(path: Path, why: str = "damaged") -> Path:
    """Rename a store and its side files to `<name>.<why>-<time>`; returns the new path."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside, number = path.with_name(f"{path.name}.{why}-{stamp}"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.{why}-{stamp}-{number}")
    for file in _files(path):
        file.replace(aside.with_name(aside.name + file.name.removeprefix(path.name)))
    _known.pop(path, None)
    return aside


def create(path: Path) -> None:
    """Create an empty store with MLflow's schema where there is none: all of it or nothing."""
    with _built(path) as built:
        if _files(path):
            set_aside(path)  # SQLite would roll the new store back with the journal of a lost one
        _publish(built, path)


def replace(path: Path) -> Path | None:
    """Create an empty store in the place of another; returns the new path of the old one, if there was one."""
    _close_engines(path)
    with _built(path) as built:
        aside = set_aside(path, "replaced") if _files(path) else None
        _publish(built, path)
    return aside


def _close_engines(path: Path) -> None:
    """Close the connections that MLflow keeps open to a store: after a rename they would write to the old file."""
    for uri, engine in internals.open_engines().items():
        if store_path(uri) == path:
            engine.dispose()


@contextlib.contextmanager
def _built(path: Path) -> Iterator[Path]:
    """A new store in a file beside `path`; what is still there at the end is removed."""
    _remove_orphans(path)
    unfinished = unfinished_path(path, os.getpid())
    try:
        internals.create_schema(unfinished)
        _flush(unfinished)
        yield unfinished
    finally:
        for file in _files(unfinished):
            file.unlink(missing_ok=True)


def _publish(built: Path, path: Path) -> None:
    """Give a new store its name; a store that a process without the lock has created meanwhile stays."""
    try:
        os.link(built, path)  # unlike a rename, this never replaces a file
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        built.replace(path)
    sync_folder(path.parent)


def _remove_orphans(path: Path) -> None:
    """Remove what killed processes were creating; the caller holds the lock, so no process is creating it now."""
    for left in path.parent.glob(unfinished_path(path, "*").name):
        left.unlink(missing_ok=True)


def _side(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _files(path: Path) -> list[Path]:
    """The files of a database that exist: side files first."""
    return [file for file in (*(_side(path, end) for end in SIDES), path) if file.exists()]


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
