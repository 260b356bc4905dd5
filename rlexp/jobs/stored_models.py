"""Trained tables and Keras models, read from files that may hold anything."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.system import archives
from rlexp.system.errors import Refusal
from rlexp.system.text import clean


def load_table(path: Path, most: int | None = None) -> np.ndarray:
    """The table [S, A] of a `best.npz`, of at most `most` bytes; raises `Refusal` for a broken one."""
    try:
        with archives.open_npz(path, most) as file:
            table: np.ndarray = file["q"]
        if table.ndim != 2 or table.dtype.kind != "f":
            raise ValueError(f"an array of {table.dtype} with {table.ndim} axes")
        return table
    except Exception as error:  # a file may hold anything
        raise Refusal(f"{path}: expected an npz file with a table q, received: {reason(error)}") from error


def load_model(path: Path, allow_imports: bool) -> Any:
    """The Keras model of a `best.keras`, opened in safe mode; raises `Refusal` for a broken or forbidden one."""
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
        raise Refusal(f"{path}: expected a Keras model that loads in safe mode, received: {reason(error)}") from error


def _check_classes(config: Any, allow_imports: bool, where: str) -> None:
    """Raise `Refusal` unless all classes of a model are Keras' own, registered, or of installed distributions."""
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
    """All mappings in a nested value, in no particular order."""
    left = [node]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            yield node
            left += node.values()
        elif isinstance(node, list):
            left += node


def _num_numbers(config: Any) -> int:
    """The number of numbers in a model's variables, which are not allocated for this."""
    import keras
    from keras.src.backend.common import global_state

    before = global_state.get_global_attribute("uninitialized_variables")
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
            return sum(math.prod(variable.shape) for variable in getattr(model, "variables", ()))
    finally:
        global_state.set_global_attribute("uninitialized_variables", list(before or []))


def reason(error: Exception) -> str:
    """The first line of an error's message."""
    return clean((str(error).strip() or type(error).__name__).splitlines()[0])
