"""Several environments per trial, on both engines: the promises that hold with one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tests.probes  # noqa: F401  (registers the probe environments)
from rlexp.config.schema.job import ADDED_LATER
from rlexp.data import seeding
from rlexp.engines.bookkeeping import Interrupted, Trials
from rlexp.engines.fused import iterations
from rlexp.engines.record_steps import RecordSteps
from rlexp.jobs.job import Job
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose
from rlexp.system.errors import Diverged, Refusal
from tests.conftest import records
from tests.data.test_checkpoint import results
from tests.engines.test_engines import trial
from tests.engines.workers.test_in_workers import differences

Tiny = Callable[..., Any]
FOUR = ("network.hidden_units=[8]", "algo.num_envs=4", "algo.batch_unit=step", "algo.batch_size=64")
PPO = (*FOUR, "algo.num_updates=2", "algo.num_minibatches=2", "algo.normalize_observations=true",
       "algo.normalize_rewards=true", "algo.target_kl=0.02", "algo.value_clip=0.2")  # fmt: skip
BOTH = ["host", pytest.param("fused", marks=pytest.mark.slow)]
CLIFF = ("env.id=CliffWalking-v1", "env.max_episode_steps=15", "trials=2")


def episodes(job: Any) -> dict[str, np.ndarray]:
    with np.load(job.folder / "episodes.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("engine", BOTH)
def test_everything_counts_the_steps_of_all_environments(engine: str, tiny: Tiny) -> None:
    """302 steps are 75 lock-steps of four environments and one of two; a batch of 64 is 16 lock-steps."""
    schedule = "algo.optimizer.lr={kind: linear, initial: 1.0, final: 0.0, duration: 400, unit: step}"
    job = tiny("pg_baseline", *FOUR, f"engine={engine}", "trials=2", "budget.steps=302", "log.points=3", schedule)
    assert job["steps"] == 302 and job["updates"] == [4, 4] and job["total_steps"] == 604
    table, curves = episodes(job), records(job.folder)
    for k in range(2):
        own = table["trial"] == k
        assert job["episodes"][k] == own.sum() >= 4 and (np.diff(table["step"][own]) >= 0).all()
        assert 302 - 4 * 40 < table["length"][own].sum() <= 302  # but for the episodes under way
    assert set((table["step"] % 4).tolist()) <= {0, 2}
    # An evaluation each 100 steps, a record each 101: with the lock-step in which the period ends.
    assert [r["step"] for r in curves] == [100, 104, 200, 204, 300, 302, 302]
    assert [r["metrics"]["train/lr"][0] for r in curves[:-1]] == pytest.approx(
        [1 - (r["step"] - 4) / 400 for r in curves[:-2]] + [1 - 300 / 400]
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "fused"])
def test_a_trial_alone_equals_the_trial_in_a_batch(engine: str, tiny: Tiny) -> None:
    options = (*PPO, f"engine={engine}")
    many, one = tiny("ppo", *options, "trials=7"), tiny("ppo", *options, "trials=1", "seed=4")
    assert trial(many, 4) == trial(one, 4) != trial(many, 5) and many["updates"] == [16] * 7
    again = tiny("ppo", *options, "trials=7", "study=again")
    assert records(again.folder) == records(many.folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("algo.batch_unit=step", "algo.batch_size=72", "algo.num_updates=2", "budget.steps=262", "algo.num_minibatches=2",
         "algo.entropy_coef={kind: linear, initial: 0.1, final: 0, duration: 200}"),
        ("algo.batch_unit=episode", "algo.batch_size=5", "budget.episodes=23", "evaluation.selection=train_episode",
         "algo.optimizer.lr={kind: linear, initial: 1e-2, final: 1e-3, duration: 10, unit: episode}"),
    ],
    ids=["steps", "episodes"],
)  # fmt: skip
def test_both_engines_do_the_same(options: tuple[str, ...], tiny: Tiny) -> None:
    """Chance has no part in this environment: the same actions, episodes, batches, schedules, updates and records."""
    common = (*CLIFF, "network.hidden_units=[8]", "algo.num_envs=3", *options)
    host, fused = (tiny("ppo", f"engine={engine}", *common) for engine in ("host", "fused"))
    assert (host["engine"], fused["engine"]) == ("host", "fused")
    for key in ("steps", "episodes", "updates"):
        assert host[key] == fused[key]
    assert min(fused["updates"]) >= 6
    for theirs, mine in zip(records(host.folder), records(fused.folder), strict=True):
        assert theirs["step"] == mine["step"] and sorted(theirs["metrics"]) == sorted(mine["metrics"])
        for name, values in theirs["metrics"].items():
            np.testing.assert_allclose(
                np.array(mine["metrics"][name], float), np.array(values, float), rtol=2e-3, atol=1e-5, err_msg=name
            )
    theirs, mine = episodes(host), episodes(fused)
    assert all((theirs[name] == mine[name]).all() for name in theirs)
    assert [t["best_step"] for t in host["trials"]] == [t["best_step"] for t in fused["trials"]]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "fused"])
@pytest.mark.parametrize("stop_after", [120, 128], ids=["in a batch", "between batches"])
def test_a_job_resumes_to_the_same_bits(
    engine: str, stop_after: int, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*PPO, f"engine={engine}", "trials=3")
    whole, real, stopped = tiny("ppo", *options, "study=whole"), Trials.housekeeping, list[int]()

    def stop(self: Trials, *args: Any) -> None:
        self.services.stop = lambda: signal.SIGTERM if self.t >= stop_after else None
        stopped.append(self.t)
        real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trials, "housekeeping", stop)
        with pytest.raises(Interrupted):
            tiny("ppo", *options, "study=parts")
    assert stop_after <= stopped[-1] < 300
    parts = tiny("ppo", *options, "study=parts")
    assert records(whole.folder) == records(parts.folder) and results(whole.folder) == results(parts.folder)


def test_the_first_environment_has_the_seeds_of_a_trial_with_one() -> None:
    assert [seeding.episode_seed(3, j, 0) for j in range(4)] == [seeding.episode_seed(3, j) for j in range(4)]
    every = {seeding.episode_seed(3, j, e) for j in range(4) for e in range(4)}
    assert len(every) == 16
    one = seeding.Uniforms([3, 4], "reset", 2).rows(np.array([0, 300]))
    four = seeding.Uniforms([3, 4], "reset", 2, num_envs=4).rows(np.array([0, 0, 0, 0, 300, 300, 300, 300]))
    assert (four[[0, 4]] == one).all() and len({row.tobytes() for row in four}) == 8


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("algo=pg", "algo.num_envs=4"),
         "algo.num_envs: expected 1 for pg, received 4.\nIts whole episodes come one after another; several environments "
         "are for algo=pg_baseline."),
        (("algo=ppo", "algo.num_envs=3", "algo.batch_size=64"),
         "algo.batch_size: expected a multiple of algo.num_envs (3), received 64"),
        (("algo=ppo", "algo.num_envs=0"), "algo.num_envs: expected a number >= 1 and <= 10000, received 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(options: tuple[str, ...], text: str) -> None:
    with pytest.raises(Refusal) as refused:
        resolve(compose(*options))
    assert text in str(refused.value)


def test_batches_that_do_not_fit_in_memory_are_refused() -> None:
    with pytest.raises(Refusal, match=r"algo\.batch_size: expected batches that fit in this machine's memory"):
        resolve(compose("algo=ppo", "algo.num_envs=1000", "algo.batch_size=1000000000", "trials=100"))


def test_one_environment_is_no_part_of_the_hash() -> None:
    """What came later keeps the hash where it changes nothing."""
    assert ADDED_LATER["num_envs"] == 1
    job = ("algo=ppo", "algo.batch_size=64")
    one, four = resolve(compose(*job))[0], resolve(compose(*job, "algo.num_envs=4"))[0]
    assert one.group_id == resolve(compose(*job, "algo.num_envs=1"))[0].group_id != four.group_id


@pytest.mark.parametrize(("period", "log", "stepped"), [(100, 31, 4), (3, 7, 4), (64, 64, 16), (10, 4, 1)])
def test_a_record_is_due_with_the_lock_step_in_which_a_period_ends(period: int, log: int, stepped: int) -> None:
    steps = RecordSteps(log, period, 1_000, exact=True)
    for t in range(stepped, 1_000, stepped):
        inside = range(t - stepped + 1, t + 1)
        assert steps.due(t, stepped) == any(s % period == 0 or s % log == 0 for s in inside)


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["ppo", "pqn"])
def test_the_number_of_cores_changes_no_bit(algo: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of the lanes: one, two of unequal size, and as many as there can be."""
    options = (*(PPO if algo == "ppo" else FOUR), "engine=fused", "trials=7")
    jobs = []
    for num_cores in (1, 2, 64):
        monkeypatch.setattr(iterations, "num_cores", lambda number=num_cores: number)
        jobs.append(tiny(algo, *options, f"study=cores-{num_cores}"))
    for job in jobs[1:]:
        assert records(job.folder) == records(jobs[0].folder)
        assert [trial(job, seed) for seed in range(7)] == [trial(jobs[0], seed) for seed in range(7)]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "fused"])
def test_workers_equal_one_process(engine: str, tiny: Tiny, tmp_path: Any) -> None:
    options = (*PPO, f"engine={engine}", "trials=3", "checkpoint.every=0")
    one = tiny("ppo", *options, f"output_dir={tmp_path / 'one'}", "workers=1")
    two = tiny("ppo", *options, f"output_dir={tmp_path / 'two'}", "workers=2")
    assert differences(one.folder, two.folder) == []


@pytest.mark.slow
def test_a_fault_in_one_environment_fails_its_trial(tiny: Tiny) -> None:
    bad = seeding.episode_seed(1, 0, 2)
    options = (*FOUR, "trials=3", "env.id=probes/Misbehaving-v0", "env.imports=[tests.probes.misbehaving]",
               f"+env.kwargs.modulus={2**31}", "+env.kwargs.fault=raises", "+env.kwargs.train_only=true")  # fmt: skip
    healthy = tiny("pg_baseline", *options, "+env.kwargs.remainder=1", "study=healthy")  # the seed of no episode
    with pytest.raises(Diverged, match="1 of 3 trials failed"):
        tiny("pg_baseline", *options, f"+env.kwargs.remainder={bad}", "study=sick")
    (folder,) = (healthy.folder.parent.parent / "sick").iterdir()
    job = Job(folder)
    assert [entry["status"] for entry in job["trials"]] == ["done", "failed", "done"]
    assert (
        f"trial seed 1, environment 2, episode seed {bad}, step 3: step raised ValueError" in job["trials"][1]["note"]
    )
    assert trial(job, 0) == trial(healthy, 0) and trial(job, 2) == trial(healthy, 2)
