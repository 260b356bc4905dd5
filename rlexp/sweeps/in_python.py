"""Sweeps from Python: `rlexp.sweep(algo=["dqn", "ddqn"])` is `rlexp -m algo=dqn,ddqn` in the calling process."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlexp.report.study_results import Study, load
from rlexp.sweeps.sweep import Ended
from rlexp.system.errors import Failure, Refusal, refusal
from rlexp.system.stored_files import read_json
from rlexp.system.stored_schemas import SWEEP
from rlexp.system.words import plural


def sweep(*overrides: str, **settings: Any) -> Study:
    """Run several jobs from Python: see `rlexp.sweep`."""
    from rlexp.config import keywords

    folder = _run([*overrides, *keywords.overrides(settings, several=True)])
    jobs = read_json(folder / "sweep.json", SWEEP, "jobs")["jobs"]
    held = [Path(job["folder"]) for job in jobs if job.get("folder") and (Path(job["folder"]) / "job.json").is_file()]
    if held:
        return load(folder.parents[1], only=held)
    why = f"none of {plural(len(jobs), 'job')} has begun: {jobs[0].get('error') or jobs[0]['status']}"
    raise Refusal(why) if all(job["status"] == "refused" for job in jobs) else Failure(why)


def _run(typed: Sequence[str]) -> Path:
    """Run the jobs of a command line; returns the sweep's folder."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from rlexp.config import plugin_yaml
    from rlexp.config.arguments import rewrite
    from rlexp.config.command_line import check_arguments
    from rlexp.config.messages import explain
    from rlexp.config.paths import conf_dir
    from rlexp.sweeps import plugins

    for argument in typed:
        if argument.startswith("-"):
            raise refusal("sweep", "key=value", repr(argument), "Options of the command line have no effect here.")
    plugins.register()
    plugin_yaml.register()
    check_arguments(typed)
    state = GlobalHydra.instance()
    before, full = state.hydra, os.environ.get("HYDRA_FULL_ERROR")  # the caller may be a Hydra application itself
    state.clear()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, instead of printing
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="rlexp"):
            hydra: Any = state.hydra
            arguments = [*rewrite(typed), "hydra.mode=MULTIRUN"]
            (folder,) = hydra.multirun("config", run_task, arguments, with_log_configuration=False)
            return Path(folder)
    except Ended as ended:
        return ended.folder
    except (HydraException, OmegaConfBaseException) as error:
        raise Refusal(explain(error)) from None
    finally:
        state.clear()
        state.hydra = before
        os.environ.pop("HYDRA_FULL_ERROR")
        if full is not None:
            os.environ["HYDRA_FULL_ERROR"] = full


def run_task(config: Any, run_job: Callable[..., Any] | None = None) -> float | None:
    """Run one job for Hydra; returns its score. The fused launcher passes its own `run_job`."""
    from rlexp.sweeps.attempt import attempt
    from rlexp.system import stopping

    outcome = attempt(config, run_job)
    stopping.raise_if_stopped_late()
    return outcome.score
