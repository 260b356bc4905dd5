"""rlexp: reinforcement-learning experiments that can be believed.

    job = rlexp.run("algo=ddqn", "trials=3")      # the summary, with curves as arrays
    policy = rlexp.load_policy(job.folder)        # a callable: observation -> action

Importing this package imports neither TensorFlow nor MLflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rlexp.job import Job
    from rlexp.policy import Policy

__all__ = ["__version__", "load_policy", "run"]


def run(*overrides: str, **options: Any) -> Job:
    """Run one job, as `python -m rlexp <overrides>` does; see `rlexp.runner.run`."""
    from rlexp import runner

    return runner.run(*overrides, **options)


def load_policy(source: Any, **options: Any) -> Policy:
    """The trained greedy policy of a job folder, trial, `.keras` file or MLflow run; see `rlexp.policy.load_policy`."""
    from rlexp import policy

    return policy.load_policy(source, **options)
