"""rlexp: reinforcement-learning experiments that can be believed.

    job = rlexp.run("algo=ddqn", "trials=3")      # the summary, with curves as arrays
    policy = rlexp.load_policy(job.folder)        # a callable: observation -> action

Importing this package imports neither TensorFlow nor MLflow.
"""

from __future__ import annotations

import os
import sys

READERS = ("best", "ls", "play", "report", "sync", "ui")  # commands that run no code of the working directory
left_out: str | None = None  # what they have taken from sys.path

_reading = sys.argv[:1] == ["-m"] and {f"rlexp.{name}" for name in READERS} & {*sys.orig_argv}
_own_path = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if _reading and not sys.flags.safe_path and sys.path[0] not in ("", _own_path):
    # `python -m` has put the working directory first: a numpy.py in a folder that somebody sent would pass for NumPy.
    left_out = sys.path.pop(0)

from typing import TYPE_CHECKING, Any  # noqa: E402  (so that not even this is a file of the working directory)

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rlexp.jobs.job_folder import Job
    from rlexp.jobs.policy import Policy

__all__ = ["__version__", "load_policy", "run"]


def run(*overrides: str, **options: Any) -> Job:
    """Run one job, as `python -m rlexp <overrides>` does; see `rlexp.jobs.runner.run`."""
    from rlexp.jobs import runner

    return runner.run(*overrides, **options)


def load_policy(source: Any, **options: Any) -> Policy:
    """The greedy policy of a job folder, trial, `.keras` file or MLflow run; see `rlexp.jobs.policy.load_policy`."""
    from rlexp.jobs import policy

    return policy.load_policy(source, **options)
