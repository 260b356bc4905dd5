"""rlexp: reinforcement-learning experiments that can be believed.

    job = rlexp.run("algo=ddqn", "trials=3")      # the summary, with curves as arrays
    policy = rlexp.load_policy(job.folder)        # a callable: observation -> action

Importing this package imports neither TensorFlow nor MLflow.
"""

from __future__ import annotations

from rlexp.system import search_path

search_path.leave_out_working_directory()  # so that none of the imports below is a file of it

from typing import TYPE_CHECKING, Any  # noqa: E402

from rlexp.system.version import __version__  # noqa: E402

if TYPE_CHECKING:
    from rlexp.jobs.job import Job
    from rlexp.jobs.policy import Policy

# `python -m rlexp.play` and the like are found there.
__path__ = [*__path__, *(f"{folder}/cli/modules" for folder in __path__)]

__all__ = ["__version__", "load_policy", "run"]


def run(*overrides: str, **options: Any) -> Job:
    """Run one job, as `rlexp <overrides>` does; see `rlexp.jobs.runner.run`."""
    from rlexp.jobs import runner

    return runner.run(*overrides, **options)


def load_policy(source: Any, **options: Any) -> Policy:
    """The greedy policy of a job folder, trial, `.keras` file or MLflow run; see `rlexp.jobs.policy.load_policy`."""
    from rlexp.jobs import policy

    return policy.load_policy(source, **options)
