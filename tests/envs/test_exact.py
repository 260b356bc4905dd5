"""Exact values of the best weights, where the environment is a transition table."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rlexp.envs import transition_table
from rlexp.envs.exact import horizon
from rlexp.jobs.console import JobConsole
from rlexp.jobs.policy import load_policy, load_settings
from rlexp.jobs.runner import compose, resolve
from tests.conftest import records

OPTIONS = ("evaluation.num_episodes=5", "evaluation.final_episodes=7", "trials=2")


def by_hand(job: Any, observations: Any) -> list[float]:
    """What the saved policies are worth, one state after the other."""
    settings = load_settings(job.folder)
    table = transition_table.load(settings.env)
    assert table is not None and table.start is not None
    steps = horizon(settings, resolve(settings)[1])
    found = []
    for seed in settings.seeds:
        policy = load_policy(job.folder, seed=seed)
        actions = [int(policy(observations(s))) for s in range(len(table.reward))]
        v = np.zeros(len(table.reward))
        for _ in range(steps):
            v = np.array([table.reward[s, a] + table.transition[s, a] @ v for s, a in enumerate(actions)])
        found.append(float(table.start @ v))
    return found


@pytest.mark.parametrize("engine", ["host", pytest.param("fused", marks=pytest.mark.slow)])
def test_tables_are_worth_what_their_greedy_policies_are(engine: str, tiny: Callable[..., Any]) -> None:
    job = tiny("q_learning", "env=frozen_lake", "budget.steps=3000", f"engine={engine}", *OPTIONS)
    value = job["final/value"]["per_trial"]
    assert value == pytest.approx(by_hand(job, lambda s: s), abs=1e-12) and max(value) > 0
    assert records(job.folder)[-1]["metrics"]["final/value"] == value
    assert job.curves["final/value"].values[-1].tolist() == value
    assert job["optimum"] == pytest.approx(0.74419, abs=1e-5)


@pytest.mark.slow
def test_networks_on_numbered_states_too(tiny: Callable[..., Any]) -> None:
    job = tiny("dqn", "env=frozen_lake", "+env.kwargs.is_slippery=false", *OPTIONS)
    assert job["final/value"]["per_trial"] == pytest.approx(by_hand(job, lambda s: np.eye(16)[s]), abs=1e-12)
    assert job["optimum"] == 1


def test_action_masks_are_those_of_the_policy(tiny: Callable[..., Any]) -> None:
    job = tiny("q_learning", "env=taxi", "budget.steps=500", *OPTIONS)
    settings = load_settings(job.folder)
    from rlexp.envs.toy_text import action_masks

    masks = action_masks(settings.env)
    assert masks is not None
    expected = by_hand(job, lambda s: np.concatenate([[s], masks[s]]))
    assert job["final/value"]["per_trial"] == pytest.approx(expected, abs=1e-9)


def test_planning_reaches_the_optimum_and_the_table_says_so(
    tiny: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    job = tiny("q_value_iteration", "env=cliff_walking", "algo.gamma=1.0", *OPTIONS)
    assert job["final/value"]["per_trial"] == [-13, -13] and job["optimum"] == -13
    JobConsole(2).table(job)
    assert (
        "exact value of these policies, from the transition table: IQM -13, min -13, max -13; of the best of all policies -13"
    ) in capsys.readouterr().out.replace("-13.0", "-13")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("pg", "env=frozen_lake", "evaluation.policy=sampled"), marks=pytest.mark.slow),  # draws actions
        ("random", "env=frozen_lake"),  # too, and has no weights
        ("q_learning",),  # CartPole has no table
        pytest.param(("dqn", "env=frozen_lake", "env.frame_stack=2"), marks=pytest.mark.slow),  # sees more than a state
    ],
)
def test_elsewhere_there_is_none(options: tuple[str, ...], tiny: Callable[..., Any]) -> None:
    job = tiny(*options, *OPTIONS)
    assert "final/value" not in job and "final/value" not in job.curves and "optimum" not in job


def test_an_action_that_does_not_exist_has_no_value() -> None:
    P = {0: {0: [(1.0, 1, 1.0, False)], 1: [(1.0, 0, 0.0, True)]}, 1: {1: [(1.0, 1, 5.0, True)]}}
    table = transition_table.dense(P, 2, 2, np.array([1.0, 0.0]))
    assert table.policy_return(np.array([0, 1]), 2) == 6 and table.policy_return(np.array([1, 0]), 2) == 0
    assert np.isnan(table.policy_return(np.array([0, 0]), 2))  # comes to state 1, which has no action 0
    assert table.policy_return(np.array([0, 0]), 1) == 1  # not within one step


def test_the_best_weights_are_named_by_what_chose_them(
    tiny: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for selection, name, told in (
        ("train_episode", "best_train_episode", "best training episode"),
        ("last", "last_eval_return", "last eval return"),
        ("eval", "best_eval_return", "best eval return"),
    ):
        job = tiny("q_learning", "env=frozen_lake", f"evaluation.selection={selection}", "rerun=true", *OPTIONS)
        assert [key for key in job["trials"][0] if key.startswith(("best_", "last_"))] == [name, "best_step"]
        assert (job["trials"][0]["candidate_return"] is None) == (selection != "eval")
        JobConsole(2).table(job)
        assert told in capsys.readouterr().out
    old = json.loads((job.folder / "summary.json").read_text())  # of an earlier version: one name for all rules
    del old["selection"]
    JobConsole(2).table(old)
    assert "best score" in capsys.readouterr().out
    assert compose("algo=q_learning", "env=frozen_lake").evaluation.selection == "eval"
