"""The sweep over all families, and what its report says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from rlexp.config import paths
from rlexp.config.paths import conf_dir
from rlexp.jobs.results import load_study
from rlexp.jobs.runner import compose
from rlexp.report import families, study
from rlexp.report.grouping import tasks
from tests.studies import make_job

MEMBERS = ("pg", "ppo", "q_random", "q_epsilon", "q_log_alpha", "q_constant", "q_visits", "dqn", "fixed_dqn", "ddqn",
           "dueling_ddqn")  # fmt: skip
LINEAR = {"kind": "linear", "initial": 1.0, "final": 0.1, "duration": 1000.0, "unit": "step"}
LOG10 = {"kind": "log10", "initial": 1.0, "final": 0.1, "duration": 25.0, "decay": 1.0, "unit": "step"}
EXPONENTIAL = {**LINEAR, "kind": "exponential", "decay": 0.1}


def swept() -> list[str]:
    sweep: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "sweep" / "families.yaml"))
    return [name.strip() for name in sweep["hydra"]["sweeper"]["params"]["+experiment"].split(",")]


def test_the_sweep_is_one_axis_of_named_members() -> None:
    assert swept() == [f"families/{name}" for name in MEMBERS]
    assert {f"families/{name}" for name in MEMBERS} == {n for n in paths.configured("experiment") if "families/" in n}


@pytest.mark.parametrize("env", ["cartpole", "frozen_lake"])
def test_its_members_have_one_budget_and_differ_in_what_they_are(env: str) -> None:
    jobs = [compose(f"+experiment=families/{name}", "+sweep=families", f"env={env}") for name in MEMBERS]
    assert {(job.study, job.max_steps, job.trials, job.env.name) for job in jobs} == {("families", 50_000, 10, env)}
    assert [job.label for job in jobs] == list(MEMBERS) and len({job.group_id for job in jobs}) == len(MEMBERS)
    assert (
        len({(e.period, e.num_episodes, e.selection, e.final_episodes) for e in (job.evaluation for job in jobs)}) == 1
    )
    assert [families.family_of(name) for name in ("pqn", "sac", "td3", "random")] == [
        "DQN",
        *["policy gradients"] * 2,
        None,
    ]
    assert [families.family_of(job.algo.name) for job in jobs] == ["policy gradients"] * 2 + ["tables"] * 5 + [
        "DQN"
    ] * 4
    shorter = compose("+experiment=families/ddqn", "+sweep=families", "budget.steps=20000", "trials=3")
    assert shorter.algo.epsilon["duration"] == 4_000
    assert (shorter.max_steps, shorter.trials) == (20_000, 3)
    counted = compose("+experiment=families/q_epsilon", "+sweep=families", "budget.steps=20000").algo.epsilon
    assert (counted["duration"], counted["unit"]) == (25, "episode")  # as the chapter has it


def test_labels_change_no_job() -> None:
    plain = compose("algo=ddqn")
    named = compose("algo=ddqn", "label=mine")
    assert plain.config_id == named.config_id and named.label == "mine" and plain.label is None


def test_schedules_are_called_by_their_kinds_where_these_tell_them_apart(tmp_path: Path) -> None:
    def labels(folder: Path) -> list[str]:
        return sorted(c.label for task in tasks(load_study(folder).jobs) for c in task.contenders)

    for epsilon in (LINEAR, LOG10, EXPONENTIAL, {"kind": "constant", "initial": 0.1, "unit": "step"}):
        make_job(tmp_path / "a", "q_learning", [1.0], config={"epsilon": epsilon})
    names = [f"q_learning epsilon {kind}" for kind in ("constant", "exponential", "linear", "log10")]
    assert labels(tmp_path / "a") == names
    for lr in (LINEAR, {**LINEAR, "duration": 500.0}, LOG10):
        make_job(tmp_path / "b", "dqn", [1.0], config={"optimizer": {"lr": lr}})
    assert labels(tmp_path / "b") == [
        "dqn lr linear 1 to 0.1 in 1000 steps", "dqn lr linear 1 to 0.1 in 500 steps", "dqn lr log10",
    ]  # fmt: skip


def labelled(folder: Path, name: str, algo: str, final: list[float], **config: Any) -> None:
    import json

    path = make_job(folder, algo, final, config=config) / "config.yaml"
    path.write_text(json.dumps({**json.loads(path.read_text()), "label": name}))


@pytest.fixture
def a_study(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, algo, middle in (("pg", "pg", 200), ("ppo", "ppo", 490), ("dqn", "dqn", 450), ("ddqn", "ddqn", 495),
                               ("q_random", "q_learning", 30), ("q_visits", "q_learning", 150)):  # fmt: skip
        labelled(
            tmp_path / "s", name, algo, list(middle + rng.normal(0, 5, 10)), visit_power=0.7 * (name == "q_visits")
        )
    labelled(tmp_path / "s", "floor", "random", [20.0] * 10)
    return tmp_path / "s"


def test_families_stand_where_their_best_members_stand(a_study: Path) -> None:
    (task,) = tasks(load_study(a_study).jobs)
    ranked = families.families(task)
    assert [(f.name, [c.label for c in f.members]) for f in ranked] == [
        ("DQN", ["ddqn", "dqn"]), ("policy gradients", ["ppo", "pg"]), ("tables", ["q_visits", "q_random"]),
    ]  # fmt: skip
    assert ranked[0].seeds == list(range(10)) and ranked[2].means.shape == (10,)
    np.testing.assert_allclose(ranked[2].means, (ranked[2].members[0].scores + ranked[2].members[1].scores) / 2)


def test_the_report_ranks_families_and_says_what_is_certain(a_study: Path) -> None:
    """Of 21 pairs of algorithms, and of the three pairs of families."""
    page = study.write(a_study).with_suffix(".md").read_text()
    section = page.split("### Families on cartpole")[1].split("### Which is better")[0]
    assert "By their best members: DQN (ddqn, IQM 49" in section
    assert "The mean of all members of DQN is certainly better than that of policy gradients and tables." in section
    assert "The mean of all members of policy gradients is certainly better than that of tables." in section
    rows = [row.split(" | ") for row in section.splitlines() if row.startswith("| ") and not row.startswith("| famil")]
    assert [row[0] for row in rows[:3]] == ["| DQN", "| policy gradients", "| tables"]
    assert rows[2][3] == "better than 0, worse than 4, undecided against 0" and rows[2][4].startswith("q_visits 1")
    assert rows[3][0] == "| DQN against policy gradients" and rows[3][2:] == ["0.002 (0.006)", "10", "better |"]
    assert "its interval leans to the high side" in section
    assert (a_study / "report" / "figures" / "1-cartpole-families.png").is_file()


def test_one_family_has_no_section(tmp_path: Path) -> None:
    for algo in ("dqn", "ddqn"):
        make_job(tmp_path / "s", algo, [1.0, 2.0])
    assert "Families" not in study.write(tmp_path / "s").with_suffix(".md").read_text()


@pytest.mark.parametrize("algo", ["q_learning", "random", pytest.param("ddqn", marks=pytest.mark.slow)])
def test_regret_is_recorded_where_the_optimum_is_known_whatever_learns(algo: str, tiny: Callable[..., Any]) -> None:
    job = tiny(algo, "env=frozen_lake", "trials=2", "budget.steps=60", "evaluation.period=30")
    regret, returns = job.curves["eval/regret"], job.curves["eval/return"]
    np.testing.assert_allclose(regret.values, 0.744 - returns.values, atol=1e-3)
