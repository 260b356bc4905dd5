"""Actor-critics and PQN in the engines: statistics and masks are each trial's own, checkpointed, and the same with
several environments per trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.engines.test_engines import trial
from tests.engines.test_fused import resumed  # noqa: F401  (fixture)

STATISTICS = ("algo.normalize_observations=true", "algo.normalize_rewards=true", "algo.orthogonal=true")
JOBS = {
    "a2c": ("algo.num_envs=4", "algo.batch_unit=step", "algo.batch_size=24", *STATISTICS),
    "ppo": ("algo.num_envs=4", "algo.batch_unit=step", "algo.batch_size=24", "algo.num_updates=4", "algo.num_minibatches=2",
            "algo.target_kl=0.0007", "algo.value_clip=0.2", "algo.optimizer.lr=1e-2", *STATISTICS),
    "ppo, one environment": ("algo.batch_unit=step", "algo.batch_size=50", "algo.target_kl=0.01", *STATISTICS),
    "pqn": ("algo.num_envs=4", "algo.batch_unit=step", "algo.batch_size=24", "algo.num_minibatches=4"),
}  # fmt: skip
each = pytest.mark.parametrize("job", JOBS)
on_each_engine = pytest.mark.parametrize("engine", ["host", "fused"])


def options(job: str, engine: str) -> tuple[str, ...]:
    return (job.partition(",")[0], f"engine={engine}", "network.hidden_units=[8]", "budget.steps=240", *JOBS[job])


@pytest.mark.slow
@on_each_engine
@each
def test_a_trial_alone_equals_the_trial_in_a_batch(job: str, engine: str, tiny: Callable[..., Any]) -> None:
    five = tiny(*options(job, engine), "seed=0", "trials=5")
    one = tiny(*options(job, engine), "seed=3", "trials=1")
    assert trial(five, 3) == trial(one, 3) and trial(five, 3) != trial(five, 4)


@pytest.mark.slow
@on_each_engine
@each
def test_a_job_resumes_to_the_same_bits(job: str, engine: str, resumed: Callable[..., Any]) -> None:  # noqa: F811
    """Stopped within a batch (the fused engine with several environments: between two, at 168 of 240 steps)."""
    resumed(*options(job, engine), "trials=2", call=7)


@pytest.mark.slow
def test_with_a_target_for_the_kl_trials_leave_batches_of_their_own(tiny: Callable[..., Any]) -> None:
    """Each trial's record counts the updates that it made and those that it left out alike; their curves tell them apart."""
    bound = tiny(*options("ppo", "host"), "trials=3")
    free = tiny(*options("ppo", "host"), "trials=3", "algo.target_kl=1e9")
    assert bound["updates"] == free["updates"] == [80] * 3
    kl = [job.curves["train/approx_kl"].values for job in (bound, free)]
    assert (kl[0].mean(axis=0) < 0.5 * kl[1].mean(axis=0)).all()
    assert {"train/clip_fraction", "train/explained_variance"} <= set(bound.curves)
