"""The cores that a job may use, and how they are shared by what runs side by side. Imports nothing heavy."""

from __future__ import annotations

import math
import os
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
OF_A_JOB = "RLEXP_CORES"  # environment variable: the cores that a job of this process may use
_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: "<microseconds> <period>", or "max <period>"


def usable() -> int:
    """The cores that this process may use: those of its affinity, and no more than its container allows."""
    number = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        if quota != "max":
            number = min(number, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no container, or another system
        return number
    return max(1, number)


def of_a_job() -> int:
    """The cores that a job may use: all, or as many as the launcher that runs jobs side by side has left it."""
    told = os.environ.get(OF_A_JOB, "")
    return int(told) if told.isdigit() and int(told) > 0 else usable()


def share() -> None:
    """For a process whose job runs beside others: one core, and one thread per operation."""
    os.environ[OF_A_JOB] = "1"
    for name in THREADS:
        os.environ.setdefault(name, "1")


def of_a_worker(num_workers: int, limits_threads: bool = True) -> dict[str, str]:
    """The environment variables of one of the workers that share a job's cores.

    Args:
        num_workers: of the job.
        limits_threads: whether an operation has no more threads than the worker has cores.
    """
    own = str(max(1, of_a_job() // num_workers))
    return {OF_A_JOB: own, **(dict.fromkeys(THREADS, own) if limits_threads else {})}


def gpus() -> list[str]:
    """Names of the GPUs that this process may use, as in CUDA_VISIBLE_DEVICES; found without TensorFlow."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name and not name.startswith("-")]
    return [str(i) for i, _ in enumerate(sorted(Path("/proc/driver/nvidia/gpus").glob("*")))]
