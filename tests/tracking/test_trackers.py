"""One synthetic job, delivered to one SQLite store: every point once, whatever was interrupted."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import trim_mean

from rlexp.tracking import leftovers
from rlexp.tracking.addresses import resolve_uri, ui_command
from rlexp.tracking.base import TRACKERS, open_tracker

START = 1_700_000_000.0
NAME = "dqn-CartPole-v1-1a2b3c4d"
SEEDS = [3, 4, 5]


def make_record(index, first_time=START):
    """Record `index` of three trials: eval/return in every second, with a null; no loss at first."""
    values = [float(index), 10.0 + index, 0.1 * index]
    metrics = {"train/return": values, "train/loss": [1.0 / index] * 3 if index > 4 else [None] * 3}
    if index % 2:
        metrics["eval/return"] = [2.0 * index, None, 0.3 * index]
    if index == 19:
        metrics["final/return"] = [20.0, 90.0, None]
    return {"step": 100 * (index + 1), "time": first_time + 1 + 10.125 * index, "metrics": metrics}


def write_records(folder, records):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def make_job(output_dir, name=NAME, uri=None, num_records=20, status="done", config=None):
    """Write a job's folder as the runner does; `status=None` is a job that has not ended."""
    folder = output_dir / "study one" / name
    folder.mkdir(parents=True)
    config = {"algo": {"name": "dqn", "gamma": 0.99}, "seed": 3, "tracking": {"uri": uri}, **(config or {})}
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    job = {"study": "study one", "name": name, "algo": "dqn", "env": "CartPole-v1", "config_id": name[-8:]}
    job |= {"group_id": "feedbeef", "seeds": SEEDS, "command": "rlexp algo=dqn", "started": START}
    (folder / "job.json").write_text(json.dumps({**job, "tags": {"git.commit": "abc", "device": "cpu"}}))
    write_records(folder, [make_record(index) for index in range(num_records)])
    if status is not None:
        end_job(folder, status)
    return folder


def end_job(folder, status):
    """What the runner writes at the end: the second trial is the best one, the third diverged."""
    trials = [
        {"seed": seed, "status": trial_status, "final_return": final_return}
        for seed, trial_status, final_return in zip(
            SEEDS, ["done", "done", "diverged"], [20.0, 90.0, None], strict=True
        )
    ]
    final = {
        "per_trial": [20.0, 90.0, None],
        "mean": 55.0,
        "std": 35.0,
        "iqm": 56.0,
        "min": 20.0,
        "max": 90.0,
        "ci95": [21.5, 89.5],
    }
    summary = {"status": status, "final/return": final, "wall_seconds": 12.5, "trials": trials}
    summary |= {"observation_shape": [4], "observation_dtype": "float32", "action": {"kind": "discrete", "n": 2}}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "evaluation.csv").write_text("seed,episode_seed,return,length\n3,7,20.0,20\n")
    (folder / "learning_curve.png").write_bytes(b"png")


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def client(output_dir):
    from rlexp.tracking.mlflow import params  # first: its package makes MLflow's settings
    from mlflow import MlflowClient  # isort: skip

    assert params.MAX_METRICS == 1000
    return MlflowClient(tracking_uri=resolve_uri(None, output_dir))


def deliver(folder, status="done", running=False):
    from rlexp.tracking.mlflow.deliver import Delivery

    delivery = Delivery(folder, resolve_uri(None, folder.parent.parent), running)
    delivery.send()
    return delivery.finish(status)


def points(client, run_id, name):
    """`(step, value, time in ms)` of every stored point of a metric."""
    return sorted((p.step, p.value, p.timestamp) for p in client.get_metric_history(run_id, name))


def expected_points(records, name, trial):
    rows = [(r["step"], r["metrics"].get(name, [None] * 3)[trial], int(r["time"] * 1000)) for r in records]
    return [row for row in rows if row[1] is not None]


def state_of(folder):
    return json.loads((folder / "tracking.json").read_text())


def assert_delivered_once(client, folder, records):
    state = state_of(folder)
    assert state["lines"] == len(records)
    for name in ("train/return", "train/loss", "eval/return"):
        for trial, run_id in enumerate(state["trial_runs"].values()):
            assert points(client, run_id, name) == expected_points(records, name, trial), (name, trial)
        num_with_values = len(expected_points(records, name, 0))
        for aggregate in ("mean",) if name == "train/loss" else ("iqm", "min", "max"):
            assert len(points(client, state["run_id"], f"{name}/{aggregate}")) == num_with_values


def test_uris_and_commands(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    default = f"sqlite:///{tmp_path.as_posix()}/outputs/mlflow.db"
    monkeypatch.chdir(tmp_path)
    assert resolve_uri(None, Path("outputs")) == default
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://env")
    assert resolve_uri(None, Path("outputs")) == "http://env"
    assert resolve_uri("http://config", Path("outputs")) == "http://config"
    assert ui_command(default) == f"rlexp ui --tracking-uri {default}"  # not what it takes by itself
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert ui_command(default) == "rlexp ui"
    assert ui_command("http://server:5000") == "http://server:5000"
    page = "#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=rlexp"
    assert ui_command("http://server:5000/", "ladder", "7") == f"http://server:5000/{page}"
    assert ui_command(default, "my ladder", "7") == f"rlexp ui 'my ladder'   (http://127.0.0.1:5000/{page})"
    assert ui_command(default, "-x") == "rlexp ui -- -x"


def test_unknown_tracker():
    with pytest.raises(
        ValueError, match=r"tracking.name='wandb' is not a tracker; choose one of files, mlflow, tensor"
    ):
        open_tracker(["wandb"], None, [Path("folder")], Path("outputs"))


def test_training_process_imports_no_mlflow(tmp_path):
    code = (
        "import sys, pathlib; from rlexp.tracking.base import open_tracker, TRACKERS\n"
        "open_tracker(list(TRACKERS), None, [pathlib.Path('f')], pathlib.Path('o'))\n"
        "print([name for name in ('mlflow', 'tensorflow', 'pandas') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("names", [["files"], ["tensorboard"], ["mlflow", "tensorboard"]])
def test_contract(names, client, output_dir):
    assert set(names) <= set(TRACKERS)
    folder = make_job(output_dir, f"contract-{names[0]}", resolve_uri(None, output_dir))
    before = {path.name for path in folder.iterdir()}
    tracker = open_tracker(names, resolve_uri(None, output_dir), [folder], output_dir)
    tracker.start()
    tracker.end(folder, "done")
    result = tracker.close(timeout=60.0)[folder]
    assert result.delivered
    created = {path.name for path in folder.iterdir()} - before
    uri, root = resolve_uri(None, output_dir), folder.parent / "tensorboard"
    run_id = state_of(folder)["run_id"] if "mlflow" in names else None
    said = {
        "files": f"Results: {folder}",
        "mlflow": f"MLflow: run {run_id} is in {uri}",
        "tensorboard": f"TensorBoard: event files are in {root}",
    }
    shown = {"tensorboard": f"tensorboard --logdir '{root}'"}
    if "mlflow" in names:
        shown["mlflow"] = ui_command(uri, "study one", state_of(folder)["experiment_id"])
        address = "(http://127.0.0.1:5000/#/experiments/"
        assert shown["mlflow"].startswith(f"rlexp ui --tracking-uri {uri} 'study one'   {address}")
    files = {"mlflow": {"tracking.json", "tracking.log", ".tracking.lock"}, "tensorboard": {".tensorboard.lock"}}
    assert result.message.splitlines() == [said[name] for name in names]
    assert (result.ui_command or "").splitlines() == [shown[name] for name in names if name in shown]
    assert result.run_id == run_id
    assert created == set().union(*(files.get(name, ()) for name in names))
    if "mlflow" in names:
        assert (folder / "tracking.log").read_text() == "Delivered.\n"
        assert client.get_run(run_id).info.status == "FINISHED"


def test_several_trackers_name_their_commands(tmp_path):
    trackers = open_tracker(["mlflow", "files", "tensorboard"], None, [tmp_path / "study" / "job"], tmp_path)
    assert trackers.title == "MLflow and TensorBoard"
    assert trackers.sync_command(tmp_path) == f"rlexp sync {tmp_path}; rlexp sync --to tensorboard {tmp_path}"


def test_follower_that_cannot_start(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **options: (_ for _ in ()).throw(OSError("no memory")))
    folder = make_job(tmp_path)
    tracker = open_tracker(["mlflow"], "http://nowhere", [folder], tmp_path)
    tracker.start()
    tracker.end(folder, "done")
    result = tracker.close(timeout=1.0)[folder]
    assert not result.delivered
    assert result.message.splitlines() == [
        "Warning: MLflow has not received all of this job (The tracking process did not start: no memory).",
        "Nothing is lost; this delivers the rest:",
        f"  rlexp sync '{folder}' --tracking-uri http://nowhere",
    ]


def test_runs_params_tags_and_artifacts(client, output_dir):
    config = {"layers": [120, 84], "f(x)": 1, "env": {"kwargs": {}, "a.b/c": True}, "long": "x" * 7000}
    config |= {"env": {"kwargs": {}, "a.b/c": True, "default_steps": 50}, "budget": {"steps": None, "episodes": None}}
    folder = make_job(output_dir, "layout", config={**config, "label": "layout"})
    assert deliver(folder) == []
    state = state_of(folder)
    experiment = client.get_experiment(state["experiment_id"])
    assert experiment.name == "study one"
    assert experiment.artifact_location == (output_dir / "mlartifacts" / "study one").as_uri()

    job = client.get_run(state["run_id"])
    note = "... (7000 characters, all of them in config.yaml)"
    params = {
        "algo.name": "dqn",
        "algo.gamma": "0.99",
        "seed": "3",
        "label": "layout",
        "budget.steps": "50",  # the environment's
        "layers": "[120, 84]",
        "f_x28_x_x29_": "1",
        "env.a_x2e_b_x2f_c": "True",
        "long": "x" * (6000 - len(note)) + note,
    }
    assert (job.info.run_name, job.info.status) == ("layout", "FINISHED")
    assert job.data.params == params
    last = make_record(19)
    assert (job.info.start_time, job.info.end_time) == (int(START * 1000), int(last["time"] * 1000))
    tags = {
        "git.commit": "abc",
        "device": "cpu",
        "rlexp.command": "rlexp algo=dqn",
        "rlexp.algo": "dqn",
        "rlexp.env": "CartPole-v1",
        "rlexp.config_id": "layout",
        "rlexp.group": "feedbeef",
        "rlexp.job": "layout",
        "mlflow.user": (folder / "job.json").owner(),
        "mlflow.source.name": "rlexp",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": "abc",
    }
    local_id = state["local_id"]
    described = {name: job.data.tags.pop(name) for name in ("mlflow.note.content", "rlexp.description")}
    assert described["mlflow.note.content"].startswith("**Final return 56** [21.5, 89.5] (IQM, 95 % interval) · min")
    assert job.data.tags == {
        **tags, "rlexp.kind": "job", "rlexp.local_id": local_id, "mlflow.runName": "layout"
    }  # fmt: skip
    for seed, status in zip(SEEDS, ["FINISHED", "FINISHED", "FAILED"], strict=True):
        trial = client.get_run(state["trial_runs"][str(seed)])
        assert (trial.info.run_name, trial.info.status) == (f"layout seed {seed}", status)
        assert trial.data.params == {**params, "seed": str(seed)}
        trial_tags = {"rlexp.kind": "trial", "rlexp.seed": str(seed), "rlexp.local_id": f"{local_id}/{seed}"}
        trial_tags |= {"mlflow.parentRunId": state["run_id"], "mlflow.runName": f"layout seed {seed}"}
        assert trial.data.tags == {**tags, **trial_tags}
    names = ["config.yaml", "evaluation.csv", "learning_curve.png", "metrics.jsonl", "summary.json"]
    assert [file.path for file in client.list_artifacts(state["run_id"])] == names

    # The aggregates of record 7, over the trials with a value, and of the summary.
    def value(name, step=800):
        (point,) = [p for p in client.get_metric_history(state["run_id"], name) if p.step == step]
        return point.value

    values = {"iqm": trim_mean([7.0, 17.0, 0.7], 0.25), "min": 0.7, "max": 17.0}
    assert {name: value(f"train/return/{name}") for name in values} == pytest.approx(values)
    values = {"iqm": 16.1 / 2, "min": 2.1, "max": 14.0}
    assert {name: value(f"eval/return/{name}") for name in values} == pytest.approx(values)
    assert value("time/steps_per_second") == pytest.approx(3 * 100 / 10.125)
    assert len(client.get_metric_history(state["run_id"], "time/steps_per_second")) == 19
    final = {"iqm": 56.0, "low": 21.5, "high": 89.5, "min": 20.0, "max": 90.0, "trials": 2}
    assert {name: value(f"final/return/{name}", 2000) for name in final} == final
    assert value("time/minutes", 2000) == 12.5 / 60
    assert len(job.data.metrics) == 15
    end = int(last["time"] * 1000)
    assert points(client, state["trial_runs"]["4"], "final/return") == [(2000, 90.0, end)]


@pytest.mark.parametrize("why", ["diverged", "failed"])
def test_of_a_job_with_one_bad_trial_the_others_are_finished(client, output_dir, why):
    """What the runner writes then: the job has failed, each trial has its own status, a failed one has no score."""
    folder = make_job(output_dir, f"one {why}", num_records=1, status="failed")
    summary = json.loads((folder / "summary.json").read_text())
    summary["trials"][2]["status"] = why
    (folder / "summary.json").write_text(json.dumps(summary))
    assert deliver(folder, "failed") == []
    state = state_of(folder)
    run = client.get_run(state["run_id"])
    assert run.info.status == "FAILED" and run.data.metrics["final/return/trials"] == 2.0
    assert [client.get_run(run).info.status for run in state["trial_runs"].values()] == [
        "FINISHED",
        "FINISHED",
        "FAILED",
    ]


@pytest.mark.parametrize(("status", "expected"), [("failed", "FAILED"), ("killed", "KILLED")])
def test_the_trials_of_a_job_that_was_not_scored_have_its_status(client, output_dir, status, expected):
    folder = make_job(output_dir, status, num_records=1, status=None)
    (folder / "summary.json").write_text(json.dumps({"status": status, "error": ""}))
    assert deliver(folder, status) == []
    assert statuses(client, folder) == {expected}


def test_a_pruned_job_is_killed_with_a_tag_that_goes_when_it_runs_again(client, output_dir):
    from rlexp.tracking.mlflow.deliver import Delivery

    folder = make_job(output_dir, "pruned", num_records=1, status=None)
    (folder / "summary.json").write_text(json.dumps({"status": "pruned", "pruned_at": 100, "error": ""}))
    assert deliver(folder, "pruned") == []
    state = state_of(folder)
    run = client.get_run(state["run_id"])
    assert run.info.status == "KILLED" and run.data.tags["rlexp.pruned"] == "100"
    assert {client.get_run(trial).info.status for trial in state["trial_runs"].values()} == {"KILLED"}
    Delivery(folder, state["uri"], running=True)
    run = client.get_run(state["run_id"])
    assert run.info.status == "RUNNING" and "rlexp.pruned" not in run.data.tags


def statuses(client, folder):
    state = state_of(folder)
    return {client.get_run(run).info.status for run in [state["run_id"], *state["trial_runs"].values()]}


def test_a_finished_job_whose_deliverer_died_before_it_began_is_delivered_by_the_next_start(client, output_dir):

    def job(name, **options):
        return make_job(output_dir, name, num_records=2, **options)

    tracked = {"tracking": {"name": "mlflow", "uri": None}}
    uri, finished = resolve_uri(None, output_dir), job("finished-never", config=tracked)
    others = [
        job("unfinished-never", config=tracked, status=None),
        job("files-never", config={"tracking": {"name": "files", "uri": None}}),
        job("elsewhere-never", config={"tracking": {"name": "mlflow", "uri": "http://127.0.0.1:9"}}),
        job("broken-never"),
    ]
    (others[-1] / "config.yaml").write_text("tracking: {name: mlflow")
    left = leftovers.leftovers(output_dir, uri)
    assert finished in left and not set(others) & set(left)
    following = job("following", config=tracked)
    assert list(leftovers.tidy(following, None)) and finished not in leftovers.leftovers(output_dir, uri)
    assert_delivered_once(client, finished, [make_record(index) for index in range(2)])
    assert statuses(client, finished) == {"FINISHED", "FAILED"}  # one of its trials has diverged
    assert "delivered 2 records" in (finished / "tracking.log").read_text()


def test_runs_of_a_dead_process_are_closed_and_those_of_a_living_one_are_not(client, output_dir):
    from filelock import FileLock

    from rlexp.tracking import sync
    from rlexp.tracking.mlflow.deliver import Delivery

    dead, living = (make_job(output_dir, name, num_records=2, status=None) for name in ("dead", "living"))
    uri = resolve_uri(None, output_dir)
    Delivery(dead, uri, running=True)
    Delivery(living, uri, running=True).send()
    with FileLock(living / ".lock"):
        left = leftovers.leftovers(output_dir, uri)
        assert dead in left and living not in left
        write_records(living, [make_record(index) for index in range(3)])
        assert sync.sync(living) == (
            False,
            "delivered 1 records; the rest once it has ended (one is at work)",
        )
        assert sync.sync(dead) == (True, "delivered 2 records, 1 files")
        assert (statuses(client, dead), statuses(client, living)) == ({"KILLED"}, {"RUNNING"})
    tags = client.get_run(state_of(dead)["run_id"]).data.tags
    assert tags["rlexp.lost"] == "its process died without reporting an end"
    assert dead not in leftovers.leftovers(output_dir, uri)
    assert_delivered_once(client, dead, [make_record(index) for index in range(2)])
    Delivery(dead, uri, running=True)  # it continues
    assert statuses(client, dead) == {"RUNNING"}
    assert "rlexp.lost" not in client.get_run(state_of(dead)["run_id"]).data.tags
    for folder in (dead, living):
        assert sync.sync(folder)[0]


def long_ago(client, run_id):
    """Set a run's last sign of life back by more than is waited for."""
    from datetime import UTC, datetime, timedelta

    from rlexp.tracking.base import SILENCE

    then = datetime.now(UTC) - timedelta(seconds=SILENCE + 5)
    client.set_tag(run_id, "rlexp.heartbeat", then.isoformat(timespec="seconds"))
    return then.isoformat(timespec="seconds")


def test_a_folder_of_another_machine_is_left_alone_until_its_run_is_silent(client, output_dir):
    from rlexp.tracking import sync
    from rlexp.tracking.mlflow.deliver import Delivery

    folder = make_job(output_dir, "elsewhere", num_records=2, status=None)
    (folder / "owner.json").write_text('{"pid": 7, "host": "elsewhere"}')
    delivery = Delivery(folder, resolve_uri(None, output_dir), running=True)
    delivered, line = sync.sync(folder)
    assert not delivered and line.startswith("failed: process 7 on elsewhere is at work; its last sign of life was ")
    assert statuses(client, folder) == {"RUNNING"}
    long_ago(client, delivery.receipt["run_id"])
    assert sync.sync(folder) == (True, "delivered 2 records, 1 files")
    assert statuses(client, folder) == {"KILLED"}


def test_silent_runs_without_a_folder_are_closed(client, output_dir, monkeypatch):
    import shutil

    from rlexp.tracking.mlflow.deliver import Delivery

    uri = resolve_uri(None, output_dir)
    silent, loud, locked, old = (
        Delivery(make_job(output_dir, name, num_records=1, status=None), uri, running=True)
        for name in ("silent", "loud", "locked", "old")
    )
    then = long_ago(client, silent.receipt["run_id"])
    long_ago(client, locked.receipt["run_id"])
    client.delete_tag(old.receipt["run_id"], "rlexp.heartbeat")  # of a version that gave none
    before = {delivery: delivery.receipt for delivery in (silent, loud, locked, old)}
    shutil.rmtree(silent.folder)
    monkeypatch.setattr(leftovers, "in_use", lambda folder: folder.name == "locked")
    assert leftovers.close_silent(output_dir, "study one", uri) == ["silent"]
    assert leftovers.close_silent(output_dir, "study one", uri) == []
    found = {
        delivery.folder.name: [client.get_run(run) for run in (state["run_id"], *state["trial_runs"].values())]
        for delivery, state in before.items()
    }
    assert {name: {run.info.status for run in runs} for name, runs in found.items()} == {
        "silent": {"KILLED"}, "loud": {"RUNNING"}, "locked": {"RUNNING"}, "old": {"RUNNING"},
    }  # fmt: skip
    assert found["silent"][0].data.tags["rlexp.lost"] == f"no sign of life since {then}"
    assert leftovers.close_silent(output_dir, "no such study", uri) == []
    # One that lives, cut off for so long, comes back with its next sign of life.
    long_ago(client, loud.receipt["run_id"])
    assert leftovers.close_silent(output_dir, "study one", uri) == ["loud"]
    assert statuses(client, loud.folder) == {"KILLED"}
    loud.beat()  # not due
    assert statuses(client, loud.folder) == {"KILLED"}
    monkeypatch.setattr(loud._heartbeat, "_due", 0.0)
    loud.beat()
    assert statuses(client, loud.folder) == {"RUNNING"}
    assert "rlexp.lost" not in client.get_run(loud.receipt["run_id"]).data.tags
    for sent in (loud, locked, old):
        shutil.rmtree(sent.folder)


def test_the_run_of_a_dead_sweep_is_closed(client, output_dir):
    from filelock import FileLock

    from rlexp.tracking import sync
    from rlexp.tracking.mlflow.deliver_sweep import SweepDelivery

    folder = output_dir / "study one" / "sweeps" / "5feb0e"
    folder.mkdir(parents=True)
    plan = {"id": "5feb0e", "local_id": "5feb0e5feb0e", "name": "ladder", "study": "study one", "command": "x"}
    plan |= {"started": START, "tracking_uri": None, "status": "running"}
    (folder / "sweep.json").write_text(json.dumps(plan))
    uri = resolve_uri(None, output_dir)
    delivery = SweepDelivery(folder, uri)
    delivery.beat()
    with FileLock(folder / ".lock"):
        assert folder not in leftovers.leftovers(output_dir, uri)
        assert sync.sync(folder) == (False, "the sweep runs (one is at work)")
    assert client.get_run(delivery.run_id).info.status == "RUNNING"
    assert folder in leftovers.leftovers(output_dir, uri)
    assert sync.sync(folder) == (True, "delivered the sweep")
    run = client.get_run(delivery.run_id)
    assert (run.info.status, run.data.tags["rlexp.lost"]) == ("KILLED", "its process died without reporting an end")
    assert folder not in leftovers.leftovers(output_dir, uri)
    again = SweepDelivery(folder, uri)
    again.beat()
    run = client.get_run(delivery.run_id)
    assert again.run_id == delivery.run_id and run.info.status == "RUNNING" and "rlexp.lost" not in run.data.tags
    (folder / "sweep.json").write_text(json.dumps({**plan, "status": "done", "jobs": [{"status": "done"}]}))
    assert again.finish() == []
    run = client.get_run(delivery.run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"jobs/done": 1.0})


def test_a_job_whose_environment_did_not_come_back_is_tagged(client, output_dir):
    folder = make_job(output_dir, "unseeded", num_records=1)
    summary = json.loads((folder / "summary.json").read_text())
    for trial in summary["trials"][:2]:
        trial["restarted_episodes"] = 2
    (folder / "summary.json").write_text(json.dumps(summary))
    assert deliver(folder) == []
    tags = client.get_run(state_of(folder)["run_id"]).data.tags
    assert tags["rlexp.env_not_deterministic"] == "4 episodes restarted"


def test_crash_between_sending_and_remembering(client, output_dir):
    """Job and follower are killed in the middle of a delivery; the job resumes from its checkpoint."""
    from rlexp.tracking.mlflow.deliver import Delivery

    folder = make_job(output_dir, "crash", num_records=12, status=None)
    uri = resolve_uri(None, output_dir)
    delivery = Delivery(folder, uri, running=True)
    assert delivery.send() == 12
    write_records(folder, [make_record(index) for index in range(16)])
    calls, log_batch = [], delivery.client.log_batch

    def log_batch_and_die(*args, **options):
        log_batch(*args, **options)
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt

    delivery.client.log_batch = log_batch_and_die
    with pytest.raises(KeyboardInterrupt):
        delivery.send()
    assert state_of(folder)["lines"] == 12  # but the lines up to 16 have arrived, in part

    resumed = [make_record(index) for index in range(8)]
    resumed += [make_record(index, START + 5000) for index in range(8, 14)]
    write_records(folder, resumed)
    again = Delivery(folder, uri, running=True)
    assert again.send() == 2
    write_records(folder, resumed + [make_record(index, START + 5000) for index in range(14, 20)])
    assert again.send() == 6
    assert again.send() == 0
    times = [START] * 16 + [START + 5000] * 4  # each point has the time of its first delivery
    assert_delivered_once(client, folder, [make_record(index, time) for index, time in enumerate(times)])


def test_resume_reopens_the_same_runs(client, output_dir):
    folder = make_job(output_dir, "resume", num_records=10, status="killed")
    assert deliver(folder, "killed") == []
    first = state_of(folder)
    from rlexp.tracking.mlflow.deliver import Delivery

    job = json.loads((folder / "job.json").read_text())
    job |= {"started": START + 5000, "tags": {"git.commit": "def", "device": "cpu"}}
    (folder / "job.json").write_text(json.dumps(job))
    delivery = Delivery(folder, first["uri"], running=True)
    runs = [client.get_run(run_id) for run_id in [first["run_id"], *first["trial_runs"].values()]]
    assert [run.info.status for run in runs] == ["RUNNING"] * 4
    assert [run.data.tags["git.commit"] for run in runs] == ["def"] * 4
    # The lines since the checkpoint are written again with later times, a half line follows.
    records = [make_record(index, START if index < 6 else START + 5000) for index in range(20)]
    write_records(folder, records)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2100, "ti')
    assert delivery.send() == 10
    end_job(folder, "done")
    assert delivery.finish("done") == []
    assert {**state_of(folder), **{"run_id": first["run_id"], "trial_runs": first["trial_runs"]}} == state_of(folder)
    times = [START] * 10 + [START + 5000] * 10
    assert_delivered_once(client, folder, [make_record(index, time) for index, time in enumerate(times)])
    rates = {p.step: p.value for p in client.get_metric_history(first["run_id"], "time/steps_per_second")}
    assert sorted(rates) == [100 * k for k in range(2, 21) if k != 11]  # none over the pause
    assert set(np.round(list(rates.values()), 6)) == {round(300 / 10.125, 6)}


def test_lost_or_old_state_repeats_without_doubling(client, output_dir):
    folder = make_job(output_dir, "rollback")
    from rlexp.tracking.mlflow.deliver import Delivery

    Delivery(folder, resolve_uri(None, output_dir))
    old = (folder / "tracking.json").read_text()
    assert deliver(folder) == []
    new = state_of(folder)
    (folder / "tracking.json").write_text(old)
    assert deliver(folder) == []
    assert state_of(folder) == new
    moved = json.loads(old) | {"uri": "http://elsewhere"}
    (folder / "tracking.json").write_text(json.dumps({key: moved[key] for key in moved if key != "digest"}))
    assert deliver(folder) == []
    assert state_of(folder) == new
    assert_delivered_once(client, folder, [make_record(index) for index in range(20)])


def test_many_trials_and_params_respect_the_limits_of_one_call(client, output_dir):
    from rlexp.tracking.mlflow.deliver import Delivery

    folder = make_job(output_dir, "limits", num_records=450, config={f"key{k}": k for k in range(150)})
    delivery = Delivery(folder, resolve_uri(None, output_dir))
    sizes, log_batch = [], delivery.client.log_batch
    delivery.client.log_batch = lambda *args, **kw: sizes.append(len(kw["metrics"])) or log_batch(*args, **kw)
    assert delivery.send() == 450
    assert max(sizes) == 1000
    assert_delivered_once(client, folder, [make_record(index) for index in range(450)])
    assert len(client.get_run(delivery.receipt["run_id"]).data.params) == 153


def test_best_weights_are_an_mlflow_model(client, output_dir):
    import keras
    import mlflow

    folder = make_job(output_dir, "model")
    models = {}
    for seed in SEEDS[:2]:
        models[seed] = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2)])
        (folder / "trials" / str(seed)).mkdir(parents=True)
        models[seed].save(folder / "trials" / str(seed) / "best.keras")
    assert deliver(folder) == []
    assert deliver(folder) == []  # once
    state = state_of(folder)
    for seed in SEEDS[:2]:
        assert [f.path for f in client.list_artifacts(state["trial_runs"][str(seed)], "weights")] == [
            "weights/best.keras"
        ]

    (logged,) = client.search_logged_models([state["experiment_id"]], f"source_run_id = '{state['run_id']}'")
    assert (logged.name, str(logged.status)) == ("dqn-CartPole-v1-iqm56", "READY") and logged.tags["rlexp.seed"] == "4"
    run = client.get_run(state["run_id"])
    assert [output.model_id for output in run.outputs.model_outputs] == [logged.model_id]

    mlflow.set_tracking_uri(state["uri"])
    observations = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    expected = models[4].predict(observations, verbose=0)
    for uri in (f"models:/{logged.model_id}", f"runs:/{state['run_id']}/{logged.name}"):
        assert (mlflow.pyfunc.load_model(uri).predict(observations) == expected).all()
    loaded = mlflow.keras.load_model(f"models:/{logged.model_id}")
    assert (loaded.predict(observations, verbose=0) == expected).all()
    path = Path(mlflow.artifacts.download_artifacts(f"models:/{logged.model_id}"))
    weights = keras.models.load_model(path / "data" / "model.keras", safe_mode=True)
    assert (weights.predict(observations, verbose=0) == expected).all()

    # The description is the one that MLflow itself writes for this model.
    info = mlflow.models.get_model_info(str(path))
    reference = mlflow.models.Model()
    reference_dir = str(output_dir / "reference")
    mlflow.keras.save_model(
        models[4], reference_dir, mlflow_model=reference, signature=info.signature, pip_requirements=["keras"]
    )
    assert info.flavors["keras"] == reference.flavors["keras"]
    # `pyfunc` adds keys that say nothing: `code: null`, `streamable: false`.
    assert info.flavors["python_function"].items() >= reference.flavors["python_function"].items()
    assert str(info.signature.inputs) == "[Tensor('float32', (-1, 4))]"
    assert str(info.signature.outputs) == "[Tensor('float32', (-1, 2))]"
    requirements = (path / "requirements.txt").read_text().split()
    assert [r.split("==")[0] for r in requirements] == ["mlflow", "keras", "tensorflow", "numpy"]


def test_signature_of_a_model_without_an_input_layer(tmp_path):
    from rlexp.tracking.mlflow.model import model_signature

    def save(layers):
        with zipfile.ZipFile(tmp_path / "best.keras", "w") as archive:
            archive.writestr("config.json", json.dumps({"config": {"layers": layers}}))
        return tmp_path / "best.keras"

    summary = {"observation_shape": [84, 84, 4], "observation_dtype": "uint8"}
    signature = model_signature(save([]), summary)
    assert str(signature.inputs) == "[Tensor('uint8', (-1, 84, 84, 4))]"
    assert signature.outputs is None
    with pytest.raises(ValueError, match=r"the input shape is not known: 0 input layers in best.keras"):
        model_signature(save([]), {})
    with pytest.raises(ValueError, match=r"the input shape is not known: 2 input layers in best.keras"):
        model_signature(save([{"class_name": "InputLayer", "config": {}}] * 2), summary)


def test_names():
    from rlexp.tracking.mlflow.params import mlflow_key

    assert mlflow_key("train/q_mean") == "train/q_mean"
    assert mlflow_key("a[0] é#:") == "a_x5b_0_x5d_ é_x23__x3a_"
    long = mlflow_key("x" * 300)
    assert len(long) == 250 and long != mlflow_key("x" * 301)


def test_broken_weights_do_not_lose_the_rest(client, output_dir):
    folder = make_job(output_dir, "broken")
    (folder / "trials" / "4").mkdir(parents=True)
    (folder / "trials" / "4" / "best.keras").write_bytes(b"not a zip file")
    assert deliver(folder) == ["model best: File is not a zip file"]
    state = state_of(folder)
    assert client.get_run(state["run_id"]).info.status == "FINISHED"
    assert "metrics.jsonl" in [file.path for file in client.list_artifacts(state["run_id"])]
    assert client.search_logged_models([state["experiment_id"]], f"source_run_id = '{state['run_id']}'") == []


def test_runs_deleted_in_mlflow_stay_deleted(client, output_dir):
    folder = make_job(output_dir, "deleted", num_records=1)
    assert deliver(folder) == []
    client.delete_run(state_of(folder)["run_id"])
    with pytest.raises(RuntimeError, match=r"was deleted in MLflow: remove tracking.json to deliver it as new"):
        deliver(folder)
