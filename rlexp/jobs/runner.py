"""From settings to a finished job folder: build, train, score, draw, track.

preflight -> agent -> folder -> loop.run() -> loop.final() -> pictures, weights, summary -> tracker
"""

from __future__ import annotations

import contextlib
import shlex
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.config import plugin_yaml, registry
from rlexp.config.build import build
from rlexp.config.schema.algos import AlgoSettings
from rlexp.config.schema.job import Settings
from rlexp.jobs.job_folder import Job, JobRun, status_of
from rlexp.jobs.notices import no_time_limit
from rlexp.jobs.preflight import check_weights, resolve
from rlexp.system import supervisor
from rlexp.system.disk import as_failure, disk_failures
from rlexp.system.errors import Failure, Refusal
from rlexp.system.folder_lock import folder_lock
from rlexp.system.stopping import stop_signals
from rlexp.system.words import plural

if TYPE_CHECKING:
    import numpy as np

    from rlexp.envs.info import EnvInfo
    from rlexp.jobs.console import JobConsole
    from rlexp.tracking.base import Tracker, TrackingResult

    Prune = Callable[[int, float, np.ndarray], bool]  # env step, share of the budget, eval/return [N] -> to end


def run(*overrides: str, quiet: bool = False) -> Job:
    """Run one job from Python.

    Args:
        *overrides: as on the command line, e.g. "algo=ddqn", "trials=3", "+experiment=book/dqn".
        quiet: print nothing.

    Returns:
        The job's summary, with `curves` as arrays and `folder`.

    Raises:
        Refusal: for a configuration that cannot run.
    """
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
        raise Refusal(explain(error)) from error
    finally:
        instance.clear()
        instance.hydra = before


def run_job(
    settings: Settings,
    quiet: bool = False,
    sweep: Path | None = None,
    overrides: Sequence[str] | None = None,
    prune: Prune | None = None,
) -> Job:
    """Run the job that `settings` describe, or what is left of it.

    A finished job is not run again (`rerun=true` starts afresh); one with a checkpoint continues from it.

    Args:
        settings: the job.
        quiet: print nothing.
        sweep: folder of the sweep that it belongs to, whose run in MLflow its own is nested in.
        overrides: that it was composed from, where they are known: `rlexp.best` prints them.
        prune: says at each evaluation whether to end (see `rlexp.sweeps.search.candidates.pruner`).

    Raises:
        Refusal: before anything is written.
        Interrupted: after a signal; the checkpoint is written and the runs are closed as killed.
        Pruned: when `prune` said so; the checkpoint is written and the runs are closed as killed.
        Exception: what went wrong while running; error.txt holds the traceback.
    """
    settings, info = resolve(settings)
    from rlexp.jobs import provenance
    from rlexp.jobs.console import JobConsole
    from rlexp.tracking import late

    folder = settings.folder
    if finished(settings):
        console = JobConsole(settings.trials, quiet)
        job = Job(folder)
        console.table(job)
        console.say(f"already done, nothing was run: {folder}\nrerun=true starts afresh")
        if (others := provenance.other_version(folder)) is not None:
            console.say(f"{others}; rerun=true runs it with this one")
        late.deliver(settings, console.say)
        return job
    known = {} if overrides is None else {folder: overrides}
    outcome = run_together([settings], info, quiet, sweep, known, prune)[folder]
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def finished(settings: Settings) -> bool:
    """Whether a job, with its engine chosen, has nothing left to run."""
    return status_of(settings.folder) == "done" and not settings.rerun


def run_together(
    jobs: Sequence[Settings],
    info: EnvInfo,
    quiet: bool = False,
    sweep: Path | None = None,
    overrides: Mapping[Path, Sequence[str]] | None = None,
    prune: Prune | None = None,
) -> dict[Path, Job | Exception]:
    """Run what is left of jobs that one loop can train (see `rlexp.jobs.joint`); how each ends is its own affair.

    Args:
        jobs: with their engines chosen, one of each folder.
        info: of their environment.
        quiet, sweep, prune: as of `run_job`; several jobs are pruned all at once.
        overrides: of each folder's job, where they are known.

    Returns:
        The job, or what went wrong with it, by its folder.

    Raises:
        Refusal: before anything is written.
        Interrupted: after a signal, as `run_job`.
    """
    from rlexp.jobs.console import JobConsole

    training = _Training(jobs, info, JobConsole(sum(job.trials for job in jobs), quiet), sweep, overrides or {}, prune)
    busy: dict[Path, Job | Exception] = {}
    with contextlib.ExitStack() as locks:
        for job in jobs:
            try:
                locks.enter_context(folder_lock(job.folder))
            except Refusal as refused:
                busy[job.folder] = refused
        if not busy:
            with disk_failures(jobs[0].folder):
                return training.execute()
    free = [job for job in jobs if job.folder not in busy]
    return {**busy, **(run_together(free, info, quiet, sweep, overrides, prune) if free else {})}


class _Training:
    """Jobs that are trained together, usually one: the order of things, and what is left behind when it breaks.

    What is refused is refused here; nothing is written before `execute`.
    """

    def __init__(
        self,
        jobs: Sequence[Settings],
        info: EnvInfo,
        console: JobConsole,
        sweep: Path | None,
        overrides: Mapping[Path, Sequence[str]],
        prune: Prune | None,
    ) -> None:
        from rlexp.jobs import joint
        from rlexp.jobs.provenance import identity

        self.info, self.console = info, console
        self.sweep = identity(sweep) if sweep else None
        self.overrides, self.prune = overrides, prune
        self.runs = [JobRun(job, self) for job in jobs]
        self.settings = joint.together(jobs)
        self.deploy: Callable[[np.ndarray], Any] | None = None  # weights [P] -> Keras model, for agents with networks
        self.device = "cpu"
        self.began = time.monotonic()
        self.earlier = 0.0  # seconds that runs before this one have spent
        self._greet()
        if limitless := no_time_limit(self.settings, info, sweep):
            console.say(limitless)
        self.agent = self._build_agent(self.settings)

    def execute(self) -> dict[Path, Job | Exception]:
        """Train and finish all jobs, whose folders are locked; each job, or what went wrong with it."""
        from rlexp.engines.bookkeeping import Pruned
        from rlexp.envs import watchdog
        from rlexp.envs.guard import raised
        from rlexp.tracking.base import open_tracker

        folders = [run.folder for run in self.runs]
        supervisor.note(folder=str(folders[0]))
        for run in self.runs:
            run.prepare_folder()
        tracking, output_dir = self.settings.tracking, Path(self.settings.output_dir).expanduser().resolve()
        tracker = open_tracker(tracking.name, tracking.uri, folders, output_dir)
        tracker.start()
        errors: dict[Path, Exception | None] = {}  # of the jobs that have ended

        def end(runs: Iterable[JobRun], status: str, error: Exception | None = None) -> None:
            for run in runs:
                if run.folder not in errors:
                    with contextlib.suppress(OSError):  # a full disk, which `error` says
                        run.write_status(status, error)
                    with contextlib.suppress(OSError):
                        tracker.end(run.folder, status)
                    errors[run.folder] = as_failure(error, run.folder)

        try:
            limit = self.settings.env.step_timeout
            with stop_signals() as stop, watchdog.armed(limit), supervisor.crash_file(folders[0]):
                self._look_at_environment()
                for runs, states in self._at_one_step():
                    try:
                        self._train(runs, states, stop, end)
                    except Pruned as reason:
                        end(runs, "pruned", reason)
                        self.console.say(f"{reason}: {folders[0]}")
                    except Exception as error:
                        end(runs, "failed", error)
                    except KeyboardInterrupt:
                        raise
                    except BaseException as left:  # of somebody's code: no reason for other jobs not to run
                        end(runs, "failed", Failure(f"training {raised(left)}"))
        except KeyboardInterrupt:  # `Interrupted`, or another one where the caller handles signals
            self.console.stop()
            where = f"checkpoint in {folders[0]}" if len(folders) == 1 else f"checkpoints of these {len(folders)} jobs"
            self.console.say(f"stopped; the same command continues from the {where}")
            end(self.runs, "killed")
            raise
        except Exception as error:
            end(self.runs, "failed", error)
        finally:
            self.console.stop()
            results = self._deliver(tracker, tracking.timeout * len(folders))
        for wrong in filter(None, errors.values()):
            traceback.clear_frames(wrong.__traceback__)  # they would hold the rings for as long as the error is known
        ended = {folder: errors[folder] or Job(folder) for folder in folders}
        done = [job for job in ended.values() if isinstance(job, Job)]
        for job in done:
            self.console.table(job)
            self.console.say(f"folder: {job.folder}\n{results[job.folder].message}")
        for command in dict.fromkeys(results[job.folder].ui_command for job in done):
            if command:
                self.console.say(f"look at it:  {command}")
        return ended

    def _deliver(self, tracker: Tracker, timeout: float) -> Mapping[Path, TrackingResult]:
        """Wait for MLflow, unless somebody does not want to."""
        try:
            return tracker.close(timeout, self.console.say)
        except KeyboardInterrupt:
            folders = " ".join(shlex.quote(str(run.folder)) for run in self.runs)
            self.console.warn(
                f"MLflow may not have received everything; this delivers it: python -m rlexp.sync {folders}"
            )
            raise

    def seconds(self) -> float:
        """Wall time spent on the jobs that are trained now, earlier runs included."""
        return self.earlier + time.monotonic() - self.began

    def _greet(self) -> None:
        settings, algo = self.settings, self.settings.algo
        steps = settings.max_steps
        if isinstance(algo, AlgoSettings) and (warning := algo.warning(steps)):
            self.console.warn(warning)
        trials = f"{plural(settings.trials, 'trial')} (seeds {_span(settings.seeds)})"
        if len(self.runs) > 1:
            trials = f"group of {len(self.runs)} jobs, {plural(settings.trials, 'trial')}: one program"
        budget = f"{steps:,} env steps" if steps is not None else f"{settings.budget.episodes:,} episodes"
        self.console.say(f"{algo.name} on {settings.env.id}, {trials}, {budget} each")

    def _look_at_environment(self) -> None:
        from rlexp.envs.repeatability import why_not_repeatable

        if (reason := why_not_repeatable(self.settings.env, self.info.tabular)) is not None:
            self.console.warn(reason)

    def _at_one_step(self) -> list[tuple[list[JobRun], list[Any]]]:
        """The jobs in portions whose checkpoints are at the same step, all of them as a rule; and those checkpoints."""
        portions: dict[int, tuple[list[JobRun], list[Any]]] = {}
        for run in self.runs:
            state = run.load_checkpoint()
            runs, states = portions.setdefault(state["trials"]["t"] if state else -1, ([], []))
            runs.append(run)
            states.append(state)
        return list(portions.values())

    def _train(self, runs: list[JobRun], states: list[Any], stop: Any, end: Callable[..., None]) -> None:
        """Train jobs whose checkpoints, if any, are at the same step, and finish each."""
        from rlexp.data.metrics import Recorder
        from rlexp.engines.bookkeeping import Services
        from rlexp.engines.evaluation import Scores
        from rlexp.engines.host.tabular import set_optimum
        from rlexp.envs import transition_table
        from rlexp.jobs import joint

        jobs = [run.settings for run in runs]
        settings, parts = joint.together(jobs), joint.rows(jobs)
        agent = self.agent if len(runs) == len(self.runs) else self._build_agent(settings)
        recorders = [
            Recorder(run.folder / "metrics.jsonl", state["trials"]["position"] if state else 0)
            for run, state in zip(runs, states, strict=True)
        ]
        recorder: Any = recorders[0]
        checkpoints: Any = runs[0].checkpoints()
        if len(runs) > 1:
            recorder = joint.GroupRecorder(recorders, parts)
            every = settings.checkpoint.every
            checkpoints = joint.GroupCheckpoints([run.checkpoints() for run in runs], parts, every)
        services = Services(settings, self.info, recorder, checkpoints, self.console, stop, self.seconds, self.prune)
        fused = registry.fused_loop(settings.algo.name) if settings.engine == "fused" else None
        target = fused or registry.family(settings.algo.name).loop
        loop: Any = registry.load(target)(agent, services)
        trials = loop.trials
        if trials.optimum is None and (table := transition_table.load(settings.env) if self.info.table else None):
            set_optimum(trials, table)  # of networks, too, so that their regret stands beside that of tables
        if states[0]:
            state = states[0] if len(states) == 1 else joint.join(states, jobs)
            states.clear()  # as large as the rings
            try:
                trials.restore(state["trials"])
                loop.set_state(state["loop"])
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise Failure(
                    f"{runs[0].folder / 'checkpoint'}: expected a checkpoint of this job, received another's "
                    f"({type(error).__name__}: {error}); rerun=true starts afresh"
                ) from error
            self.earlier = state["trials"]["seconds"]
            del state
            self.console.say(f"continuing from env step {trials.t:,}")
        if len(runs) > 1:
            recorder.counts = trials.counts
        self.console.start()
        loop.run()
        train_seconds = self.seconds()
        trials.save(loop.get_state)  # a job killed from here on does not train again
        self.console.stop()
        scores = loop.final()
        recorder.sync()
        recorder.close()
        for run, part in zip(runs, parts, strict=True):
            try:
                own = Scores(scores.seeds, scores.returns[part], scores.lengths[part])
                run.finish(trials.results(part), own, train_seconds, len(runs))
            except Exception as error:
                end([run], "failed", error)
            else:
                end([run], "done")
        trials.close()
        self.began, self.earlier = time.monotonic(), 0.0  # of the next portion

    def _build_agent(self, settings: Settings) -> Any:
        """What the family's loop runs: compiled lanes for agents with a Keras model, the agent itself otherwise."""
        info = self.info
        entry = registry.algo(settings.algo.name)
        keras = registry.family(settings.algo.name).keras
        if keras or settings.engine == "fused":
            from rlexp.system.backend import prepare

            self.device = prepare(settings.device)
        if not keras:
            return registry.load(entry.target)(settings.algo, info)
        from rlexp.engines.agents import build_lanes

        def check_size(size: int) -> None:
            check_weights(settings, size)

        lanes = build_lanes(settings, info, self.device, check_size, self.console.warn)
        self.deploy = lanes.deploy
        return lanes


def _span(seeds: list[int]) -> str:
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}-{seeds[-1]}"
