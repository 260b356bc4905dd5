"""The file of an SQLite store: where it is, who may touch it, and whether a process is creating it now.

Importing this module does not import MLflow, so that the training process can use it. What is in the file is the
business of `rlexp.tracking.mlflow.store`.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

JOBS_VIEW, TRIALS_VIEW = "rlexp", "rlexp-trials"  # of a study's jobs and trials; see `rlexp.tracking.mlflow.views`


class Unusable(RuntimeError):
    """A store that this version can neither write nor replace; the message says what to do."""


class Foreign(Unusable):
    """A database that is not MLflow's."""


def store_path(uri: str) -> Path | None:
    """The file of a tracking URI; None for a server, another kind of database, or one in memory."""
    found = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri)
    return Path(found[1]) if found and found[1] != ":memory:" else None


@contextlib.contextmanager
def lock(uri: str) -> Iterator[Path | None]:
    """Hold the lock under which a store is examined, created and first opened; yields its file, None for a server."""
    path = store_path(uri)
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / ".mlflow.lock"):
        yield path


def being_created(uri: str, pid: int) -> bool:
    """Whether process `pid` is creating the schema of a store now."""
    path = store_path(uri)
    return path is not None and unfinished_path(path, pid).exists()


def unfinished_path(path: Path, pid: int | str) -> Path:
    """Where process `pid` builds the store that is to become `path`."""
    return path.with_name(f".{path.name}.making-{pid}")


def was_used(uri: str) -> bool:
    """Whether a store has been opened since it was created; True for a server. Answers without MLflow."""
    path = store_path(uri)
    if path is None:
        return True
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return has_rows(connection, "experiments")
    except sqlite3.DatabaseError:
        return False


def studies(path: Path) -> dict[str, str]:
    """The studies in a store by their names -> ids of their experiments. Answers without MLflow.

    Raises:
        sqlite3.DatabaseError: if the store cannot be read.
    """
    query = "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active' ORDER BY experiment_id"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {str(name): str(number) for name, number in connection.execute(query) if number != 0}  # 0: MLflow's own


def has_view(path: Path, experiment_id: str) -> bool:
    """Whether the experiment of a study has a view (see `rlexp.tracking.mlflow.views`). Answers without MLflow."""
    query = "SELECT 1 FROM experiment_tags WHERE experiment_id = ? AND key = ?"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute(query, (experiment_id, f"mlflow.sharedViewState.{JOBS_VIEW}"))
        return found.fetchone() is not None


def has_rows(connection: sqlite3.Connection, table: str) -> bool:
    """Whether a table has a row."""
    quoted = table.replace('"', '""')
    return connection.execute(f'SELECT 1 FROM "{quoted}" LIMIT 1').fetchone() is not None
