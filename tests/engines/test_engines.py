"""The engine's promises: trial k alone is trial k in a batch, determinism, isolation, exact budgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import tests.probes  # noqa: F401  (registers the probe environments)
from rlexp.config import registry
from rlexp.system.errors import Diverged
from tests.conftest import records


def trial(job: Any, seed: int) -> tuple[list[Any], list[bytes]]:
    """Everything recorded of one trial, and its best weights; the last record stands where the longest trial ends."""
    k = job["seeds"].index(seed)
    curve = [
        (
            "final" if "final/return" in r["metrics"] else r["step"],
            {name: values[k] for name, values in r["metrics"].items() if values[k] is not None},
        )
        for r in records(job.folder)
    ]
    folder = job.folder / "trials" / str(seed)
    weights = []
    if (folder / "best.keras").exists():
        weights = [w.tobytes() for w in keras.models.load_model(folder / "best.keras").get_weights()]
    if (folder / "best.npz").exists():
        weights = [np.load(folder / "best.npz")["q"].tobytes()]
    return [point for point in curve if point[1]], weights


# Those of the DQN family are classes of dqn and ddqn with other settings or another network.
ALONE = [
    pytest.param(
        algo,
        marks=[pytest.mark.slow] * (registry.FAMILIES[registry.ALGOS[algo].family].keras and algo != "dueling_ddqn"),
    )
    for algo in sorted(registry.ALGOS)
]


@pytest.mark.parametrize("algo", ALONE)
def test_a_trial_alone_equals_the_trial_in_a_batch(algo: str, tiny: Callable[..., Any]) -> None:
    """DESIGN: bit for bit, whatever the other trials are."""
    ten = tiny(algo, "seed=0", "trials=10")
    two = tiny(algo, "seed=2", "trials=2")  # the same program as of one, which is padded
    one = tiny(algo, "seed=3", "trials=1")
    assert trial(ten, 3) == trial(two, 3) == trial(one, 3)
    assert trial(ten, 2) == trial(two, 2)
    assert (trial(ten, 2) != trial(ten, 4)) == (registry.ALGOS[algo].family != "planning")  # plans draw no lots


@pytest.mark.slow
def test_the_same_with_episode_units_where_trials_are_at_different_points(tiny: Callable[..., Any]) -> None:
    options = ["algo.learn_unit=episode", "algo.learn_start=3", "algo.learn_period=1", "budget.episodes=12",
               "evaluation.selection=train_episode", "algo.optimizer.name=nadam", "algo.target=soft"]  # fmt: skip
    five, one = tiny("fixed_dqn", "trials=5", *options), tiny("fixed_dqn", "seed=3", "trials=1", *options)
    assert trial(five, 3) == trial(one, 3)
    assert five["episodes"] == [12] * 5 and len({trial["steps"] for trial in five["trials"]}) > 1
    assert five["updates"] == [9] * 5  # one after each of the episodes 3 to 11


@pytest.mark.slow
def test_the_same_with_batches_of_steps_and_of_unlike_sizes(tiny: Callable[..., Any]) -> None:
    """Batches cut within episodes, several updates each from minibatches; and batches that grow beyond one size while others do not."""
    steps = ["algo.batch_unit=step", "algo.batch_size=70", "algo.num_updates=2", "algo.gae_lambda=0.9",
             "algo.num_minibatches=8"]  # fmt: skip
    five, one = tiny("ppo", "trials=5", *steps), tiny("ppo", "seed=4", "trials=1", *steps)
    assert trial(five, 4) == trial(one, 4) and five["updates"] == [64] * 5
    episodes = ["algo.batch_size=6", "algo.head=sigmoid", "evaluation.policy=sampled", "evaluation.selection=last",
                "algo.optimizer.name=nadam", "budget.episodes=22"]  # fmt: skip
    ten, one = tiny("pg", "trials=10", *episodes), tiny("pg", "seed=7", "trials=1", *episodes)
    (curve, weights), (curve_alone, weights_alone) = trial(ten, 7), trial(one, 7)
    assert weights == weights_alone and curve[:-1] == curve_alone[:-1] and ten["updates"] == [3] * 10
    assert curve[-1][1] == curve_alone[-1][1]  # the last record's step is that of the longest trial
    assert len({entry["steps"] for entry in ten["trials"]}) > 1


@pytest.mark.parametrize(
    "algo",
    ["dueling_ddqn", pytest.param("pg_baseline", marks=pytest.mark.slow), "double_q_learning", "q_value_iteration"],
)
def test_the_same_command_gives_the_same_records(algo: str, tiny: Callable[..., Any]) -> None:
    first = tiny(algo, "trials=2", "study=a")
    second = tiny(algo, "trials=2", "study=b")
    assert first.folder != second.folder and first["config_id"] == second["config_id"]
    assert records(first.folder) == records(second.folder)
    again = tiny(algo, "trials=2", "study=a", "rerun=true")
    assert records(again.folder) == records(second.folder)


@pytest.mark.parametrize(
    ("algo", "batch"),
    [
        ("ddqn", ["algo.loss=mse"]),
        pytest.param("pg_baseline", ["algo.batch_unit=step", "algo.batch_size=30"], marks=pytest.mark.slow),
    ],
)
def test_one_trial_that_diverges_leaves_the_others_untouched(
    algo: str, batch: list[str], tiny: Callable[..., Any]
) -> None:
    """Rewards whose square is no number reach the trials whose first episode seed is even; the odd ones do as in a
    healthy environment."""
    from rlexp.data.seeding import episode_seed

    options = [
        *batch,
        "env.id=probes/NaNReward-v0",
        "env.imports=[tests.probes]",
        "+env.kwargs.length=1000",
        "+env.kwargs.bad=1e38",
        "trials=4",
        "budget.steps=200",
        "evaluation.max_steps=50",
    ]  # fmt: skip  (shorter than the healthy part of an episode)
    sick = {seed for seed in range(4) if episode_seed(seed, 0) % 2 == 0}
    assert 0 < len(sick) < 4
    with pytest.raises(Diverged, match=f"{len(sick)} of 4 trials diverged"):
        tiny(algo, *options, "+env.kwargs.after=100")
    healthy = tiny(algo, *options, "+env.kwargs.after=100000")
    from rlexp.jobs.job import Job

    (folder,) = (f for f in healthy.folder.parent.iterdir() if f != healthy.folder)
    job = Job(folder)
    assert job["status"] == "failed"
    for seed in range(4):
        entry = job["trials"][seed]
        assert entry["status"] == ("diverged" if seed in sick else "done")
        if seed in sick:
            assert entry["note"].startswith("the loss is not finite at env step 1")
            assert entry["steps"] < 200
        else:
            assert trial(job, seed) == trial(healthy, seed)


def test_budgets_are_exact_and_curves_are_arrays(tiny: Callable[..., Any]) -> None:
    job = tiny("dqn", "trials=2", "budget.steps=257", "evaluation.period=100")
    assert job["steps"] == 257 and job["total_steps"] == 514 and job["updates"] == [103, 103]
    steps, values = job.curves["eval/return"]
    assert steps.tolist() == [100, 200, 257] and values.shape == (3, 2)
    assert job["final/return"]["per_trial"] == job.curves["final/return"].values[-1].tolist()


def test_best_weights_are_those_of_the_best_evaluation_rescored_on_fresh_episodes(
    tiny: Callable[..., Any],
) -> None:
    job = tiny("dqn", "trials=3", "evaluation.candidates=1")
    values = job.curves["eval/return"].values
    for k, entry in enumerate(job["trials"]):
        assert entry["best_eval_return"] == values[:, k].max()
        at = job.curves["eval/return"].steps.tolist().index(entry["best_step"])
        assert at == max(np.flatnonzero(values[:, k] == values[:, k].max()))
    table = (job.folder / "evaluation.csv").read_text().splitlines()
    assert table[0] == "seed,episode_seed,return,length" and len(table) == 1 + 3 * 4
    assert table[1].startswith("0,200000,")


@pytest.mark.parametrize(("exact", "lanes"), [("true", 2), ("false", 1)])
def test_exact_trials_pads_a_single_trial_to_two_lanes(
    exact: str, lanes: int, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlexp.engines.vectorized import Lanes

    seen: list[int] = []
    real = Lanes.learn

    def learn(self: Lanes, *args: Any) -> Any:
        seen.append(self.num_lanes)
        return real(self, *args)

    monkeypatch.setattr(Lanes, "learn", learn)
    tiny("dqn", "trials=1", f"exact_trials={exact}", "budget.steps=60")
    assert set(seen) == {lanes}


@pytest.mark.slow
def test_sums_over_many_numbers_are_as_exact(tiny: Callable[..., Any]) -> None:
    """The chapter's network and batch, 32-32 and 32: sums over 33 trials are long enough for XLA to choose other code."""
    options = ["network.hidden_units=[32,32]", "algo.batch_size=32", "algo.optimizer.clip_norm=null", "budget.steps=70",
               "evaluation.period=70", "evaluation.max_steps=20", "seed=7"]  # fmt: skip
    many, *fewer = (trial(tiny("ddqn", f"trials={trials}", *options), 7) for trials in (33, 1, 2))
    assert fewer == [many] * 2


def test_hard_target_is_copied_when_the_notebook_copies_it(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notebook: `if episode > 50: train; if episode % 50 == 0: copy`, episodes from 0: copies after 100, 150, ...

    Here with 5 for 50."""
    from rlexp.engines.vectorized import Lanes

    copies: list[int] = []
    updates: list[int] = []
    real = Lanes.learn

    def learn(self: Lanes, batch: Any, u: Any, scalars: Any, due: Any, copy: Any) -> Any:
        updates.append(len(updates) + 6)
        if copy[0]:
            copies.append(updates[-1])
        return real(self, batch, u, scalars, due, copy)

    monkeypatch.setattr(Lanes, "learn", learn)
    job = tiny("fixed_dqn", "trials=1", "budget.episodes=16", "algo.learn_unit=episode", "algo.learn_start=6",
               "algo.learn_period=1", "algo.target_period=5", "algo.target_unit=update", "evaluation.period=10000")  # fmt: skip
    assert job["updates"] == [10] and updates == list(range(6, 16)) and copies == [10, 15]
