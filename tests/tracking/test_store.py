"""The SQLite store: whole or not at all, set aside where it is damaged, left alone where it is not, and made anew."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from rlexp.cli import sync as sync_command
from rlexp.tracking import follower, late, store_file, sync
from rlexp.tracking.addresses import resolve_uri
from rlexp.tracking.follower import MLflowTracker
from rlexp.tracking.mlflow import store
from tests.tracking.test_trackers import assert_delivered_once, deliver, make_job, make_record, state_of


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was just made: the only one here that MLflow makes."""
    path = tmp_path_factory.mktemp("good") / "mlflow.db"
    store.prepare(path, pytest.fail)
    assert [file.name for file in path.parent.iterdir()] == ["mlflow.db"]
    return path


@pytest.fixture
def quick(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made is a copy."""

    @contextlib.contextmanager
    def built(path: Path) -> Iterator[Path]:
        beside = shutil.copy(good, path.with_name(".copy"))
        yield beside
        beside.unlink()

    monkeypatch.setattr(store, "_built", built)


def change(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def experiment(path: Path) -> None:
    """What every store has that was used."""
    change(path, "INSERT INTO experiments (name, lifecycle_stage, workspace) VALUES ('s', 'active', 'default')")


def old(path: Path) -> None:
    """Nobody has written to it for long."""
    for file in store._files(path):
        os.utime(file, (1, 1))


def test_the_file_of_an_address() -> None:
    assert (
        store_file.store_path("sqlite:////a/b.db")
        == Path("/a/b.db")
        == store_file.store_path("sqlite+pysqlite:////a/b.db?x=1")
    )
    assert store_file.store_path("sqlite:///outputs/mlflow.db") == Path("outputs/mlflow.db")
    for other in ("http://server", "sqlite:///:memory:", "sqlite://", "postgresql://host/base"):
        assert store_file.store_path(other) is None and not store_file.being_created(other, os.getpid())


def test_a_store_is_made_beside_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.db import utils

    path, seen = tmp_path / "mlflow.db", []
    (tmp_path / ".mlflow.db.making-1").write_bytes(b"of a process that was killed")

    def initialize(engine: Any) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t (a)")
        seen.append(
            (path.exists(), store_file.being_created(f"sqlite:///{path}", os.getpid()), sorted(os.listdir(tmp_path)))
        )
        raise OSError("No space left on device")

    monkeypatch.setattr(utils, "_initialize_tables", initialize)
    with pytest.raises(OSError, match="No space left"):
        store.create(path)
    assert seen == [(False, True, [f".mlflow.db.making-{os.getpid()}"])]
    assert list(tmp_path.iterdir()) == []


HALF = "DROP TABLE spans", "DELETE FROM alembic_version", "INSERT INTO alembic_version VALUES ('451aebb31d03')"
DAMAGES: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "empty": (lambda path, good: path.write_bytes(b""), r"incomplete \(the file is empty\)"),
    "no database": (lambda path, good: path.write_text("hello " * 999), r"damaged \(file is not a database\)"),
    "cut": (
        lambda path, good: path.write_bytes(good.read_bytes()[:200_000]),
        r"damaged \(database disk image is malformed\)",
    ),
    "in the middle": (
        lambda path, good: change(Path(shutil.copy(good, path)), *HALF),
        r"incomplete \(63 of 64 tables are there\)",
    ),
    "at the beginning": (
        lambda path, good: change(path, "CREATE TABLE experiments (a)", "CREATE TABLE runs (a)"),
        r"incomplete \(2 of 64 tables are there\)",
    ),
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_set_aside_and_made_anew(damage: str, good: Path, tmp_path: Path) -> None:
    path, (do, why) = tmp_path / "mlflow.db", DAMAGES[damage]
    do(path, good)
    content, said = path.read_bytes(), []
    old(path)
    store.prepare(path, said.append)
    (aside,) = tmp_path.glob("mlflow.db.damaged-*")
    assert re.fullmatch(r"mlflow\.db\.damaged-\d{8}-\d{6}", aside.name) and aside.read_bytes() == content
    text = rf"{path} was {why}: it was set aside as {aside.name}, and a new one was created\."
    assert len(said) == 1 and re.fullmatch(text, said[0])
    assert store.examine(path).kind == "good"


@pytest.mark.usefixtures("quick")
def test_what_a_lost_store_has_left_does_not_roll_the_new_one_back(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db-journal").write_bytes(b"pages of another file")
    store.prepare(tmp_path / "mlflow.db", pytest.fail)
    assert store.examine(tmp_path / "mlflow.db").kind == "good"
    names = sorted(file.name.split("damaged")[0] for file in tmp_path.iterdir())
    assert names == ["mlflow.db", "mlflow.db."]  # the journal, beside no store


UNTOUCHED = {
    "older": (["UPDATE alembic_version SET version_num = '451aebb31d03'"],
              "received one of another version (schema 451aebb31d03). Copy it, then: mlflow db upgrade sqlite:///"),
    "an upgrade that was killed": (
        ["UPDATE alembic_version SET version_num = '451aebb31d03'", "CREATE TABLE _alembic_tmp_tags (a)",
         "DROP TABLE spans"],
        "received one of another version (schema 451aebb31d03). Copy it, then: mlflow db upgrade sqlite:///",
    ),
    "newer": (["UPDATE alembic_version SET version_num = 'ffffffffffff'"],
              "or older, received a newer one's (schema ffffffffffff). Install that version, or recreate it from the "
              "jobs' folders: rlexp sync --rebuild "),
}  # fmt: skip


@pytest.mark.parametrize("which", UNTOUCHED)
def test_a_store_of_another_version_is_left_as_it_is(which: str, good: Path, tmp_path: Path) -> None:
    path, (statements, why) = Path(shutil.copy(good, tmp_path / "mlflow.db")), UNTOUCHED[which]
    experiment(path)
    change(path, *statements)
    old(path)
    content = path.read_bytes()
    with pytest.raises(store_file.Unusable, match=re.escape(why)):
        store.prepare(path, pytest.fail)
    assert path.read_bytes() == content and [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]


def test_what_is_no_business_of_mlflow_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "optuna.db"
    change(path, "CREATE TABLE studies (a)")
    old(path)
    with pytest.raises(
        store_file.Foreign, match=r"received a database of another program \(studies\)\. Choose another file"
    ):
        store.prepare(path, pytest.fail)
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(store_file.Foreign, match="expected an SQLite file, received a folder or a special file"):
        store.prepare(tmp_path / "folder.db", pytest.fail)


def test_a_good_store_is_left_as_it_is_locked_or_not(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(good, tmp_path / "mlflow.db"))
    experiment(path)
    inode = path.stat().st_ino
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path: real(path, timeout=0.1))
    with contextlib.closing(real(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert store.examine(path) == store.Condition("good", "database is locked")
        store.prepare(path, pytest.fail)
        other.rollback()
    store._known.clear()
    store.prepare(path, pytest.fail)
    assert path.stat().st_ino == inode


@pytest.mark.usefixtures("quick")
def test_a_store_that_somebody_is_making_is_waited_for(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's own server, say, which knows no lock of ours: its file grows, and is whole in the end."""
    monkeypatch.setattr(store, "QUIET", 0.3)
    path = tmp_path / "mlflow.db"
    path.touch()
    whole = threading.Timer(0.2, shutil.copyfile, [good, path])
    whole.start()
    store.prepare(path, pytest.fail)
    whole.join()
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]
    other = tmp_path / "other.db"
    other.touch()
    said: list[str] = []
    store.prepare(other, said.append)  # nobody goes on with it
    assert "was incomplete (the file is empty)" in said[0]


def test_who_reads_a_store_is_told_that_it_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rlexp.cli import ui
    from rlexp.system.errors import Refusal
    from rlexp.tracking.mlflow.fetch import fetch_job, fetch_study

    path = tmp_path / "mlflow.db"
    path.write_text("hello " * 999)
    told = (
        f"{path} is damaged (file is not a database). The next job sets it aside; this recreates it from the jobs' folders: "
        f"rlexp sync --rebuild {tmp_path}"
    )
    assert store.trouble(f"sqlite:///{path}") == told
    with pytest.raises(Refusal, match=re.escape(told)):
        fetch_study("s", f"sqlite:///{path}", tmp_path / "study")
    with pytest.raises(Refusal, match=re.escape(told)):
        fetch_job("0" * 32, f"sqlite:///{path}", tmp_path / "job")
    assert ui.main(["--output-dir", str(tmp_path), "--no-browser"]) == 2
    assert capsys.readouterr().err == f"refused: {told}\n"
    assert path.read_text() == "hello " * 999
    assert store.trouble("http://server") is None and store.trouble(f"sqlite:///{tmp_path}/none.db") is None


def test_a_child_that_makes_a_store_is_not_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time to deliver begins when it is made."""
    folder = make_job(tmp_path, num_records=1)
    tracker = MLflowTracker(None, [folder], tmp_path)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    tracker.process = subprocess.Popen(command, stdin=subprocess.PIPE)
    tracker._log_start[folder] = 0
    making = store_file.unfinished_path(tmp_path / "mlflow.db", tracker.process.pid)
    making.touch()
    alive: list[Any] = []

    def made() -> None:
        alive.append(tracker.process.poll() if tracker.process else "gone")
        making.unlink()

    threading.Timer(0.6, made).start()
    said: list[str] = []
    began = time.monotonic()
    result = tracker.close(0.2, said.append)[folder]
    assert alive == [None] and 0.7 < time.monotonic() - began < 5
    uri = resolve_uri(None, tmp_path)
    assert said == [f"MLflow's store is being created, for the first time: waiting for it ({uri})"]
    assert "Stopped: not finished 0.2 s after the end of the job." in result.message


@pytest.mark.usefixtures("quick")
def test_a_job_says_what_was_set_aside_and_how_the_others_come_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (make_job(tmp_path, name, num_records=3) for name in ("first", "second"))
    assert deliver(first) == []
    path = tmp_path / "mlflow.db"
    path.unlink()
    path.write_bytes(b"no database" * 100)
    old(path)
    delivered, line = sync.sync(second)
    (aside,) = tmp_path.glob("mlflow.db.damaged-*")
    told, last = line.splitlines()
    assert delivered and last == "delivered 3 records, 5 files"
    assert told == (
        f"Set aside: {path} was damaged (file is not a database): it was set aside as {aside.name}, and a new one was created. "
        f"This brings back what other jobs had delivered: rlexp sync {tmp_path}"
    )
    tracker = MLflowTracker(None, [second], tmp_path)  # as its own command says it
    tracker._log_start[second] = 0
    assert tracker._result(second).message.splitlines()[0] == told
    assert sync_command.main([str(tmp_path)]) == 0
    assert f"{first}: delivered 3 records, 5 files\n{second}: nothing new\n" in capsys.readouterr().out


@pytest.mark.usefixtures("quick")
def test_a_store_is_rebuilt_from_the_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, gone = (make_job(tmp_path, name, num_records=3) for name in ("first", "second", "gone"))
    remote = make_job(tmp_path, "remote", uri="http://127.0.0.1:9", num_records=1)
    for folder in (first, gone):
        assert deliver(folder) == []
    before = state_of(first)["run_id"]
    shutil.rmtree(gone)
    assert sync_command.main([str(tmp_path), "--rebuild"]) == 0
    (aside,) = tmp_path.glob("mlflow.db.replaced-*")
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'mlflow.db'} was set aside as {aside.name}, with what was added to it by hand (notes, registered "
        "models).",
        f"[1/2] {first}: delivered 3 records, 5 files",
        f"[2/2] {second}: delivered 3 records, 5 files",
        f"{remote}: left out, its results are at http://127.0.0.1:9",
        f"1 jobs and sweeps of the old store have no folder here: they are only in {aside.name}.",
        f"See: rlexp ui --tracking-uri {resolve_uri(None, tmp_path)}",
    ]
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=resolve_uri(None, tmp_path))
    for folder in (first, second):
        assert_delivered_once(client, folder, [make_record(index) for index in range(3)])
    assert state_of(first)["run_id"] != before and client.get_run(state_of(first)["run_id"]).info.status == "FINISHED"
    (second / "job.json").write_text("{}")
    assert sync_command.main([str(tmp_path), "--rebuild"]) == 1
    said = capsys.readouterr()
    assert f"[2/2] {second}: failed: {second / 'job.json'}: expected" in said.out
    assert said.err == f"This delivers the rest: rlexp sync {tmp_path}\n"


def test_a_rebuild_is_refused_where_it_could_lose_something(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_job(tmp_path, num_records=1)
    path = Path(shutil.copy(good, tmp_path / "mlflow.db"))

    def refused(*args: str) -> str:
        assert sync_command.main([*args, "--rebuild"]) == 2
        assert path.read_bytes() == good.read_bytes() and len(list(tmp_path.glob("*mlflow.db*"))) == 1
        return capsys.readouterr().err

    assert refused(str(tmp_path), "--tracking-uri", "http://server") == (
        "refused: --rebuild: expected a store in an SQLite file, received http://server, which is a server's to make.\n"
    )
    assert refused(str(folder.parent)).endswith(
        f"received {folder.parent}, which is in one.\nrlexp sync --rebuild {tmp_path}\n"
    )
    with FileLock(folder / ".lock"):
        assert "expected no job that runs, received" in refused(str(tmp_path))
    with FileLock(folder / ".tracking.lock"):
        assert "expected no job that is being delivered, received" in refused(str(tmp_path))
    (folder / "owner.json").write_text('{"pid": 7, "host": "elsewhere"}')
    assert f"received {folder}, where process 7 on elsewhere is at work." in refused(str(tmp_path))
    (folder / "owner.json").unlink()

    def full(path: Path) -> Any:
        raise OSError("No space left on device")

    monkeypatch.setattr(store, "_built", full)
    assert refused(str(tmp_path)).endswith("received No space left on device.\nNothing was changed.\n")
    other = tmp_path / "optuna.db"
    change(other, "CREATE TABLE studies (a)")
    assert "a database of another program (studies)" in refused(str(tmp_path), "--tracking-uri", f"sqlite:///{other}")
    assert sync_command.main([str(tmp_path / "nowhere"), "--rebuild"]) == 2


class Recorded:
    """A tracker that notes what it is told."""

    def __init__(self, *args: Any) -> None:
        self.calls: list[Any] = [args]

    def start(self) -> None:
        self.calls.append("start")

    def end(self, folder: Path, status: str) -> None:
        self.calls.append((folder, status))

    def close(self, timeout: float, say: Callable[[str], None]) -> dict[Path, Any]:
        return {self.calls[-1][0]: follower.TrackingResult(True, f"waited {timeout:g} s")}


def test_a_finished_job_that_was_not_delivered_is_delivered_by_the_same_command(
    tiny: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlexp.jobs.console import JobConsole

    made: list[Recorded] = []
    said: list[str] = []
    monkeypatch.setattr(late, "open_tracker", lambda *args: made.append(Recorded(*args)) or made[-1])
    monkeypatch.setattr(JobConsole, "say", lambda self, text: said.append(text))
    options = ("env=frozen_lake", "trials=1", "evaluation.max_steps=20")
    folder = tiny("q_learning", *options).folder  # with tracking=files
    tiny("q_learning", *options)
    assert made == [] and said[-1].startswith("already done")
    tracked = (*options, "tracking=mlflow", "tracking.timeout=7")
    tiny("q_learning", *tracked)
    assert made.pop().calls == [(["mlflow"], None, [folder], tmp_path), "start", (folder, "done")]
    assert said[-2:] == ["MLflow has not received all of it: delivering ...", "waited 7 s"]

    uri = resolve_uri(None, tmp_path)
    state = {"uri": uri, "status": "done", "missing": []}
    for change_, wanted in (({}, False), ({"status": None}, True), ({"missing": ["summary.json: no"]}, True),
                            ({"uri": "http://elsewhere"}, True)):  # fmt: skip
        (folder / "tracking.json").write_text(json.dumps({**state, **change_}))
        (tmp_path / "mlflow.db").touch()
        tiny("q_learning", *tracked)
        assert bool(made) is wanted
        made.clear()
    (folder / "tracking.json").write_text(json.dumps(state))
    (tmp_path / "mlflow.db").unlink()  # somebody has removed the store
    tiny("q_learning", *tracked)
    assert made
    made.clear()
    tiny("q_learning", *tracked, "tracking.uri=http://server")  # which is not what its folder says
    assert made == [] and said[-1] == (
        "MLflow has not received all of it at http://server; this delivers it:\n"
        f"  rlexp sync {folder} --tracking-uri http://server"
    )
    with FileLock(folder / ".lock"):
        tiny("q_learning", *tracked)
    assert made == [] and said[-1] == "MLflow receives it from another process (one is at work)"
