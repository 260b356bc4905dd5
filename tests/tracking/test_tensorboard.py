"""Event files of synthetic jobs, read by TensorBoard's own reader: every point once, whatever was interrupted."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from rlexp.cli import run as cli
from rlexp.cli import sync as command
from rlexp.jobs import plots
from rlexp.system.links import LinkFound
from rlexp.tracking import base, late
from rlexp.tracking.tensorboard import deliver, hyperparameters, place, sync, tracker
from rlexp.tracking.tensorboard.event_file import EventFile
from tests.tracking.test_trackers import SEEDS, START, end_job, make_job, make_record, write_records

RUNS = ["final", "iqm", "seed_3", "seed_4", "seed_5"]


def job(output_dir, name="job", num_records=20, status="done", **config):
    """A job's folder with a configuration as of a real one."""
    config = {"env": {"name": "cartpole", "id": "CartPole-v1"}, "trials": 3, **config}
    return make_job(output_dir, name, num_records=num_records, status=status, config=config)


def read(run):
    """The points of a run: tag -> [(step, value, time)]; TensorBoard adds up all event files of its folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run), {"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value, e.wall_time) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def expected(records, name, trial):
    rows = [(r["step"], r["metrics"].get(name, [None] * 3)[trial], r["time"]) for r in records]
    return [(step, pytest.approx(value), seconds) for step, value, seconds in rows if value is not None]


def assert_delivered_once(where, records):
    for trial, seed in enumerate(SEEDS):
        found = read(where / f"seed_{seed}")
        for name in ("train/return", "train/loss", "eval/return"):
            assert found.get(name, []) == expected(records, name, trial), (name, seed)
    assert [step for step, _, _ in read(where / "iqm")["train/return"]] == [record["step"] for record in records]
    for run in where.iterdir():
        assert run.is_file() or len(list(run.iterdir())) == 1, run  # nothing is left of earlier files


def hparams(run):
    """The hyper-parameters and the final status of a run, as the HParams page reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    events = EventAccumulator(str(run))
    events.Reload()

    def content(tag):
        return events.SummaryMetadata(tag).plugin_data.content

    start = metadata.parse_session_start_info_plugin_data(content(metadata.SESSION_START_INFO_TAG))
    end = metadata.parse_session_end_info_plugin_data(content(metadata.SESSION_END_INFO_TAG))
    values = {key: getattr(value, value.WhichOneof("kind")) for key, value in start.hparams.items()}
    return values, start.start_time_secs, end.status, end.end_time_secs


def test_a_finished_job_has_its_curves_scores_and_hyper_parameters(tmp_path):
    schedule = {"kind": "linear", "initial": 1.0, "final": 0.1, "duration": 100, "unit": "step"}
    algo = {"name": "dqn", "gamma": 0.99, "epsilon": schedule, "double": False, "token": "hidden", "none": None}
    folder = job(tmp_path, algo=algo, network={"hidden_units": [64, 64]})
    assert sync.sync(folder) == (True, "delivered 20 records")
    where = tmp_path / "study one" / "tensorboard" / "job"
    assert sorted(path.name for path in where.iterdir()) == ["delivered.json", *RUNS]
    records = [make_record(index) for index in range(20)]
    assert_delivered_once(where, records)
    assert read(where / "iqm")["train/return"][7] == (
        800,
        pytest.approx(24.7 / 3),
        START + 71.875,
    )
    end = records[-1]["time"]
    scores = {"iqm": 56.0, "min": 20.0, "max": 90.0}
    assert read(where / "final") == {
        **{f"final/return/{name}": [(2000, value, end)] for name, value in scores.items()},
        "time/wall_seconds": [(2000, 12.5, end)],
    }
    values, started, status, ended = hparams(where / "final")
    assert (started, status, ended) == (START, 1, end)  # 1: success
    assert values == {
        "algo": "dqn", "env": "cartpole", "algo.gamma": 0.99, "algo.epsilon": "linear 1 to 0.1 in 100 steps",
        "algo.double": False, "algo.token": "***", "network.hidden_units": "[64, 64]", "seed": 3.0, "trials": 3.0,
    }  # fmt: skip


def test_a_second_delivery_changes_nothing_and_a_changed_file_is_written_again(tmp_path):
    folder = job(tmp_path, num_records=3)
    assert sync.sync(folder)[0]
    where = place.find(folder)
    files = sorted(where.rglob("*"))
    assert sync.sync(folder) == (True, "nothing new") and sorted(where.rglob("*")) == files
    records = [make_record(index) for index in range(3)]
    seed = where / "seed_4"
    damages = {
        "cut": lambda: os.truncate(next(seed.iterdir()), 100),
        "removed": lambda: next(seed.iterdir()).unlink(),
        "twice": lambda: shutil.copy(next(seed.iterdir()), seed / "events.out.tfevents.1.copy"),
        "receipt": lambda: (where / "delivered.json").write_text('{"job": "job'),
        "left over": lambda: (seed / ".unfinished-1").touch() or (where / "delivered.json").unlink(),
    }
    for damage, inflict in damages.items():
        inflict()
        assert sync.sync(folder) == (True, "delivered 3 records"), damage
        assert_delivered_once(where, records)


def test_new_records_are_appended_and_a_half_written_line_waits(tmp_path):
    folder = job(tmp_path, num_records=2, status=None)
    delivery = deliver.Delivery(folder)
    assert delivery.send() == 2
    where = place.find(folder)
    files = sorted(where.rglob("*"))
    with (folder / "metrics.jsonl").open("a") as file:
        line = json.dumps(make_record(2)) + "\n"
        file.write(line[:20])
        file.flush()
        assert delivery.send() == 0
        file.write(line[20:])
    assert delivery.send() == 1 and sorted(where.rglob("*")) == files
    assert_delivered_once(where, [make_record(index) for index in range(3)])
    assert not deliver.is_delivered(folder)
    # A resumed job cuts its records to the checkpoint, and writes the rest again, with other times.
    again = [make_record(0), *(make_record(index, START + 500) for index in range(1, 6))]
    write_records(folder, again)
    assert delivery.send() == 6
    assert_delivered_once(where, again)
    delivery.close()
    # So does one whose process was killed without a word: what it left is replaced.
    end_job(folder, "done")
    assert sync.sync(folder) == (True, "delivered 6 records")
    assert_delivered_once(where, again)


def test_a_damaged_record_is_named_and_what_was_delivered_stays(tmp_path):
    folder = job(tmp_path, num_records=3)
    assert sync.sync(folder)[0]
    write_records(folder, [make_record(index) for index in range(3)])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": "x"}\n')
    delivered, line = sync.sync(folder)
    assert (
        not delivered and line.startswith("failed: ") and "metrics.jsonl, line 4: expected a record of 3 trials" in line
    )
    assert_delivered_once(place.find(folder), [make_record(index) for index in range(3)])


def test_with_many_trials_their_files_are_written_one_by_one_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(deliver, "MOST_OPEN", 2)
    folder = job(tmp_path, num_records=4, status=None)
    delivery = deliver.Delivery(folder)
    assert delivery.send() == 4
    where = place.find(folder)
    assert sorted(path.name for path in where.iterdir()) == ["delivered.json", "final", "iqm"]
    end_job(folder, "done")
    delivery.finish("done")
    assert_delivered_once(where, [make_record(index) for index in range(4)])
    assert deliver.is_delivered(folder)


def test_strange_names_and_numbers_do_no_harm(tmp_path):
    values = [1e300, -0.0, 3.0]
    record = {"step": 1, "time": START, "metrics": {"train/\ud800\x1b[2J": values, "x" * 300: [None, None, 1.0]}}
    folder = job(tmp_path, num_records=0, algo={"name": "<b>", "big": 10**400, "\x1b": "\x9b\n"}, label="\x1b[31m<b>")
    write_records(folder, [record])
    assert sync.sync(folder) == (True, "delivered 1 records")
    place.settle(folder.parent)
    where = place.find(folder)
    assert where.name == "-[31m-b-"
    assert read(where / "seed_3")["train/\\ud800\\x1b[2J"] == [(1, float("inf"), START)]
    found = hparams(where / "final")[0]
    assert found["algo"] == "<b>" and found["algo.\\x1b"] == "\\x9b\\n" and len(found["algo.big"]) == 200
    (folder / "config.yaml").write_text("env: wrong")
    (folder / "metrics.jsonl").write_text("")
    assert sync.sync(folder) == (False, f"failed: {folder}/config.yaml: expected a mapping as env, received 'wrong'")
    place.settle(folder.parent)


def test_places_are_called_by_the_names_of_the_study_once_nobody_writes_them(tmp_path):
    study = tmp_path / "study one"
    first = job(tmp_path, "dqn-1", 1, algo={"name": "dqn", "optimizer": {"lr": 0.1}})
    second = job(tmp_path, "dqn-2", 1, algo={"name": "dqn", "optimizer": {"lr": 0.2}})
    third = job(tmp_path, "odd", 1, algo={"name": "dqn"}, label="../..")
    job(tmp_path, "other", 1, algo={"name": "dqn"}, label="elsewhere")  # trained without TensorBoard
    for folder in (first, second, third):
        assert sync.sync(folder)[0] and place.find(folder) == study / "tensorboard" / folder.name
    with place.lock(second):
        place.settle(study)
    assert place.find(first).name == "dqn lr=0.1" and place.find(second).name == "dqn-2"
    assert place.find(third).name == "-"
    place.settle(study)
    assert place.find(second).name == "dqn lr=0.2" and all(map(deliver.is_delivered, (first, second, third)))
    # Names that change places, and one that is taken.
    for folder, lr in ((first, 0.2), (second, 0.1)):
        config = {"algo": {"name": "dqn", "optimizer": {"lr": lr}}, "env": {"name": "cartpole", "id": "CartPole-v1"}}
        (folder / "config.yaml").write_text(json.dumps(config))
    (study / "tensorboard" / "dqn lr=0.3").mkdir()
    place.settle(study)
    assert (place.find(first).name, place.find(second).name) == ("dqn lr=0.2", "dqn lr=0.1")
    assert sorted(path.name for path in (study / "tensorboard").iterdir()) == [
        "-",
        "dqn lr=0.1",
        "dqn lr=0.2",
        "dqn lr=0.3",
    ]


def test_a_job_whose_folder_is_called_like_another_job_has_a_place_of_its_own(tmp_path):
    first = job(tmp_path, "dqn-1", 1, label="dqn-2")
    assert sync.sync(first)[0]
    place.settle(first.parent)
    assert place.find(first).name == "dqn-2"
    second = job(tmp_path, "dqn-2", 2)
    assert sync.sync(second)[0] and place.find(second).name == "dqn-2.events"
    place.settle(first.parent)
    assert (place.find(first).name, place.find(second).name) == ("dqn-2", "dqn")
    assert deliver.is_delivered(first) and deliver.is_delivered(second)


def follow(names, folder, output_dir):
    following = base.open_tracker(names, None, [folder], output_dir)
    following.start()
    return following


def test_the_tracker_writes_while_the_job_runs(tmp_path, monkeypatch):
    import tensorflow  # noqa: F401  # as while training

    monkeypatch.setattr(tracker, "INTERVAL", 0.01)
    folder = job(tmp_path, num_records=2, status=None)
    following = follow(["tensorboard"], folder, tmp_path)
    where, deadline = place.find(folder), time.monotonic() + 30
    while not (where / "seed_5").is_dir() or len(read(where / "seed_5")) == 0:
        assert time.monotonic() < deadline
    write_records(folder, [make_record(index) for index in range(20)])
    end_job(folder, "done")
    following.end(folder, "done")
    result = following.close(60.0)[folder]
    root = tmp_path / "study one" / "tensorboard"
    assert result == base.TrackingResult(
        True, f"TensorBoard: event files are in {root}", f"tensorboard --logdir '{root}'"
    )  # fmt: skip
    assert place.find(folder).name == "dqn"  # its name in the study
    assert_delivered_once(place.find(folder), [make_record(index) for index in range(20)])
    assert hparams(place.find(folder) / "final")[2] == 1


@pytest.mark.parametrize("obstacle", ["a file", "a link", "a link inside", "no space"])
def test_what_cannot_be_written_is_told_in_one_line_with_the_command_that_delivers_it(tmp_path, monkeypatch, obstacle):
    folder, elsewhere = job(tmp_path, num_records=2), tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = folder.parent / "tensorboard"
    if obstacle == "a file":
        root.touch()
    elif obstacle == "a link":
        root.symlink_to(elsewhere)
    elif obstacle == "a link inside":
        (root / "job").mkdir(parents=True)
        (root / "job" / "seed_4").symlink_to(elsewhere)
    else:

        def full(self):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(EventFile, "publish", full)
    following = follow(["files", "tensorboard"], folder, tmp_path)
    following.end(folder, "done")
    result = following.close(60.0)[folder]
    assert not result.delivered
    files, line = result.message.splitlines()
    assert files == f"Results: {folder}"
    reason = {"a file": "Not a directory", "no space": "No space left on device"}.get(obstacle, "symbolic link to")
    if obstacle == "a link":
        reason = "expected a folder of its own, received a symbolic link"
    assert line.startswith("Warning: TensorBoard has not received all of this job (") and reason in line
    assert line.endswith(f"; this delivers the rest: rlexp sync --to tensorboard '{folder}'")
    assert not list(elsewhere.iterdir()) and not list(tmp_path.rglob(".unfinished*"))
    with pytest.raises((LinkFound, OSError)):
        deliver.Delivery(folder).finish("done")


def test_without_the_package_there_are_scalars_and_a_sentence_that_says_what_is_missing(tmp_path, monkeypatch):
    folder = job(tmp_path, num_records=2)
    with monkeypatch.context() as patch:
        patch.setattr(hyperparameters, "available", lambda: False)
        following = follow(["tensorboard"], folder, tmp_path)
        following.end(folder, "done")
        result = following.close(60.0)[folder]
        assert result.delivered and result.ui_command is None and deliver.is_delivered(folder)
        assert result.message.endswith(
            "/tensorboard; its page and the hyper-parameters need a package: pip install 'rlexp[tensorboard]'"
        )
        assert "final/return/iqm" in read(place.find(folder) / "final")
    assert sync.sync(folder) == (True, "delivered 2 records")  # once it is there
    assert hparams(place.find(folder) / "final")[0]["algo"] == "dqn"


def test_a_finished_job_is_delivered_by_the_command_that_trained_it(tmp_path):
    from types import SimpleNamespace

    from rlexp.config.schema.job import TrackingSettings

    folder, said = job(tmp_path, num_records=2), []
    settings = SimpleNamespace(tracking=TrackingSettings(name=["files", "tensorboard"]), folder=folder)
    for _ in range(2):
        late.deliver(settings, said.append)
    assert said == [f"TensorBoard: event files are in {folder.parent / 'tensorboard'}"] and deliver.is_delivered(folder)


def test_the_end_of_a_sweep_names_what_is_missing_of_its_jobs(tmp_path):
    good, bad = (job(tmp_path, name, 1, label=name) for name in ("good", "bad"))
    sweep = tmp_path / "study one" / "sweeps" / "1"
    sweep.mkdir(parents=True)
    jobs = [{"status": "done", "folder": str(folder)} for folder in (good, bad)]
    (sweep / "sweep.json").write_text(json.dumps({"status": "done", "jobs": jobs}))
    assert sync.sync(good)[0]
    following = follow(["tensorboard"], sweep, tmp_path)
    following.end(sweep, "done")
    results = following.close(1.0)
    assert {folder: result.delivered for folder, result in results.items()} == {sweep: True, bad: False}
    assert following.sync_command(good.parent) == f"rlexp sync --to tensorboard '{good.parent}'"


def test_a_sweep_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "learning_curve", lambda *args: None)  # most of the time of a job of 40 steps
    options = ["algo=q_learning", "env=frozen_lake", "engine=host", "trials=2", "budget.steps=40", "evaluation.num_episodes=1",
               "evaluation.final_episodes=1", "evaluation.candidates=1", "animation.enabled=false"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["rlexp", "-m", *options, "algo.gamma=.9,.8", "tracking=[files,tensorboard]"])
    assert cli._status() == 0
    root = tmp_path / "outputs" / "default" / "tensorboard"
    said = capsys.readouterr().out.splitlines()
    assert said.count(f"TensorBoard: event files are in {root}") == 2
    assert said.count(f"look at it:  tensorboard --logdir {root}") == 3  # of each job and the sweep
    assert sorted(path.name for path in root.iterdir()) == ["q_learning gamma=0.8", "q_learning gamma=0.9"]
    for folder in root.parent.glob("q_learning-*"):
        assert deliver.is_delivered(folder)
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for k in range(2):
            returns = read(place.find(folder) / f"seed_{k}")["final/return"]
            assert returns == expected(records, "final/return", k) and len(returns) == 1
    shutil.rmtree(root)
    monkeypatch.setattr(sys, "argv", ["rlexp", *options, "algo.gamma=.8", "tracking=tensorboard"])
    assert cli._status() == 0  # already done, and delivered again
    assert [path.name for path in root.iterdir()] == ["q_learning gamma=0.8"]


def test_the_command_delivers_a_study_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "OUTPUTS", Path("outputs"))
    folder = job(tmp_path / "outputs", num_records=2, status=None)
    runs = job(tmp_path / "outputs", "runs", 2, status=None, label="second")
    from filelock import FileLock

    with FileLock(runs / ".lock"):
        assert command.main(["--to", "tensorboard", "study one"]) == 1
    root = folder.parent / "tensorboard"
    assert capsys.readouterr().out.splitlines() == [
        f"{folder}: delivered 2 records",
        f"{runs}: delivered 2 records; the rest once it has ended (one is at work)",
        f"See: tensorboard --logdir '{root}'",
    ]
    assert hparams(root / "dqn" / "final")[2] == 0  # killed: the status is unknown
    assert command.main(["--to", "tensorboard"]) == 0  # all of `outputs`
    assert capsys.readouterr().out.splitlines()[:2] == [f"{folder}: nothing new", f"{runs}: delivered 2 records"]


@pytest.mark.parametrize(("arguments", "said"), [
    (["--to", "tensorbord"], "refused: --to: expected mlflow or tensorboard, received 'tensorbord'.\nDid you mean tensorboard?\n"),
    (["--to", "tensorboard", "--rebuild", "x"], "refused: --tracking-uri, --rebuild and --follow are for MLflow\nrlexp sync --help shows what there is.\n"),
    (["--rebuild"], "refused: --rebuild needs the output folder\nrlexp sync --help shows what there is.\n"),
    (["--to", "tensorboard", "nowhere"], "refused: PATH: expected a folder of jobs, received nowhere, where is no job.json, nor two folders below.\n"),
])  # fmt: skip
def test_wrong_commands(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    assert capsys.readouterr().err == said
