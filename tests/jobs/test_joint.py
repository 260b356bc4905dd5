"""Groups of jobs: which jobs may share a program, and that each keeps its own results."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlexp.config import registry, schedules
from rlexp.config.schema.algos import DQNSettings, OptimizerSettings, PGSettings, TabularSettings
from rlexp.config.schema.env import EnvSettings
from rlexp.config.schema.job import BudgetSettings, CheckpointSettings, EvaluationSettings, Settings
from rlexp.config.schema.network import NetworkSettings
from rlexp.data.checkpoint import Checkpoints
from rlexp.data.metrics import Recorder
from rlexp.engines.vectorized import compiled_settings
from rlexp.jobs import joint

LINEAR = {"kind": "linear", "initial": 1.0, "final": 0.1, "duration": 100}


def job(algo: Any = None, **options: Any) -> Settings:
    return Settings(algo=algo or DQNSettings(), engine="fused", **options)


@pytest.mark.parametrize(
    "other",
    [
        job(DQNSettings(optimizer=OptimizerSettings(lr=0.5))),
        job(DQNSettings(gamma=0.5, epsilon=LINEAR, tau=0.5)),
        job(DQNSettings(optimizer=OptimizerSettings(lr=LINEAR))),
        job(seed=7, trials=3),
        job(study="other"),
    ],
)
def test_jobs_that_share_a_program(other: Settings) -> None:
    assert joint.shared(job()) == joint.shared(other)
    assert joint.plan([job(), other], 100) == [[job(), other]]


@pytest.mark.parametrize(
    "other",
    [
        job(DQNSettings(epsilon={**LINEAR, "unit": "episode"})),
        job(DQNSettings(batch_size=32)),
        job(DQNSettings(loss="mse")),
        job(DQNSettings(optimizer=OptimizerSettings(name="sgd"))),
        job(DQNSettings(optimizer=OptimizerSettings(clip_norm=None))),
        job(DQNSettings(name="ddqn")),
        job(env=EnvSettings(id="Acrobot-v1")),
        job(network=NetworkSettings(hidden_units=[8])),
        job(budget=BudgetSettings(steps=100)),
        job(evaluation=EvaluationSettings(period=7)),
        job(checkpoint=CheckpointSettings(every=1.0)),
        job(device="cpu"),
        job(output_dir="elsewhere"),
        job(PGSettings()),
        dataclasses.replace(job(), engine="host"),
    ],
)
def test_jobs_that_share_no_program(other: Settings) -> None:
    assert joint.shared(job()) != joint.shared(other)
    assert joint.plan([job(), other], 100) == [[job()], [other]]


def test_host_jobs_share_nothing_and_order_is_kept() -> None:
    host = [dataclasses.replace(job(seed=seed), engine="host") for seed in (1, 2)]
    small, large = [job(seed=s) for s in range(3)], [job(DQNSettings(batch_size=2), seed=s) for s in range(2)]
    jobs = [small[0], host[0], large[0], small[1], large[1], host[1], small[2]]
    assert joint.plan(jobs, 100) == [small, [host[0]], large, [host[1]]]


@pytest.mark.parametrize(
    ("max_trials", "sizes"), [(100, [7]), (35, [7]), (34, [4, 3]), (10, [2, 2, 2, 1]), (3, [1] * 7)]
)
def test_large_groups_are_cut_evenly(max_trials: int, sizes: list[int]) -> None:
    jobs = [job(seed=seed) for seed in range(7)]  # of five trials each
    assert [len(part) for part in joint.plan(jobs, max_trials)] == sizes


def test_planning_needs_no_tensorflow() -> None:
    code = "import sys, rlexp.sweeps.launcher, rlexp.jobs.joint; print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_settings_together() -> None:
    jobs = [job(DQNSettings(gamma=0.5, optimizer=OptimizerSettings(lr=LINEAR)), seed=3, trials=2),
            job(DQNSettings(gamma=0.75), seed=3, trials=1)]  # fmt: skip
    assert joint.together(jobs[:1]) is jobs[0]
    settings = joint.together(jobs)
    assert (settings.trials, settings.seeds) == (3, [3, 4, 3]) and joint.rows(jobs) == [slice(0, 2), slice(2, 3)]
    assert settings.trial_name(2) == f"seed=3 of {jobs[1].job_name}" and jobs[0].trial_name(1) == "seed=4"
    scalars = schedules.parse_scalars(settings.algo, ("gamma", "optimizer.lr", "epsilon"))
    counts = {"step": np.array([0, 100, 50])}
    assert scalars["gamma"](counts).tolist() == [0.5, 0.5, 0.75]
    np.testing.assert_allclose(scalars["optimizer.lr"](counts), [1.0, 0.1, 1e-3], rtol=1e-6)
    assert dataclasses.replace(
        settings.algo, gamma=0, epsilon=0, tau=0.5, priority_beta=1, optimizer=OptimizerSettings()
    ) == DQNSettings(gamma=0, epsilon=0, tau=0.5, priority_beta=1)


@pytest.mark.parametrize("name", [n for n, a in registry.ALGOS.items() if registry.FAMILIES[a.family].keras])
def test_what_is_given_to_programs_as_numbers_is_what_may_differ(name: str) -> None:
    """The rest of the settings, of which programs are made, holds no scalar."""
    settings = registry.ALGOS[name].schema(name=name)
    paths = schedules.scalar_paths(settings)
    marked = {f.name for f in dataclasses.fields(settings) if f.metadata["scalar"]}
    optimizers = [f.name for f in dataclasses.fields(settings) if f.name.endswith("optimizer")]
    assert {*paths} == {*marked, *(f"{optimizer}.lr" for optimizer in optimizers)}
    compiled, whole = compiled_settings(settings, paths), dataclasses.asdict(settings)
    assert set(whole) - set(compiled) == marked
    for optimizer in optimizers:
        assert set(whole[optimizer]) - set(compiled[optimizer]) == {"lr"}


def test_the_scalars_of_tables() -> None:
    assert {f.name for f in dataclasses.fields(TabularSettings) if f.metadata["scalar"]} == {"epsilon", "alpha"}


def state(first: int, n: int, t: int, names: tuple[str, ...]) -> dict[str, Any]:
    """A checkpoint of `n` trials whose rows count from `first` on."""
    row = np.arange(first, first + n)
    return {
        "trials": {
            "t": t, "seconds": float(n), "position": 10 * n, "digest": f"d{n}", "active": row > -1, "status": [f"s{k}" for k in row],
            "counts": {"step": np.full(n, t), "episode": row}, "notes": [""] * n,
            "window": {"sum": dict.fromkeys(names, row * 0.5), "count": dict.fromkeys(names, row)},
            "episodes": np.array([[k, t, 1.5, 2] for k in range(n)], float),
        },
        "loop": {"lanes": [row, np.stack([row, row], axis=1)], "carry": {"a": {"b": row}}, "empty": []},
    }  # fmt: skip


def test_checkpoints_are_cut_and_joined() -> None:
    jobs, states = [job(trials=2), job(trials=3)], [state(0, 2, 7, ("x",)), state(2, 3, 7, ("x",))]
    joined = joint.join(states, jobs)
    whole = state(0, 5, 7, ("x",))
    whole["trials"]["seconds"] = 3.0
    assert {*whole["trials"]} - {*joined["trials"]} == {"position", "digest"}, "each job has its own"
    whole["trials"]["episodes"][:, 0] = [0, 1, 2, 3, 4]
    assert repr(joined) == repr({**whole, "trials": {k: whole["trials"][k] for k in joined["trials"]}})
    for part, alone in zip(joint.rows(jobs), states, strict=True):
        own = joint.split(joined, part)
        own["trials"] |= {key: alone["trials"][key] for key in ("seconds", "position", "digest")}
        assert repr(own) == repr({**alone, "trials": {k: alone["trials"][k] for k in own["trials"]}})


def test_buffers_of_different_lengths_are_joined() -> None:
    jobs, states = [job(trials=2), job(trials=1)], [state(0, 2, 7, ()), state(2, 1, 7, ())]
    for rows, alone in zip((3, 5), states, strict=True):
        alone["loop"]["buffer"] = np.ones((len(alone["trials"]["active"]), rows, 2), np.float32)
    buffer = joint.join(states, jobs)["loop"]["buffer"]
    assert buffer.shape == (3, 5, 2) and buffer.dtype == np.float32
    assert buffer[:, :, 0].sum(axis=1).tolist() == [3, 3, 5] and not buffer[:2, 3:].any()


def test_a_metric_of_one_job_is_empty_for_the_other() -> None:
    joined = joint.join([state(1, 1, 7, ("x", "y")), state(2, 1, 7, ("x",))], [job(trials=1), job(trials=1)])
    window = joined["trials"]["window"]
    assert window["sum"]["y"].tolist() == [0.5, 0.0] and window["count"]["y"].tolist() == [1, 0]
    assert window["count"]["y"].dtype == np.int64


def test_each_job_gets_its_columns_and_its_lines(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    recorder = joint.GroupRecorder([Recorder(path) for path in paths], [slice(0, 2), slice(2, 3)])
    steps = np.array([4, 5, 9])  # the first job's trials have ended
    recorder.write(steps, {"x": np.array([np.nan, np.nan, 3.0]), "y": np.array([np.nan, np.inf, np.nan])})
    recorder.write(steps, {"x": np.array([1.0, np.nan, 3.0])})
    sizes = recorder.sync()
    recorder.close()
    lines = [[json.loads(line) for line in path.read_text().splitlines()] for path in paths]
    assert [[(line["step"], line["metrics"]) for line in part] for part in lines] == [
        [(5, {"x": [1.0, None]})],
        [(9, {"x": [3.0]}), (9, {"x": [3.0]})],
    ]
    assert sizes == [path.stat().st_size for path in paths]


def test_a_job_that_has_ended_is_saved_once(tmp_path: Path) -> None:
    jobs = [job(trials=1), job(trials=1)]
    folders = [Checkpoints(tmp_path / name, every=60, keep=9) for name in "ab"]
    checkpoints = joint.GroupCheckpoints(folders, joint.rows(jobs), every=60)
    for t in (5, 6, 7):
        both = joint.join([state(0, 1, min(t, 5), ()), state(1, 1, t, ())], jobs)
        both["trials"] |= {"active": np.array([t < 5, True]), "position": [10, 10], "digest": ["a", "b"]}
        with checkpoints.saving():
            checkpoints.save(t, both)
    assert [[int(path.stem) for path in own.paths()] for own in folders] == [[5], [5, 6, 7]]
    loaded = folders[1].load(pytest.fail)
    assert loaded is not None and (loaded["trials"]["position"], loaded["trials"]["t"]) == (10, 7)
    assert loaded["loop"]["lanes"][1].tolist() == [[1, 1]] and loaded["trials"]["status"] == ["s1"]
    assert not checkpoints.due()
