import json

import numpy as np
import pytest

from rlexp.jobs.results import load_config, load_job, load_study
from tests.studies import make_job

RECORDS = [
    {"step": 100, "time": 1.0, "metrics": {"train/return": [9.0, 8], "eval/return": [10.0, None]}},
    {"step": 200, "time": 2.0, "metrics": {"train/return": [12.5, None]}},
    {"step": 300, "time": 3.0, "metrics": {"eval/return": [500, 7.25]}},
]


@pytest.fixture
def job(tmp_path):
    (tmp_path / "job.json").write_text(json.dumps({"algo": "dqn", "seeds": [3, 4]}))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return tmp_path


def test_curves_are_steps_and_values_of_all_trials(job):
    (job / "summary.json").write_text(json.dumps({"status": "done"}))
    data = load_job(str(job))
    assert data.folder == job
    assert data.job == {"algo": "dqn", "seeds": [3, 4]}
    assert data.summary == {"status": "done"}
    assert list(data.curves) == ["train/return", "eval/return"]
    steps, values = data.curves["train/return"]
    np.testing.assert_array_equal(steps, [100, 200])
    np.testing.assert_array_equal(values, [[9.0, 8.0], [12.5, np.nan]])
    assert (steps.dtype, values.dtype) == (np.int64, np.float64)
    np.testing.assert_array_equal(data.curves["eval/return"][0], [100, 300])
    np.testing.assert_array_equal(data.curves["eval/return"][1], [[10.0, np.nan], [500.0, 7.25]])


def test_a_job_that_has_just_started_has_no_curves(job):
    (job / "metrics.jsonl").unlink()
    assert (load_job(job).summary, load_job(job).curves) == (None, {})
    (job / "metrics.jsonl").write_text("")
    assert load_job(job).curves == {}


def test_a_last_line_cut_anywhere_is_left_out(job):
    path = job / "metrics.jsonl"
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for size in range(last, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert load_job(job).curves["eval/return"][0].tolist() == [100], whole[last:size]
    path.write_bytes(whole[:-1])  # complete but for the newline
    assert load_job(job).curves["eval/return"][0].tolist() == [100, 300]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ('{"step": 200, "ti', "one with Unterminated string"),
        ("", "an empty line"),
        ("[" * 100_000, "one that is nested too deeply"),
        ('{"step": 200, "time": 1.0}', "one with metrics = None"),
        ('{"step": 2e400, "time": 1.0, "metrics": {}}', "one with step = inf"),
        ('{"step": 200, "time": 1.0, "metrics": {"eval/return": [1.0]}}', r"one with eval/return = a list of 1"),
        ('{"step": 200, "time": 1.0, "metrics": {"eval/return": 1.0}}', r"one with eval/return = 1\.0"),
        ('{"step": 200, "time": 1.0, "metrics": {"eval/return": ["1", "2"]}}', r"one with eval/return = a list of 2"),
        ('{"step": 200, "time": 1.0, "metrics": {}, "sum": "00000000"}', "one with numbers that have changed since"),
        ("[200]", "one with a list of 1"),
    ],
)
def test_a_broken_line_before_the_end_names_file_and_line(job, broken, reason):
    lines = (job / "metrics.jsonl").read_text().splitlines()
    (job / "metrics.jsonl").write_text("\n".join([lines[0], broken, lines[2], ""]))
    with pytest.raises(
        ValueError, match=rf"metrics\.jsonl, line 2: expected a record of 2 trials, received .*{reason}"
    ):
        load_job(job)


def test_a_broken_last_line_that_was_ended_is_an_error(job):
    with (job / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40\n')
    with pytest.raises(ValueError, match="line 4"):
        load_job(job)


def test_broken_json_files_are_named(job):
    (job / "summary.json").write_text("{")
    with pytest.raises(ValueError, match=r"summary\.json: expected JSON, received Expecting property name"):
        load_job(job)


def test_a_folder_without_job_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not a job's folder: it has no job\.json"):
        load_job(tmp_path)


def test_a_study_is_its_jobs_and_what_could_not_be_read(tmp_path):
    make_job(tmp_path / "s", "dqn", [1.0, 2.0])
    make_job(tmp_path / "s", "ddqn", None, status="")
    (make_job(tmp_path / "s", "pg", [1.0]) / "config.yaml").write_text("a: [")
    (tmp_path / "s" / "report").mkdir()
    study = load_study(tmp_path / "s")
    assert (study.name, [job.job["algo"] for job in study.jobs]) == ("s", ["ddqn", "dqn"])
    assert study.jobs[1].config["algo"] == {"name": "dqn"} and study.jobs[0].summary is None
    ((name, problem),) = study.problems.items()
    assert name.startswith("pg-cartpole-") and "config.yaml is not a configuration: while parsing" in problem
    assert [job.folder for job in load_study(study.jobs[0].folder).jobs] == [study.jobs[0].folder]
    assert load_study(tmp_path).jobs == []


@pytest.mark.parametrize("text", ["- 1\n", "", "!!python/object/apply:os.system ['true']"])
def test_a_configuration_is_a_mapping_and_plain_data(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml is not a configuration"):
        load_config(tmp_path)


def test_final_episodes_are_read_or_it_is_said_why_not(tmp_path):
    folder = make_job(tmp_path / "s", "dqn", [1.0, 3.0], noise=lambda n: np.array([[1.0, -1.0], [0.5, -0.5]]))
    (job,) = load_study(tmp_path / "s").jobs
    assert job.episodes.seeds == (5000, 5001) and job.episodes.returns.tolist() == [[2, 0], [3.5, 2.5]]
    path = folder / "evaluation.csv"
    text = path.read_text()
    for broken, why in (
        (text.replace("2.0", "9.0"), "expected the final returns as the means of their episodes"),
        (text.replace("1,5001", "1,5002"), "expected the same episodes of each trial"),
        (text.replace("2.0", "two"), "could not convert"),
        ("", "expected the same episodes of each trial"),
    ):
        path.write_text(broken)
        (job,) = load_study(tmp_path / "s").jobs
        assert job.episodes is None and job.no_episodes.startswith(f"evaluation.csv cannot be used: {why}")
    path.unlink()
    assert load_study(tmp_path / "s").jobs[0].no_episodes == "no evaluation.csv"
