"""`rlexp best`: ranks what is finished, and prints what reproduces it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlexp.cli import best
from rlexp.jobs.runner import compose
from rlexp.sweeps.search.objective import Objective


def job(folder: Path, name: str, final: list[float | None], status: str = "done", **more: Any) -> None:
    """A job's folder with final returns, and evaluations that are twice them at step 100."""
    (folder / name).mkdir(parents=True)
    about = {
        "env": "cartpole",
        "seeds": list(range(len(final))),
        "started": 1.0,
        "overrides": ["algo=dqn", f"study={name}"],
    }
    (folder / name / "job.json").write_text(json.dumps({**about, **more}))
    (folder / name / "summary.json").write_text(
        json.dumps({"status": status, "final/return": {"per_trial": final, "iqm": None}})
    )
    values = [None if value is None else 2 * value for value in final]
    line = {"step": 100, "time": 0, "metrics": {"eval/return": values}}
    (folder / name / "metrics.jsonl").write_text(json.dumps(line) + "\n")


def test_the_best_its_score_and_the_second(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "s"
    job(study, "good", [3.0, 5.0, 7.0])
    job(study, "better", [4.0, 5.0, 9.0], overrides=["algo=dqn", "network.hidden_units=[8,8]"])
    job(study, "ended_early", [99.0, 99.0, 99.0], status="pruned")
    job(study, "failed", [None, None, None], status="failed")
    assert best.main([str(tmp_path / "s")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "rlexp algo=dqn 'network.hidden_units=[8,8]'",
        f"  final return (IQM over 3 trials): 6   {study / 'better'}",
        f"  second of 2: 5, 1 worse (better in 2 of 3 seeds, worse in 0)   {study / 'good'}",
        "  the best of several is partly luck: add seed=3 to see it on fresh seeds",
    ]


def test_equal_jobs_share_the_first_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "s"
    job(study, "late", [4.0, 6.0], started=2.0)
    job(study, "first", [6.0, 4.0], started=1.0)
    job(study, "worse", [4.0, 5.0])
    assert best.main(["s", "--output-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "rlexp algo=dqn study=first",
        f"  final return (IQM over 2 trials): 5   {study / 'first'}",
        "rlexp algo=dqn study=late",
        f"  final return (IQM over 2 trials): 5   {study / 'late'}",
        "  these 2 jobs share the first place: equal scores, in the order of their starts",
        f"  next of 3: 4.5, 0.5 worse   {study / 'worse'}",
        "  the best of several is partly luck: add seed=2 to see it on fresh seeds",
    ]


def test_a_diverged_trial_counts_as_the_worst_of_all_as_in_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "s"
    job(study, "whole", [3.0, 5.0, 7.0])
    job(study, "failed", [99.0, 99.0, None], status="failed")
    found = best.ranking(study, Objective())["cartpole"]
    assert [(r.job.folder.name, r.trials.tolist()) for r in found] == [("failed", [99, 99, 3]), ("whole", [3, 5, 7])]
    assert best.main(["s", "--output-dir", str(tmp_path)]) == 0
    assert "  counted: 1 without a score as the worst trial of all on this environment" in capsys.readouterr().out


def test_the_best_of_a_search_is_chosen_by_the_second_look_and_reported_by_its_final_episodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "s"
    for name, final, second_look in (("lucky", [9.0, 9.0], [5.0, 5.0]), ("good", [7.0, 7.0], [8.0, 8.0])):
        job(study, name, list(final))
        path = study / name / "summary.json"
        trials = [{"candidate_return": value, "best_eval_return": 1.0} for value in second_look]
        path.write_text(json.dumps({**json.loads(path.read_text()), "selection": "eval", "trials": trials}))
    (study / "sweeps" / "x").mkdir(parents=True)
    search = {"started": 1.0, "search": {"objective": "final", "threshold": None}}
    (study / "sweeps" / "x" / "sweep.json").write_text(json.dumps(search))
    assert best.main(["s", "--output-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[:4] == [
        "rlexp algo=dqn study=good",
        f"  chosen by its return in the second look at the best weights (IQM over 2 trials): 8   {study / 'good'}",
        "  final return, in fresh episodes (IQM over 2 trials): 7",
        f"  second of 2: 5, 3 worse (better in 2 of 2 seeds, worse in 0)   {study / 'lucky'}",
    ]
    assert best.main(["s", "--output-dir", str(tmp_path), "--objective", "final"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "rlexp algo=dqn study=lucky"


def test_each_environment_has_its_best_and_a_last_search_its_objective(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "s"
    job(study, "one", [3.0], env="acrobot")
    job(study, "two", [4.0])
    (study / "sweeps" / "x").mkdir(parents=True)
    search = {"started": 1.0, "search": {"objective": "steps_to_threshold", "threshold": 7.0}}
    (study / "sweeps" / "x" / "sweep.json").write_text(json.dumps(search))
    assert best.main(["s", "--output-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "acrobot:\n" in said and "cartpole:\n" in said
    assert "env steps to eval/return 7 (IQM over 1 trial): 200 " in said  # 6 is not 7: twice the last step
    assert "env steps to eval/return 7 (IQM over 1 trial): 100 " in said
    assert best.main(["s", "--output-dir", str(tmp_path), "--objective", "area"]) == 0
    assert "area under eval/return per step (IQM over 1 trial): 8 " in capsys.readouterr().out


def test_fewer_steps_are_better_and_of_equals_the_first_one(tmp_path: Path) -> None:
    for name, final, started in (("slow", [1.0], 0.0), ("late", [4.0], 2.0), ("first", [4.0], 1.0)):
        job(tmp_path, name, list(final), started=started)
    found = best.ranking(tmp_path, Objective("steps_to_threshold", 8.0))["cartpole"]
    assert [(ranked.job.folder.name, ranked.score) for ranked in found] == [
        ("first", 100.0),
        ("late", 100.0),
        ("slow", 200.0),
    ]


def test_a_job_of_a_named_sweep_does_not_start_the_sweep_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["+sweep=search_dqn", "algo=ddqn", "algo.gamma=0.98"]
    job(tmp_path / "s", "x", [1.0], overrides=overrides)
    assert best.main(["s", "--output-dir", str(tmp_path)]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line == "rlexp +sweep=search_dqn algo=ddqn algo.gamma=0.98 hydra.mode=RUN"
    assert compose(*line.split()[1:]).config_id == compose(*overrides).config_id
    shown = subprocess.run(
        [sys.executable, "-m", "rlexp", *line.split()[1:], "--cfg", "hydra"], capture_output=True, text=True
    )
    assert "mode: RUN\n" in shown.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["serch"], "STUDY: expected a study in OUT, received 'serch'.\nDid you mean search?"),
        (["search", "--objective", "steps_to_threshold"], "threshold: expected a return to be reached"),
        (["empty"], "STUDY: expected a finished job with a score (final return), received 'empty' without one."),
        (["unknown"], "STUDY: expected a best job that was composed from overrides, received"),
    ],
)
def test_refusals(args: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job(tmp_path / "search", "x", [1.0])
    job(tmp_path / "empty", "x", [1.0], status="killed")
    job(tmp_path / "unknown", "x", [1.0], overrides=None)
    assert best.main([*args, "--output-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("refused: " + words.replace("OUT", str(tmp_path)))


def test_it_needs_neither_tensorflow_nor_optuna_nor_mlflow() -> None:
    code = "import sys; import rlexp.best; print(sorted({'tensorflow', 'optuna', 'mlflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
