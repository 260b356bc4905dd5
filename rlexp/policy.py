"""Trained policies, loaded from where a job left them: observation -> action.

    policy = rlexp.load_policy("outputs/default/dueling_ddqn-cartpole-0123abcd")
    env = policy.make_env()
    action = policy(observation)

Loading cannot run code that a folder brings: `.keras` files are opened in safe mode, tables are plain arrays,
configurations plain YAML, and the modules that a configuration names (`env.imports`, `module:Id`) are never taken from
the output folder.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rlexp import registry, seeding
from rlexp.settings import Refusal, Settings, build, refusal


class Policy:
    """A greedy policy of one trial: of what its model says of the actions (values, logits), the largest.

    Call it with one observation of the environment (returns an int) or with a batch of them (returns an array).

    Attributes:
        settings: of the job it comes from.
        seed: of the trial.
        model: the Keras model, the table [S, A] of a tabular policy, or None for policies without weights.
    """

    def __init__(self, settings: Settings, seed: int, model: Any) -> None:
        from rlexp.envs import adapter, wrappers

        self.settings, self.seed, self.model = settings, seed, model
        self._tabular = registry.family(settings.algo.name).tabular
        env = adapter.make(settings.env, tabular=self._tabular)
        self._shape = env.observation_space.shape or ()
        self._raw_space = wrappers.given_space(env)
        self._start = int(env.action_space.start)  # type: ignore[attr-defined]
        num_actions = int(env.action_space.n)  # type: ignore[attr-defined]
        env.close()
        if model is not None:
            shapes = model.shape[1:] if self._tabular else (model.input_shape[1:], model.output_shape[1:])
            if shapes != ((num_actions,) if self._tabular else (self._shape, (num_actions,))):
                expected = f"weights for observations of shape {self._shape} and {num_actions} actions"
                raise refusal("source", expected, f"weights of shapes {shapes} in trial {seed}")
        if self._tabular:
            self._choose = self._with_table(model)
        else:
            self._choose = self._with_model(model) if model is not None else self._without_model()

    def __call__(self, observation: Any) -> Any:
        """The action for one observation, or the actions [B] for a batch [B, ...]."""
        if self._tabular:
            if isinstance(observation, tuple | dict):  # perhaps as the environment itself has it
                observation = self._flatten(observation)
            observation = np.asarray(observation)
        else:
            if not isinstance(observation, np.ndarray) or np.ndim(observation) < len(self._shape):
                observation = self._flatten(observation)
            observation = np.asarray(observation, np.float32)
        single = observation.ndim == len(self._shape)
        actions = self._choose(observation[None] if single else observation) + self._start
        return int(actions[0]) if single else actions

    def make_env(self, render_mode: str | None = None) -> Any:
        """A fresh environment as the policy was trained on."""
        from rlexp.envs import adapter

        return adapter.make(self.settings.env, render_mode, self._tabular)

    def _flatten(self, observation: Any) -> Any:
        """An observation of the environment itself, as `adapter.make` hands it out."""
        from gymnasium import spaces

        from rlexp.envs.numbered import num_states, number

        space = self._raw_space
        if isinstance(space, spaces.Box) or (self._tabular and isinstance(space, spaces.Discrete)):
            return observation
        numbers = self._tabular and not self._shape and num_states(space) is not None
        return number(space, observation) if numbers else spaces.flatten(space, observation)

    def _without_model(self) -> Callable[[np.ndarray], np.ndarray]:
        from rlexp.envs import adapter

        algo = self.settings.algo
        agent = registry.load(registry.algo(algo.name).target)(algo, adapter.inspect(self.settings.env))
        draw = seeding.generator(self.seed, "evaluate", 0)
        return lambda observation: agent.act(observation, draw.random(len(observation), np.float32))

    def _with_table(self, q: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        from rlexp.envs import adapter
        from rlexp.envs.states import States, masked

        info = adapter.inspect(self.settings.env, tabular=True)
        states = States(info, getattr(self.settings.algo, "discretizer", None))
        if len(q) != states.num_states:
            raise refusal("source", f"a table of {states.num_states} states", f"{len(q)} in trial {self.seed}")

        def best(observation: np.ndarray) -> np.ndarray:
            state, mask = states(observation)
            return masked(q[state], mask).argmax(axis=-1)

        return best

    def _with_model(self, model: Any) -> Callable[[np.ndarray], np.ndarray]:
        import tensorflow as tf

        shape = [None, *self._shape]

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])
        def best(observation: tf.Tensor) -> tf.Tensor:
            return tf.argmax(model(observation), axis=-1, output_type=tf.int32)

        return lambda observation: best(tf.constant(observation)).numpy()


def load_policy(source: Any, *, seed: int | None = None, tracking_uri: str | None = None) -> Policy:
    """Load a trained policy.

    Args:
        source: a job folder, one of its `trials/<seed>` folders, a `best.keras` or `best.npz` in one, or an MLflow run
            (its id, `runs:/<id>`, or `runs:/<id>/<anything>`), of a job or of a trial.
        seed: which trial of a job folder; default: the one with the highest final return. (Of an MLflow
            run: give the trial's run.)
        tracking_uri: where an MLflow run lives; default MLFLOW_TRACKING_URI, else outputs/mlflow.db.

    Raises:
        Refusal: where there is no such policy.
    """
    path = Path(str(source)).expanduser()
    fetched = not path.exists()
    if fetched:
        from rlexp.trackers.mlflow import fetch_job

        path = fetch_job(str(source), tracking_uri)
    if path.suffix in (".keras", ".npz"):
        path = path.parent
    if (path.parent.name, (path.parent.parent / "config.yaml").is_file()) == ("trials", True):
        path, seed = path.parent.parent, int(path.name)
    if not (path / "config.yaml").is_file():
        raise refusal(
            "source",
            "a job folder, a trial in one, or an MLflow run",
            str(source),
            "List them: ls outputs/*/",
        )
    settings = load_settings(path)
    if not fetched:
        _check_modules(path, settings)
    if seed is None:
        seed = _best_seed(path, settings)
    if seed not in settings.seeds:
        raise refusal("seed", f"one of {settings.seeds}", str(seed))
    return Policy(settings, seed, _load_weights(path / "trials" / str(seed), settings))


def load_settings(folder: Path) -> Settings:
    """The settings of a job folder, from its config.yaml."""
    import yaml
    from omegaconf.errors import OmegaConfBaseException

    path = folder / "config.yaml"
    try:
        text = path.read_text()
        if any(isinstance(token, yaml.AliasToken | yaml.TagToken) for token in yaml.scan(text)):
            raise ValueError("YAML with tags or aliases, which no job writes")
        config = yaml.safe_load(text)
        if not isinstance(config, dict):
            raise ValueError(f"no mapping but {type(config).__name__}")
        return build(config)
    except Refusal as error:
        raise Refusal(f"{path}: {error}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise refusal(str(path), "a job's configuration", said) from error


def _check_modules(folder: Path, settings: Settings) -> None:
    """A folder that somebody sent may name modules, and bring them: what is in its output folder is not imported."""
    from importlib.machinery import PathFinder

    output_dir = [folder.resolve(), *folder.resolve().parents][:3][-1]
    if Path(sys.prefix).resolve().is_relative_to(output_dir):  # it stands somewhere else
        output_dir = folder.resolve()
    names = [*settings.env.imports, *(n for n in (settings.env.id, settings.network.name) if ":" in n)]
    names += [entry["name"] for entry in settings.env.wrappers if "." in entry["name"]]
    for name in names:
        spec = PathFinder.find_spec(name.partition(":")[0].partition(".")[0])
        places = [spec.origin, *(spec.submodule_search_locations or [])] if spec else []
        for place in filter(None, places):
            if Path(place).resolve().is_relative_to(output_dir):
                raise refusal(
                    str(folder / "config.yaml"),
                    f"modules from outside {output_dir}",
                    f"{name!r}, which would be {place}",
                    "Start from another working directory.",
                )


def _best_seed(folder: Path, settings: Settings) -> int:
    try:
        return int(json.loads((folder / "summary.json").read_text())["best_seed"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return settings.seed  # no trial has been scored yet


def _load_weights(folder: Path, settings: Settings) -> Any:
    """The Keras model or the table of a trial's folder; None for policies without weights."""
    family = registry.family(settings.algo.name)
    if not family.keras and not family.tabular:
        return None
    path = folder / ("best.keras" if family.keras else "best.npz")
    if not path.is_file():
        raise refusal(
            "source", "a trained trial", f"{path}, which does not exist", "The job may not have finished yet."
        )
    if not family.keras:
        return load_table(path)
    if ":" in settings.network.name:  # its module registers the classes of its layers with Keras
        with contextlib.suppress(Exception):  # a model of Keras' own layers needs none
            importlib.import_module(settings.network.name.partition(":")[0])
    return _load_model(path)


def load_table(path: Path) -> np.ndarray:
    """The table [S, A] of a `best.npz`; raises `Refusal` for a broken one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            table: np.ndarray = file["q"]
        if table.ndim != 2 or table.dtype.kind != "f":
            raise ValueError(f"an array of {table.dtype} with {table.ndim} axes")
        return table
    except Exception as error:  # whatever is in the file, it is only a file
        raise Refusal(f"{path}: expected an npz file with a table q, received: {_said(error)}") from error


def _load_model(path: Path) -> Any:
    from rlexp.backend import prepare

    prepare("auto")
    import keras

    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        if not isinstance(model, keras.Model):
            raise ValueError(f"a {type(model).__name__}")
        return model
    except Exception as error:
        raise Refusal(f"{path}: expected a Keras model that loads in safe mode, received: {_said(error)}") from error


def _said(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
