"""Environments in processes of their own: the results of one process, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rlexp.config.schema.env import EnvSettings
from rlexp.data import seeding
from rlexp.engines.bookkeeping import Trials
from rlexp.envs.env_process import EnvProcesses
from rlexp.envs.episodes import EpisodePlayer
from rlexp.envs.inspection import inspect
from rlexp.envs.trial_envs import TrialEnvs
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose
from rlexp.system.errors import Refusal
from tests.conftest import records

CARTPOLE = EnvSettings(id="CartPole-v1", name="cartpole", workers=2)


def bad(fault: str, workers: int) -> EnvSettings:
    """The fault is in the first episode of environment 1 of seed 1."""
    own = {"fault": fault, "modulus": 2**31, "remainder": seeding.episode_seed(1, 0, 1)}
    imports = ["tests.probes.misbehaving"]
    return EnvSettings(id="probes/Misbehaving-v0", name="bad", imports=imports, kwargs=own, workers=workers)


def played(settings: EnvSettings, steps: int) -> list[Any]:
    """What three trials of three environments see, and their positions."""
    envs, active, seen = TrialEnvs(settings, inspect(settings), [0, 1, 2], 3), np.ones(3, bool), list[Any]()
    for t in range(steps):
        actions = (np.arange(9).reshape(3, 3) + t) // 2 % 2
        step = envs.step(actions, active)
        for fault in step.faults:
            active[fault.trial] = False
        arrays = [step.r_t, step.terminated, step.truncated, step.o_t, envs.observation]
        seen.append([*(array.tobytes() for array in arrays), step.finished, [f.text for f in step.faults]])
    seen.append({name: values.tolist() for name, values in envs.get_state().items()})
    envs.close()
    return seen


@pytest.mark.parametrize(
    "fault", ["", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("raises", "shape", "nan"))]
)
def test_results_are_those_of_one_process(fault: str) -> None:
    one, two = (bad(fault, n) if fault else EnvSettings(**{**vars(CARTPOLE), "workers": n}) for n in (1, 2))
    expected = played(one, 15 if fault else 60)
    assert played(two, 15 if fault else 60) == expected
    texts = [text for step in expected[:-1] for text in step[-1]]
    assert len(texts) == bool(fault) and all("trial seed 1, environment 1" in text for text in texts)


@pytest.mark.slow
def test_episodes_of_an_evaluation_are_those_of_one_process() -> None:
    def play(workers: int) -> tuple[np.ndarray, np.ndarray]:
        settings = EnvSettings(id="CartPole-v1", name="cartpole", workers=workers)
        player = EpisodePlayer(settings, inspect(settings), [0, 1], 4, 500)
        scores = player.play(lambda o: (o[..., 2] > 0).astype(int), [7, 8, 9], np.ones(2, bool))
        assert player.close() == []
        return scores

    one, three = play(1), play(3)
    assert all((a == b).all() for a, b in zip(one, three, strict=True)) and one[1].min() > 5


def test_a_process_that_dies_fails_the_trials_whose_environments_it_had() -> None:
    """Of three trials of one environment the second is in the second process."""
    envs, yes, actions = TrialEnvs(CARTPOLE, inspect(CARTPOLE), [0, 1, 2], 1), np.ones(3, bool), np.zeros(3, int)
    assert not envs.step(actions, yes).faults
    assert envs._processes is not None
    dead = envs._processes._processes[1]
    os.kill(dead.pid, signal.SIGKILL)
    (fault,) = envs.step(actions, yes).faults
    assert fault.trial == 1 and "trial seed 1, episode seed" in fault.text
    assert fault.text.endswith(
        "step 2: its process died (SIGKILL: ended by another process, or by the system for lack of memory)"
    )
    step = envs.step(actions, np.array([True, False, True]))
    assert not step.faults and step.r_t.tolist() == [1.0, 0.0, 1.0]
    envs.close()
    assert all(process.poll() is not None for process in envs._processes._processes)


@pytest.mark.slow
def test_no_process_is_left_of_a_job_that_fails(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = EnvProcesses.__init__

    def init(self: EnvProcesses, *args: Any) -> None:
        real(self, *args)
        started.extend(self._processes)

    def fail(self: Trials, *args: Any) -> None:
        raise ZeroDivisionError("of this test")

    monkeypatch.setattr(EnvProcesses, "__init__", init)
    monkeypatch.setattr(Trials, "housekeeping", fail)
    with pytest.raises(ZeroDivisionError):
        tiny("random", "trials=2", "env.workers=2")
    assert [process.poll() for process in started] == [0] * 4  # of training and of evaluations


@pytest.mark.slow
def test_a_call_that_takes_too_long_fails_its_trial() -> None:
    settings = EnvSettings(**{**vars(bad("hangs", 2)), "step_timeout": 0.3})
    seen = played(settings, 4)
    (text,) = [text for step in seen[:-1] for text in step[-1]]
    assert "trial seed 1, environment 1" in text
    assert text.endswith("step 3: step has not returned within 0.3 s (env.step_timeout)")


def test_it_is_for_the_host_engine_and_moves_no_curve() -> None:
    job = ("algo=ppo", "env=cartpole", "algo.batch_size=64")
    one, two = (resolve(compose(*job, "engine=host", f"env.workers={n}"))[0] for n in (1, 2))
    assert one.config_id == two.config_id
    assert resolve(compose(*job, "env.workers=2"))[0].engine == "host"
    with pytest.raises(Refusal, match=r"'fused', but env\.workers is for environments that are stepped one by one"):
        resolve(compose(*job, "engine=fused", "env.workers=2"))


@pytest.mark.slow
def test_a_job_is_the_same_with_and_without(tiny: Callable[..., Any]) -> None:
    options = ("algo.num_envs=4", "algo.batch_unit=step", "algo.batch_size=64", "trials=2")
    one, two = (tiny("ppo", *options, f"env.workers={n}", f"study=w{n}") for n in (1, 2))
    assert records(one.folder) == records(two.folder)
    with np.load(one.folder / "episodes.npz") as a, np.load(two.folder / "episodes.npz") as b:
        assert all((a[name] == b[name]).all() for name in a.files)
