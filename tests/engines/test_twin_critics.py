"""SAC and TD3 on both engines: the engines' promises for continuous actions, and known best actions."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import keras
import numpy as np
import pytest

import rlexp
from rlexp.config import registry
from rlexp.engines.fused import base, replay, replay_program
from rlexp.engines.vectorized import Recent
from rlexp.jobs.policy import load_policy
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose
from rlexp.system.errors import Refusal
from tests.conftest import records
from tests.engines.test_engines import trial
from tests.engines.test_fused import resumed  # noqa: F401  (a fixture)
from tests.probes import steer

PENDULUM = ("env=pendulum", "env.max_episode_steps=40", "network.hidden_units=[8]")
STEER = ("env.id=probes/Steer-v0", "env.imports=[tests.probes.steer]", "algo.gamma=0", "network.hidden_units=[32,32]")


@pytest.fixture
def steered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe's dynamics are known to the fused engine."""
    point = EntryPoint("probes/Steer-v0", "tests.probes.steer:DYNAMICS", "rlexp.envs")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "rlexp.envs" else [])


@pytest.mark.slow
@pytest.mark.usefixtures("steered")
@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_both_engines_do_the_same(algo: str, tiny: Callable[..., Any]) -> None:
    """Where chance has no part in the environment they see the same numbers: random actions, noise, batches, updates."""
    host, ours = (tiny(algo, *STEER, f"engine={engine}", "trials=2", "budget.steps=90") for engine in ("host", "fused"))
    assert (host["engine"], ours["engine"]) == ("host", "fused") and host["updates"] == ours["updates"] == [40, 40]
    for theirs, mine in zip(records(host.folder), records(ours.folder), strict=True):
        assert theirs["step"] == mine["step"] and sorted(theirs["metrics"]) == sorted(mine["metrics"])
        for name, values in theirs["metrics"].items():
            np.testing.assert_allclose(
                np.array(mine["metrics"][name], float), np.array(values, float), rtol=2e-3, err_msg=name
            )


@pytest.mark.slow
@pytest.mark.parametrize("work", [0, 10**9])
@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_a_trial_alone_equals_the_trial_in_a_batch(
    algo: str, work: int, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the fused engine; updates made one after another, and together; the ring wraps round, two cores share trials."""
    monkeypatch.setattr(replay_program, "MAPPED_WORK", work)
    monkeypatch.setattr(base, "_PROGRAMS", Recent(base.MAX_PROGRAMS))
    monkeypatch.setattr(replay, "num_cores", lambda: 2)
    job = (algo, *PENDULUM, "engine=fused", "algo.replay_size=60")
    many, two, one = (tiny(*job, f"seed={seed}", f"trials={n}") for seed, n in ((0, 11), (2, 2), (3, 1)))
    assert many["engine"] == "fused" and many["updates"] == [250] * 11
    assert trial(many, 3) == trial(two, 3) == trial(one, 3)
    assert trial(many, 2) == trial(two, 2) != trial(many, 4)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "fused"])
@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_a_job_resumes_to_the_same_bits(algo: str, engine: str, resumed: Callable[..., Any]) -> None:  # noqa: F811
    """Before the first update, between two updates of a delayed policy, and after: the random actions go on, too."""
    resumed(algo, *PENDULUM, f"engine={engine}", "trials=3", "algo.replay_size=100", call=17)
    resumed(algo, *PENDULUM, f"engine={engine}", "trials=3", "algo.learn_start=200", "study=late", call=11)


@pytest.mark.slow
@pytest.mark.usefixtures("steered")
@pytest.mark.parametrize("engine", ["host", "fused"])
@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_known_best_actions(algo: str, engine: str, tiny: Callable[..., Any]) -> None:
    """The deployed model and `load_policy` give them, in the space's bounds."""
    sure = ("algo.target_entropy=-6.0",) if algo == "sac" else ("algo.exploration_noise=0.3",)
    job = tiny(algo, *STEER, f"engine={engine}", "trials=2", "budget.steps=2500", "evaluation.period=2500",
               "algo.batch_size=64", "algo.replay_size=2500", "algo.learn_start=500", "evaluation.selection=last", *sure)  # fmt: skip
    for seed in job["seeds"]:
        model = keras.models.load_model(job.folder / "trials" / str(seed) / "best.keras")
        actions = np.asarray(model(np.eye(2, dtype=np.float32)))
        np.testing.assert_allclose(actions / steer.HALF, steer.BEST / steer.HALF, atol=0.2)
        policy = load_policy(job.folder, seed=seed, allow_imports=True)
        assert np.array_equal(policy(np.eye(2, dtype=np.float32)), actions)
    assert min(job["final/return"]["per_trial"]) > -0.4  # of ten steps; random actions get -10


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_pendulum_is_learned_alike_on_both_engines(algo: str, tmp_path: Any) -> None:
    """Five trials each, by a small network: all hold the pendulum up (random actions get -1,200)."""
    jobs = [
        rlexp.run(f"algo={algo}", "env=pendulum", "trials=5", "seed=500", f"engine={engine}", f"output_dir={tmp_path}",
                  "tracking=files", "budget.steps=12000", "animation.enabled=false", "algo.batch_size=64",
                  "network.hidden_units=[32,32]", quiet=True)
        for engine in ("host", "fused")
    ]  # fmt: skip
    returns = [np.array(job["final/return"]["per_trial"]) for job in jobs]
    assert all(values.min() > -300 for values in returns), returns
    assert abs(np.median(returns[0]) - np.median(returns[1])) < 40, returns


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_discrete_actions_are_refused_with_what_takes_them(algo: str) -> None:
    with pytest.raises(Refusal) as refused:
        resolve(compose(f"algo={algo}", "env=cartpole"))
    first, second = str(refused.value).splitlines()
    assert first == (
        "env.id: expected an environment with a Box action space, received 'CartPole-v1' with Discrete actions (Discrete(2))."
    )
    assert second.startswith("These algorithms take them: algo=random, ") and "dueling_ddqn" in second


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_what_the_settings_do_not_suit_is_refused(algo: str) -> None:
    from rlexp.envs.info import EnvInfo
    from rlexp.envs.spec import Box

    config, vector = registry.algo(algo).schema(), Box((2,), "float32")
    bounded = Box((2,), "float32", (-1.0,), (1.0, 2.0))
    config.check_env("X-v0", EnvInfo(vector, bounded, None, False))
    for low, high in ((None, (1.0,)), ((-1.0, None), (1.0,))):
        with pytest.raises(Refusal) as refused:
            config.check_env("X-v0", EnvInfo(vector, Box((2,), "float32", low, high), None, False))
        expected = f"env.id: expected an environment whose actions have bounds for {algo}, which scales them to these, received 'X-v0' with Box("
        assert str(refused.value).startswith(expected)
    with pytest.raises(Refusal, match=f"expected actions of floats for {algo}, received 'X-v0' with actions of Box"):
        config.check_env("X-v0", EnvInfo(vector, Box((2,), "int64", (0,), (5,)), None, False))
    with pytest.raises(Refusal) as refused:
        config.check_env("X-v0", EnvInfo(Box((3, 3), "uint8"), bounded, None, False))
    assert str(refused.value) == (
        f"env.id: expected observations that are a vector for {algo}, whose critics see an action beside them, "
        "received 'X-v0' with observations of shape (3, 3)."
    )
