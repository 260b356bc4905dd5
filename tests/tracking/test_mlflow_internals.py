"""MLflow's private names, and the order of its settings: a new version that breaks one is named here, and nowhere else."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import rlexp
from rlexp.tracking.mlflow import internals

PACKAGE = Path(rlexp.__file__).parent


@pytest.fixture(scope="module")
def version() -> str:
    import mlflow

    return f"MLflow {mlflow.__version__}"


def test_a_store_has_the_tables_and_the_revision_of_the_installed_version(version: str, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    try:
        internals.create_schema(path)
        tables, revision = internals.schema_tables(), internals.schema_revision()
    except (ImportError, AttributeError, TypeError) as error:
        pytest.fail(f"{version} has changed a private name: {error}")
    with closing(sqlite3.connect(path)) as connection:
        found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [(revision,)], version
    assert tables and tables <= found, version
    assert revision in internals.known_revisions(), version


def test_the_open_engines_are_known(version: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    assert hasattr(SqlAlchemyStore, "_engine_map"), f"{version} has no SqlAlchemyStore._engine_map"
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    internals.create_schema(tmp_path / "mlflow.db")
    MlflowClient(tracking_uri=uri).search_experiments()
    engine = internals.open_engines().get(uri)
    assert engine is not None, f"{version} does not keep engines by URI"
    engine.dispose()


def test_an_artifact_is_downloaded_to_a_path_of_our_choice(version: str, tmp_path: Path) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.txt").write_text("content")
    repository = get_artifact_repository((tmp_path / "there").as_uri())
    assert hasattr(repository, "_download_file"), f"{version} has no ArtifactRepository._download_file"
    internals.download_file(repository, "a.txt", tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_text() == "content"


def test_private_names_are_in_one_file() -> None:
    private = re.compile(
        r"from mlflow[\w.]* import \(?[^)\n]*\b_\w|\b(utils|repository|SqlAlchemyStore|client)\._[a-z]"
    )
    found = [path.name for path in sorted(PACKAGE.rglob("*.py")) if private.search(path.read_text())]
    assert found == ["internals.py"]


def test_its_settings_come_before_mlflow() -> None:
    code = (
        "import os, sys; import rlexp.tracking.mlflow; "
        "print('mlflow' in sys.modules, os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['MLFLOW_HTTP_REQUEST_MAX_RETRIES'])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False true 1\n"
