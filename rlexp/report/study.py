"""The report of a study: one self-contained HTML page, with its pictures, tables and Markdown beside it."""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.data import seeding
from rlexp.data.checkpoint import write_atomically
from rlexp.jobs.results import StudyData, load_study
from rlexp.math.statistics import bootstrap_band, iqm, performance_profile
from rlexp.report import families, figures
from rlexp.report.analysis import Analysis, Overall, TaskAnalysis, analyse
from rlexp.report.compare import POWER, Comparison
from rlexp.report.contenders import MISSING, Contender, Task, short_keys, varied
from rlexp.report.figures import Line
from rlexp.report.page import Page
from rlexp.report.verdicts import CERTAIN
from rlexp.system import words
from rlexp.system.errors import Refusal, did_you_mean, refusal
from rlexp.system.links import LinkFound, check_folder
from rlexp.system.stored_files import folders_with
from rlexp.system.text import clean
from rlexp.system.tool import warn

MAX_ROWS = 20  # of a table of comparisons; all of them are in the CSV
MAX_DRAWN = 24  # contenders with a row in a picture
MAX_PANELS, PANELS = 12, 6  # contenders with a panel for their single trials; panels in one picture
DEFINITIONS = (
    "A trial is one seed. Its final return is the mean return of fresh episodes (evaluation.final_episodes, 100 unless "
    "it was changed) with its best weights; all trials play the same ones. IQM: mean of the middle half of the trials.",
    "Intervals of final returns cover the IQM of the trials' expected returns with 95 %. They hold two kinds of luck: "
    "that of the trials (stratified bootstrap, Agarwal et al. 2021, percentiles expanded for few trials, Hesterberg "
    "2015), and that of the final episodes, which all trials share (their common part, resampled beside the trials). "
    "With fewer than five trials they are too narrow; what none of the episodes has shown is not in them. Bands of "
    "learning curves and performance profiles hold the luck of the trials alone.",
    "Exact value: expected return (undiscounted, within the time limit) of the best weights, computed from the "
    "transition table; only where the environment is one and the policy draws no actions. It has no luck of episodes.",
    "Area under the curve: mean evaluation return over all env steps, by trapezoids. Steps to the threshold: the first "
    "evaluation that reaches it; median over trials, a trial that never does counts as infinite.",
    "Comparisons: two trials with the same seed are a pair (same episodes, same first weights where the network is "
    "the same); p is Fisher's exact sign-flip test of their mean difference. Where seeds differ, or pairs are "
    "too few for the signs to decide a table of so many comparisons, it is the permutation test. Final returns share "
    "their episodes, too: where these have luck in common, their differences change signs as "
    "well, and p is the largest of three tests, over trials, over episodes and over both, so that a difference counts "
    "only where new trials and new episodes would show it. Areas are compared on the evaluation episodes, the same "
    "for all: what is said of them holds for these. Holm's correction takes all pairs of one table as one family: "
    f"better and worse are said with {CERTAIN} in the table. Too few trials decide nothing, whatever their results: "
    "the verdicts say how many are needed at least, which is more the more pairs a table has.",
    f"More trials needed: as many as find the difference with a probability of {POWER:.0%}, if it is as large as it "
    "looks now. Such an estimate from few trials is rough. More trials: the same command with seed= set to the next "
    "seed.",
    "Probability of improvement: how often a trial of the first beats one of the second, ties counting half; interval "
    "by Newcombe's score method (2006).",
)  # fmt: skip


def write(folder: str | Path, *, to: Path | None = None, command: str = "") -> Path:
    """Write the report of a study from its job folders; may be called at any time, also while jobs run.

    Args:
        folder: `outputs/<study>`.
        to: where the report goes; default `<folder>/report`.
        command: what made it, for the page's last section.

    Returns:
        The path of `index.html`. `index.md`, `figures/` and `tables/` lie beside it.

    Raises:
        Refusal: if there is no job that can be read.
    """
    return _report(load_study(folder), _place(to, Path(folder) / "report"), command)[0]


def make(
    study: str, *, output_dir: Path, tracking_uri: str | None, to: Path | None, command: str
) -> tuple[Path, list[str]]:  # fmt: skip
    """`write` for the command line: finds the study by its name, or reads it from MLflow.

    Returns:
        The path of `index.html`, and the sentences of its headline.

    Raises:
        Refusal: if there is no such study.
    """
    output_dir = output_dir.expanduser()
    if tracking_uri is not None:
        from rlexp.tracking.mlflow.fetch import fetch_study

        with tempfile.TemporaryDirectory(prefix="rlexp-") as fetched:
            problems = fetch_study(study, tracking_uri, Path(fetched))
            data = load_study(fetched)
            data.problems.update(problems)
        _warn(data)
        return _report(data, _place(to, output_dir / study / "report"), command)
    folder = _find(study, output_dir)
    data = load_study(folder)
    _warn(data)
    return _report(data, _place(to, folder / "report"), command)


def _warn(data: StudyData) -> None:
    """What the page says of damaged files, on stderr as well."""
    for name, why in data.problems.items():
        warn(f"{name}: {why}")
    for job in data.jobs:
        if "cannot be used" in job.no_episodes:
            warn(f"{job.folder}: {job.no_episodes}")


def _place(named: Path | None, usual: Path) -> Path:
    """Where a report goes: a folder without links; one that its reader names may be reached by one."""
    place = named.expanduser().resolve() if named else usual
    try:
        check_folder(place)
    except LinkFound as found:
        raise Refusal(f"report: {found}") from found
    return place


def _find(study: str, output_dir: Path) -> Path:
    """The folder of a study: a path, or a name under the output folder."""
    named, path = output_dir / study, Path(study).expanduser()
    for folder in (named, path):
        if folders_with(folder, "job.json", "*"):
            return folder
    known = sorted({job.parent.name for job in folders_with(output_dir, "job.json", "*/*")})
    inside = sorted({job.parent.name for job in folders_with(path, "job.json", "*/*")})
    if inside:
        raise refusal("study", "one study", f"{study}, a folder of {len(inside)}",
                      f"Name one: {', '.join(inside[:10])}")  # fmt: skip
    near = did_you_mean(study, known) or (
        f"There are: {', '.join(known[:20])}" if known else "No job has run there yet."
    )
    raise refusal("study", f"a study under {output_dir} or a study's folder", repr(study), near)


def _report(data: StudyData, to: Path, command: str) -> tuple[Path, list[str]]:
    if not data.jobs:
        problems = "; ".join(f"{name}: {why}" for name, why in data.problems.items())
        raise refusal("study", "at least one job that can be read", problems or "none")
    analysis = analyse(data, seeding.generator(0, "report"))
    page = _Writer(data, analysis, to, seeding.generator(1, "report")).build(command)
    page.write(to / "index.html")
    return to / "index.html", analysis.headline


class _Writer:
    """Builds the page, its pictures and its tables."""

    def __init__(self, data: StudyData, analysis: Analysis, to: Path, generator: np.random.Generator) -> None:
        self.data, self.analysis, self.to, self.generator = data, analysis, to, generator
        self.page = Page(f"Study {data.name}")
        labels = list(dict.fromkeys(c.label for a in analysis.tasks for c in a.task.contenders))
        if analysis.overall:
            labels = list(dict.fromkeys([*analysis.overall.scores, *labels]))
        self.looks = figures.appearance(labels)
        self.several = len(analysis.tasks) > 1

    def build(self, command: str) -> Page:
        page, analysis = self.page, self.analysis
        page.lead(analysis.headline)
        if analysis.warnings:
            page.notice(analysis.warnings)
        contenders = [c for a in analysis.tasks for c in a.task.contenders]
        if analysis.overall:
            self._overall(analysis.overall)
        self._hyper_parameters()
        results, curves, trials = [], [], []
        for number_, task in enumerate(analysis.tasks, start=1):
            lines = {c.label: self._line(c, task) for c in task.task.contenders}
            self._task(task, lines, number_)
            results += [[task.task.name, *row] for row in self._results(task.task, lines)]
            curves += [[task.task.name, *row] for c in task.task.contenders for row in _curve_rows(c, lines[c.label])]
            trials += [row for c in task.task.contenders for row in _trial_rows(c)]
        self._configurations(contenders)
        self._published()
        page.heading("How it was measured")
        for definition in DEFINITIONS:
            page.text(definition, small=True)
        self._provenance(command)
        self._csv("results", ["environment", *RESULTS], results)
        self._csv("trials", TRIALS, trials)
        self._csv("curves", ["environment", "contender", "metric", "step", "iqm", "low", "high", "trials"], curves)
        self._csv(
            "comparisons", ["environment", "measure", *COMPARISONS], map(_comparison_row, self._every_comparison())
        )
        return page

    def _every_comparison(self) -> Iterator[tuple[str, str, Comparison]]:
        """Environment, measure, comparison."""
        for a in self.analysis.tasks:
            yield from ((a.task.name, "final return", c) for c in a.returns)
            yield from ((a.task.name, "area under the curve", c) for c in a.speed)
        if self.analysis.overall:
            yield from (("all", "normalised score", c) for c in self.analysis.overall.comparisons)

    # One environment.

    def _line(self, c: Contender, analysis: TaskAnalysis) -> Line:
        color, marker = self.looks[c.label]
        name = c.curve_name
        steps, values = c.curves[name] if name else (np.zeros(0, np.int64), np.zeros((0, len(c.seeds))))
        few = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), figures.NUM_POINTS)).astype(int))
        steps, values = steps[few], values[few]
        band = bootstrap_band(values, self.generator) if len(steps) else np.zeros((2, 0))
        interval = analysis.intervals.get(c.label, (math.nan, math.nan, math.nan))
        return Line(c.label, color, marker, steps, values, iqm(values), band, c.final, interval[0], interval[1:])

    def _task(self, analysis: TaskAnalysis, lines: dict[str, Line], number_: int) -> None:
        page, task = self.page, analysis.task
        called = task.name if task.env_id in task.name else f"{task.name} ({task.env_id})"
        page.heading(f"Results on {called}")
        drawn = [lines[c.label] for c in task.contenders]
        finished = [lines[c.label] for c in task.finished][:MAX_DRAWN]
        stem, pictures = self.to / "figures" / f"{number_}-{_slug(task.name)}", []
        levels = _levels(task)
        if finished:
            path = figures.save(figures.final_returns(finished, levels), stem.with_name(f"{stem.name}-final"))
            told = f" The best {MAX_DRAWN} of {len(task.finished)}." if len(task.finished) > MAX_DRAWN else ""
            pictures.append(
                (path, f"Final returns on {task.name}: a dot a trial, diamond: IQM, bar: 95 % interval.{told}")
            )
        with_curve = [line for line in drawn if len(line.steps)]
        metrics = {c.curve_name for c in task.contenders} - {None}
        ylabel = (
            "evaluation return" if metrics <= {"eval/return"} else "return (of training where nothing is evaluated)"
        )
        if with_curve:
            path = figures.save(
                figures.learning_curves(with_curve, levels, ylabel), stem.with_name(f"{stem.name}-curves")
            )
            pictures.append((path, f"Learning curves on {task.name}: IQM over trials, 95 % bootstrap band."))
        for first in range(0, min(len(with_curve), MAX_PANELS), PANELS):
            part = with_curve[first : min(first + PANELS, MAX_PANELS)]
            if len(with_curve) == 1:
                break  # its trials are in the picture above
            path = figures.save(
                figures.single_trials(part, with_curve, ylabel),
                stem.with_name(f"{stem.name}-trials-{first // PANELS + 1}"),
            )
            told = f" The best {MAX_PANELS} of {len(with_curve)}." if len(with_curve) > MAX_PANELS else ""
            pictures.append((path, f"Single trials on {task.name} (thin) and their IQM.{told}"))
        if pictures:
            page.pictures(pictures)
        shown = [_table_row(row) for row in self._results(task, lines)]
        threshold = f"steps to {words.number(task.reference.solved)}" if task.reference else "steps to threshold"
        exact = []
        if task.optimum is not None:
            exact = [f"exact value: IQM (the best policy: {words.number(task.optimum)})"]
            for row, c in zip(shown, task.contenders, strict=True):
                row.insert(3, words.number(float(iqm(c.value))))
        page.table(
            ["algorithm", "trials", "final return: IQM [95 % interval]", *exact, "mean", "worst trial",
             "area under curve: IQM", threshold, "env steps", "time and speed", "status"], shown,
        )  # fmt: skip
        families.section(page, analysis, lines, stem)
        if analysis.returns:
            page.heading(f"Which is better on {task.name}: final return", 3)
            self._comparisons(analysis.returns)
        if len(task.finished) > 1:
            page.heading(f"Which learns faster on {task.name}: area under the curve", 3)
            if analysis.speed:
                self._comparisons(analysis.speed)
            else:
                page.text(f"Not compared: {analysis.no_speed}.")

    def _results(self, task: Task, lines: dict[str, Line]) -> list[list[Any]]:
        """One row a contender, as in RESULTS."""
        rows = []
        for c in task.contenders:
            line, finite = lines[c.label], c.final[np.isfinite(c.final)]
            reached = c.steps_to(task.reference.solved) if task.reference else np.full(len(c.seeds), math.nan)
            known = reached[~np.isnan(reached)]
            middle = float(np.median(known)) if len(known) else math.nan
            rows.append(
                [
                    *(c.label, len(c.seeds), len(finite), line.final_iqm, *line.final_interval),
                    *((float(finite.mean()), float(finite.min())) if len(finite) else (math.nan, math.nan)),
                    *(float(iqm(c.area)), middle, int(np.isfinite(known).sum()) if len(known) else None),
                    *(c.steps, c.wall_seconds, c.steps_per_second, c.status, float(iqm(c.value))),
                ]
            )
        return rows

    def _comparisons(self, comparisons: Sequence[Comparison]) -> None:
        """The table; of many, the first contender's pairs and then those that are decided."""
        first = comparisons[0].first
        wanted = sorted(comparisons, key=lambda c: (c.first != first, c.verdict == "undecided"))  # stable
        shown = comparisons if len(comparisons) <= MAX_ROWS else wanted[:MAX_ROWS]
        header = ["comparison", "mean difference", "probability of improvement [95 % interval]", "p (Holm)", "trials"]
        rows = [
            [
                f"{c.first} against {c.second}",
                words.signed(c.difference),
                "{:.2f} [{:.2f}, {:.2f}]".format(*c.improvement),
                f"{words.p_value(c.p)} ({words.p_value(c.adjusted)})",
                f"{c.num_trials} {'pairs' if c.paired else 'trials each'}",
                c.reason,
            ]
            for c in shown
        ]
        marks = [{"better": True, "worse": False}.get(c.verdict) for c in shown]
        self.page.table([*header, "verdict"], rows, marks)
        if len(shown) < len(comparisons):
            self.page.text(
                f"{MAX_ROWS} of {len(comparisons)} pairs; all of them are in tables/comparisons.csv.", small=True
            )

    # Several environments.

    def _overall(self, overall: Overall) -> None:
        page = self.page
        page.heading("Over all environments")
        scale = "; ".join(
            f"{task.name}: 0 is a return of {words.number(low)}, 1 is {words.number(high)} ({why})"
            for task in overall.tasks
            for low, high, why in [task.scale]
        )
        page.text(f"Normalised score = (return - random play) / (solved - random play). {scale}.", small=True)
        if overall.absent:
            page.text(f"Not on every environment, and so not here: {', '.join(overall.absent)}.")
        page.table(
            ["algorithm", "normalised score: IQM [95 % interval]", *(task.name for task in overall.tasks)],
            [
                [
                    label,
                    words.interval(*overall.intervals[label]),
                    *(words.number(float(iqm(v))) for v in overall.scores[label]),
                ]
                for label in overall.scores
            ],
        )
        drawn = list(overall.scores)[: len(figures.COLORS)]
        every = np.concatenate([v for label in drawn for v in overall.scores[label]])
        low, high = min(0.0, float(every.min())), max(1.0, float(every.max()))
        low = max(low, -1.0)  # one catastrophic trial would squeeze the rest
        thresholds = np.linspace(low - 0.02, high + 0.02, 201)
        profiles = {
            label: (self.looks[label][0], performance_profile(overall.scores[label], thresholds, self.generator))
            for label in drawn
        }
        path = figures.save(figures.profiles(profiles, thresholds), self.to / "figures" / "0-profiles")
        page.pictures([(path, "Performance profiles: higher is better; bands are 95 % intervals.")])
        self._csv("profiles", ["contender", "score", "share", "low", "high"], (
            [label, score, *profile[:, i]] for label, (_, profile) in profiles.items()
            for i, score in enumerate(thresholds)))  # fmt: skip
        if overall.comparisons:
            page.heading("Which is better over all environments: normalised score", 3)
            self._comparisons(overall.comparisons)

    # Configurations.

    def _hyper_parameters(self) -> None:
        pictures = []
        for a in self.analysis.tasks:
            for algo in sorted({c.name for c in a.task.finished}):
                same = [c for c in a.task.finished if c.name == algo]
                keys = varied(same)
                if len(same) < 3 or not keys:
                    continue
                names = short_keys(keys)
                stem = self.to / "figures" / f"{_slug(a.task.name)}-{_slug(algo)}"
                middle = np.array([float(iqm(c.scores)) for c in same])
                grid = _grid(keys, middle)
                if grid:
                    (y, x), (ys, xs), cells = list(keys), *grid
                    figure = figures.heat_map(xs, ys, cells, names[x], names[y])
                    path = figures.save(figure, stem.with_name(f"{stem.name}-heat-map"))
                    pictures.append(
                        (path, f"{algo} on {a.task.name}: final return (IQM) by {names[y]} and {names[x]}.")
                    )
                bounds = np.array([a.intervals[c.label][1:] for c in same]).T
                panels = {names[key]: (_plain_values(values), middle, bounds) for key, values in list(keys.items())[:6]}
                path = figures.save(figures.slices(panels), stem.with_name(f"{stem.name}-slices"))
                told = f" The first 6 of {len(keys)} keys." if len(keys) > 6 else ""
                pictures.append((path, f"{algo} on {a.task.name}: final return of each job against each value.{told}"))
        if pictures:
            self.page.heading("Hyper-parameters")
            self.page.pictures(pictures)

    def _configurations(self, contenders: list[Contender]) -> None:
        self.page.heading("What differs in the configurations")
        keys = varied(contenders)
        if not keys:
            self.page.text("Nothing but what the names say.")
            return
        names = [f"{c.label}, {c.task.name}" if self.several else c.label for c in contenders]
        shown = {
            key: [words.setting(v) if v is not MISSING else MISSING for v in values] for key, values in keys.items()
        }
        if len(contenders) <= 6:
            self.page.table(["key", *names], [[key, *values] for key, values in shown.items()])
        else:
            by_job = zip(*shown.values(), strict=True)
            rows = [[name, *values] for name, values in zip(names, by_job, strict=True)]
            self.page.table(["job", *short_keys(keys).values()], rows)
        columns = zip(*shown.values(), strict=True)
        rows = [[c.task.name, c.label, *values] for c, values in zip(contenders, columns, strict=True)]
        self._csv("configurations", ["environment", "contender", *keys], rows)

    def _published(self) -> None:
        rows = [
            [a.task.name, p.name, words.number(p.value) + spread, p.note]
            for a in self.analysis.tasks
            for p in (a.task.reference.published if a.task.reference else ())
            for spread in [f" +- {words.number(p.spread)}" if p.spread is not None else ""]
        ]
        if rows:
            self.page.heading("Published results")
            self.page.text(
                "For orientation: other budgets, other rules of evaluation, fewer seeds. The dashed lines show them."
            )
            self.page.table(["environment", "result", "return", "how"], rows)

    def _provenance(self, command: str) -> None:
        page, jobs = self.page, self.data.jobs
        page.heading("Where it comes from")
        tags: dict[str, dict[str, int]] = {}
        for job in jobs:
            for key, value in job.job.get("tags", {}).items():
                tags.setdefault(key, {}).setdefault(str(value), 0)
                tags[key][str(value)] += 1
        page.table(["what", "value (jobs, where they differ)"], [
            [key, next(iter(values)) if len(values) == 1 and sum(values.values()) == len(jobs)
             else ", ".join(f"{value} ({count})" for value, count in values.items())]
            for key, values in sorted(tags.items())
        ])  # fmt: skip
        page.table(["job", "command", "started", "status"], [
            [job.folder.name, str(job.job.get("command", "")), words.date(job.job.get("started")),
             str((job.summary or {}).get("status", "unfinished"))] for job in jobs
        ])  # fmt: skip
        if command:
            page.text("This page was made by", command)

    def _csv(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        table = StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_cell(value) for value in row] for row in rows)
        path = self.to / "tables" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(table.getvalue().encode()))


RESULTS = (
    "contender", "trials", "with_final_return", "iqm", "low", "high", "mean", "worst", "area_under_curve_iqm",
    "steps_to_threshold_median", "reached_threshold", "env_steps", "wall_seconds", "steps_per_second", "status",
    "exact_value_iqm",
)  # fmt: skip
TRIALS = (
    "environment", "contender", "seed", "status", "final_return", "area_under_curve", "steps_to_threshold",
    "exact_value",
)  # fmt: skip
COMPARISONS = (
    "first", "second", "verdict", "reason", "more_trials", "trials", "paired", "mean_difference", "p", "p_holm",
    "probability_of_improvement", "low", "high",
)  # fmt: skip


def _table_row(row: list[Any]) -> list[str]:
    """A row of RESULTS as a reader wants it."""
    label, trials, scored, middle, low, high, mean, worst, area, steps, reached, budget, wall, speed, status, _ = row
    if reached is None or scored == 0:
        to_threshold = "-"
    elif reached == 0:
        to_threshold = "never"
    else:
        median = f"{words.steps(steps)}, " if math.isfinite(steps) else ""
        to_threshold = f"{median}{reached} of {trials} trials"
    return [
        label, f"{trials}" if scored in (trials, 0) else f"{scored} of {trials}", words.interval(middle, low, high),
        words.number(mean), words.number(worst), words.number(area), to_threshold, words.steps(budget),
        f"{words.seconds(wall)}, {words.steps(speed)} steps/s" if math.isfinite(speed) else words.seconds(wall), status,
    ]  # fmt: skip


def _curve_rows(c: Contender, line: Line) -> list[list[Any]]:
    counts = np.isfinite(line.values).sum(axis=1).tolist()
    columns = zip(line.steps.tolist(), line.middle, *line.band, counts, strict=True)
    return [[c.label, c.curve_name, *row] for row in columns]


def _comparison_row(found: tuple[str, str, Comparison]) -> list[Any]:
    """A row of COMPARISONS."""
    *where, c = found
    trials = (c.more_trials, c.num_trials, c.paired)
    numbers = (c.difference, c.p, c.adjusted, *c.improvement)
    return [*where, c.first, c.second, c.verdict, c.reason, *trials, *numbers]


def _trial_rows(c: Contender) -> list[list[Any]]:
    solved = c.task.reference.solved if c.task.reference else math.nan
    reached = c.steps_to(solved) if c.task.reference else np.full(len(c.seeds), math.nan)
    return [
        [c.task.name, c.label, *row] for row in zip(c.seeds, c.statuses, c.final, c.area, reached, c.value, strict=True)
    ]


def _levels(task: Task) -> dict[str, float]:
    """Names of horizontal lines: the threshold, and published results; those at one height share a line."""
    if not task.reference:
        return {}
    by_value: dict[float, list[str]] = {task.reference.solved: ["solved"]}
    for p in task.reference.published:
        if p.algo.split()[0] in ("DQN", "PPO"):
            known = [name for name in by_value.get(p.value, []) if name.startswith(p.source)]
            by_value.setdefault(p.value, []).append(p.algo if known else p.name)
    return {f"{', '.join(names)} {words.number(value)}": value for value, names in by_value.items()}


def _grid(keys: dict[str, list[Any]], middle: np.ndarray) -> tuple[tuple[list[str], list[str]], np.ndarray] | None:
    """Two hyper-parameters whose values make at least half of a full grid; None for anything else."""
    if len(keys) != 2:
        return None
    first, second = (_plain_values(values) for values in keys.values())
    ys, xs = (sorted(set(v), key=lambda value: (isinstance(value, str), value)) for v in (first, second))
    if len(ys) < 2 or len(xs) < 2 or len(middle) < max(4, len(ys) * len(xs) / 2):
        return None
    sums, counts = np.zeros((len(ys), len(xs))), np.zeros((len(ys), len(xs)))
    for y, x, value in zip(first, second, middle, strict=True):
        sums[ys.index(y), xs.index(x)] += value
        counts[ys.index(y), xs.index(x)] += 1
    cells = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return ([words.setting(y) for y in ys], [words.setting(x) for x in xs]), cells


def _plain(value: Any) -> Any:
    """A number, or the text of anything else."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else words.setting(value)


def _plain_values(values: Sequence[Any]) -> list[Any]:
    """The values of one key, schedules by their kinds where these tell them apart."""
    names = words.schedules(values)
    return [names[words.as_json(v)] if names else _plain(v) for v in values]


def _slug(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)[:60].strip("-") or "x"


def _cell(value: Any) -> Any:
    """Numbers to every digit, nothing for what is missing, and no text that a spreadsheet would run."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return repr(float(value))
    value = clean(value, newlines=False) if isinstance(value, str) else value
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") and value != MISSING else value
