"""Progress and results of a job on the console: a bar on a terminal, occasional lines elsewhere, a final table.

A job of a sweep says less: its place in the sweep stands in front of its progress, and the sweep has the table.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from rlexp.jobs.notebook_bar import NotebookBar
from rlexp.jobs.place import Place
from rlexp.system.text import clean
from rlexp.system.words import about, decimal, plural, without_noise

SCORES = {  # key of summary.json -> the score that chose a trial's best weights
    "best_eval_return": "best eval return",
    "last_eval_return": "last eval return",
    "best_train_episode": "best training episode",
}
LINE_PERIOD = 15.0  # seconds between lines without a terminal
BAR_PERIOD = 0.1  # seconds between updates of the bar
FIRST = 0.05  # of the budget: a first update with less of it tells how long compiling took, not how long training will
SHORT = 1.0  # seconds; a shorter phase has no line
BAR, SMALL_BAR = 30, 10  # characters
WIDE = 100  # characters of a terminal that has room for the large one


class JobConsole:
    """Progress of one job.

    Args:
        num_trials: N, to count steps over all trials.
        quiet: print nothing at all.
        place: of a sweep's job; None for a single job.
    """

    def __init__(self, num_trials: int, quiet: bool = False, place: Place | None = None) -> None:
        self._n, self._quiet, self.place = num_trials, quiet, place
        self._heading = clean(place.heading, newlines=False) if place is not None else ""
        self._in_notebook = Console().is_jupyter
        plain: dict[str, Any] = {"force_jupyter": False, "force_terminal": False} if self._in_notebook else {}
        self._console = Console(highlight=False, soft_wrap=True, **plain)
        self._bar: Progress | NotebookBar | None = None
        self._began = self._shown = time.monotonic()
        self._first: tuple[float, int, float] | None = None  # time, step and share done of the first update
        self._task: Any = None
        self._phase, self._room = "", 0  # characters beside the bar
        self._timer: threading.Timer | None = None  # says the phase, if it lasts

    def start(self) -> None:
        """Show the bar, on a terminal of its own and in a notebook."""
        self._began = self._shown = time.monotonic()
        self._first = None
        if self._quiet or self._bar is not None or not (self._console.is_terminal or self._in_notebook):
            return
        if self.place is not None and self.place.beside:
            return
        width = self._console.width
        bar = BAR if width >= WIDE and self.place is None else SMALL_BAR
        heading = min(len(self._heading), width // 3)
        columns: list[ProgressColumn] = [
            TextColumn("{task.percentage:3.0f}%"),
            BarColumn(bar_width=bar),
            TextColumn("{task.fields[text]}", markup=False),
        ]
        if self.place is not None:
            place = Column(no_wrap=True, overflow="ellipsis", width=heading)
            columns.insert(0, TextColumn("{task.fields[heading]}", markup=False, table_column=place))
        else:
            columns.append(TimeRemainingColumn())
        self._room = max(width - bar - (heading + 7 if self.place is not None else 16), 10)
        self._bar = NotebookBar() if self._in_notebook else Progress(*columns, console=self._console)
        self._task = self._bar.add_task("", total=1.0, text="compiling ...", heading=self._heading)
        self._bar.start()

    def stop(self) -> None:
        """Remove the bar."""
        self._end_phase()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def update(self, done: float, step: int, eval_return: np.ndarray) -> None:
        """Show the progress; cheap enough to be called every step.

        Args:
            done: share of the budget.
            step: env steps of a trial.
            eval_return: of the last evaluation; NaN before the first.  # [N]
        """
        now = time.monotonic()
        since, first_step, first_done = self._first or (self._began, step - 1, 0.0)
        if self._first is None:
            self._first = now, step, done  # compiling comes before it, and an interrupted job has done more than that
            if done < FIRST:
                self._shown = now
                return
        period = BAR_PERIOD if self._bar is not None else LINE_PERIOD
        if self._quiet or (now - self._shown < period and done < 1.0):
            return
        self._shown = now
        speed = self._n * (step - first_step) / max(now - since, 1e-9)
        seen = eval_return[np.isfinite(eval_return)]
        score = decimal(seen.mean()) if seen.size else "-"
        text = f"step {step:,}  {speed:,.0f} steps/s  eval return {score}"
        left = (now - since) * (1.0 - done) / (done - first_done) if done > first_done else 0.0
        if self._bar is not None:
            if self.place is not None:  # a narrow terminal cuts off the end
                text = f"{left:,.0f} s left{self._sweep_left(done)}  eval return {score}  step {step:,}  {speed:,.0f}/s"
            self._bar.update(self._task, completed=min(done, 1.0), text=self._fitted(text))
        elif self.place is None or done < 1.0:  # the end of a sweep's job has a line of its own
            self._line(f"{done:4.0%}  {text}  {left:,.0f} s left{self._sweep_left(done)}")

    def phase(self, what: str, done: int = 0, total: int = 0) -> None:
        """Show what happens after the training: in the bar; elsewhere as a line, unless it is short.

        Args:
            what: in a few words.
            done, total: how many of how many parts are done, where it has parts.
        """
        self._end_phase()
        if self._quiet:
            return
        self._phase = f"{what} {done}/{total}" if total else what
        if self._bar is not None:
            self._bar.update(self._task, text=self._fitted(self._phase))
        elif time.monotonic() - self._shown >= LINE_PERIOD and done:
            self._say_phase()
        else:
            wait = max(SHORT, LINE_PERIOD - (time.monotonic() - self._shown))
            self._timer = threading.Timer(wait, self._say_phase)
            self._timer.daemon = True
            self._timer.start()

    def _fitted(self, text: str) -> str:
        """A text as long as there is room for it beside the bar."""
        return text if len(text) <= self._room else f"{text[: self._room - 1]}…"

    def _say_phase(self) -> None:
        self._shown = time.monotonic()
        self._line(f"{self._phase} ...")

    def _end_phase(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep_left(self, done: float) -> str:
        """How long the sweep will take, as far as this can be told."""
        if self.place is None:
            return ""
        seconds = self.place.time_left(done * self.place.together)
        return f", {about(seconds)} for the sweep" if seconds is not None else ""

    def _line(self, text: str) -> None:
        """Print one line of progress, behind the job's place in its sweep."""
        self.say(f"{self._heading}: {text}" if self._heading else text)

    def say(self, text: str) -> None:
        """Print one line, above the bar."""
        if not self._quiet:
            self._console.print(clean(text), markup=False)

    def warn(self, text: str) -> None:
        """Print one warning, to stderr."""
        if not self._quiet:
            print(f"warning: {clean(text)}", file=sys.stderr)

    def greet(self, algo: str, env_id: str, what: str) -> None:
        """Say what will be trained.

        Args:
            algo, env_id: of the job; a job of a sweep has a name instead.
            what: trials and budget.
        """
        self._line(what if self._heading else f"{algo} on {env_id}, {what}")

    def table(self, summary: Mapping[str, Any]) -> None:
        """Print the results of a job; `summary`: the content of its summary.json."""
        if self._quiet:
            return
        heading = Text(clean(f"{summary['algo']} on {summary['env']}: {summary['status']}", newlines=False))
        table = Table(title=heading, title_justify="left")
        score = next((name for name in SCORES if any(name in trial for trial in summary["trials"])), "")
        title = SCORES.get(score, "best score") if "selection" in summary else "best score"  # of earlier versions
        for column in ("seed", "status", title, "at step", "final return"):
            table.add_column(column, justify="left" if column == "status" else "right")
        for trial in summary["trials"]:
            table.add_row(
                str(trial["seed"]),
                Text(clean(trial["status"] + (f" ({trial['note']})" if trial["note"] else ""), newlines=False)),
                decimal(trial.get(score)),
                f"{trial['best_step']:,}",
                decimal(trial["final_return"]),
            )
        self._console.print(table)
        self.say(_final_line(summary["final/return"]))
        if "final/value" in summary:
            exact, best = summary["final/value"], decimal(summary.get("optimum"))
            lowest, highest = decimal(exact["min"]), decimal(exact["max"])
            self.say(
                f"exact value of these policies, from the transition table: IQM {decimal(exact['iqm'])}, "
                f"min {lowest}, max {highest}; of the best of all policies {best}"
            )
        jobs = summary.get("grouped", 1)
        seconds = f"{summary['wall_seconds']:.1f} s in all" + (
            f", with the {jobs} jobs of its group" if jobs > 1 else ""
        )
        self.say(f"{summary['steps_per_second']:,.0f} env steps/s over all trials, {seconds}")


def _final_line(final: Mapping[str, Any]) -> str:
    """The final returns of a job in one line."""
    spread = ", ".join(f"{name} {decimal(_without_noise(final, name))}" for name in ("mean", "std", "min", "max"))
    scored, trials = sum(value is not None for value in final["per_trial"]), len(final["per_trial"])
    number = f"{scored} of {plural(trials, 'trial')}" if scored < trials else plural(trials, "trial")
    return f"final return over {number}: IQM {score_words(final)}, {spread}"


def score_words(final: Mapping[str, Any]) -> str:
    """An IQM with its interval, if it has one; `final`: one of the aggregates of a summary.json."""
    low, high = final.get("ci95") or (None, None)
    return decimal(final["iqm"]) + (f" [{decimal(low)}, {decimal(high)}]" if low is not None else "")


def _without_noise(final: Mapping[str, Any], name: str) -> float | None:
    scale = max((abs(final[end]) for end in ("min", "max") if final[end] is not None), default=None)
    value: float | None = final[name]
    return without_noise(value, scale) if name == "std" else value
