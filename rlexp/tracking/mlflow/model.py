"""The best weights of a job as an MLflow model: Keras' flavor, with a signature, written without importing Keras."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient, pyfunc
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import Schema, TensorSpec

from rlexp.envs.spec import from_json
from rlexp.system import words
from rlexp.system.archives import read_json as read_member

MAX_NAME = 100  # characters


def model_name(algo: str, env: str, summary: dict[str, Any]) -> str:
    """The name of a job's model: algorithm, environment and score, `ddqn-cartpole-iqm500`.

    MLflow forbids `/ : . % " '` in it: 0.74 becomes 0_74, any other character than letters, digits, `-` and `_` a `-`.
    """
    score = summary.get("final/return", {}).get("iqm")
    told = f"-iqm{words.number(score)}".replace(".", "_").replace("+", "") if score is not None else ""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", f"{algo}-{env}")[: MAX_NAME - len(told)] + told


def log_model(
    client: MlflowClient,
    experiment_id: str,
    run_id: str,
    weights: Path,
    seed: int,
    step: int,
    summary: dict[str, Any],
    name: str,
) -> None:
    """Log the best weights of a job as a model of its run; weights that are there already are not sent again.

    Args:
        client: of the store.
        experiment_id: of the study.
        run_id: of the job.
        weights: a `.keras` file.
        seed: of the trial that the weights are from.
        step: env step of the job's last record.
        summary: the job's `summary.json`.
        name: of the model.

    Raises:
        ValueError: if the shape of the model's input is not known.
    """
    signature = model_signature(weights, summary)
    models = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    tags = {"rlexp.seed": str(seed), "rlexp.weights": sha256(weights)}
    same = [model for model in models if model.tags.items() >= tags.items()]  # of an earlier attempt
    if any(model.status == LoggedModelStatus.READY for model in same):
        return
    logged = same[0] if same else client.create_logged_model(experiment_id, name, run_id, tags=tags)
    model_id = logged.model_id
    model = Model(logged.artifact_location, run_id, model_uuid=model_id, model_id=model_id)
    with tempfile.TemporaryDirectory() as folder:
        save_keras_model(weights, Path(folder) / "model", model, signature)
        client.log_model_artifacts(model_id, str(Path(folder) / "model"))
    outputs = client.get_run(run_id).outputs
    if model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=step)])
    client.finalize_logged_model(model_id, LoggedModelStatus.READY)


def save_keras_model(weights: Path, path: Path, model: Model, signature: ModelSignature) -> None:
    """Write what `mlflow.keras.save_model` writes, from a `.keras` file and without importing Keras (9 s).

    Args:
        weights: a `.keras` file.
        path: folder to create.
        model: MLflow's description of the model, completed by this function.
        signature: shapes and types of the input and the output.
    """
    version = read_member(weights, "metadata.json")["keras_version"]
    backend = {"keras_version": version, "keras_backend": "tensorflow"}
    model.add_flavor("keras", data="data", save_exported_model=False, **backend)
    packages = ("keras", "tensorflow", "numpy")
    requirements = [f"{package}=={importlib.metadata.version(package)}" for package in packages]
    with tempfile.TemporaryDirectory() as folder:
        renamed = shutil.copy(weights, Path(folder) / "model.keras")
        with warnings.catch_warnings():  # MLflow asks for an example of an input
            warnings.simplefilter("ignore")
            pyfunc.save_model(
                path,
                loader_module="mlflow.keras",
                data_path=renamed,
                mlflow_model=model,
                signature=signature,
                pip_requirements=requirements,
            )
    del model.flavors["python_function"]["data"]  # mlflow.keras finds its data in its own flavor
    model.save(path / "MLmodel")


def model_signature(weights: Path, summary: dict[str, Any]) -> ModelSignature:
    """The signature of a saved Keras model with one input: its input layer's, or else the observations'.

    Args:
        weights: a `.keras` file.
        summary: the job's `summary.json`; `observation_shape` and `observation_dtype` are used if the
            model has no input layer; `action`, if present, is the spec that the shape of the output follows from.

    Raises:
        ValueError: if the shape of the input is not known.
    """
    config = read_member(weights, "config.json")["config"]
    layers = [layer["config"] for layer in config.get("layers", []) if layer["class_name"] == "InputLayer"]
    if len(layers) == 1:
        shape, dtype = layers[0]["batch_shape"][1:], layers[0]["dtype"]
    elif not layers and "observation_shape" in summary:
        shape, dtype = summary["observation_shape"], summary["observation_dtype"]
    else:
        raise ValueError(f"the input shape is not known: {len(layers)} input layers in {weights.name}")
    inputs = Schema([TensorSpec(np.dtype(dtype), (-1, *(size or -1 for size in shape)))])
    if "action" in summary:
        shape = from_json(summary["action"]).output_shape
    elif "num_actions" in summary:  # of earlier versions
        shape = (summary["num_actions"],)
    else:
        return ModelSignature(inputs)
    return ModelSignature(inputs, Schema([TensorSpec(np.dtype("float32"), (-1, *shape))]))


def best_seed(summary: dict[str, Any]) -> int | None:
    """The seed of the trial with the highest final return; None if no trial has one."""
    trials = [trial for trial in summary.get("trials", []) if trial.get("final_return") is not None]
    return max(trials, key=lambda trial: trial["final_return"])["seed"] if trials else None


def sha256(file: Path) -> str:
    """The SHA-256 digest of a file, in hexadecimal digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
