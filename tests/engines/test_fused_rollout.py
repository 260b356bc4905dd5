"""The fused engine for policy gradients: the host engine's order of things and its promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rlexp.data import seeding
from rlexp.data.rollout_buffer import FIELDS, RolloutBuffer
from rlexp.envs.spec import Box, Discrete
from rlexp.jobs.job import Job
from rlexp.system.errors import Diverged
from tests.conftest import records
from tests.engines.test_engines import trial
from tests.engines.test_fused import resumed, third_party  # noqa: F401  (fixtures)

FUSED = ("engine=fused", "network.hidden_units=[8]")


@pytest.mark.parametrize(
    ("algo", "options"),
    [
        pytest.param("pg", ("budget.episodes=14", "algo.batch_size=3", "evaluation.policy=sampled", "algo.head=softmax",
                "evaluation.selection=train_episode", "algo.truncation_penalty=2", "algo.reward_scale=0.5",
                "algo.optimizer.lr={kind: linear, initial: 1e-2, final: 1e-3, duration: 10, unit: episode}"), marks=pytest.mark.slow),
        pytest.param("ppo", ("algo.batch_unit=step", "algo.batch_size=70", "algo.num_updates=2", "budget.steps=260",
                         "algo.optimizer.lr={kind: linear, initial: 1e-2, final: 1e-3, duration: 5, unit: update}",
                         "algo.entropy_coef={kind: linear, initial: 0.1, final: 0, duration: 200}"), marks=pytest.mark.slow),
    ],
    ids=["episodes", "steps"],
)  # fmt: skip
def test_it_does_what_the_host_engine_does(algo: str, options: tuple[str, ...], tiny: Callable[..., Any]) -> None:
    """Where chance has no part in the environment (a table without slips) both engines see the same numbers: the same
    actions, episodes, batches, schedules, updates, evaluations and records; losses to rounding."""
    cliff = ("env.id=CliffWalking-v1", "env.max_episode_steps=15", "trials=2", "network.hidden_units=[8]")
    host, ours = (tiny(algo, f"engine={engine}", *cliff, *options) for engine in ("host", "fused"))
    assert (host["engine"], ours["engine"]) == ("host", "fused")
    for key in ("steps", "episodes", "updates", "seeds"):
        assert host[key] == ours[key]
    assert min(ours["updates"]) >= 4
    for theirs, mine in zip(records(host.folder), records(ours.folder), strict=True):
        assert theirs["step"] == mine["step"] and sorted(theirs["metrics"]) == sorted(mine["metrics"])
        for name, values in theirs["metrics"].items():
            np.testing.assert_allclose(
                np.array(mine["metrics"][name], float), np.array(values, float), rtol=1e-3, atol=1e-5, err_msg=name
            )
    episodes = [np.load(job.folder / "episodes.npz") for job in (host, ours)]
    for name in episodes[0].files:
        assert (episodes[0][name] == episodes[1][name]).all()
    assert [t["best_step"] for t in host["trials"]] == [t["best_step"] for t in ours["trials"]]


@pytest.mark.slow
def test_a_trial_alone_equals_the_trial_in_a_batch(tiny: Callable[..., Any]) -> None:
    """Batches of episodes, which trials complete at different steps."""
    options = (*FUSED, "budget.episodes=13", "evaluation.policy=sampled")
    ten, one = (tiny("ppo", f"seed={seed}", f"trials={n}", *options) for seed, n in ((0, 10), (3, 1)))
    (curve, weights), (curve_alone, weights_alone) = trial(ten, 3), trial(one, 3)
    assert weights == weights_alone and curve[:-1] == curve_alone[:-1] and curve[-1][1] == curve_alone[-1][1]
    assert ten["episodes"] == [13] * 10 and ten["updates"] == [30] * 10  # five for every second episode
    assert len({entry["steps"] for entry in ten["trials"]}) > 1


@pytest.mark.slow
def test_a_job_resumes_to_the_same_bits(resumed: Callable[..., Any]) -> None:  # noqa: F811
    """Stopped within batches."""
    resumed("pg", *FUSED, "trials=3", "algo.batch_size=3", call=11)


@pytest.mark.usefixtures("third_party")
@pytest.mark.slow
def test_a_diverging_trial_is_masked_and_leaves_the_others_untouched(tiny: Callable[..., Any]) -> None:
    options = [*FUSED, "env.id=probes/NaNReward-v0", "env.imports=[tests.probes]", "trials=6", "budget.steps=200",
               "evaluation.max_steps=50", "algo.batch_unit=step", "algo.batch_size=30"]  # fmt: skip
    first = seeding.Uniforms(range(6), "reset", 1).rows(np.zeros(6, np.int64))[:, 0]
    sick = {k for k in range(6) if first[k] < 0.5}
    assert 0 < len(sick) < 6
    with pytest.raises(Diverged, match=f"{len(sick)} of 6 trials diverged"):
        tiny("pg_baseline", *options, "+env.kwargs.after=100")
    healthy = tiny("pg_baseline", *options, "+env.kwargs.after=100000")
    (folder,) = (f for f in healthy.folder.parent.iterdir() if f != healthy.folder)
    job = Job(folder)
    assert job["status"] == "failed" and job["engine"] == "fused"
    for seed, entry in enumerate(job["trials"]):
        if seed in sick:
            assert entry["note"] == "the loss is not finite at env step 120" and entry["steps"] == 120
        else:
            assert entry["status"] == "done" and trial(job, seed) == trial(healthy, seed)


def test_many_transitions_are_added_as_one_after_the_other() -> None:
    rng, active = np.random.default_rng(0), np.array([True, False, True])
    one, many = (RolloutBuffer(3, Box((2,), "float32"), Discrete(2)) for _ in range(2))
    for count in (3, 200, 1):  # it grows
        steps = {name: rng.random((count, 3, 2), np.float32) for name in ("o_tm1", "o_t")}
        steps |= {"a_tm1": rng.integers(5, size=(count, 3)), "r_t": rng.random((count, 3))}
        steps |= {name: rng.random((count, 3)) < 0.1 for name in ("terminated", "truncated")}
        assert set(steps) == set(FIELDS)
        for i in range(count):
            one.add(active, **{name: values[i] for name, values in steps.items()})
        many.add_many(active, steps)
    trials = np.array([0, 2])
    assert one.num_steps.tolist() == many.num_steps.tolist() == [204, 0, 204]
    assert one.num_episodes.tolist() == many.num_episodes.tolist() and one.num_episodes[0] > 0
    for name, values in one.batch(trials, 256).items():
        np.testing.assert_array_equal(many.batch(trials, 256)[name], values)
