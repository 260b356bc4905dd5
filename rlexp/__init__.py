"""rlexp: reinforcement-learning experiments that can be believed.

    job = rlexp.run(algo="ddqn", env="acrobot", trials=10)      # one job: its summary, curves, table and picture
    study = rlexp.sweep(algo=["dqn", "ddqn"], env="acrobot")    # several jobs, to be compared
    policy = rlexp.load_policy(job.folder)                      # a callable: observation -> action

Importing this package imports neither TensorFlow nor MLflow nor pandas. Its folders (`rlexp.report`, `rlexp.jobs`, ...)
are imported when they are asked for.
"""

from __future__ import annotations

from rlexp.system import search_path

search_path.leave_out_working_directory()  # so that none of the imports below is a file of it

import importlib  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from rlexp.system import lazy  # noqa: E402
from rlexp.system.errors import Diverged, Failure, Refusal, refuse_briefly  # noqa: E402
from rlexp.system.stopping import Interrupted  # noqa: E402
from rlexp.system.version import __version__  # noqa: E402

if TYPE_CHECKING:
    from rlexp.jobs.job import Job
    from rlexp.jobs.policy import Policy
    from rlexp.jobs.results import Curve
    from rlexp.report.study_results import Study

_folders, _names = lazy.modules_of(__name__)

# `python -m rlexp.play` and the like are found there.
__path__ = [*__path__, *(f"{folder}/cli/modules" for folder in __path__)]

__all__ = [
    "Curve",
    "Diverged",
    "Failure",
    "Interrupted",
    "Job",
    "Policy",
    "Refusal",
    "Study",
    "__version__",
    "load_job",
    "load_policy",
    "load_study",
    "run",
    "sweep",
]

_CLASSES = {  # name -> its module, which is imported when the class is asked for
    "Curve": "rlexp.jobs.results",
    "Job": "rlexp.jobs.job",
    "Policy": "rlexp.jobs.policy",
    "Study": "rlexp.report.study_results",
}


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(importlib.import_module(_CLASSES[name]), name)
    return _folders(name)


def __dir__() -> list[str]:
    return sorted({*_names(), *_CLASSES})


@refuse_briefly
def run(*overrides: str, quiet: bool = False, **settings: Any) -> Job:
    """Run one job, as the command `rlexp` does, and return its results.

        rlexp.run(algo="ddqn", env="acrobot", trials=10)
        rlexp.run(experiment="book/dqn", study="chapter", output_dir="results")
        rlexp.run(algo={"name": "ddqn", "gamma": 0.95, "optimizer": {"lr": 1e-3}})
        rlexp.run("algo=ddqn", **{"algo.optimizer.lr": 1e-3, "schedule@algo.epsilon": "linear"})

    The job's folder is `<output_dir>/<study>/<algo>-<env>-<config_id>`. A finished job is not run again
    (`rerun=True` starts afresh); an interrupted one continues.

    Args:
        *overrides: as on the command line, for example `"algo=ddqn"`, `"+experiment=book/dqn"`.
        quiet: print nothing.
        **settings: keys of the configuration with their values: None, numbers (NumPy's too), texts, paths, lists,
            mappings. `algo`, `env`, `network`, `tracking`, `experiment` and `discretizer` are names of choices. Keys
            with dots are written `**{"budget.steps": 1000}` or nested: `budget={"steps": 1000}`. In a nested mapping,
            `name` is the choice, and the other keys are what differs from it. `schedule={"algo.epsilon": "linear"}`
            chooses a schedule. All keys with their values: `rlexp --cfg job`.

    Returns:
        The job: its summary as a dict, with `folder`, `curves`, `to_frame()` and `plot()`; a notebook shows score,
        learning curve and animation.

    Raises:
        Refusal: for a configuration that cannot run; the message says what was expected and received. Nothing is
            written.
        Diverged: if some trials diverged or failed; the results of the others are complete (`rlexp.load_job`).
        Failure: for another failure that one sentence explains, such as a full disk.
        Interrupted: after Ctrl-C or SIGTERM, once the checkpoint is written; the same call continues.
    """
    from rlexp.jobs import runner

    return runner.run(*overrides, quiet=quiet, **settings)


@refuse_briefly
def sweep(*overrides: str, **settings: Any) -> Study:
    """Run several jobs, as the command `rlexp -m` does, write the report of their study, and return their results.

        rlexp.sweep(algo=["dqn", "ddqn"], env="acrobot", trials=10, study="ladder")
        rlexp.sweep(sweep="dqn_ladder", env=["cartpole", "acrobot"])
        rlexp.sweep(algo="dqn", **{"algo.optimizer.lr": [1e-4, 1e-3], "algo.n_step": range(1, 6)})

    Every combination of the choices is a job. The jobs run in this process, one after another, unless a launcher is
    chosen: `**{"hydra/launcher": "joblib"}`. Finished jobs are not run again. A job that fails, or is refused, does not
    stop the others: it has its status in the results, and a line on stderr says why.

    Args:
        *overrides: as on the command line: `"algo=dqn,ddqn"`, `"+sweep=dqn_ladder"`, `"hydra/launcher=fused"`.
        **settings: as of `run`, but a list (tuple, range, array) holds the choices of a key. For a key that is itself a
            list (`network.hidden_units`) a list of lists does; one list is one value. `sweep` names a sweep of
            `conf/sweep/`.

    Returns:
        The sweep's jobs that have a folder. `rlexp.load_study` returns all jobs of their study, also those of other
        sweeps.

    Raises:
        Refusal: if no job can run, or the sweep itself is wrong.
        Failure: if no job has begun to run.
        Interrupted: after Ctrl-C or SIGTERM; the same call continues.
    """
    from rlexp.sweeps import in_python

    return in_python.sweep(*overrides, **settings)


@refuse_briefly
def load_job(source: str | Path, output_dir: str | Path = "outputs") -> Job:
    """Load a job that has been run, or is running.

    Args:
        source: the job's folder, its name (`<algo>-<env>-<config_id>`), or `<study>/<name>`; the start of a name is
            enough if no other begins like it.
        output_dir: the output folder that names are looked up in.

    Returns:
        The job's results, as of `run`.

    Raises:
        Refusal: if there is no such job, or several.
        Failure: if its files are damaged.
    """
    from rlexp.jobs import job

    return job.load(source, output_dir)


@refuse_briefly
def load_study(study: str | Path, output_dir: str | Path = "outputs") -> Study:
    """Load all jobs of a study, finished or not.

    Args:
        study: its name, or its folder.
        output_dir: the output folder that names are looked up in.

    Returns:
        The study. A job that cannot be read is named in `problems`, and the others are loaded.

    Raises:
        Refusal: if there is no such study.
    """
    from rlexp.report import study_results

    return study_results.load(study, output_dir)


@refuse_briefly
def load_policy(
    source: Any, *, seed: int | None = None, tracking_uri: str | None = None, allow_imports: bool = False
) -> Policy:
    """Load a trained policy: a callable from an observation to an action.

    Args:
        source: a job or its folder, one of its `trials/<seed>` folders, a `best.keras` or `best.npz` in one, or an
            MLflow run (its id, `runs:/<id>`, or `runs:/<id>/<anything>`), of a job or of a trial.
        seed: of the trial in a job folder; default: the one with the highest final return. (For a trial in MLflow, give
            its run as `source`.)
        tracking_uri: where an MLflow run lives; default MLFLOW_TRACKING_URI, else outputs/mlflow.db.
        allow_imports: import all modules that the configuration names. Without it, only those of installed
            distributions are imported, since others may have come with the folder.

    Returns:
        The greedy policy. Call it with one observation (an int, or an array for Box and MultiDiscrete actions), or with
        a batch of them; `make_env()` returns its environment.

    Raises:
        Refusal: if there is no such policy, or if its configuration names a module that is not installed.
    """
    from rlexp.jobs import policy

    source = getattr(source, "folder", source)
    return policy.load_policy(source, seed=seed, tracking_uri=tracking_uri, allow_imports=allow_imports)
