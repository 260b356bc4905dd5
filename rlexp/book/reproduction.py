"""The chapter, reproduced: every `book/` preset is run, and the notebook's printed figures stand beside ours.

    python scripts/reproduce_chapter.py

The preset book/pg_lunar_lander needs Box2D: pip install 'rlexp[box2d]'. Without it all others are run, and the report
says so in its row.

The notebook's loops on tables are also run literally, quirks included, with as many seeds: a verdict names a reason for
a difference only where such runs confirm it. A job or run that is finished is not run again, an interrupted job
continues: the same command brings the report up to date.

Exit status: 0 with a report, also where only an extra is missing; 1 if something failed or was refused (the report is
written, its row says why); 130 if interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlexp.book import literal_loops, mdp
from rlexp.book.jobs import Absent, run_all, unreadable
from rlexp.book.literal_loops import Run
from rlexp.book.rows import (
    EXACT,
    NOTEBOOK_WAY,
    ONE_TRIAL,
    OTHERWISE,
    PLAN,
    PLAN_95,
    STATISTICAL,
    TOTALS,
    TOTALS_COUNTED,
    Exact,
    JobFolder,
    Jobs,
    Statistical,
)
from rlexp.config import paths
from rlexp.jobs import plots
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose
from rlexp.report.page import Page
from rlexp.system.links import check_folder

STUDY = "chapter18"
LONGEST_FIRST = (
    "book/q_log_alpha",
    "book/pg_lunar_lander",
    "book/pg",
    "book/q_epsilon",
)  # so that no process waits for them at the end


class Verdict(NamedTuple):
    """What a comparison says."""

    text: str
    good: bool | None  # whether ours agree; None: there is nothing to compare
    literal: bool | None = None  # whether the notebook's loop, run literally, gives its figure; None: it was not run


def presets() -> list[str]:
    """All book presets, the longest first, Q-value iteration with the chapter's other gamma, and a notebook's error."""
    names = [f"book/{name}" for name in paths.configured("experiment/book")]
    names.sort(key=lambda name: LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST))
    return [*names, NOTEBOOK_WAY, PLAN_95]


def overrides(preset: str, trials: int, seed: int, output_dir: Path, engine: str = "auto") -> list[str]:
    """The command line of one job."""
    name, *rest = preset.split()
    own = [] if preset in ONE_TRIAL else [f"trials={trials}"]
    own += [] if engine == "auto" else [f"engine={engine}"]
    return [f"+experiment={name}", *rest, *own, f"seed={seed}", f"study={STUDY}", f"output_dir={output_dir}"]


def verdict(row: Statistical, ours: np.ndarray, literal: np.ndarray | None = None) -> Verdict:
    """What a comparison says; a reason for a difference is named only where literal runs confirm it.

    Args:
        row: with the notebook's figure.
        ours: one value a trial, NaN where there is none.  # [N]
        literal: the same of the notebook's loop, run literally, one value a seed; None where it was not run.  # [M]
    """
    if row.figure is None:
        return Verdict("the notebook prints no figure", None)
    good = _spans(ours, row.figure)
    text = f"within the spread of our {row.values}" if good else f"outside of all our {row.values}"
    if literal is None:
        reason = (
            "" if good else ". Why is not known: the notebook shows one seed, and its loop is not run literally here"
        )
        return Verdict(text + reason, good)
    gives = _spans(literal, row.figure)
    if gives and good:
        text += ", and of literal runs"
    elif gives and _overlap(ours, literal):
        text += ". Literal runs give the figure, and ours overlap with them: no difference is certain"
    elif gives:
        text += ". Literal runs give the figure, and none of ours lies among them: what ours does otherwise (below) is "
        text += "the reason"
    else:
        text += (
            f". None of {len(literal)} literal runs of the printed code gives the printed figure: they gave "
            f"{_digits(literal.min())} to {_digits(literal.max())}" + ("" if good else "; why is not known")
        )
    return Verdict(text, good, gives)


def _spans(values: np.ndarray, figure: float) -> bool:
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() <= figure <= values.max())


def _overlap(ours: np.ndarray, literal: np.ndarray) -> bool:
    """Whether some of ours lie among literal runs, or all literal runs among ours; also where ours have no values."""
    ours = ours[np.isfinite(ours)]
    return not len(ours) or bool(ours.min() <= literal.max() and literal.min() <= ours.max())


def load(names: Sequence[str], command_line: Callable[[str], list[str]]) -> tuple[Jobs, dict[str, Absent]]:
    """The results of jobs that are done, and why those that cannot be read cannot."""
    jobs: Jobs = {}
    absent = {}
    for name in names:
        try:
            jobs[name] = JobFolder(resolve(compose(*command_line(name)))[0].folder)
        except Exception as error:  # whatever is wrong with one job's files, the others are shown
            absent[name] = unreadable(error)
    return jobs, absent


@dataclass
class Lines:
    """Rows of a table with their verdicts; a row without results says why."""

    jobs: Jobs
    absent: dict[str, Absent]

    def measured(self, job: str, measure: Callable[[], Any]) -> Any:
        """What `measure` returns, or an `Absent` if the results of `job` are missing or do not give it."""
        if not job:
            return measure()
        if job not in self.jobs:
            return self.absent.get(job, Absent("not run"))
        try:
            return measure()
        except Exception as error:  # whatever is wrong with one job's files, the others are shown
            self.absent[job] = unreadable(error)
            return self.absent[job]

    def exact(self, row: Exact) -> tuple[list[str], bool | None]:
        """Cells: what, notebook, literal, ours, verdict."""
        ours = self.measured(row.job, lambda: row.ours(self.jobs))
        literal = row.literal() if row.literal else "ours is its code"
        cells = [row.what, row.printed + (f" ({row.note})" if row.note else ""), literal]
        if isinstance(ours, Absent):
            return [*cells, "-", ours.why], False if ours.failed else None
        return [*cells, ours, "equal" if row.printed == ours else "different"], row.printed == ours

    def statistical(self, row: Statistical, runs: Sequence[Run]) -> tuple[list[str], Verdict]:
        """Cells: preset, what, notebook, literal, ours, verdict."""
        values = [row.literal(run) for run in runs] if row.literal else []
        own = [row.own_seed()] if row.own_seed else []
        literal = np.array(values + own) if values or own else None
        shown = _spread(literal, row.values) if literal is not None else "not run" if row.literal else "-"
        shown += ", its own seed 42 included" if own else ""
        cells = [row.job.removeprefix("book/"), row.what, row.printed or "-", shown]
        ours = self.measured(row.job, lambda: row.ours(self.jobs[row.job]))
        if isinstance(ours, Absent):
            return [*cells, "-", ours.why], Verdict(ours.why, False if ours.failed else None)
        found = verdict(row, ours, literal)
        return [*cells, _spread(ours, row.values), found.text], found

    def pictures(self, name: str, folder: Path) -> list[tuple[Path, str]]:
        """Files and captions of what is drawn of a job; Figure 18-9 is that of Q-value iteration."""
        job, short = self.jobs[name], name.removeprefix("book/")
        best_seed = (job.data.summary or {}).get("best_seed")
        path = folder / ("q_value_plot.png" if name == PLAN else f"{short}.png")
        if name == PLAN:
            learned = mdp.mdp_q_learning()[:, 0, 0]
            if isinstance(self.measured(name, lambda: plots.q_values(job.history()[:, 0, 0], learned, path)), Absent):
                return []
            return [(path, "Figure 18-9: Q(s0, a0) by Q-value iteration, and by Q-learning")]
        if name in (*ONE_TRIAL, NOTEBOOK_WAY, "book/mdp_q_learning"):
            return []
        title = f"{short}, {len(job.seeds)} trials"
        if isinstance(self.measured(name, lambda: plots.episode_returns(job.training(), title, path)), Absent):
            return []
        number = "Figure 18-10: " if short == "dqn" else ""
        found = [(path, f"{number}{short}, return of each training episode")]
        if (job.folder / "animation.gif").exists():
            found.append((job.folder / "animation.gif", f"{short}, the best trial (seed {best_seed})"))
        return found


def write(jobs: Jobs, absent: dict[str, Absent], runs: Sequence[Run], output_dir: Path, command: str) -> Path:
    """Write report.html and report.md of the study; returns the former.

    Args:
        jobs: the results.
        absent: what has none, and why; grows by what turns out to be unreadable.
        runs: of the notebook's loops, one a seed.
        output_dir: of the study, whose folder `report` exists.
        command: that the report is made by.
    """
    folder = output_dir / STUDY / "report"
    page, lines = Page("The chapter on reinforcement learning, reproduced"), Lines(jobs, absent)
    exact = [lines.exact(row) for row in EXACT]
    statistical = [lines.statistical(row, runs) for row in STATISTICAL]
    pictures = [picture for name in jobs for picture in lines.pictures(name, folder)]
    page.text(_headline(exact, [found for _, found in statistical], jobs), command)
    if absent:
        page.notice([f"{name}: {why.why}." for name, why in absent.items()])
    page.heading("Exact figures")
    page.table(
        ["what", "notebook", "notebook's loop, run literally", "ours", "verdict"],
        [cells for cells, _ in exact],
        [good for _, good in exact],
    )
    page.heading("Statistical figures")
    for text in _explanations(max((len(job.seeds) for job in jobs.values()), default=0), len(runs)):
        page.text(text)
    page.table(
        ["preset", "what", "notebook", "notebook's loop, run literally", "ours", "verdict"],
        [cells for cells, _ in statistical],
        [found.good for _, found in statistical],
    )
    page.text("What ours does otherwise than the notebook's loops that are run literally:")
    page.table(["preset", "otherwise"], [[name.removeprefix("book/"), text] for name, text in OTHERWISE.items()])
    page.heading("Figures")
    for path, caption in pictures:
        page.picture(path, caption)
    page.write(folder / "report.html")
    return folder / "report.html"


def _headline(exact: Sequence[tuple[list[str], bool | None]], found: Sequence[Verdict], jobs: Jobs) -> str:
    compared = [verdict for verdict in found if verdict.good is not None]
    others = [verdict for verdict in compared if not verdict.good]
    given, not_given = (sum(verdict.literal is gives for verdict in others) for gives in (True, False))
    rest = len(others) - given - not_given
    seconds = sum((job.data.summary or {}).get("wall_seconds", 0.0) for job in jobs.values())
    return (
        f"{sum(good is True for _, good in exact)} of {len(exact)} exact figures are equal to all printed digits; "
        f"{len(compared) - len(others)} of {len(compared)} statistical ones lie within the spread of our trials. "
        + (
            f"Of the other {len(others)}, literal runs of the notebook's code give {given} and do not give {not_given}"
            + (f"; those of networks ({rest}) are not run literally. " if rest else ". ")
            if others
            else ""
        )
        + f"The jobs took {seconds / 60:.1f} minutes, one after the other. Made by"
    )


def _explanations(trials: int, runs: int) -> list[str]:
    """What stands above the table of statistical figures."""
    return [
        "Ours: mean and standard deviation over trials, smallest and largest trial. One trial is one seed, and the "
        "notebook is one more: of N + 1 equal runs, one lies outside the other N with probability 2 / (N + 1), here "
        f"{200 / (1 + trials):.0f} %. The smallest or largest episode of a run is one episode: such minima and maxima "
        "are shown by their median and range over trials.",
        f"Run literally: the notebook's printed loops, quirks included, with {runs} seeds. They bootstrap from where "
        "an episode ends, play on past the limit of 500 steps, reset with seed = episode, draw from one global "
        "generator, and the third goes on with the table of the second. Loops with networks are not run literally. "
        "A reason for a difference is named only where these runs give the notebook's figure, and none of ours lies "
        "among them.",
        "The third loop (q_log_alpha) never resets its total of rewards: what it prints are statistics of sums over "
        "all episodes so far, and its largest, 262570, is the sum over all of them. Its printed mean has the digits "
        f"of a mean of {TOTALS_COUNTED:,} whole numbers, not of 10,000: its list held more than one run of the loop "
        f"gives. An episode is then worth {TOTALS[-1] / TOTALS_COUNTED:.5g} to {TOTALS[-1] / 10_000:.5g}.",
    ]


def _spread(values: np.ndarray, kind: str) -> str:
    """Values of trials or seeds in a cell."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return f"0 of {len(values)}"
    low, high, mean, std, median = map(_digits, (f(finite) for f in (np.min, np.max, np.mean, np.std, np.median)))
    middle = f"mean {mean}, std {std}" if kind == "trials" else f"median {median}"
    number = "" if len(finite) == len(values) else f", {len(finite)} of {len(values)}"
    return f"{middle}, {low} to {high}{number}"


def _digits(value: float) -> str:
    """Five digits, and all those before the point."""
    return f"{value:.5g}" if abs(value) < 1e5 else f"{value:.0f}"


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, received {number}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--trials", type=_positive, default=10, help="seeds a preset, and of the notebook's loops (default 10)"
    )
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), help="default: outputs")
    parser.add_argument(
        "--engine", choices=("auto", "host"), default="auto", help="host: without the fused engine (default: auto)"
    )
    parser.add_argument("--processes", type=_positive, default=2, help="jobs side by side (default 2)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing and write the report; the exit status is explained at the top of this file."""
    args = _parser().parse_args(argv)
    began, names = time.monotonic(), presets()
    output_dir = args.output_dir.expanduser().resolve()
    study, seeds = output_dir / STUDY, range(args.seed, args.seed + args.trials)
    try:
        check_folder(study / "report")
        (study / "report").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(
            f"--output-dir: expected a folder that can be written, received {args.output_dir}: {error}", file=sys.stderr
        )
        return 1
    command_line = partial(overrides, trials=args.trials, seed=args.seed, output_dir=output_dir, engine=args.engine)
    left = [seed for seed in seeds if literal_loops.read(literal_loops.file(study, seed)) is None]
    commands = {name: [sys.executable, "-m", "rlexp", *command_line(name)] for name in names}
    commands |= {f"notebook's loops, seed {seed}": literal_loops.command(study, seed) for seed in left}
    print(
        f"{len(names)} jobs, and {len(left)} literal runs of the notebook's loops ({len(seeds) - len(left)} are done), "
        f"{args.processes} at a time; each job is in MLflow under the study {STUDY}",
        flush=True,
    )
    try:
        absent = run_all(commands, args.processes)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130
    jobs, unread = load([name for name in names if name not in absent], command_line)
    absent |= unread
    found = (literal_loops.read(literal_loops.file(study, seed)) for seed in seeds)
    command = " ".join(["python scripts/reproduce_chapter.py", *(sys.argv[1:] if argv is None else argv)])
    path = write(jobs, absent, [run for run in found if run is not None], output_dir, command)
    for name, why in absent.items():
        print(f"{name}: {why.why}", file=sys.stderr if why.failed else sys.stdout)
    failed = [name for name, why in absent.items() if why.failed]
    if failed:
        print(f"failed: {', '.join(failed)}; the same command tries them again", file=sys.stderr)
    print(json.dumps({"report": str(path), "minutes": round((time.monotonic() - began) / 60, 1)}))
    return 1 if failed else 0
