"""Whether the trials of a job are dealt out to worker processes, and to how many."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from rlexp.config import registry
from rlexp.config.schema.job import Settings
from rlexp.engines import costs
from rlexp.engines.in_process import InProcess
from rlexp.engines.loop import Trainer
from rlexp.engines.memory import free_memory, replay_bytes
from rlexp.engines.workers.in_workers import CannotStart, InWorkers
from rlexp.envs.info import EnvInfo
from rlexp.system import cores

WORKER_BYTES = {True: 2**30, False: 2**28}  # memory of a worker, with and without TensorFlow: measured 0.7 and 0.1 GiB


def trainer(settings: Settings, info: EnvInfo, warn: Callable[[str], None], folder: Path) -> Trainer:
    """What trains a job, or a group of jobs, whose engine is chosen: in this process or in workers.

    Args:
        settings, info: of the job.
        warn: called with each warning.
        folder: of the job.

    Raises:
        Refusal: for an agent that cannot be built.
        CannotStart: for a number of workers that was asked for and cannot start.
    """
    number = num_workers(settings, info)
    if number > 1:
        try:
            return InWorkers(settings, info, warn, number, folder)
        except CannotStart as error:
            if settings.workers != "auto":
                raise
            warn(f"{error}; all trials train in this process")
    return InProcess(settings, info, warn)


def num_workers(settings: Settings, info: EnvInfo) -> int:
    """How many workers share the trials; 1: this process trains them.

    `workers=auto` takes as many as pay off by `engines/costs.py`, given the cores that this job may use and the memory
    that is free; on a GPU, and for convolutions of large images, one. A number is taken as it is, but no more than
    trials. Planning is done once for all trials, so that a worker would have no part of it.
    """
    family = registry.family(settings.algo.name)
    if registry.algo(settings.algo.name).family == "planning" or os.name != "posix":
        return 1
    if settings.workers != "auto":
        return min(int(settings.workers), settings.trials)
    most = min(cores.of_a_job(), settings.trials)
    if family.keras and (
        (settings.device != "cpu" and cores.gpus())
        or registry.is_mapped(settings.network, info.observation_shape) is not True  # it uses the cores itself
    ):
        return 1
    loads_tensorflow = family.keras or settings.engine == "fused"
    # The rings are in the workers; while a checkpoint is written, a copy is in the first process.
    room = free_memory() - 2 * replay_bytes(settings, info)
    most = min(most, int(room // WORKER_BYTES[loads_tensorflow]))
    return costs.best_workers(settings, info, most) if most >= 2 else 1
