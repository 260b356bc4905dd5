"""The sections on configurations: how the final return depends on hyper-parameters, and what differs between jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlexp.config.study_names import MISSING, short_keys, varied
from rlexp.math.statistics import iqm
from rlexp.report import figures
from rlexp.report.analysis import TaskAnalysis
from rlexp.report.contenders import Contender
from rlexp.report.draft import Draft, file_name
from rlexp.report.tables import write_csv
from rlexp.system import words

MIN_JOBS = 3  # of one algorithm, for figures of its hyper-parameters
MAX_SLICES = 6  # keys with a panel
FEW = 6  # contenders, up to which each has a column of the table


def add_hyper_parameters(draft: Draft, analyses: Sequence[TaskAnalysis]) -> None:
    """Add figures of the final return against hyper-parameters, for algorithms with several configurations."""
    pictures = []
    for analysis in analyses:
        own = [c for c in analysis.task.finished if not c.is_foreign]
        for algo in sorted({c.name for c in own}):
            same = [c for c in own if c.name == algo]
            if len(same) >= MIN_JOBS and (keys := varied([c.config for c in same])):
                pictures += _pictures(draft, analysis, algo, same, keys)
    if pictures:
        draft.page.heading("Hyper-parameters")
        draft.page.pictures(pictures)


def _pictures(
    draft: Draft, analysis: TaskAnalysis, algo: str, same: Sequence[Contender], keys: dict[str, list[Any]]
) -> list[tuple[Path, str]]:
    """The figures of one algorithm on one environment with their captions.

    Args:
        draft: the report.
        analysis: of the environment.
        algo: name of the contenders.
        same: the contenders.
        keys: that differ between them -> their values.
    """
    pictures, where = [], f"{algo} on {analysis.task.name}"
    names = short_keys(keys)
    stem = f"{file_name(analysis.task.name)}-{file_name(algo)}"
    middle = np.array([float(iqm(c.scores)) for c in same])
    if grid := _grid(keys, middle):
        y, x = (names[key] for key in keys)
        path = draft.save(figures.heat_map(grid.xs, grid.ys, grid.cells, x, y), f"{stem}-heat-map")
        pictures.append((path, f"{where}: final return (IQM) by {y} and {x}."))
    bounds = np.array([analysis.intervals[c.label][1:] for c in same]).T
    panels = {}
    for key, values in list(keys.items())[:MAX_SLICES]:
        plain = _plain_values(values)
        logarithmic = figures.is_logarithmic(plain, key in draft.origin.logarithmic)
        panels[names[key]] = figures.Slice(plain, middle, bounds, logarithmic)
    path = draft.save(figures.slices(panels), f"{stem}-slices")
    which = f" The first {MAX_SLICES} of {len(keys)} keys." if len(keys) > MAX_SLICES else ""
    pictures.append((path, f"{where}: final return of each job against each value.{which}"))
    return pictures


class Grid(NamedTuple):
    """The final returns for pairs of values of two hyper-parameters."""

    xs: list[str]
    ys: list[str]
    cells: np.ndarray  # [Y, X], NaN for a pair without a job


def _grid(keys: Mapping[str, Sequence[Any]], middle: np.ndarray) -> Grid | None:
    """The grid of two hyper-parameters; None unless there are two whose values fill at least half of it.

    Args:
        keys: hyper-parameter -> its value for each job, first y and then x.
        middle: IQM of the final return for each job.  # [K]
    """
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
    return Grid([words.setting(x) for x in xs], [words.setting(y) for y in ys], cells)


def _plain_values(values: Sequence[Any]) -> list[Any]:
    """The values of one key as numbers and texts; schedules by their kinds if these tell them apart."""
    names = words.schedules(values)
    return [names[words.as_json(v)] if names else _plain(v) for v in values]


def _plain(value: Any) -> Any:
    """A number, or the text of anything else."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else words.setting(value)


def add_configurations(draft: Draft, contenders: Sequence[Contender], several: bool) -> None:
    """Add a table of the keys that differ between contenders, to the page and as `configurations.csv`.

    Args:
        draft: the report.
        contenders: of all environments.
        several: whether there are several environments, so that the names of contenders need theirs.
    """
    page, contenders = draft.page, [c for c in contenders if not c.is_foreign]
    if not contenders:
        return
    page.heading("What differs in the configurations")
    keys = varied([c.config for c in contenders])
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for c in contenders:
        by_task.setdefault(c.task.name, []).append(c.config)
    within = {key for configs in by_task.values() for key in varied(configs)}  # what describes an environment is not
    keys = {key: values for key, values in keys.items() if key in within or not key.startswith("env.")}
    if not keys:
        page.text("Nothing but what the names say.")
        return
    names = [f"{c.label}, {c.task.name}" if several else c.label for c in contenders]
    shown = {key: [words.setting(v) if v is not MISSING else MISSING for v in values] for key, values in keys.items()}
    by_contender = list(zip(*shown.values(), strict=True))
    if len(contenders) <= FEW:
        page.table(["key", *names], [[key, *values] for key, values in shown.items()])
    else:
        rows = [[name, *values] for name, values in zip(names, by_contender, strict=True)]
        page.table(["job", *short_keys(keys).values()], rows)
    rows = [[c.task.name, c.label, *values] for c, values in zip(contenders, by_contender, strict=True)]
    write_csv(draft.table("configurations"), ["environment", "contender", *keys], rows)
