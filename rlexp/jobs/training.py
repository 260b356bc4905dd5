"""The training of jobs, usually one: the order of events, and the end of each job when something goes wrong.

agent -> folders -> loop.run() -> loop.final() -> weights, tables, pictures, summary -> tracker
"""

from __future__ import annotations

import contextlib
import shlex
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.config import registry
from rlexp.config.schema.algos import AlgoSettings
from rlexp.config.schema.job import Settings
from rlexp.data.checkpoint import State
from rlexp.data.metrics import Recorder
from rlexp.engines.building import build_agent
from rlexp.engines.evaluation import Scores
from rlexp.engines.loop import Loop
from rlexp.engines.services import Pruned, Services
from rlexp.engines.tabular_rules import set_optimum
from rlexp.envs import transition_table, watchdog
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
        built = build_agent(self.settings, info, console.warn)
        self.agent = built.agent
        known_sweep = identity(sweep) if sweep else None
        self.context = Context(info, console, clock, built.device, built.deploy, known_sweep, overrides)
        self.runs = [JobRun(job, self.context) for job in jobs]

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
        tracking, output_dir = self.settings.tracking, Path(self.settings.output_dir).expanduser().resolve()
        tracker = open_tracker(tracking.name, tracking.uri, folders, output_dir)
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
            console.stop()
            results = self._deliver(tracker, tracking.timeout * len(folders))
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
        console, clock = self.context.console, self.context.clock
        parts = joint.rows([run.settings for run in runs])
        recorder, loop = self._open(runs, states, stop)
        trials = loop.trials
        self._restore(loop, runs, states)
        console.start()
        loop.run()
        train_seconds = clock.seconds()
        trials.save(loop.get_state)  # a job killed from here on does not train again
        console.stop()
        scores = loop.final()
        recorder.sync()
        recorder.close()
        for run, part in zip(runs, parts, strict=True):
            own = Scores(scores.seeds, scores.returns[part], scores.lengths[part])
            try:
                finishing.finish(run.settings, self.context, trials.results(part), own, train_seconds, len(runs))
            except Exception as error:
                endings.end([run], "failed", error)
            else:
                endings.end([run], "done")
        trials.close()
        clock.restart()  # for the next portion

    def _open(self, runs: list[JobRun], states: list[State | None], stop: Any) -> tuple[Any, Any]:
        """The recorder and the loop of jobs that are trained together."""
        jobs, info, console = [run.settings for run in runs], self.context.info, self.context.console
        settings, parts = joint.together(jobs), joint.rows(jobs)
        agent = self.agent if len(runs) == len(self.runs) else build_agent(settings, info, console.warn).agent
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
        services = Services(
            settings, info, recorder, checkpoints, console, stop, self.context.clock.seconds, self.prune
        )
        fused = registry.fused_loop(settings.algo.name) if settings.engine == "fused" else None
        loop: Loop = registry.load(fused or registry.family(settings.algo.name).loop)(agent, services)
        if loop.trials.optimum is None and (table := transition_table.load(settings.env) if info.table else None):
            set_optimum(
                loop.trials, table
            )  # also for networks, so that their regret can be compared with that of tables
        return recorder, loop

    def _restore(self, loop: Loop, runs: list[JobRun], states: list[State | None]) -> None:
        """Continue from checkpoints at the same step; `states` is emptied, since they are as large as the rings."""
        known = [state for state in states if state is not None]
        states.clear()
        if not known:
            return
        state = known[0] if len(known) == 1 else joint.join(known, [run.settings for run in runs])
        known.clear()
        try:
            loop.trials.restore(state["trials"])
            loop.set_state(state["loop"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise Failure(
                f"{runs[0].folder / 'checkpoint'}: expected a checkpoint of this job, received another's "
                f"({type(error).__name__}: {error}); rerun=true starts afresh"
            ) from error
        self.context.clock.count_earlier(state["trials"]["seconds"])
        self.context.console.say(f"continuing from env step {loop.trials.t:,}")

    def _deliver(self, tracker: Tracker, timeout: float) -> Mapping[Path, TrackingResult]:
        """Wait until MLflow has everything, unless the user interrupts that."""
        try:
            return tracker.close(timeout, self.context.console.say)
        except KeyboardInterrupt:
            folders = " ".join(shlex.quote(str(run.folder)) for run in self.runs)
            self.context.console.warn(
                f"MLflow may not have received everything; this delivers it: rlexp sync {folders}"
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
        for job in done:
            console.table(job)
            console.say(f"folder: {job.folder}\n{results[job.folder].message}")
        for command in dict.fromkeys(results[job.folder].ui_command for job in done):
            if command:
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
    console.say(f"{algo.name} on {settings.env.id}, {trials}, {budget} each")


def _span(seeds: list[int]) -> str:
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}-{seeds[-1]}"
