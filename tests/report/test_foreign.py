"""Results of other programs: a tidy CSV beside a study."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from rlexp.cli.report import main
from rlexp.report import foreign
from rlexp.report.foreign import load
from rlexp.system.stored_files import Damaged
from tests.studies import make_job

HEADER = "job,seed,step,metric,value\n"
CARTPOLE = {"name": "cartpole", "id": "CartPole-v1"}
ACROBOT = {"name": "acrobot", "id": "Acrobot-v1"}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def curve(job: str, seeds: int, steps: range, level: float, metric: str = "eval/return") -> str:
    return "".join(f"{job},{seed},{step},{metric},{level + seed}\n" for seed in range(seeds) for step in steps)


def test_a_tidy_table_becomes_jobs_with_curves_and_final_returns(tmp_path: Path) -> None:
    rows = "ppo,0,100,eval/return,1\nppo,1,100,eval/return,2\nppo,0,2e2,eval/return,3\nppo,1,200.0,eval/return,\n"
    rows += "ppo,0,200,final/return,5.5\nppo,1,200,final/return,6\nppo,0,200,train/loss,9\n"
    (job,) = load(write(tmp_path / "runs.csv", HEADER + rows), [CARTPOLE]).jobs
    assert (job.job["algo"], job.job["env"], job.job["seeds"]) == ("ppo", "cartpole", [0, 1])
    steps, values = job.curves["eval/return"]
    assert steps.tolist() == [100, 200] and list(job.curves) == ["eval/return"]
    np.testing.assert_array_equal(values, [[1, 2], [3, np.nan]])
    assert job.summary is not None and job.summary["final/return"] == {"per_trial": [5.5, 6.0]}
    assert isinstance(job, foreign.ForeignJob) and job.told == "Its final returns are its final/return."


def test_columns_may_have_any_order_and_others_beside_them(tmp_path: Path) -> None:
    text = "\ufeff,value,step,seed,metric,job\r\n0,7,10,3,eval/return,a\r\n\r\n1,8,20,3,eval/return,a\r\n"
    (job,) = load(write(tmp_path / "runs.csv", text), [CARTPOLE]).jobs
    assert job.job["seeds"] == [3] and job.curves["eval/return"].values[:, 0].tolist() == [7, 8]
    assert job.summary is not None and job.summary["final/return"] == {"per_trial": [8.0]}
    assert "the last evaluation of each trial" in job.told


def test_training_alone_is_drawn_and_not_compared(tmp_path: Path) -> None:
    rows = "".join(f"dqn,{seed},{10 * k + 3 * seed},train/return,{k}\n" for seed in range(3) for k in range(1000))
    (job,) = load(write(tmp_path / "runs.csv", HEADER + rows), [CARTPOLE]).jobs
    steps, values = job.curves["train/return"]
    assert (
        values.shape == (foreign.INTERVALS, 3) and np.isfinite(values).all()
    )  # their steps differ: means over intervals
    assert steps[-1] == 9996 and (np.diff(values, axis=0) > 0).all()
    assert values[0].tolist() == pytest.approx([3, 3, 3], abs=0.5)
    assert job.summary is not None and "final/return" not in job.summary
    assert "its curve is drawn, but it is not compared" in job.told and "means over 150 intervals" in job.told


def test_environments_come_from_a_column_a_name_or_the_only_study(tmp_path: Path) -> None:
    both = [CARTPOLE, ACROBOT]
    named = load(write(tmp_path / "a.csv", HEADER + "ppo on acrobot,0,1,eval/return,1\n"), both).jobs
    assert [(job.job["algo"], job.job["env"]) for job in named] == [("ppo", "acrobot")]
    text = "env,job,seed,step,metric,value\nCartPole-v1,ppo,0,1,eval/return,1\nacrobot,ppo,0,1,eval/return,2\n"
    by_id = load(write(tmp_path / "b.csv", text), both).jobs
    assert [(job.job["algo"], job.job["env"]) for job in by_id] == [("ppo", "cartpole"), ("ppo", "acrobot")]
    (other,) = load(write(tmp_path / "c.csv", "env,job,seed,step,metric,value\nOwn-v0,x,0,1,eval/return,1\n"), []).jobs
    assert other.job["env"] == "Own-v0"
    with pytest.raises(
        Damaged, match=r"expected a column env, or jobs named '... on <environment>' \(one of 'cartpole', "
    ):
        load(write(tmp_path / "d.csv", HEADER + "ppo,0,1,eval/return,1\n"), both)
    with pytest.raises(Damaged, match="there is no study to take it from"):
        load(write(tmp_path / "e.csv", HEADER + "ppo,0,1,eval/return,1\n"), [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"runs.csv, line 1: expected the columns job, seed, step, metric, value, each once, received nothing"),
        ("job,seed,step,value\n", r"line 1: expected the columns .*, received 'job', 'seed', 'step', 'value'"),
        (HEADER, "runs.csv: expected rows with the metric eval/return or train/return, received none"),
        (HEADER + "a,0,1,loss,1\n", "expected rows with the metric eval/return or train/return, received none"),
        (HEADER + "a,0,1,final/return,1\n", "expected rows of 'a' with the metric eval/return or train/return"),
        (HEADER + "a,0,1,eval/return\n", "line 2: expected 5 values, received 4"),
        (HEADER + "a,0,1,eval/return,1\na,x,1,eval/return,1\n", "line 3: expected a whole number from 0 on as seed, received 'x'"),
        (HEADER + "a,0,-1,eval/return,1\n", "line 2: expected a whole number from 0 on as step, received '-1'"),
        (HEADER + "a,0,1.5,eval/return,1\n", "line 2: expected a whole number from 0 on as step"),
        (HEADER + "a,0,1e30,eval/return,1\n", "line 2: expected a whole number from 0 on as step"),
        (HEADER + "a,0,1,eval/return,much\n", "line 2: expected a number between -1e\\+100 and 1e\\+100 as value, received 'much'"),
        (HEADER + "a,0,1,eval/return,inf\n", "as value, received 'inf'"),
        (HEADER + ",0,1,eval/return,1\n", "line 2: expected the name of a job, received none"),
        (HEADER + 'a,0,1,eval/return,"1\n', "line 2: expected a row of a CSV, received unexpected end of data"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(Damaged, match=said):
        load(write(tmp_path / "runs.csv", text), [CARTPOLE])


def test_other_bytes_and_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs.csv").write_bytes(HEADER.encode() + b"a,0,1,eval/return,1\n\xff\xfe")
    with pytest.raises(Damaged, match=r"runs\.csv, line 3: expected text in UTF-8, received other bytes"):
        load(tmp_path / "runs.csv", [CARTPOLE])
    assert main([str(tmp_path / "none.csv"), "--output-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"refused: {tmp_path / 'none.csv'}: ")


def test_studies_and_other_programs_stand_on_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, level in (("monday", 100.0), ("tuesday", 400.0)):
        make_job(tmp_path / name, "ppo", np.arange(10) + level)
    make_job(tmp_path / "tuesday", "ddqn", np.arange(10) + 200.0)
    evil = "<b>sb3</b>"
    text = HEADER + curve("ppo", 10, range(1000, 20001, 1000), 300) + curve(evil, 10, range(1000, 20001, 1000), 50)
    runs = write(tmp_path / "runs.csv", text)
    assert main(["monday", "tuesday", str(runs), "--output-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("On cartpole ppo (tuesday) won, and that is certain")
    page = tmp_path / "reports" / "monday+tuesday+runs-csv" / "index.html"
    assert said[-1] == f"report: {page}"
    shown = page.read_text()
    assert "<h1>Studies monday, tuesday and runs.csv</h1>" in shown
    for label in ("ppo (monday)", "ppo (tuesday)", "ppo (runs.csv)"):  # with their study, where names are alike
        assert f"<h4>{label}</h4>" in shown
    assert "<h4>ddqn</h4>" in shown and 'data-label="study">tuesday' in shown
    assert (
        "ppo (runs.csv) on cartpole (runs.csv) was not trained by rlexp. Its final returns are the last evaluation"
        in shown
    )
    assert "&lt;b&gt;sb3&lt;/b&gt;" in shown and evil not in shown
    assert f"Results of other programs: {runs}." in shown
    with (page.parent / "tables" / "comparisons.csv").open() as file:
        paired = {(row["first"], row["second"]): row["paired"] for row in csv.DictReader(file)}
    assert paired["ppo (tuesday)", "ppo (monday)"] == "True" and paired["ppo (tuesday)", "ppo (runs.csv)"] == "False"


def test_a_study_that_is_missing_or_named_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_job(tmp_path / "monday", "dqn", [1.0] * 5)
    assert main(["monday", "tuesday", "--output-dir", str(tmp_path)]) == 2
    assert "expected a study under" in capsys.readouterr().err
    assert main(["monday", "monday", "--output-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "refused: study: expected each study once, received monday several times.\n"
    assert not (tmp_path / "reports").exists()
