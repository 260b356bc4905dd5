"""What is saved plays as it was scored, from the folder, from MLflow, and from the bare Keras file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rlexp
from rlexp.system.errors import Refusal


def play(policy: Callable[[np.ndarray], Any], make_env: Callable[[], gym.Env], seeds: list[int]) -> float:
    """The mean return of one episode for each seed, all played at once: `policy` gets observations [E, *shape]."""
    envs = [make_env() for _ in seeds]
    observations = np.stack([env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)])
    total, alive = 0.0, np.ones(len(seeds), bool)
    while alive.any():
        actions = policy(observations)
        for i in np.flatnonzero(alive):
            observations[i], reward, terminated, truncated, _ = envs[i].step(int(actions[i]))
            total, alive[i] = total + float(reward), not (terminated or truncated)
    return total / len(seeds)


def cart_pole() -> gym.Env:
    return gym.make("CartPole-v1")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    output = tmp_path_factory.mktemp("tracked")
    return rlexp.run("algo=dueling_ddqn", "trials=2", "budget.steps=1500", "network.hidden_units=[16]", "algo.learn_start=100",
                     "evaluation.period=500", "evaluation.num_episodes=3", "evaluation.final_episodes=5",
                     "animation.enabled=false", f"output_dir={output}", quiet=True)  # fmt: skip


FINAL_SEEDS = [200_000 + i for i in range(5)]


def test_policies_score_what_the_summary_says(tracked: Any) -> None:
    env = cart_pole()
    for k, seed in enumerate(tracked["seeds"]):
        expected = tracked["final/return"]["per_trial"][k]
        policy = rlexp.load_policy(tracked.folder, seed=seed)
        assert play(policy, cart_pole, FINAL_SEEDS) == expected
        by_folder = rlexp.load_policy(tracked.folder / "trials" / str(seed))
        assert play(by_folder, policy.make_env, FINAL_SEEDS) == expected
        assert rlexp.load_policy(tracked.folder / "trials" / str(seed) / "best.keras").seed == seed
    best = rlexp.load_policy(str(tracked.folder))
    assert best.seed == tracked["best_seed"]
    batch = np.stack([env.reset(seed=s)[0] for s in range(6)])
    assert best(batch).tolist() == [best(observation) for observation in batch]


@pytest.mark.parametrize(
    "options",
    [
        ["pg", "algo.head=sigmoid"],
        ["pg", "algo.head=softmax"],
        ["pg_baseline"],
    ],
)
@pytest.mark.slow
def test_policies_with_probabilities_play_the_more_probable_action(
    options: list[str], tiny: Callable[..., Any], tmp_path: Path
) -> None:
    """Also as MLflow's model: one output an action, whatever the head, and no value."""
    from mlflow import pyfunc
    from mlflow.models import Model

    from rlexp.tracking.mlflow.model import model_signature, save_keras_model

    job = tiny(*options, "trials=2", "evaluation.final_episodes=5", "algo.optimizer.lr=0.05")
    for k, seed in enumerate(job["seeds"]):
        policy = rlexp.load_policy(job.folder, seed=seed)
        assert play(policy, cart_pole, FINAL_SEEDS) == job["final/return"]["per_trial"][k]
    weights = job.folder / "trials" / "1" / "best.keras"
    save_keras_model(weights, tmp_path / "model", Model(), model_signature(weights, job))
    model = pyfunc.load_model(str(tmp_path / "model"))
    assert model.metadata.signature.outputs.inputs[0].shape == (-1, 2)
    expected = job["final/return"]["per_trial"][1]
    assert play(lambda o: model.predict(o).argmax(axis=1), cart_pole, FINAL_SEEDS) == expected


@pytest.mark.slow
def test_the_logged_model_scores_what_final_return_says(tracked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    uri = f"sqlite:///{tracked.folder.parents[1] / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    tracking = json.loads((tracked.folder / "tracking.json").read_text())
    expected = max(tracked["final/return"]["per_trial"])
    model = mlflow.pyfunc.load_model(f"runs:/{tracking['run_id']}/best")
    assert play(lambda o: model.predict(o).argmax(axis=1), cart_pole, FINAL_SEEDS) == expected
    keras_model = mlflow.keras.load_model(f"runs:/{tracking['run_id']}/best")
    assert play(lambda o: np.argmax(keras_model(o), axis=1), cart_pole, FINAL_SEEDS) == expected
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, 4)
    assert model.metadata.signature.outputs.inputs[0].shape == (-1, 2)

    assert play(rlexp.load_policy(tracking["run_id"], tracking_uri=uri), cart_pole, FINAL_SEEDS) == expected
    other = str(next(s for s in tracked["seeds"] if s != tracked["best_seed"]))
    trial = rlexp.load_policy(f"runs:/{tracking['trial_runs'][other]}", tracking_uri=uri)
    assert trial.seed == int(other)
    assert play(trial, cart_pole, FINAL_SEEDS) == tracked["final/return"]["per_trial"][int(other)]


def test_what_mlflow_shows_of_a_job(tracked: Any) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tracked.folder.parents[1] / 'mlflow.db'}")
    tracking = json.loads((tracked.folder / "tracking.json").read_text())
    job = client.get_run(tracking["run_id"])
    assert job.info.status == "FINISHED" and job.data.tags["rlexp.job"] == tracked.folder.name
    assert job.data.params["algo.name"] == "dueling_ddqn" and job.data.params["network.options.aggregation"] == "mean"
    assert job.data.metrics["final/return/iqm"] == tracked["final/return"]["iqm"]
    assert job.data.tags["rlexp.config_id"] == tracked["config_id"] and job.data.tags["version.gymnasium"]
    artifacts = {a.path for a in client.list_artifacts(tracking["run_id"])}
    assert artifacts >= {"config.yaml", "summary.json", "learning_curve.png", "evaluation.csv"}
    for k, seed in enumerate(tracked["seeds"]):
        run = client.get_run(tracking["trial_runs"][str(seed)])
        assert run.data.tags["mlflow.parentRunId"] == tracking["run_id"]
        history = client.get_metric_history(run.info.run_id, "eval/return")
        steps, values = tracked.curves["eval/return"]
        assert [(m.step, m.value) for m in history] == list(zip(steps.tolist(), values[:, k].tolist(), strict=True))


def test_policies_without_weights(tiny: Callable[..., Any]) -> None:
    angle = rlexp.load_policy(tiny("angle_policy", "trials=1").folder)
    assert [angle(np.array([0, 0, angle_, 0], np.float32)) for angle_ in (-0.1, 0.0, 0.1)] == [0, 1, 1]
    chance = rlexp.load_policy(tiny("random", "trials=1").folder)
    assert {chance(np.zeros(4, np.float32)) for _ in range(50)} == {0, 1}


def test_observations_of_a_discrete_space(tiny: Callable[..., Any]) -> None:
    policy = rlexp.load_policy(
        tiny("dqn", "env.id=CliffWalking-v1", "trials=1", "budget.steps=60", "evaluation.max_steps=20").folder
    )
    assert policy(36) in range(4) and policy(np.eye(48, dtype=np.float32)).shape == (48,)


def test_nothing_there_is_refused(tmp_path: Path, tracked: Any) -> None:
    with pytest.raises(Refusal, match="source: expected a job folder, a trial in one, or an MLflow run"):
        rlexp.load_policy(tmp_path)
    with pytest.raises(Refusal, match=r"seed: expected one of \[0, 1\], received 7"):
        rlexp.load_policy(tracked.folder, seed=7)


def test_a_model_that_could_run_code_is_not_loaded(tracked: Any, tmp_path: Path) -> None:
    import shutil

    import keras

    copy = tmp_path / "study" / "job"
    shutil.copytree(tracked.folder, copy)
    inputs = keras.layers.Input((4,))
    hostile = keras.Model(inputs, keras.layers.Lambda(lambda x: x[:, :2])(inputs))
    hostile.save(copy / "trials" / "0" / "best.keras")
    with pytest.raises(Refusal, match="expected a Keras model that loads in safe mode"):
        rlexp.load_policy(copy, seed=0)
