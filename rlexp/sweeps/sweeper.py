"""Hydra's sweeper for `rlexp -m`: it runs every combination, whatever happens to single jobs.

Launchers differ in what they do when a job's process dies: some never start the waiting jobs (joblib), some report
nothing. This sweeper looks for each job's outcome in the sweep's folder instead. Jobs without an outcome are started
again, the last time one by one, so that a job that kills its process affects no other.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf, read_write

from rlexp.config.arguments import rewrite
from rlexp.config.build import build
from rlexp.jobs.origin import command_line
from rlexp.sweeps import limits
from rlexp.sweeps.outcome import IN_PROCESS
from rlexp.sweeps.serial import SerialJobs
from rlexp.sweeps.sweep import Ended, Planned, Sweep
from rlexp.system import supervisor
from rlexp.system.errors import Refusal
from rlexp.system.stopping import Interrupted, acknowledge, terminated_by
from rlexp.system.text import clean
from rlexp.system.words import decimal
from rlexp.tracking.base import Tracker, open_tracker, parts
from rlexp.tracking.follower import shared
from rlexp.tracking.log import one_line, set_aside_lines

OTHER_COLUMNS = 56  # characters of a table beside the names and what went wrong
SHORTEST = 16  # characters of those two columns


class Sweeper(BasicSweeper):
    """Hydra's basic sweeper, made to finish every sweep.

    Args:
        max_batch_size, params: see Hydra's `BasicSweeper`.
        restarts: how often jobs whose process died without an outcome are started again.
    """

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None, restarts: int) -> None:
        super().__init__(max_batch_size, params)
        self.restarts = restarts
        self._serial: SerialJobs | None = None  # while a sweep runs: the worker of jobs without a process of their own

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Run all jobs; raises `Ended` unless all are done, `Refusal` if none can run.

        Returns:
            The sweep's folder, in a list.
        """
        assert self.config is not None
        self._check()
        jobs = [self._plan(overrides) for overrides in self._combinations(arguments)]
        if not jobs:
            raise Refusal("sweep: expected at least one job, received none.\nA range or a choice in it is empty.")
        if all(job.settings is None for job in jobs):
            raise Refusal(jobs[0].refused if len(jobs) == 1 else f"all {len(jobs)} jobs: {jobs[0].refused}")
        sweep = Sweep(jobs, self._name(), command_line())
        self._complete(sweep, f"{len(jobs)} jobs")
        return [sweep.folder]

    def _check(self) -> None:
        """Raise `Refusal` for a wrong option of the sweeper or the launcher."""
        assert self.config is not None
        limits.check("hydra.sweeper", {"restarts": self.restarts, "max_batch_size": self.max_batch_size})
        launcher: Any = OmegaConf.select(self.config, "hydra.launcher", default={})
        limits.check_workers(launcher.get("n_jobs"))
        limits.check("hydra.launcher", {key: launcher.get(key) for key in limits.LOWEST if key in launcher})

    def _complete(self, sweep: Sweep, what: str) -> None:
        """Run a sweep and close it, whatever happens; raises `Ended` unless all jobs are done, or `Refusal` first."""
        assert self.config is not None
        connect = getattr(self.launcher, "connect", None)
        if connect is not None:  # our own launchers explain why a cluster cannot be reached
            connect()
        with sweep.lock():
            sweep.begin()
            with read_write(self.config):  # launchers write files of their own there
                self.config.hydra.sweep.dir = str(sweep.folder)
            print(f"sweep {sweep.id} of study {sweep.study}: {what} in {sweep.folder}", flush=True)
            for job, label in zip(sweep.jobs, sweep.names, strict=True):
                if job.settings is None:
                    print(f"refused: {clean(label, newlines=False)}: {job.refused}", file=sys.stderr)
            tracker = open_tracker(sweep.tracking.names, sweep.tracking.uri, [sweep.folder], sweep.output_dir)
            tracker.start()
            killed = True
            try:
                with terminated_by(_between_jobs), self._sharing(tracker):
                    self._serial = self._serial_jobs(sweep, tracker)
                    self._run(sweep)
                killed = False
            finally:
                close(sweep, tracker, killed, self._serial)
        if status := sweep.exit_status():
            raise Ended(status, sweep.folder)

    def _parse(self, arguments: list[str]) -> list[Override]:
        """Overrides of the named sweep, then those of the command line."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return parser.parse_overrides(rewrite([*self._parse_config(), *arguments]))

    def _combinations(self, arguments: list[str]) -> list[list[str]]:
        """Overrides of each job."""
        parsed = self._parse(arguments)
        limits.check_number(parsed)
        batches = self.split_arguments(parsed, None)
        return [job for batch in batches for job in batch]

    def _plan(self, overrides: list[str]) -> Planned:
        """Compose and check one job."""
        assert self.hydra_context is not None and self.config is not None
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        try:
            return Planned(overrides, build(config))
        except Refusal as refused:
            return Planned(overrides, None, str(refused))

    def _run(self, sweep: Sweep) -> None:
        """Run all jobs of a sweep."""
        self._run_jobs(sweep, range(len(sweep.jobs)))

    def _run_jobs(self, sweep: Sweep, indices: Collection[int]) -> None:
        """Run the given jobs that have no outcome, until each has one."""
        if self._serial is not None:
            return self._serial.run(indices, self.max_batch_size)
        for attempt in range(self.restarts + 1):
            pending = [index for index in sweep.pending() if index in indices]
            size = 1 if attempt > 0 and attempt == self.restarts else self.max_batch_size or len(pending)
            for start in range(0, len(pending), max(size, 1)):
                self._launch(sweep, pending[start : start + size])
            lost = [index for index in sweep.pending() if index in indices]
            if not lost:
                return
            again = "starting them again" if attempt < self.restarts else "giving them up"
            print(f"{len(lost)} jobs died without an outcome (killed, or out of memory?): {again}", file=sys.stderr)
        for index in lost:
            sweep.lose(index, died := f"its process died {self.restarts + 1} times")
            print(f"lost: {clean(sweep.names[index])}: {died}", file=sys.stderr)

    def _launch(self, sweep: Sweep, indices: Sequence[int]) -> None:
        """Run jobs by the chosen launcher; its exceptions are printed, because it may have run some of the jobs."""
        sweep.announce(indices)
        self._launch_batch([self._overrides(sweep, i) for i in indices], indices[0])

    def _overrides(self, sweep: Sweep, index: int) -> list[str]:
        """All overrides of a job, its place in the sweep's folder included."""
        place = [f"hydra.sweep.dir='{sweep.folder}'", f"hydra.sweep.subdir=jobs/{index}"]
        return [*sweep.jobs[index].overrides, *place]

    def _launch_batch(self, batch: list[list[str]], first: int) -> None:
        """Run jobs by the chosen launcher, given their overrides and the number of the first one."""
        assert self.launcher is not None
        try:
            self.launcher.launch(batch, initial_job_idx=first)
        except Exception as error:
            print(f"launcher: {type(error).__name__}: {one_line(error)}", file=sys.stderr)

    def _serial_jobs(self, sweep: Sweep, tracker: Tracker) -> SerialJobs | None:
        """A worker for jobs that would run in this process; None for launchers that start processes."""
        if not supervisor.is_enabled() or self._choice("hydra/launcher") not in IN_PROCESS:
            return None
        overrides = partial(self._overrides, sweep)
        return SerialJobs(sweep, tracker, self._launch_batch, partial(report, sweep), overrides, self.restarts)

    def _sharing(self, tracker: Tracker) -> contextlib.AbstractContextManager[None]:
        """Let the sweep's tracker deliver jobs that run in this process, so that they do not wait for it."""
        here = self._choice("hydra/launcher") in IN_PROCESS
        return shared(tracker) if here else contextlib.nullcontext()

    def _name(self) -> str:
        """Name of the sweep."""
        return self._choice("sweep") or "sweep"

    def _choice(self, group: str) -> str | None:
        """Chosen option of a configuration group."""
        assert self.config is not None
        choices: Any = OmegaConf.select(self.config, "hydra.runtime.choices", default={})
        return choices.get(group)


def close(sweep: Sweep, tracker: Tracker, killed: bool, serial: SerialJobs | None = None) -> None:
    """End a sweep: write its outcomes, print a table, write the study's report, and end its run in MLflow."""
    status = sweep.end(killed)
    table(sweep, status)
    done = any(outcome is not None and outcome.status == "done" for outcome in sweep.outcomes())
    if done and not killed and (serial is None or not serial.report()):
        report(sweep)
    if serial is not None:
        serial.close()  # the worker holds the tracker's pipe, too
    tracker.end(sweep.folder, status)
    for part in parts(tracker):
        results = part.close(sweep.tracking.timeout).values()
        if missing := sum(not result.delivered for result in results):
            command = part.sync_command(sweep.output_dir / sweep.study)
            print(f"Warning: {part.title} has not received everything of {missing} jobs.", file=sys.stderr)
            print(f"Nothing is lost; this delivers the rest:\n  {command}", file=sys.stderr)
        for line in dict.fromkeys(line for result in results for line in set_aside_lines(result.message)):
            print(f"Warning: {line}", file=sys.stderr)
        for command in dict.fromkeys(result.ui_command for result in results if result.ui_command):
            print(f"look at it:  {command}")


def report(sweep: Sweep) -> None:
    """Write the report of the study."""
    from rlexp.report import study

    try:
        print(f"report: {study.write(sweep.output_dir / sweep.study, command=command_line())}")
    except Exception as error:  # the sweep itself is fine
        print(f"warning: no report: {type(error).__name__}: {one_line(error)}", file=sys.stderr)


def table(sweep: Sweep, status: str) -> None:
    """Print the outcome of each job."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
    names, outcomes = [clean(name, newlines=False) for name in sweep.names], sweep.outcomes()
    longest = min(max(map(len, names), default=0), max(console.width - OTHER_COLUMNS, SHORTEST))
    shown = Table(title=f"sweep {sweep.id}: {status}", title_justify="left")
    shown.add_column("job", overflow="fold", width=longest)
    shown.add_column("status", no_wrap=True)
    shown.add_column("final return (IQM)", justify="right", no_wrap=True)
    shown.add_column("seconds", justify="right", no_wrap=True)
    if any(outcome is not None and outcome.grouped > 1 for outcome in outcomes):
        shown.caption = "seconds of jobs that were trained together: an equal share of their group's"
    wrong = any(outcome is not None and outcome.error for outcome in outcomes)
    if wrong:
        room = max(console.width - OTHER_COLUMNS - longest, SHORTEST)
        shown.add_column("what went wrong", overflow="ellipsis", no_wrap=True, max_width=room)
    for name, outcome in zip(names, outcomes, strict=True):
        if outcome is None:
            shown.add_row(name, "not run", "-", "-")
            continue
        seconds = f"{outcome.seconds:.1f}" if outcome.ran else "-"
        row = (outcome.status, decimal(outcome.score), seconds, *([outcome.error] if wrong else []))
        shown.add_row(name, *(clean(cell, newlines=False) for cell in row))
    console.print(shown)


def _between_jobs(signum: int, frame: Any) -> None:
    """Stop a sweep on SIGTERM between two jobs, as Ctrl-C does; a job that runs in this process handles its own."""
    acknowledge(signum)
    raise Interrupted(signum)
