"""The best weights of a job's trials, as files: a Keras model or a table for each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.data import checkpoint

if TYPE_CHECKING:
    import keras
    import numpy as np


def save_models(
    folder: Path, seeds: Sequence[int], deploy: Callable[[np.ndarray], keras.Model], params: np.ndarray
) -> None:
    """Save a Keras model for each trial.

    Args:
        folder: of the job.
        seeds: of its trials.  # [N]
        deploy: makes the Keras model of a trial's weights [P].
        params: the best weights.  # [N, P]
    """
    for seed, weights in zip(seeds, params, strict=True):
        save_model(deploy(weights), folder / "trials" / str(seed) / "best.keras")


def save_tables(folder: Path, seeds: Sequence[int], num_actions: int, params: np.ndarray) -> None:
    """Save a table of action values for each trial.

    Args:
        folder: of the job.
        seeds: of its trials.  # [N]
        num_actions: A.
        params: the best tables.  # [N, S * A]
    """
    for seed, weights in zip(seeds, params, strict=True):
        place = folder / "trials" / str(seed)
        place.mkdir(parents=True, exist_ok=True)
        checkpoint.write_npz(place / "best.npz", {"q": weights.reshape(-1, num_actions)})  # [S, A]


def save_model(model: Any, path: Path) -> None:
    """Save the acting part of a Keras model, atomically: its first output, a number for each action or an action."""
    import keras

    if len(model.outputs) > 1:
        model = keras.Model(model.inputs, model.outputs[0], name=model.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(checkpoint.BESIDE + path.name)
    try:
        model.save(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
        checkpoint.sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
