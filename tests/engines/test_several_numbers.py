"""Jobs whose actions are floats or several choices: what they learn, both engines, resuming, and what a policy carries."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf
from gymnasium.envs.classic_control.pendulum import PendulumEnv

import rlexp
from rlexp.cli import play
from rlexp.config import registry
from rlexp.config.registry import Dynamics
from rlexp.envs.tensor.pendulum import Pendulum
from tests.conftest import records
from tests.engines.test_engines import trial
from tests.engines.test_fused import resumed  # noqa: F401  (a fixture)
from tests.probes.several_numbers import OBSERVATIONS, Aim, Choices

PROBE = ("env.imports=[tests.probes.several_numbers]", "evaluation.max_steps=5")
LEARN = (
    *PROBE, "trials=2", "network.hidden_units=[16]", "budget.steps=3000", "evaluation.period=3000", "algo.reward_scale=1",
    "evaluation.selection=last", "algo.batch_unit=step", "algo.batch_size=50",
    "algo.optimizer.lr={kind: linear, initial: 3e-2, final: 1e-3, duration: 3000}",
)  # fmt: skip
SQUASHED = ("algo.distribution=tanh_gaussian", "algo.entropy_coef=0.01")


class StillPendulum(PendulumEnv):
    """Its episodes start alike, so that both engines see the same."""

    def reset(self, **options: Any) -> Any:
        super().reset(**options)
        self.state = np.array([2.0, 0.5])
        return self._get_obs(), {}


class TensorStillPendulum(Pendulum):
    """`StillPendulum`."""

    reset_width: ClassVar[int] = 0

    def reset(self, u: tf.Tensor) -> tf.Tensor:
        return tf.constant([2.0, 0.5])


STILL_PENDULUM = Dynamics(f"{__name__}:TensorStillPendulum")
gym.register("tests/StillPendulum-v0", StillPendulum, max_episode_steps=20)


@pytest.fixture(autouse=True)
def tensor_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("probes/Aim-v0", "tests.probes.several_numbers:AIM", "rlexp.envs"),
        EntryPoint("probes/Choices-v0", "tests.probes.several_numbers:CHOICES", "rlexp.envs"),
        EntryPoint("tests/StillPendulum-v0", f"{__name__}:STILL_PENDULUM", "rlexp.envs"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "rlexp.envs" else [])


def outputs(job: Any) -> list[np.ndarray]:
    """What the best model of each trial says of the two states."""
    models = [keras.models.load_model(job.folder / "trials" / str(seed) / "best.keras") for seed in job["seeds"]]
    return [np.asarray(model(OBSERVATIONS)) for model in models]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "fused"])
@pytest.mark.parametrize(
    ("algo", "options"), [("pg_baseline", ("algo.log_std_init=-0.5",)), ("ppo", SQUASHED)], ids=["clipped", "squashed"]
)
def test_the_known_best_action_is_found(algo: str, options: Any, engine: str, tiny: Callable[..., Any]) -> None:
    job = tiny(algo, f"engine={engine}", "env.id=probes/Aim-v0", *LEARN, *options)
    assert job["engine"] == engine
    for actions in outputs(job):
        np.testing.assert_allclose(actions / [1.0, 2.0], Aim.best / [1.0, 2.0], atol=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "engine"), [("pg_baseline", "host"), ("ppo", "fused")])
def test_the_known_best_choices_are_found(algo: str, engine: str, tiny: Callable[..., Any]) -> None:
    job = tiny(algo, f"engine={engine}", "env.id=probes/Choices-v0", *LEARN)
    assert job["engine"] == engine and job["final/return"]["min"] == 2
    for logits in outputs(job):
        assert (logits[:, :2].argmax(axis=1) + 1).tolist() == Choices.best[:, 0].tolist()
        assert logits[:, 2:].argmax(axis=1).tolist() == Choices.best[:, 1].tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "action"),
    [
        ("Aim", {"kind": "box", "shape": [2], "dtype": "float32", "low": [-1, 0], "high": [1, 4], "env_dtype": "float64"}),
        (
            "Choices",
            {"kind": "multi_discrete", "sizes": [2, 3], "shape": [2], "starts": [1, 0], "dtype": "int32", "env_dtype": "int64"},
        ),
    ],
)  # fmt: skip
def test_a_policy_carries_its_actions(env: str, action: dict[str, Any], tiny: Callable[..., Any]) -> None:
    """Summary, saved model, its signature, and the policy that is loaded: actions of the environment's own space."""
    from rlexp.tracking.mlflow.model import model_signature

    job = tiny("ppo", f"env.id=probes/{env}-v0", *PROBE, "trials=1", "budget.steps=100", "algo.batch_size=25")
    assert job["action"] == action
    policy = rlexp.load_policy(job.folder, allow_imports=True)
    space, every = policy.make_env().action_space, policy(OBSERVATIONS)
    assert every.shape == (2, 2) and every.dtype == space.dtype
    for k, observation in enumerate(OBSERVATIONS):
        assert space.contains(policy(observation)) and (policy(observation) == every[k]).all()
    (found,) = outputs(job)
    if env == "Aim":
        np.testing.assert_allclose(found, every, atol=1e-6)
    else:
        assert (found[:, :2].argmax(axis=1) + 1).tolist() == every[:, 0].tolist()
    signature = model_signature(
        job.folder / "trials" / "0" / "best.keras", json.loads((job.folder / "summary.json").read_text())
    )
    assert signature.inputs.inputs[0].shape == (-1, 2)
    assert signature.outputs.inputs[0].shape == (-1, 2 if env == "Aim" else 5)


@pytest.mark.slow
def test_play_films_a_policy_of_float_actions(tiny: Callable[..., Any], tmp_path: Any) -> None:
    job = tiny("pg_baseline", "env=pendulum", "trials=1", "budget.steps=400", "evaluation.max_steps=20")
    assert play.main([str(job.folder), "--out", str(tmp_path / "episode.gif"), "--max-steps", "10"]) == 0
    assert (tmp_path / "episode.gif").read_bytes()[:3] == b"GIF"


SHORT = (
    "network.hidden_units=[8]",
    "algo.batch_unit=step",
    "algo.batch_size=40",
    "budget.steps=240",
    "evaluation.max_steps=20",
)


@pytest.mark.slow
@pytest.mark.parametrize("options", [("evaluation.policy=sampled",), SQUASHED, ("algo.state_dependent_std=true",)])
def test_both_engines_do_the_same_with_float_actions(options: Any, tiny: Callable[..., Any]) -> None:
    """Episodes start alike: the same actions, batches, updates, evaluations and records, to rounding, for some steps."""
    still = (
        "env.id=tests/StillPendulum-v0",
        f"env.imports=[{__name__}]",
        "trials=2",
        *SHORT,
        *options,
        "evaluation.period=80",
    )
    host, fused = (tiny("ppo", f"engine={engine}", *still) for engine in ("host", "fused"))
    assert (host["engine"], fused["engine"]) == ("host", "fused") and host["updates"] == fused["updates"]
    pairs = list(zip(records(host.folder), records(fused.folder), strict=True))
    assert len(pairs) > 3
    for theirs, mine in pairs:
        assert theirs["step"] == mine["step"] and sorted(theirs["metrics"]) == sorted(mine["metrics"])
        for name, values in theirs["metrics"].items():
            found, expected = np.array(mine["metrics"][name], float), np.array(values, float)
            np.testing.assert_allclose(found, expected, rtol=5e-3, atol=1e-4, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "fused"])
@pytest.mark.parametrize("options", [("evaluation.policy=sampled",), SQUASHED])
def test_a_trial_alone_equals_the_trial_in_a_batch(engine: str, options: Any, tiny: Callable[..., Any]) -> None:
    job = (f"engine={engine}", "env=pendulum", *SHORT, *options)
    three, one = tiny("ppo", "trials=3", *job), tiny("ppo", "trials=1", "seed=2", *job)
    assert three["engine"] == engine and trial(three, 2) == trial(one, 2) != trial(three, 0)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "fused"])
def test_a_job_resumes_to_the_same_bits(engine: str, resumed: Callable[..., Any]) -> None:  # noqa: F811
    resumed("ppo", f"engine={engine}", "env=pendulum", "trials=2", *SHORT, *SQUASHED, call=11)


@pytest.mark.slow
@pytest.mark.parametrize("env", ["pendulum", "env.id=probes/Choices-v0"])
def test_trials_shared_by_processes_are_the_same(env: str, tiny: Callable[..., Any]) -> None:
    where = [env, *PROBE] if "=" in env else [f"env={env}"]
    job = ("engine=host", *where, "trials=4", *SHORT)
    one, two = tiny("pg_baseline", *job), tiny("pg_baseline", *job, "workers=2", "study=shared")
    assert records(one.folder) == records(two.folder)
    assert [trial(one, seed) for seed in range(4)] == [trial(two, seed) for seed in range(4)]
