"""The command and the follower: jobs start at once on a fresh store, or on a server that is not there."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from rlexp.cli import sync as sync_command
from rlexp.tracking import delivery_loop, follower, sync
from rlexp.tracking.addresses import resolve_uri
from rlexp.tracking.base import open_tracker, started_early
from tests.tracking.test_trackers import (
    SEEDS,
    assert_delivered_once,
    end_job,
    make_job,
    make_record,
    state_of,
    write_records,
)


def wait_until(condition, seconds=240.0):  # a server starts in three seconds, or in sixty on a busy machine
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """Jobs of one output folder: two that run together, one that is killed, one that has no server."""
    output_dir = tmp_path_factory.mktemp("outputs")
    server = f"http://127.0.0.1:{free_port()}"
    ended = make_job(output_dir, "ended", num_records=8, status=None)
    killed = make_job(output_dir, "killed", num_records=8, status=None)
    alone = make_job(output_dir, "alone", uri=server)
    beside = make_job(output_dir, "beside", num_records=8, status=None)
    trackers = [open_tracker(["mlflow"], None, folders, output_dir) for folders in ([ended, beside], [killed])]
    trackers.append(open_tracker(["mlflow"], server, [alone], output_dir))
    for tracker in trackers:
        tracker.start()
    for folder in (ended, beside, killed):
        wait_until(lambda folder=folder: (folder / "tracking.json").exists() and state_of(folder)["lines"] == 8)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=resolve_uri(None, output_dir))
    while_running = client.get_run(state_of(ended)["run_id"]).info.status
    busy = sync.sync(ended)

    trackers[1].process.stdin.close()  # as when the training process gets SIGKILL
    end_job(beside, "failed")
    trackers[0].end(beside, "failed")
    wait_until(lambda: (beside / "tracking.log").exists())  # before the other one has ended
    write_records(ended, [make_record(index) for index in range(20)])
    end_job(ended, "done")
    trackers[0].end(ended, "done")
    results = trackers[0].close(timeout=240.0)
    result, beside_result = results[ended], results[beside]
    started = time.monotonic()
    trackers[2].end(alone, "done")
    alone_result = trackers[2].close(timeout=8.0)[alone]
    alone_seconds = time.monotonic() - started
    killed_code = trackers[1].process.wait(timeout=240)
    return SimpleNamespace(**locals())


def test_follower_delivers_while_the_job_runs_and_at_its_end(jobs):
    assert jobs.while_running == "RUNNING"
    assert jobs.busy == (False, "failed: another process delivers it now (the job runs?)")
    assert jobs.result.delivered
    assert jobs.result.run_id == state_of(jobs.ended)["run_id"]
    assert jobs.client.get_run(jobs.result.run_id).info.status == "FINISHED"
    assert_delivered_once(jobs.client, jobs.ended, [make_record(index) for index in range(20)])
    assert (jobs.ended / "tracking.log").read_text() == "Delivered.\n"


def test_one_follower_delivers_jobs_that_run_together(jobs):
    assert jobs.beside_result.delivered and jobs.trackers[0].process.returncode == 0
    state = state_of(jobs.beside)
    assert jobs.beside_result.run_id == state["run_id"] != jobs.result.run_id
    assert jobs.client.get_run(state["run_id"]).info.status == "FAILED"
    assert_delivered_once(jobs.client, jobs.beside, [make_record(index) for index in range(8)])
    assert (jobs.beside / "tracking.log").read_text() == "Delivered.\n"


def test_dead_training_process_leaves_a_killed_run(jobs):
    assert jobs.killed_code == 0
    state = state_of(jobs.killed)
    run_ids = [state["run_id"], *state["trial_runs"].values()]
    assert [jobs.client.get_run(run_id).info.status for run_id in run_ids] == ["KILLED"] * 4
    assert_delivered_once(jobs.client, jobs.killed, [make_record(index) for index in range(8)])


def test_absent_server_costs_seconds_and_no_data(jobs, capsys):
    assert jobs.alone_seconds < 9.0
    assert not jobs.alone_result.delivered
    first, second, command = jobs.alone_result.message.splitlines()
    assert first.startswith("Warning: MLflow has not received all of this job (")
    assert second == "Nothing is lost; this delivers the rest:"
    assert command == f"  rlexp sync '{jobs.alone}' --tracking-uri {jobs.server}"
    assert jobs.alone_result.ui_command == jobs.server
    assert "Not delivered, next attempt within 4 s: API request to" in (jobs.alone / "tracking.log").read_text()

    assert sync_command.main([str(jobs.alone), "--tracking-uri", jobs.client.tracking_uri]) == 0
    assert capsys.readouterr().out == (
        f"{jobs.alone}: delivered 20 records, 5 files\n"
        f"See: rlexp ui --tracking-uri {jobs.client.tracking_uri}\n"
    )  # fmt: skip
    assert_delivered_once(jobs.client, jobs.alone, [make_record(index) for index in range(20)])
    assert jobs.client.get_run(state_of(jobs.alone)["run_id"]).info.status == "FINISHED"


def test_close_keeps_to_its_time(jobs):
    folder = make_job(jobs.output_dir, "slow", num_records=1)
    tracker = open_tracker(["mlflow"], None, [folder], jobs.output_dir)
    tracker.start()
    started = time.monotonic()
    tracker.end(folder, "done")
    result = tracker.close(timeout=0.25)[folder]
    assert time.monotonic() - started < 2.0
    assert tracker.process.returncode == -signal.SIGKILL
    assert not result.delivered
    reason = "Stopped: not finished 0.25 s after the end of the job."
    assert result.message.splitlines()[0] == f"Warning: MLflow has not received all of this job ({reason})."
    assert sync.sync(folder) == (True, "delivered 1 records, 5 files")


def test_a_worker_keeps_its_child_for_its_next_job(jobs, monkeypatch):
    monkeypatch.setattr(follower._Kept, "wanted", True)
    monkeypatch.setattr(follower._Kept, "child", None)

    def deliver(name, timeout=240.0):
        folder = make_job(jobs.output_dir, name, num_records=1)
        tracker = open_tracker(["mlflow"], None, [folder], jobs.output_dir)
        tracker.start()
        tracker.end(folder, "done")
        return tracker.process, tracker.close(timeout)[folder]

    child, result = deliver("kept")
    same, next_result = deliver("kept-too")
    assert same is child and child.poll() is None
    assert result.delivered and next_result.delivered and result.run_id != next_result.run_id
    assert jobs.client.get_run(next_result.run_id).info.status == "FINISHED"
    _, late = deliver("kept-in-vain", timeout=0.0)
    assert child.returncode == -signal.SIGKILL
    assert "Stopped: not finished 0 s after the end of the job." in late.message
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **options: (_ for _ in ()).throw(OSError("no memory")))
    assert "The tracking process did not start: no memory" in deliver("kept-no-more")[1].message  # not the dead one


@pytest.fixture
def children(monkeypatch):
    """The children that are started from now on: processes that print what they are told."""
    started = []

    def start(uri, output_dir, log):
        code = "import sys; [print(line, end='', flush=True) for line in sys.stdin]"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append((uri, child))
        return child

    monkeypatch.setattr(follower, "_start_child", start)
    monkeypatch.setattr(follower._Kept, "child", None)
    return started


def test_a_child_that_was_started_early_takes_the_next_job(tmp_path, children):
    folder = make_job(tmp_path, "early", num_records=1)
    with started_early(["mlflow"], None, tmp_path):
        ((uri, child),) = children
        assert uri == f"sqlite:///{tmp_path}/mlflow.db" and child.poll() is None
        with started_early(["mlflow"], None, tmp_path):  # one is enough
            tracker = open_tracker(["mlflow"], None, [folder], tmp_path)
            tracker.start()
        assert tracker.process is child and follower._Kept.child is None
    tracker.end(folder, "done")
    assert child.communicate(timeout=20)[0].decode() == f"follow {folder}\ndone {folder}\n"
    assert len(children) == 1


def test_a_child_that_no_job_took_is_ended_and_one_for_another_store_is_not_taken(tmp_path, children):
    with pytest.raises(KeyboardInterrupt), started_early(["mlflow"], None, tmp_path):
        other = open_tracker(
            ["mlflow"], "sqlite:////elsewhere.db", [make_job(tmp_path, "other", num_records=1)], tmp_path
        )
        other.start()
        raise KeyboardInterrupt
    (_, early), (uri, child) = children
    assert uri == "sqlite:////elsewhere.db" and other.process is child and child.poll() is None
    assert early.returncode == -signal.SIGKILL
    child.communicate(timeout=20)
    with started_early(["files"], None, tmp_path), started_early(["mlflow"], None, tmp_path):
        children[-1][1].kill()
        children[-1][1].wait()
        tracker = open_tracker(["mlflow"], None, [make_job(tmp_path, "dead", num_records=1)], tmp_path)
        tracker.start()  # not the dead one
    assert tracker.process is children[-1][1] is not children[-2][1]
    tracker.process.communicate(timeout=20)


def test_slow_deliveries_are_further_apart(tmp_path, monkeypatch):
    job = delivery_loop.FollowedJob(make_job(tmp_path), None, 2.0)
    clock, takes = [0.0], iter([5.0, 0.1, 1.5, 100.0])

    def send(self):
        clock[0] += next(takes)
        self._delivery = True
        return []

    monkeypatch.setattr(delivery_loop.FollowedJob, "_send", send)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for pause in (2.0, 2.0, 15.0, 60.0):  # after the first, which imports MLflow; a tenth of the time; not for ever
        job.deliver()
        assert job.due - clock[0] == pytest.approx(pause)
        clock[0] = job.due
    monkeypatch.undo()


@pytest.mark.parametrize("level", ["job", "study", "outputs"])
def test_nothing_new(jobs, capsys, level):
    path = {"job": jobs.ended, "study": jobs.ended.parent, "outputs": jobs.output_dir}[level]
    command = [str(path), str(jobs.ended), "--tracking-uri", jobs.client.tracking_uri]
    sync_command.main(command)
    capsys.readouterr()
    assert sync_command.main(command) == 0
    folders = [jobs.ended] if level == "job" else sorted(path.parent for path in jobs.ended.parent.glob("*/job.json"))
    assert capsys.readouterr().out.splitlines() == [
        *(f"{folder}: nothing new" for folder in folders),
        f"See: rlexp ui --tracking-uri {jobs.client.tracking_uri}",
    ]


def test_a_part_that_fails_is_named_and_the_rest_delivered(jobs, capsys):
    folder = make_job(jobs.output_dir, "part", num_records=2)
    (folder / "trials" / str(SEEDS[1])).mkdir(parents=True)
    (folder / "trials" / str(SEEDS[1]) / "best.keras").write_bytes(b"not a zip file")
    assert sync_command.main([str(folder)]) == 1
    out = capsys.readouterr().out
    assert out == f"{folder}: delivered 2 records, 6 files; failed: model best: File is not a zip file\n"
    (folder / "job.json").write_text("{}")
    assert sync_command.main([str(folder)]) == 1
    assert (
        capsys.readouterr().out == f"{folder}: failed: {folder / 'job.json'}: expected the key study, received none\n"
    )
    shutil.rmtree(folder)


def test_a_server_that_goes_away_before_silent_runs_are_closed_is_told_of(tmp_path, monkeypatch, capsys):
    folder, server = make_job(tmp_path, num_records=1), f"http://127.0.0.1:{free_port()}"
    monkeypatch.setattr(
        sync_command, "sync", lambda folder, uri: (True, "delivered 1 records, 5 files")
    )  # its last answer
    assert sync_command.main([str(folder), "--tracking-uri", server]) == 1
    output = capsys.readouterr()
    first, second, last = output.out.splitlines()
    assert first == f"{folder}: delivered 1 records, 5 files" and last == f"See: {server}"
    assert second.startswith(f"study one in {server}: runs of silent processes were not closed: API request to ")
    assert "Traceback" not in output.err


def test_wrong_path(tmp_path, capsys):
    for path in (tmp_path, tmp_path / "missing"):
        assert sync_command.main([str(path)]) == 2
        text = f"{path}, where is no job.json, nor two folders below"
        assert capsys.readouterr().err == f"refused: PATH: expected a folder of jobs, received {text}.\n"


def test_help():
    command = [sys.executable, "-X", "importtime", "-m", "rlexp.sync", "--help"]
    environment = {**os.environ, "COLUMNS": "120"}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert (
        "usage: rlexp sync [-h] [--to TRACKER] [--tracking-uri URI] [--rebuild] [--follow] [PATH ...]" in result.stdout
    )
    assert (
        "exit code: 0 all delivered, 1 something was not delivered, 2 wrong path, or nothing was changed"
        in result.stdout
    )
    assert " mlflow" not in result.stderr
