"""Refusals of jobs whose arrays would not fit in this machine's memory."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

from rlexp.config import registry
from rlexp.config.schema.job import Settings
from rlexp.data.rollout_buffer import MIN_ROWS
from rlexp.data.transition import OUTCOME, num_bytes
from rlexp.envs.info import EnvInfo
from rlexp.system.errors import refusal


def check_weights(settings: Settings, size: int) -> None:
    """Raise `Refusal` if the weights of all trials, and their copies, do not fit.

    Args:
        settings: of the job.
        size: numbers in the weights of one trial.
    """
    copies = 5 + settings.evaluation.candidates  # gradient, two moments, target or second network; the best so far
    key = "network.hidden_units" if settings.network.name in ("mlp", "dueling") else "network"
    check_memory(key, f"networks of {size:,} weights", 4 * copies * size * settings.trials, settings.trials)


def check_tables(where: str, settings: Settings, info: EnvInfo, num_states: int) -> None:
    """Raise `Refusal` if the tables of all trials do not fit.

    Args:
        where: the key of the settings that their size depends on.
        settings, info: of the job.
        num_states: S.
    """
    needed = 24 * settings.trials * info.num_actions * num_states  # values, visits, best values
    check_memory(where, f"tables of {num_states} states", needed, settings.trials)


def replay_bytes(settings: Settings, info: EnvInfo) -> int:
    """Bytes of the replay rings of all trials; 0 for algorithms without one."""
    if registry.algo(settings.algo.name).family != "replay":
        return 0
    ring = registry.replay(settings.algo.name)(settings.env.frame_stack)
    own: int = ring.num_bytes(settings.algo.replay_size, info.observation, info.action)
    return settings.trials * own


def rollout_bytes(settings: Settings, info: EnvInfo) -> int:
    """Bytes of the batches of all trials, and of what is learned from; 0 where the size of batches is not known."""
    algo = settings.algo
    if registry.algo(algo.name).family != "rollout" or algo.batch_unit != "step":
        return 0
    row = 2 * num_bytes(info.observation) + num_bytes(info.action) + sum(map(num_bytes, OUTCOME.values()))
    held = 2 ** math.ceil(math.log2(max(MIN_ROWS, algo.batch_size // algo.num_envs)))  # of each environment
    return settings.trials * row * (held * algo.num_envs + 2 ** math.ceil(math.log2(max(MIN_ROWS, algo.batch_size))))


def free_memory() -> float:
    """Bytes of memory that new processes can use: what Linux calls available; elsewhere all there is."""
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return float(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    return total_memory()


def total_memory() -> float:
    """Bytes of memory of this machine; infinite where the system does not say."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf


def check_memory(where: str, what: str, needed: int, trials: int) -> None:
    """Raise `Refusal` if `needed` bytes do not fit.

    Args:
        where: the key of the settings that the size depends on.
        what: the arrays of one trial, in words; the first word names them.
        needed: bytes of all trials.
        trials: N.
    """
    memory = total_memory()
    if needed > memory:
        raise refusal(
            where,
            f"{what.split()[0]} that fit in this machine's memory ({memory / 2**30:.0f} GiB)",
            f"{trials} {what}, {needed / 2**30:.0f} GiB",
            "Lower trials." if where == "env.id" else f"Lower {where} or trials.",
        )
