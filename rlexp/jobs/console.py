"""Progress and results of a job on the console: a bar on a terminal, occasional lines elsewhere, a final table."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from rlexp.jobs.notebook_bar import NotebookBar
from rlexp.system.text import clean
from rlexp.system.words import decimal, plural

SCORES = {  # key of summary.json -> the score that chose a trial's best weights
    "best_eval_return": "best eval return",
    "last_eval_return": "last eval return",
    "best_train_episode": "best training episode",
}
LINE_PERIOD = 15.0  # seconds between lines without a terminal
BAR_PERIOD = 0.1  # seconds between updates of the bar


class JobConsole:
    """Progress of one job.

    Args:
        num_trials: N, to count steps over all trials.
        quiet: print nothing at all.
    """

    def __init__(self, num_trials: int, quiet: bool = False) -> None:
        self._n, self._quiet = num_trials, quiet
        self._in_notebook = Console().is_jupyter
        plain = False if self._in_notebook else None
        self._console = Console(highlight=False, soft_wrap=True, force_jupyter=plain, force_terminal=plain)
        self._bar: Progress | NotebookBar | None = None
        self._began = self._shown = time.monotonic()
        self._first_step: int | None = None
        self._task: Any = None

    def start(self) -> None:
        """Show the bar, on a terminal and in a notebook."""
        self._began = self._shown = time.monotonic()
        if self._quiet or not (self._console.is_terminal or self._in_notebook):
            return
        columns = (
            TextColumn("{task.percentage:3.0f}%"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
        )
        self._bar = NotebookBar() if self._in_notebook else Progress(*columns, console=self._console)
        self._task = self._bar.add_task("", total=1.0, text="compiling ...")
        self._bar.start()

    def stop(self) -> None:
        """Remove the bar."""
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
        if self._first_step is None:
            self._first_step = step - 1
        period = BAR_PERIOD if self._bar is not None else LINE_PERIOD
        if self._quiet or (now - self._shown < period and done < 1.0):
            return
        self._shown = now
        speed = self._n * (step - self._first_step) / max(now - self._began, 1e-9)
        seen = eval_return[np.isfinite(eval_return)]
        score = decimal(seen.mean()) if seen.size else "-"
        text = f"step {step:,}  {speed:,.0f} steps/s  eval return {score}"
        if self._bar is not None:
            self._bar.update(self._task, completed=min(done, 1.0), text=text)
        else:
            left = (now - self._began) * (1.0 - done) / done if done > 0 else 0.0
            self.say(f"{done:4.0%}  {text}  {left:,.0f} s left")

    def say(self, text: str) -> None:
        """Print one line, above the bar."""
        if not self._quiet:
            self._console.print(clean(text), markup=False)

    def warn(self, text: str) -> None:
        """Print one warning, to stderr."""
        if not self._quiet:
            print(f"warning: {clean(text)}", file=sys.stderr)

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
        final = summary["final/return"]
        low, high = final["ci95"]
        interval = f" [{decimal(low)}, {decimal(high)}]" if low is not None else ""
        spread = ", ".join(f"{name} {decimal(final[name])}" for name in ("mean", "std", "min", "max"))
        scored, trials = sum(value is not None for value in final["per_trial"]), len(final["per_trial"])
        number = f"{scored} of {plural(trials, 'trial')}" if scored < trials else plural(trials, "trial")
        self.say(f"final return over {number}: IQM {decimal(final['iqm'])}{interval}, {spread}")
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
