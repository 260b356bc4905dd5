"""The SQLite file that MLflow keeps its runs in: made whole or not at all, and set aside where it is damaged.

MLflow makes its schema in place, in some sixty steps: a process killed in one of them leaves a file that no later start
can open. Here the schema is made beside (`.<name>.making-<process>`), brought to the disk, and linked to its name. What
is found half made, cut short, or no database is renamed, never deleted, and made anew: the jobs' folders hold all that
was in it. A store of another version of MLflow, a database of something else, and one that is locked stay as they are.

Importing this module imports no MLflow: the training process asks it whether its child is making a store.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

SIDES = ("-journal", "-wal", "-shm")  # files that SQLite keeps beside a database
QUIET = 5.0  # seconds without a change after which nobody can be making a store that is half made
PATIENCE = 60.0  # seconds for a half-made store to become quiet
RUNS = ("experiments", "runs")  # tables with a row in every store that was ever used
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_known: dict[Path, tuple[int, int]] = {}  # stores that this process has found good: device and inode


class Unusable(RuntimeError):
    """A store that this version cannot write, and must not replace; the text says what to do."""


class Foreign(Unusable):
    """A database of something else than MLflow."""


@dataclass(frozen=True)
class Condition:
    """What is found at a store's place.

    Attributes:
        kind: "missing", "good", "half made", or "damaged".
        why: what is wrong with it.
    """

    kind: str
    why: str = ""


def store_path(uri: str) -> Path | None:
    """The file of a tracking URI; None for a server, another database, or one in memory."""
    found = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri)
    return Path(found[1]) if found and found[1] != ":memory:" else None


@contextlib.contextmanager
def lock(uri: str) -> Iterator[Path | None]:
    """One process at a time looks at a store, makes it, or opens it for the first time; its file, if it is one."""
    path = store_path(uri)
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / ".mlflow.lock"):
        yield path


def being_made(uri: str, pid: int) -> bool:
    """Whether a process is making the schema of a store now."""
    path = store_path(uri)
    return path is not None and _making(path, pid).exists()


def prepare(path: Path, say: Callable[[str], None]) -> None:
    """Make a store that is not there, and set one aside that is damaged; the caller holds its `lock`.

    Args:
        path: of the SQLite file.
        say: is told what was set aside, before a new one is made.

    Raises:
        Unusable: for a store of another version of MLflow, or a database of something else.
        OSError, Exception: where it cannot be made; nothing is left of the attempt.
    """
    _remove_orphans(path)
    if path in _known and _identity(path) == _known[path]:
        return
    if path in _known:  # another file than the one that this process has open
        _let_go(path)
    condition = _settled(path)
    if condition.kind in ("half made", "damaged"):
        aside = set_aside(path)
        say(f"{path} was {condition.kind} ({condition.why}): it is set aside as {aside.name}, and a new one is made.")
    if condition.kind != "good":
        make(path)
    _known[path] = _identity(path)


def examine(path: Path) -> Condition:
    """Look at a store; SQLite undoes what a killed process was writing.

    Raises:
        Unusable: as `prepare`.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return Condition("missing")
    if not path.is_file():
        raise Foreign(f"{path}: expected an SQLite file, received something else. Move it, or choose tracking.uri.")
    if size == 0 and not any(_side(path, side).exists() for side in SIDES):
        return Condition("half made", "the file is empty")
    connection = sqlite3.connect(path)
    try:
        return _examine(path, connection)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _DAMAGED:
            return Condition("damaged", str(error))
        return Condition("good", str(error))  # locked, or not to be read by this user: MLflow waits, or says so
    finally:
        connection.close()


def trouble(uri: str) -> str | None:
    """Why a store can be neither read nor shown, and what to do; None for a good one, and for a server."""
    path = store_path(uri)
    try:
        condition = examine(path) if path is not None else Condition("good")
    except Unusable as error:
        return str(error)
    if path is None or condition.kind not in ("half made", "damaged"):
        return None
    return (f"{path} is {condition.kind} ({condition.why}). The next job sets it aside; this makes it anew from the "
            f"jobs' folders: python -m rlexp.sync --rebuild {path.parent}")  # fmt: skip


def was_used(uri: str) -> bool:
    """Whether a file is a store that has been opened since it was made: known without MLflow, and true for a server."""
    path = store_path(uri)
    if path is None:
        return True
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return _has_rows(connection, "experiments")
    except sqlite3.DatabaseError:
        return False


def _examine(path: Path, connection: sqlite3.Connection) -> Condition:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.db.utils import _get_latest_schema_revision  # imports the tables of `Base`, too

    expected = set(Base.metadata.tables)
    bookkeeping = {name for name in tables if name.startswith(("sqlite_", "alembic_", "_alembic_"))}
    if tables - bookkeeping and not tables & {"experiments", "runs", "metrics", "_alembic_tmp_experiments"}:
        names = ", ".join(sorted(tables - bookkeeping)[:3])
        raise Foreign(f"{path}: expected a store of MLflow, received a database of something else ({names}). "
                       "Choose another file by tracking.uri.")  # fmt: skip
    has_version = "alembic_version" in tables
    versions = [version for (version,) in connection.execute("SELECT * FROM alembic_version")] if has_version else []
    missing = expected - tables
    if versions == [_get_latest_schema_revision()] and not missing:
        return Condition("good")
    used = any(_has_rows(connection, table) for table in RUNS if table in tables)
    others = tables - expected - bookkeeping
    if not used and not any(_has_rows(connection, table) for table in others):
        return Condition("half made", f"{len(expected & tables)} of {len(expected)} tables are there")
    raise Unusable(_other_version(path, versions))


def _has_rows(connection: sqlite3.Connection, table: str) -> bool:
    quoted = table.replace('"', '""')
    return connection.execute(f'SELECT 1 FROM "{quoted}" LIMIT 1').fetchone() is not None


def _other_version(path: Path, versions: list[str]) -> str:
    """What to do about a store that was used and has another schema than the installed MLflow's."""
    import mlflow
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    known = {script.revision for script in ScriptDirectory.from_config(_get_alembic_config("")).walk_revisions()}
    anew = f"or make it anew from the jobs' folders: python -m rlexp.sync --rebuild {path.parent}"
    if versions and not set(versions) <= known:
        return (f"{path}: expected a store of MLflow {mlflow.__version__} or older, received a newer one's "
                f"(schema {versions[0]}). Install that version, {anew}")  # fmt: skip
    schema = ", ".join(versions) or "unknown"
    return (f"{path}: expected a store of MLflow {mlflow.__version__}, received one of another version "
            f"(schema {schema}). Copy it, then: mlflow db upgrade sqlite:///{path}; {anew}")  # fmt: skip


def _settled(path: Path) -> Condition:
    """`examine`; what is half made may be in the making by a process that knows no `lock`: wait until that is out."""
    deadline = time.monotonic() + PATIENCE
    while True:
        condition = examine(path)
        if condition.kind not in ("half made", "damaged"):
            return condition
        quiet = time.time() - max(file.stat().st_mtime for file in _files(path))
        if not 0 <= quiet < QUIET or time.monotonic() > deadline:
            return condition
        time.sleep(min(QUIET - quiet, 1.0))


def set_aside(path: Path, why: str = "damaged") -> Path:
    """Rename a store and what SQLite keeps beside it to `<name>.<why>-<time>`; its new name."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside, number = path.with_name(f"{path.name}.{why}-{stamp}"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.{why}-{stamp}-{number}")
    for file in _files(path):
        file.replace(aside.with_name(aside.name + file.name.removeprefix(path.name)))
    _known.pop(path, None)
    return aside


def make(path: Path) -> None:
    """Make a store that is not there, with MLflow's schema and nothing in it: all of it or nothing."""
    with _built(path) as beside:
        if _files(path):
            set_aside(path)  # SQLite would take what a lost store has left for the new one's, and roll it back
        _place(beside, path)


def renew(path: Path) -> Path | None:
    """Make a store in the place of another; the new name of that, if there was one."""
    _let_go(path)
    with _built(path) as beside:
        aside = set_aside(path, "replaced") if _files(path) else None
        _place(beside, path)
    return aside


def _let_go(path: Path) -> None:
    """Close what MLflow keeps open of a store in this process, which would be that of a renamed or deleted file."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for uri, engine in getattr(SqlAlchemyStore, "_engine_map", {}).items():
        if store_path(uri) == path:
            engine.dispose()


@contextlib.contextmanager
def _built(path: Path) -> Iterator[Path]:
    """A new store beside the place that it is for."""
    from mlflow.store.db import utils

    _remove_orphans(path)
    beside = _making(path, os.getpid())
    try:
        engine = utils.create_sqlalchemy_engine(f"sqlite:///{beside}")
        try:
            utils._initialize_tables(engine)
            utils._verify_schema(engine)
        finally:
            engine.dispose()
        _to_disk(beside)
        yield beside
    finally:
        for file in _files(beside):
            file.unlink(missing_ok=True)


def _place(beside: Path, path: Path) -> None:
    """Give a new store its name; where somebody who knows no `lock` has made one meanwhile, that one stays."""
    try:
        os.link(beside, path)  # unlike a rename it takes the place of nothing
    except FileExistsError:
        return
    except OSError:  # a file system without links
        beside.replace(path)
    from rlexp.data.checkpoint import sync_folder

    sync_folder(path.parent)


def _remove_orphans(path: Path) -> None:
    """Remove what killed processes were making; the caller holds the store's lock, so that nobody makes it now."""
    for left in path.parent.glob(f".{path.name}.making-*"):
        left.unlink(missing_ok=True)


def _making(path: Path, pid: int) -> Path:
    return path.with_name(f".{path.name}.making-{pid}")


def _side(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _files(path: Path) -> list[Path]:
    """A database and what SQLite keeps beside it, as far as they are there."""
    return [file for file in (*(_side(path, end) for end in SIDES), path) if file.exists()]


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


def _to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
