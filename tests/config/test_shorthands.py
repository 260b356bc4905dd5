"""What a person writes is what happens: budgets replace budgets, and schedules go by name."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from rlexp.config import paths, schedules
from rlexp.config.build import build
from rlexp.config.shorthands import as_written, expand, shown
from rlexp.jobs.runner import compose
from rlexp.sweeps.sweep import labels
from rlexp.system.errors import Refusal

NAMED = ("constant", "exponential", "inverse_time", "linear", "log10")


@pytest.mark.parametrize(
    ("written", "steps", "episodes"),
    [
        ("+experiment=book/q_random budget.steps=3000", 3000, None),
        ("budget.steps=3000 +experiment=book/q_random", 3000, None),
        ("+experiment=tuned/pg_cartpole budget.episodes=30", None, 30),
        ("+sweep=families budget.episodes=30", None, 30),
        ("+experiment=book/q_random", None, 10_000),
        ("budget.episodes=7", None, 7),
        ("+experiment=book/q_random budget.steps=null", None, 10_000),
    ],
)
def test_a_budget_that_is_given_replaces_a_presets(written: str, steps: int | None, episodes: int | None) -> None:
    budget = compose(*written.split()).budget
    assert (budget.steps, budget.episodes) == (steps, episodes)


def test_a_budget_may_be_a_mapping_and_both_units_are_refused() -> None:
    assert compose("+experiment=book/q_random", "budget={steps: 3000}").budget.episodes is None
    for both in (("budget.steps=3", "budget.episodes=4"), ("budget={steps: 3, episodes: 4}",)):
        with pytest.raises(Refusal, match=r"^budget: expected steps or episodes, received both\."):
            compose("+experiment=book/q_random", *both)


def test_what_hydra_is_told_is_told_once() -> None:
    written = ["-m", "schedule@algo.epsilon=linear,log10", "budget.steps=1,2", "schedule@algo.optimizer.lr=log10"]
    told = ["-m", "budget.steps=1,2", "budget.episodes=null", "+schedule/epsilon@algo.epsilon=linear,log10",
            "+schedule@algo.optimizer.lr=log10"]  # fmt: skip
    assert expand(written) == told == expand(told)
    assert expand(["+schedule@algo.alpha=constant"]) == ["+schedule/alpha@algo.alpha=constant"]
    assert expand(["budget.steps=3", "budget.episodes=null"]) == ["budget.steps=3", "budget.episodes=null"]
    assert expand(["algo=ddqn", "env.kwargs.budget=3"]) == ["algo=ddqn", "env.kwargs.budget=3"]


def test_several_trackers_are_written_as_a_list() -> None:
    several = compose("algo=dqn", "tracking=[mlflow,tensorboard,mlflow]", "tracking.uri=null")
    assert several.tracking.names == ["mlflow", "tensorboard"]
    assert compose("algo=dqn", "tracking=tensorboard").tracking.names == ["tensorboard"]
    assert compose("algo=dqn", "tracking=[files]").tracking.names == ["files"]
    assert {several.config_id} == {
        compose("algo=dqn", f"tracking={one}").config_id for one in ("mlflow", "tensorboard")
    }
    assert build({**several.to_dict(), "tracking": {"name": "mlflow", "uri": None, "timeout": 60.0}}).tracking.names == ["mlflow"]  # fmt: skip
    written, told = "tracking=[mlflow,tensorboard]", "tracking.name=[mlflow,tensorboard]"
    assert expand([written]) == [told] == expand([told]) and as_written(told) == written
    assert expand(["env.kwargs.x=tracking=[a]"]) == ["env.kwargs.x=tracking=[a]"]


def scheduled(*overrides: str) -> dict[str, Any]:
    algo = compose(*overrides).algo
    found: dict[str, Any] = {
        name: getattr(algo, name, None) for name in ("epsilon", "alpha")} | {
        "lr": getattr(getattr(algo, "optimizer", None), "lr", None)}  # fmt: skip
    return found


@pytest.mark.parametrize("name", NAMED)
def test_every_named_schedule_ends_within_the_budget_whatever_it_counts(name: str) -> None:
    """Epsilon from 1 to .1 in half of it, alpha and the learning rate to their last values by its end."""
    for budget, unit in (("budget.steps=400", "step"), ("budget.episodes=400", "episode")):
        table = scheduled("algo=q_learning", budget, f"schedule@algo.epsilon={name}", f"schedule@algo.alpha={name}")
        lr = scheduled("algo=ddqn", budget, f"schedule@algo.optimizer.lr={name}")["lr"]
        for value, first, last, reached in (
            (table["epsilon"], 1.0, 0.1, 200), (table["alpha"], 0.1, 0.002, 400), (lr, 1e-3, 1e-4, 400)):  # fmt: skip
            schedule: Any = schedules.parse(value, "x")
            assert schedule.kind == name and schedule.unit == ("step" if name == "constant" else unit)
            at = {each: np.array([0, reached // 4, reached, 400]) for each in schedules.UNITS}
            values = schedule(at)
            if name == "constant":
                constant = {1.0: 0.1, 0.1: 0.1, 1e-3: 1e-3}[first]
                np.testing.assert_allclose(values, constant, rtol=1e-6)
                continue
            np.testing.assert_allclose(values[[0, 2, 3]], [first, last, last], rtol=2e-2)
            assert last < values[1] <= first


def test_named_schedules_take_values_as_any_other() -> None:
    kind = {"kind": "linear", "initial": 1.0, "final": 0.02, "duration": 5_000.0, "unit": "step"}
    chosen = ("schedule@algo.epsilon=linear", "algo.epsilon.final=0.02", "algo.epsilon.duration=0.1")
    assert scheduled(*chosen, "budget.steps=50000")["epsilon"] == kind
    # A preset beside it does not undo it, in either order; its number has no first value, so the file's counts.
    for order in (("+experiment=book/q_random", "schedule@algo.epsilon=log10"),
                  ("schedule@algo.epsilon=log10", "+experiment=book/q_random")):  # fmt: skip
        epsilon = scheduled(*order)["epsilon"]
        assert (epsilon["kind"], epsilon["initial"], epsilon["unit"]) == ("log10", 1.0, "episode")
        assert epsilon["duration"] == pytest.approx(629)


def test_shares_of_the_budget_are_for_every_schedule_written_by_hand() -> None:
    half = "{kind: linear, initial: 1, final: 0, duration: 0.5, unit: budget}"
    assert scheduled(f"algo.epsilon={half}", "budget.steps=3000")["epsilon"]["duration"] == 1500
    rate = "{kind: inverse_time, initial: 1, final: 0, decay: 9, unit: budget}"  # a tenth is left at the end
    epsilon = scheduled(f"algo.epsilon={rate}", "budget.episodes=90")["epsilon"]
    assert (epsilon["decay"], epsilon["unit"]) == (0.1, "episode")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("schedule@algo.epsilon=linaer", "schedule: expected one of constant, exponential, inverse_time, linear, log10, "
         "received 'linaer'.\nDid you mean linear?"),
        ("schedule@algo.epsilon=", "schedule@algo.epsilon: expected one of constant, exponential, inverse_time, linear, log10, "
         "received nothing.\nFor example: schedule@algo.epsilon=linear"),
        ("schedule=linear", "schedule: expected what is scheduled, received schedule=linear.\nFor example: "),
        ("schedule@algo.gama=linear", "algo.gama: expected a key of the configuration, received an unknown one.\nDid you mean"),
        ("algo=pg schedule@algo.epsilon=linear", "algo.epsilon: expected a key of the configuration, received an unknown one.\n"),
        ("schedule@algo.loss=linear", "algo.loss: expected a text, received {"),
        ("+experiment=cleanrl_dqn schedule@algo.optimizer.lr=linear", "algo.optimizer.lr: kind 'linear' needs initial, final, "
         "which the replaced schedule does not have. Add +algo.optimizer.lr.initial=... +algo.optimizer.lr.final=..."),
        ("algo.epsilon.unit=budget", "algo.epsilon.duration: expected a share of the budget, above 0 and at most 10; received "
         "10000. 0.5 is half of it; to count steps write unit: step."),
        ("schedule@algo.epsilon=linear algo.epsilon.final=2", "algo.epsilon.final: expected a number >= 0 and <= 1, received 2"),
    ],
)  # fmt: skip
def test_refusals(written: str, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        compose(*written.split())
    assert str(refused.value).startswith(message)
    assert len(str(refused.value).splitlines()) <= 2


def test_tables_say_what_was_chosen() -> None:
    assert shown("+schedule/epsilon@algo.epsilon=log10") == "epsilon log10" == shown("schedule@algo.epsilon=log10")
    assert shown("+schedule@algo.optimizer.lr=linear") == "lr linear" and shown("algo=ddqn") == "algo=ddqn"
    jobs = [["algo=q_learning", f"+schedule/epsilon@algo.epsilon={name}"] for name in NAMED]
    assert labels(jobs) == [f"epsilon {name}" for name in NAMED]


def test_help_lists_schedules_and_the_sweep_over_families() -> None:
    from rlexp.cli.help import training

    assert re.search(r"schedule@<key>= ?\s*constant, exponential, inverse_time, linear, log10\n", training())
    assert "rlexp +sweep=families" in training()
    assert {"families", "dqn_ladder"} <= set(paths.configured("sweep"))
