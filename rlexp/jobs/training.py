"""The training of jobs, usually one: the order of events, and the end of each job when something goes wrong.

agents -> folders -> trainer.train() -> trainer.score() -> weights, tables, pictures, summary -> tracker
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.config.schema.algos import AlgoSettings
from rlexp.config.schema.job import Settings
from rlexp.data.checkpoint import State
from rlexp.data.metrics import Recorder
from rlexp.engines.evaluation import Scores
from rlexp.engines.loop import AnotherState, Trainer
from rlexp.engines.services import Pruned, Services
from rlexp.engines.trial_results import Results
from rlexp.engines.workers import choice as workers
from rlexp.envs import watchdog
from rlexp.envs.faults import raised
from rlexp.envs.info import EnvInfo
from rlexp.envs.repeatability import why_not_repeatable
from rlexp.jobs import finishing, joint
from rlexp.jobs.context import Context, WallClock
from rlexp.jobs.job import Job
from rlexp.jobs.job_folder import JobRun
from rlexp.jobs.notices import no_time_limit
from rlexp.jobs.provenance import identity
from rlexp.system import supervisor
from rlexp.system.disk import as_failure
from rlexp.system.errors import Failure
from rlexp.system.stopping import stop_signals
from rlexp.system.words import plural
from rlexp.tracking.base import open_tracker

if TYPE_CHECKING:
    import numpy as np

    from rlexp.jobs.console import JobConsole
    from rlexp.tracking.base import Tracker, TrackingResult

    Prune = Callable[[int, float, np.ndarray], bool]  # env step, share of the budget, eval/return [N] -> to end


class Endings:
    """How each job of a training has ended.

    Attributes:
        errors: what went wrong with the jobs that have ended, None for those that are done.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self.errors: dict[Path, Exception | None] = {}

    def end(self, runs: Iterable[JobRun], status: str, error: Exception | None = None) -> None:
        """Note the end of jobs that have not ended yet, in their folders and in the tracker."""
        for run in runs:
            if run.folder not in self.errors:
                with contextlib.suppress(OSError):  # a full disk, which `error` names
                    run.write_status(status, error)
                with contextlib.suppress(OSError):
                    self._tracker.end(run.folder, status)
                self.errors[run.folder] = as_failure(error, run.folder)


class Training:
    """Jobs that are trained together. Nothing is written before `execute`.

    Args:
        jobs: with their engines chosen, one for each folder.
        info: of their environment.
        console: shows progress.
        sweep, overrides, prune: as of `runner.run_together`.

    Raises:
        Refusal: for an agent that cannot be built.
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
        clock = WallClock()
        self.settings, self.prune = joint.together(jobs), prune
        _greet(self.settings, len(jobs), console)
        if limitless := no_time_limit(self.settings, info, sweep):
            console.say(limitless)
        folder = jobs[0].folder
        trainer = self._trainer = workers.trainer(self.settings, info, console.warn, folder)
        if trainer.num_workers > 1:
            console.say(f"{trainer.num_workers} worker processes share the trials")
        known_sweep = identity(sweep) if sweep else None
        self.context = Context(info, console, clock, trainer.device, trainer.deploy, known_sweep, overrides)
        self.runs = [JobRun(job, self.context) for job in jobs]

    def release(self) -> None:
        """Let go of what trains; no process is left."""
        self._trainer.release()

    def execute(self) -> dict[Path, Job | Exception]:
        """Train and finish all jobs, whose folders are locked.

        Returns:
            Each job, or what went wrong with it, by its folder.

        Raises:
            KeyboardInterrupt: after a signal; checkpoints are written.
        """
        folders, console = [run.folder for run in self.runs], self.context.console
        supervisor.note(folder=str(folders[0]))
        for run in self.runs:
            run.prepare_folder()
        tracking, output_dir = self.settings.tracking, self.settings.output_folder
        tracker = open_tracker(tracking.names, tracking.uri, folders, output_dir)
        tracker.start()
        endings = Endings(tracker)
        try:
            limit = self.settings.env.step_timeout
            with stop_signals() as stop, watchdog.armed(limit), supervisor.crash_file(folders[0]):
                if (reason := why_not_repeatable(self.settings.env, self.context.info.tabular)) is not None:
                    console.warn(reason)
                for runs, states in self._by_step():
                    self._train_or_end(runs, states, stop, endings)
        except KeyboardInterrupt:  # `Interrupted`, or another one where the caller handles signals
            console.stop()
            where = f"checkpoint in {folders[0]}" if len(folders) == 1 else f"checkpoints of these {len(folders)} jobs"
            console.say(f"stopped; the same command continues from the {where}")
            endings.end(self.runs, "killed")
            raise
        except Exception as error:
            endings.end(self.runs, "failed", error)
        finally:
            try:
                console.phase("delivery")
                results = self._deliver(tracker, tracking.timeout * len(folders))
            finally:
                console.stop()
        return self._show_results(endings.errors, results)

    def _by_step(self) -> list[tuple[list[JobRun], list[State | None]]]:
        """The jobs and their checkpoints, in portions whose checkpoints are at the same step: as a rule, one."""
        portions: dict[int, tuple[list[JobRun], list[State | None]]] = {}
        for run in self.runs:
            state = run.load_checkpoint()
            runs, states = portions.setdefault(state["trials"]["t"] if state else -1, ([], []))
            runs.append(run)
            states.append(state)
        return list(portions.values())

    def _train_or_end(self, runs: list[JobRun], states: list[State | None], stop: Any, endings: Endings) -> None:
        """Train jobs; an error, except for a signal, ends these jobs and no others."""
        try:
            self._train(runs, states, stop, endings)
        except Pruned as reason:
            endings.end(runs, "pruned", reason)
            self.context.console.say(f"{reason}: {self.runs[0].folder}")
        except Exception as error:
            endings.end(runs, "failed", error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of third-party code
            endings.end(runs, "failed", Failure(f"training {raised(error)}"))

    def _train(self, runs: list[JobRun], states: list[State | None], stop: Any, endings: Endings) -> None:
        """Train jobs whose checkpoints, if any, are at the same step, and finish each."""
        settings, trainer = joint.together([run.settings for run in runs]), self._trainer
        if len(runs) < len(self.runs):  # a portion of a group
            trainer = workers.trainer(settings, self.context.info, self.context.console.warn, runs[0].folder)
        try:
            results, scores, seconds = self._train_with(trainer, settings, runs, states, stop)
            trainer.close()
        finally:
            trainer.release()
        for run, part in zip(runs, joint.rows([run.settings for run in runs]), strict=True):
            own = Scores(scores.seeds, scores.returns[part], scores.lengths[part])
            try:
                finishing.finish(run.settings, self.context, results.part(part), own, seconds, len(runs))
            except Exception as error:
                endings.end([run], "failed", error)
            else:
                endings.end([run], "done")
        self.context.clock.restart()  # for the next portion

    def _train_with(
        self, trainer: Trainer, settings: Settings, runs: list[JobRun], states: list[State | None], stop: Any
    ) -> tuple[Results, Scores, float]:
        """Train jobs and score their best weights: the results and scores of all trials, and the training's seconds."""
        console, clock = self.context.console, self.context.clock
        recorder, checkpoints = self._open(runs, states)
        services = Services(
            settings, self.context.info, recorder, checkpoints, console, stop, clock.seconds, self.prune
        )
        self._begin(trainer, services, runs, states)
        console.start()
        trainer.train()
        seconds = clock.seconds()
        console.phase("writing a checkpoint")
        trainer.save()  # a job killed from here on does not train again
        scores = trainer.score()
        recorder.sync()
        recorder.close()
        return trainer.results(), scores, seconds

    def _open(self, runs: list[JobRun], states: list[State | None]) -> tuple[Any, Any]:
        """Where records and checkpoints of jobs go that are trained together."""
        recorders = [
            Recorder(run.folder / "metrics.jsonl", state["trials"]["position"] if state else 0)
            for run, state in zip(runs, states, strict=True)
        ]
        if len(runs) == 1:
            return recorders[0], runs[0].checkpoints()
        parts = joint.rows([run.settings for run in runs])
        every = runs[0].settings.checkpoint.every
        checkpoints = joint.GroupCheckpoints([run.checkpoints() for run in runs], parts, every)
        return joint.GroupRecorder(recorders, parts), checkpoints

    def _begin(self, trainer: Trainer, services: Services, runs: list[JobRun], states: list[State | None]) -> None:
        """Open the trainer, and continue from checkpoints at the same step, if there are any.

        `states` is emptied, since they are as large as the rings.
        """
        known = [state for state in states if state is not None]
        states.clear()
        if not known:
            trainer.open(services, None)
            return
        state = known[0] if len(known) == 1 else joint.join(known, [run.settings for run in runs])
        seconds = state["trials"]["seconds"]
        known.clear()
        try:
            trainer.open(services, state)
        except AnotherState as error:
            raise Failure(
                f"{runs[0].folder / 'checkpoint'}: expected a checkpoint of this job, received another's "
                f"({error}); rerun=true starts afresh"
            ) from error
        self.context.clock.count_earlier(seconds)
        self.context.console.say(f"continuing from env step {trainer.t:,}")

    def _deliver(self, tracker: Tracker, timeout: float) -> Mapping[Path, TrackingResult]:
        """Wait until the tracker has everything, unless the user interrupts that."""
        try:
            return tracker.close(timeout, self.context.console.say)
        except KeyboardInterrupt:
            first = self.runs[0].folder
            command = tracker.sync_command(first if len(self.runs) == 1 else first.parent)
            if command:
                self.context.console.warn(
                    f"{tracker.title} may not have received everything; this delivers it: {command}"
                )
            raise

    def _show_results(
        self, errors: Mapping[Path, Exception | None], results: Mapping[Path, TrackingResult]
    ) -> dict[Path, Job | Exception]:
        """Each job, which is shown, or what went wrong with it."""
        console = self.context.console
        for error in filter(None, errors.values()):
            traceback.clear_frames(error.__traceback__)  # they would hold the rings for as long as the error is known
        ended = {run.folder: errors[run.folder] or Job(run.folder) for run in self.runs}
        done = [job for job in ended.values() if isinstance(job, Job)]
        if console.place is not None:  # the sweep shows its jobs
            for job in done:
                if not results[job.folder].delivered and console.place.beside:
                    console.say(results[job.folder].message)
            return ended
        for job in done:
            console.table(job)
            console.say(f"folder: {job.folder}\n{results[job.folder].message}")
        commands = (results[job.folder].ui_command or "" for job in done)
        for command in dict.fromkeys(line for lines in commands for line in lines.splitlines()):
            console.say(f"look at it:  {command}")
        return ended


def _greet(settings: Settings, num_jobs: int, console: JobConsole) -> None:
    """Say what will be trained."""
    algo, steps = settings.algo, settings.max_steps
    if isinstance(algo, AlgoSettings) and (warning := algo.warning(steps)):
        console.warn(warning)
    trials = f"{plural(settings.trials, 'trial')} (seeds {_span(settings.seeds)})"
    if num_jobs > 1:
        trials = f"group of {num_jobs} jobs, {plural(settings.trials, 'trial')}: one program"
    budget = f"{steps:,} env steps" if steps is not None else f"{settings.budget.episodes:,} episodes"
    console.greet(algo.name, settings.env.id, f"{trials}, {budget} each")


def _span(seeds: list[int]) -> str:
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}-{seeds[-1]}"
