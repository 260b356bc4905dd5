"""The private names of MLflow that rlexp uses, all in this file.

`tests/tracking/test_mlflow_internals.py` fails with the installed version where one of them has changed. Imports of the
database modules are inside the functions: they take a second that most callers do not need.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def schema_revision() -> str:
    """The revision of the database schema that this version of MLflow writes."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())


def known_revisions() -> set[str]:
    """The revisions that this version of MLflow can upgrade from, and its own."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    return {script.revision for script in ScriptDirectory.from_config(_get_alembic_config("")).walk_revisions()}


def schema_tables() -> set[str]:
    """The tables of a complete store."""
    from mlflow.store.db import utils  # noqa: F401  (imports the modules that declare the tables)
    from mlflow.store.db.base_sql_model import Base

    return set(Base.metadata.tables)


def create_schema(path: Path) -> None:
    """Create an SQLite file with the schema of this version of MLflow."""
    from mlflow.store.db import utils

    engine = utils.create_sqlalchemy_engine(f"sqlite:///{path}")
    try:
        utils._initialize_tables(engine)
        utils._verify_schema(engine)
    finally:
        engine.dispose()


def open_engines() -> dict[str, Any]:
    """The SQLAlchemy engines that MLflow keeps open in this process, by URI."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    return dict(getattr(SqlAlchemyStore, "_engine_map", {}))


def download_file(repository: Any, name: str, path: Path) -> None:
    """Download one artifact to a path of our choice; the public methods choose the path by its name."""
    repository._download_file(name, str(path))
