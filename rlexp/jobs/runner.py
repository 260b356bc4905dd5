"""Running jobs: from overrides or settings to a finished job's folder."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.config import keywords, plugin_yaml
from rlexp.config.build import build
from rlexp.config.schema.job import Settings
from rlexp.jobs.job import Job
from rlexp.jobs.job_folder import status_of
from rlexp.jobs.preflight import resolve
from rlexp.system.disk import disk_failures
from rlexp.system.errors import Refusal
from rlexp.system.folder_lock import folder_lock
from rlexp.tracking.base import started_early

if TYPE_CHECKING:
    from rlexp.envs.info import EnvInfo
    from rlexp.jobs.place import Place
    from rlexp.jobs.training import Prune


def run(*overrides: str, quiet: bool = False, **settings: Any) -> Job:
    """Run one job from Python: see `rlexp.run`."""
    overrides = (*overrides, *keywords.overrides(settings))
    return run_job(compose(*overrides), quiet=quiet, overrides=overrides)


def compose(*overrides: str) -> Settings:
    """The checked settings of a command line; raises `Refusal`."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from rlexp.config.arguments import rewrite
    from rlexp.config.command_line import check_arguments
    from rlexp.config.messages import explain
    from rlexp.config.paths import conf_dir

    plugin_yaml.register()
    check_arguments(overrides)
    instance = GlobalHydra.instance()
    before = instance.hydra  # the caller may be a Hydra application itself
    instance.clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return build(hydra_compose("config", rewrite(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise Refusal(explain(error)) from None  # the message says it all
    finally:
        instance.clear()
        instance.hydra = before


def run_job(
    settings: Settings,
    quiet: bool = False,
    sweep: Path | None = None,
    overrides: Sequence[str] | None = None,
    prune: Prune | None = None,
    place: Place | None = None,
) -> Job:
    """Run a job, or what is left of it.

    A finished job is not run again (`rerun=true` starts afresh); one with a checkpoint continues from it.

    Args:
        settings: the job.
        quiet: print nothing.
        sweep: folder of its sweep, whose run in MLflow the job's run is nested in.
        overrides: that it was composed from, if they are known: `rlexp best` prints them.
        prune: called at each evaluation, returns whether to end (see `rlexp.sweeps.search.candidates.pruner`).
        place: of a sweep's job: its console then says less.

    Raises:
        Refusal: before anything is written.
        Interrupted: after a signal; the checkpoint is written and the runs are closed as killed.
        Pruned: if `prune` has ended the job; the checkpoint is written and the runs are closed as killed.
        Exception: what went wrong while running; error.txt holds the traceback.
    """
    settings, info = resolve(settings)
    folder = settings.folder
    if finished(settings):
        return _show_finished(settings, quiet, place)
    known = {} if overrides is None else {folder: overrides}
    outcome = run_together([settings], info, quiet, sweep, known, prune, place)[folder]
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def finished(settings: Settings) -> bool:
    """Whether a job, with its engine chosen, has nothing left to run."""
    return status_of(settings.folder) == "done" and not settings.rerun


def _show_finished(settings: Settings, quiet: bool, place: Place | None) -> Job:
    """A job that has nothing left to run, shown and delivered; in a sweep, the sweep shows it."""
    from rlexp.jobs import provenance
    from rlexp.jobs.console import JobConsole
    from rlexp.tracking import late

    folder = settings.folder
    console = JobConsole(settings.trials, quiet, place)
    job = Job(folder)
    if place is None:
        console.table(job)
        console.say(f"already done, nothing was run: {folder}\nrerun=true starts afresh")
    if (others := provenance.other_version(folder)) is not None:
        which = f"{place.heading}: " if place is not None else ""
        console.say(f"{which}{others}; rerun=true runs it with this one")
    late.deliver(settings, console.say)
    return job


def run_together(
    jobs: Sequence[Settings],
    info: EnvInfo,
    quiet: bool = False,
    sweep: Path | None = None,
    overrides: Mapping[Path, Sequence[str]] | None = None,
    prune: Prune | None = None,
    place: Place | None = None,
) -> dict[Path, Job | Exception]:
    """Run what is left of jobs that one loop can train (see `rlexp.jobs.joint`); each ends in its own way.

    Args:
        jobs: with their engines chosen, one for each folder.
        info: of their environment.
        quiet, sweep, prune, place: as of `run_job`; several jobs are pruned all at once.
        overrides: of each folder's job, if they are known.

    Returns:
        The job, or what went wrong with it, by its folder.

    Raises:
        Refusal: before anything is written.
        Interrupted: after a signal, as `run_job`.
    """
    from rlexp.jobs.console import JobConsole
    from rlexp.jobs.training import Training

    if place is not None:
        place = replace(place, together=len(jobs))
    console = JobConsole(sum(job.trials for job in jobs), quiet, place)
    tracking, output_dir = jobs[0].tracking, jobs[0].output_folder
    busy: dict[Path, Job | Exception] = {}
    with started_early(tracking.names, tracking.uri, output_dir), contextlib.ExitStack() as locks:
        training = Training(jobs, info, console, sweep, overrides or {}, prune)
        locks.callback(training.release)
        for job in jobs:
            try:
                locks.enter_context(folder_lock(job.folder))
            except Refusal as refused:
                busy[job.folder] = refused
        if not busy:
            with disk_failures(jobs[0].folder):
                return training.execute()
    free = [job for job in jobs if job.folder not in busy]
    return {**busy, **(run_together(free, info, quiet, sweep, overrides, prune, place) if free else {})}
