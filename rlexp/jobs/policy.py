"""Trained policies, loaded from a job's folder or an MLflow run: observation -> action.

    policy = rlexp.load_policy("outputs/default/dueling_ddqn-cartpole-0123abcd")
    env = policy.make_env()
    action = policy(observation)

Loading cannot run code from a folder: `.keras` files are opened in safe mode, tables are plain arrays, configurations
are plain YAML, and the modules that a configuration names (`env.imports`, `module:Id`) are imported only if they belong
to an installed distribution, unless `allow_imports` is given.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.config import former, registry
from rlexp.config.build import build
from rlexp.config.schema.job import Settings
from rlexp.data import seeding
from rlexp.envs.spec import Box, Discrete
from rlexp.jobs.stored_models import load_model, load_table, reason
from rlexp.system import search_path, stored_yaml
from rlexp.system.errors import Refusal, refusal
from rlexp.system.stored_files import Damaged, check_later, find_json, read_json
from rlexp.system.stored_schemas import JOB, SUMMARY
from rlexp.system.tool import warn


class Policy:
    """The greedy policy of one trial: for numbered actions, the one with the largest output of the model.

    Call it with one observation of the environment (returns an int, or an array for Box and MultiDiscrete actions) or
    with a batch of them (returns an array).

    Attributes:
        settings: of its job.
        seed: of the trial.
        model: the Keras model, the table [S, A] of a tabular policy, or None for policies without weights.
    """

    def __init__(self, settings: Settings, seed: int, model: Any) -> None:
        from rlexp.envs import inspection, wrappers

        self.settings, self.seed, self.model = settings, seed, model
        self._tabular = registry.family(settings.algo.name).tabular
        env = self.make_env()
        self._shape = env.observation_space.shape or ()
        self._raw_space = wrappers.configured_space(env)
        self._action = inspection.action_spec(env, settings.env.id)
        env.close()
        if model is not None:
            self._check_shapes(model)
        if self._tabular:
            self._choose = self._with_table(model)
        else:
            self._choose = self._with_model(model) if model is not None else self._without_model()

    def __call__(self, observation: Any) -> Any:
        """The action for one observation, or the actions [B, *action shape] for a batch [B, ...]."""
        observation = self.observed(observation)
        single = observation.ndim == len(self._shape)
        actions = self._action.to_env(self._choose(observation[None] if single else observation))
        if not single:
            return actions
        return int(actions[0]) if isinstance(self._action, Discrete) else actions[0]

    def observed(self, observation: Any) -> np.ndarray:
        """An observation of the environment, or a batch of them, as the model or table takes it.

        Args:
            observation: as the environment gives it, or a batch of arrays.

        Returns:
            An array: float32 for networks, numbers of states for tables.
        """
        if self._tabular:
            if isinstance(observation, tuple | dict):  # not numbered yet
                observation = self._flatten(observation)
            return np.asarray(observation)
        if not isinstance(observation, np.ndarray) or np.ndim(observation) < len(self._shape):
            observation = self._flatten(observation)
        return np.asarray(observation, np.float32)

    def make_env(self, render_mode: str | None = None) -> Any:
        """Make a new environment like the one that the policy was trained on.

        Args:
            render_mode: of Gymnasium, such as `"rgb_array"`; None: nothing is drawn.

        Returns:
            The Gymnasium environment, whose observations the policy takes.
        """
        from rlexp.envs.making import make

        return make(self.settings.env, render_mode, self._tabular)

    def _check_shapes(self, model: Any) -> None:
        """Raise `Refusal` for weights of another environment."""
        outputs = self._action.output_shape
        expected = (outputs,) if self._tabular else (self._shape, outputs)
        shapes = (model.shape[1:],) if self._tabular else (model.input_shape[1:], model.output_shape[1:])
        if shapes != expected:
            numbered = not isinstance(self._action, Box)
            what = f"{outputs[0]} actions" if numbered else f"actions of shape {outputs}"
            raise refusal(
                "source",
                f"weights for observations of shape {self._shape} and {what}",
                f"weights of shapes {shapes[0] if self._tabular else shapes} in trial {self.seed}",
            )

    def _flatten(self, observation: Any) -> Any:
        """A raw observation of the environment, as `make_env`'s environment returns it."""
        from rlexp.envs.flattening import as_observed

        return as_observed(self._raw_space, observation, self._tabular, is_number=not self._shape)

    def _without_model(self) -> Callable[[np.ndarray], np.ndarray]:
        from rlexp.envs.inspection import inspect

        algo = self.settings.algo
        agent = registry.load(registry.algo(algo.name).target)(algo, inspect(self.settings.env))
        draw = seeding.generator(self.seed, "evaluate", 0)
        return lambda observation: agent.act(
            observation, draw.random((len(observation), agent.widths["act"]), np.float32)
        )

    def _with_table(self, q: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        from rlexp.envs.discretizer import States, masked
        from rlexp.envs.inspection import inspect

        info = inspect(self.settings.env, tabular=True)
        states = States(info, getattr(self.settings.algo, "discretizer", None))
        if len(q) != states.num_states:
            raise refusal("source", f"a table of {states.num_states} states", f"{len(q)} in trial {self.seed}")

        def best(observation: np.ndarray) -> np.ndarray:
            state, mask = states(observation)
            return masked(q[state], mask).argmax(axis=-1)

        return best

    def _with_model(self, model: Any) -> Callable[[np.ndarray], np.ndarray]:
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec([None, *self._shape], tf.float32)])
        def outputs(observation: tf.Tensor) -> tf.Tensor:
            return model(observation)

        return lambda observation: self._action.best(outputs(tf.constant(observation)).numpy())


def load_policy(
    source: Any, *, seed: int | None = None, tracking_uri: str | None = None, allow_imports: bool = False
) -> Policy:
    """Load a trained policy.

    Args:
        source: a job folder, one of its `trials/<seed>` folders, a `best.keras` or `best.npz` in one, or an MLflow run
            (its id, `runs:/<id>`, or `runs:/<id>/<anything>`), of a job or of a trial.
        seed: of the trial in a job folder; default: the one with the highest final return. (For a trial in MLflow,
            give its run as `source`.)
        tracking_uri: where an MLflow run lives; default MLFLOW_TRACKING_URI, else outputs/mlflow.db.
        allow_imports: import all modules that the configuration names. Without it, only those of installed
            distributions are imported, since others may have come with the folder.

    Raises:
        Refusal: if there is no such policy, or if its configuration names a module that is not installed.
    """
    path = Path(str(source)).expanduser()
    if allow_imports:
        search_path.put_back_working_directory()
    with contextlib.ExitStack() as stack:
        if not _exists(path):
            from rlexp.tracking.mlflow.fetch import fetch_job

            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rlexp-")))
            path = fetch_job(str(source), tracking_uri, place)
        if path.suffix in (".keras", ".npz"):
            path = path.parent
        if (path.parent.name, (path.parent.parent / "config.yaml").is_file()) == ("trials", True):
            path, seed = path.parent.parent, _folder_seed(path)
        if not os.path.lexists(path / "config.yaml"):  # anything else is refused by `load_settings`
            raise refusal(
                "source",
                "a job folder, a trial in one, or an MLflow run",
                str(source),
                "List them: ls outputs/*/",
            )
        settings = load_settings(path, allow_imports)
        _check_unchanged(path / "config.yaml")
        if seed is None:
            seed = _best_seed(path, settings)
        return policy_of(settings, seed, path, allow_imports)


def policy_of(settings: Settings, seed: int, folder: Path, allow_imports: bool = False) -> Policy:
    """The policy of one trial of a job whose settings are known; raises `Refusal` if there is none."""
    if seed not in settings.seeds:
        raise refusal("seed", f"one of {settings.seeds}", str(seed))
    return Policy(settings, seed, _load_weights(folder / "trials" / str(seed), settings, allow_imports))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return False


def _folder_seed(path: Path) -> int:
    """The seed in the name of a trial's folder."""
    if not (path.name.isascii() and path.name.isdigit()):
        raise refusal("source", "a trial's folder, trials/<seed>", str(path))
    return int(path.name)


def load_settings(folder: Path, allow_imports: bool = False) -> Settings:
    """The settings of a job folder, from its config.yaml; `allow_imports` as of `load_policy`."""
    from omegaconf.errors import OmegaConfBaseException

    from rlexp.system import stored_modules

    path = folder / "config.yaml"
    try:
        config = stored_yaml.read_config(folder)
        stored_modules.check_config(config, str(path), allow_imports)
        return build(former.current(config))
    except Refusal as error:
        message = str(error)
        raise Refusal(message if message.startswith(str(path)) else f"{path}: {message}") from error
    except (OSError, ValueError, TypeError, RecursionError, OmegaConfBaseException) as error:
        raise refusal(str(path), "a job's configuration", reason(error).removeprefix(f"{path} is ")) from error


def _check_unchanged(path: Path) -> None:
    """Warn of a configuration that has changed since its job ran."""
    try:
        check_later(path, find_json(path.with_name("job.json"), JOB))
    except Damaged as error:
        warn(f"{error}; the policy is of the job's own configuration" if error.path == path else str(error))


def _best_seed(folder: Path, settings: Settings) -> int:
    try:
        return int(read_json(folder / "summary.json", SUMMARY, "best_seed")["best_seed"])
    except FileNotFoundError:
        return settings.seed  # no trial has been scored yet
    except Damaged as error:
        warn(f"{error}; seed {settings.seed} is played, which may not be the best")
        return settings.seed


def _load_weights(folder: Path, settings: Settings, allow_imports: bool) -> Any:
    """The Keras model or table in a trial's folder; None for policies without weights."""
    family = registry.family(settings.algo.name)
    if not family.keras and not family.tabular:
        return None
    path = folder / ("best.keras" if family.keras else "best.npz")
    if not path.is_file():
        raise refusal(
            "source", "a trained trial", f"{path}, which does not exist", "The job may not have finished yet."
        )
    if not family.keras:
        table = load_table(path, _table_size(settings))
        _check_weights(path)
        return table
    if ":" in settings.network.name:  # its module, which may be imported (see `load_settings`), registers its layers
        with contextlib.suppress(Exception):  # a model of Keras' own layers needs none
            importlib.import_module(settings.network.name.partition(":")[0])
    model = load_model(path, allow_imports)
    _check_weights(path)
    return model


def _check_weights(path: Path) -> None:
    """Raise `Refusal` for weights that have changed since the job ended."""
    try:
        check_later(path, find_json(path.parents[2] / "summary.json", SUMMARY))
    except Damaged as error:
        if error.path == path:
            raise Refusal(str(error)) from error
        warn(str(error))


def _table_size(settings: Settings) -> int:
    """Bytes of a job's table: a number for each state and action."""
    from rlexp.envs.discretizer import States
    from rlexp.envs.inspection import inspect

    info = inspect(settings.env, tabular=True)
    states = States(info, getattr(settings.algo, "discretizer", None))
    return 8 * states.num_states * info.num_actions
