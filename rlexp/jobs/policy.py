"""Trained policies, loaded from where a job left them: observation -> action.

    policy = rlexp.load_policy("outputs/default/dueling_ddqn-cartpole-0123abcd")
    env = policy.make_env()
    action = policy(observation)

Loading cannot run code that a folder brings: `.keras` files are opened in safe mode, tables are plain arrays,
configurations plain YAML, and the modules that a configuration names (`env.imports`, `module:Id`) are imported only if
they belong to an installed distribution; `allow_imports` imports others.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.config import registry
from rlexp.config.build import build
from rlexp.config.schema.job import Settings
from rlexp.data import seeding
from rlexp.system import archives, search_path, stored_yaml
from rlexp.system.errors import Refusal, refusal
from rlexp.system.stored_files import Damaged, check_later, find_json, read_json
from rlexp.system.stored_schemas import JOB, SUMMARY
from rlexp.system.text import clean
from rlexp.system.tool import warn


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

        from rlexp.envs.category_numbers import num_states, number

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
        from rlexp.envs.discretizer import States, masked

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


def load_policy(
    source: Any, *, seed: int | None = None, tracking_uri: str | None = None, allow_imports: bool = False
) -> Policy:
    """Load a trained policy.

    Args:
        source: a job folder, one of its `trials/<seed>` folders, a `best.keras` or `best.npz` in one, or an MLflow run
            (its id, `runs:/<id>`, or `runs:/<id>/<anything>`), of a job or of a trial.
        seed: which trial of a job folder; default: the one with the highest final return. (Of an MLflow
            run: give the trial's run.)
        tracking_uri: where an MLflow run lives; default MLFLOW_TRACKING_URI, else outputs/mlflow.db.
        allow_imports: import the modules that the configuration names, wherever they lie. Without it, only those of
            installed distributions are: others may have come with the folder.

    Raises:
        Refusal: where there is no such policy, or its configuration names a module that is not installed.
    """
    path = Path(str(source)).expanduser()
    if allow_imports:
        search_path.put_back_working_directory()
    with contextlib.ExitStack() as stack:
        if not _exists(path):
            from rlexp.tracking.mlflow.delivery import fetch_job

            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rlexp-")))
            path = fetch_job(str(source), tracking_uri, place)
        if path.suffix in (".keras", ".npz"):
            path = path.parent
        if (path.parent.name, (path.parent.parent / "config.yaml").is_file()) == ("trials", True):
            path, seed = path.parent.parent, _folder_seed(path)
        if not os.path.lexists(path / "config.yaml"):  # whatever it is, `load_settings` says what is wrong with it
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
    """The policy of one trial of a job whose settings are known; raises `Refusal` where there is none."""
    if seed not in settings.seeds:
        raise refusal("seed", f"one of {settings.seeds}", str(seed))
    return Policy(settings, seed, _load_weights(folder / "trials" / str(seed), settings, allow_imports))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return False


def _folder_seed(path: Path) -> int:
    """The seed that a trial's folder is named after."""
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
        return build(config)
    except Refusal as error:
        said = str(error)
        raise Refusal(said if said.startswith(str(path)) else f"{path}: {said}") from error
    except (OSError, ValueError, TypeError, RecursionError, OmegaConfBaseException) as error:
        raise refusal(str(path), "a job's configuration", _said(error).removeprefix(f"{path} is ")) from error


def _check_unchanged(path: Path) -> None:
    """Warn of a configuration that is not the one that its job has run with."""
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
        table = load_table(path, _table_size(settings))
        _check_weights(path)
        return table
    if ":" in settings.network.name:  # its module, which may be imported (see `load_settings`), registers its layers
        with contextlib.suppress(Exception):  # a model of Keras' own layers needs none
            importlib.import_module(settings.network.name.partition(":")[0])
    model = _load_model(path, allow_imports)
    _check_weights(path)
    return model


def _check_weights(path: Path) -> None:
    """Raise `Refusal` for weights that are not those which the job has scored."""
    try:
        check_later(path, find_json(path.parents[2] / "summary.json", SUMMARY))
    except Damaged as error:
        if error.path == path:
            raise Refusal(str(error)) from error
        warn(str(error))


def _table_size(settings: Settings) -> int:
    """Bytes of a job's table: one number for each of its states and actions."""
    from rlexp.envs import adapter
    from rlexp.envs.discretizer import States

    info = adapter.inspect(settings.env, tabular=True)
    states = States(info, getattr(settings.algo, "discretizer", None))
    return 8 * states.num_states * info.num_actions


def load_table(path: Path, most: int | None = None) -> np.ndarray:
    """The table [S, A] of a `best.npz`, of `most` bytes; raises `Refusal` for a broken one."""
    try:
        with archives.open_npz(path, most) as file:
            table: np.ndarray = file["q"]
        if table.ndim != 2 or table.dtype.kind != "f":
            raise ValueError(f"an array of {table.dtype} with {table.ndim} axes")
        return table
    except Exception as error:  # whatever is in the file, it is only a file
        raise Refusal(f"{path}: expected an npz file with a table q, received: {_said(error)}") from error


def _load_model(path: Path, allow_imports: bool) -> Any:
    from rlexp.system.backend import prepare

    prepare("auto")
    import keras

    try:
        config = archives.check_keras(path)
        _check_classes(config, allow_imports, str(path))
        needed, held = _num_numbers(config), archives.num_weights(path)
        if needed > held + 4096:  # states of random generators are not always among the weights
            raise ValueError(f"a model of {needed:,} numbers with weights of {held:,}")
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        if not isinstance(model, keras.Model):
            raise ValueError(f"a {type(model).__name__}")
        return model
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(f"{path}: expected a Keras model that loads in safe mode, received: {_said(error)}") from error


def _check_classes(config: Any, allow_imports: bool, where: str) -> None:
    """A model may be made of Keras' own classes, of registered ones, and of those of installed distributions."""
    import keras

    from rlexp.system import stored_modules

    for node in _mappings(config):
        module, names = node.get("module"), (node.get("registered_name"), node.get("class_name"), node.get("config"))
        if module is None or module == "builtins" or str(module).partition(".")[0] == "keras":
            continue
        if any(isinstance(name, str) and keras.saving.get_registered_object(name) is not None for name in names):
            continue
        stored_modules.check([str(module)], where, allow_imports)


def _mappings(node: Any) -> Iterator[dict[str, Any]]:
    """All mappings in a nested value, in no order."""
    left = [node]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            yield node
            left += node.values()
        elif isinstance(node, list):
            left += node


def _num_numbers(config: Any) -> int:
    """Numbers in the variables of a model, none of which is made for this."""
    import keras
    from keras.src.backend.common import global_state

    before = global_state.get_global_attribute("uninitialized_variables")
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
            return sum(math.prod(variable.shape) for variable in getattr(model, "variables", ()))
    finally:
        global_state.set_global_attribute("uninitialized_variables", list(before or []))


def _said(error: Exception) -> str:
    return clean((str(error).strip() or type(error).__name__).splitlines()[0])
