"""The section on single components: which of them matters where (Hessel et al. 2018, figures 1 and 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rlexp.config import commands
from rlexp.config.components import COMPONENTS
from rlexp.data import seeding
from rlexp.math.statistics import bootstrap_band, iqm, normalise
from rlexp.report import component_figures
from rlexp.report.ablation import REMOVED, Panel
from rlexp.report.component_effects import AREA, FINAL, OVERALL, Ablation, Effect, p_in_words, shown
from rlexp.report.component_figures import Curve, Dot, Rows
from rlexp.report.contenders import Contender, Task
from rlexp.report.draft import Draft, file_name
from rlexp.report.drawing import thinned
from rlexp.report.page import Page
from rlexp.report.tables import ComponentRow
from rlexp.system import words

MEASURES = (FINAL, AREA)
NUM_SHARES = 101  # points of a curve over all environments
MAX_COMMANDS = 3
MISSING = (math.nan, math.nan, math.nan)


def add_components(draft: Draft, ablation: Ablation) -> None:
    """Add the section to the page, and the table `components`."""
    page = draft.page
    page.heading("Which component matters where")
    page.text(_introduction(ablation))
    for sentence in ablation.missing:
        page.text(sentence)
    generator = seeding.generator(4, "report")
    for number, place in enumerate(ablation.places):
        overall = place == OVERALL
        name = "Components over all environments" if overall else f"Components on {place}"
        page.heading(name, 3)
        page.text(ablation.sentence(place))
        tasks = ablation.everywhere if overall else [t for t in ablation.tasks if t.name == place]
        stem = f"0-components-{number}-{file_name(place or 'all')}"
        page.pictures(_pictures(draft, ablation, place, tasks, stem, generator))
        _add_table(page, ablation, place)
        if overall:
            _add_scores(page, ablation)
    page.text(_method(ablation), small=True)
    _add_commands(page, ablation)
    draft.write_rows("components", ComponentRow, map(_row, ablation.effects))


def _introduction(ablation: Ablation) -> str:
    parts = []
    for panel in ablation.panels:
        names = ", ".join(COMPONENTS[name].words for name in panel.variants)
        parts.append(f"{panel.title}: {names}")
    return (
        "Some jobs differ from a base by one component, as their configurations say, and in nothing else. Components "
        f"{'; '.join(parts)}."
    )


def _method(ablation: Ablation) -> str:
    compared = [effect.comparison for effect in ablation.effects]
    pairs = sum(c.paired for c in compared)
    how = "as pairs of trials with one seed (sign-flip test)"
    if not pairs:
        how = "by exchanging trials (permutation test), since seeds differ or pairs are too few for so many comparisons"
    elif pairs < len(compared):
        how = f"{how} where the seeds agree and pairs are enough, otherwise by exchanging trials (permutation test)"
    text = (
        "An effect is the result of the variant minus that of its base: below zero, a removed component was of use, "
        "and an added one does harm. On one environment it is the mean difference; its 95 % interval is a bootstrap of "
        "the trials (as pairs if the seeds agree) with the luck of the final episodes. p and verdicts are corrected "
        f"(Holm) for all {len(compared)} comparisons of this section, which are made {how}; intervals are not."
    )
    if ablation.everywhere:
        scales = "; ".join(
            f"{task.name}: 0 is a return of {words.number(low)}, 1 is {words.number(high)} ({why})"
            for task in ablation.everywhere
            for low, high, why in [task.scale]
        )
        text += (
            " Over all environments, returns and areas are normalised scores, and an effect is the difference of the "
            "IQMs over all trials on all environments, with a stratified bootstrap of the trials (Agarwal et al. 2021) "
            f"as its interval. {scales}."
        )
    return text


def _pictures(
    draft: Draft, ablation: Ablation, place: str, tasks: Sequence[Task], stem: str, generator: np.random.Generator
) -> list[tuple[Path, str]]:
    """The effects and the learning curves in one place, with their captions."""
    overall = place == OVERALL
    where = "over all environments" if overall else f"on {place}"
    rows = [Rows(panel.title, list(_dots(ablation, place, panel))) for panel in ablation.panels]
    rows = [panel for panel in rows if panel.rows]
    what = "change of the normalised score" if overall else "change of the return"
    pictures = []
    if rows:
        path = draft.save(component_figures.effects(rows, MEASURES, what), f"{stem}-effects")
        pictures.append((path, f"Effects of single components {where}: variant minus base, 95 % intervals."))
    panels = [(f"Component {panel.title}", _curves(panel, tasks, overall, generator)) for panel in ablation.panels]
    panels = [(title, lines) for title, lines in panels if lines]
    if panels:
        ylabel = "normalised score" if overall else "evaluation return"
        path = draft.save(component_figures.curves(panels, ylabel, overall), f"{stem}-curves")
        over = "all trials on all environments" if overall else "trials; 95 % band of the base"
        pictures.append((path, f"Learning curves {where}: IQM over {over}."))
    return pictures


def _dots(ablation: Ablation, place: str, panel: Panel) -> Iterator[tuple[str, str, list[Dot]]]:
    """The rows of a panel: component, its name, and an effect for each measure."""
    effects = [effect for measure in MEASURES for effect in ablation.of(place, measure, panel)]
    for component, label in panel.rows:
        own = [e for e in effects if e.comparison.first == label]
        if own:
            dots = [Dot(e.measure, e.value, e.low, e.high, e.significant) for e in own]
            yield component, panel.named(component, label), dots


def _curves(panel: Panel, tasks: Sequence[Task], scaled: bool, generator: np.random.Generator) -> list[Curve]:
    """The learning curves of a base and its variants, the base first; nothing if the base has none."""
    sign = "−" if panel.change == REMOVED else "+"
    variants = [(c, label, f"{sign} {panel.named(c, label)}") for c, label in panel.rows]
    members: list[tuple[str | None, str, str]] = [(None, panel.base, panel.base), *variants]
    found: list[Curve] = []
    for component, label, name in members:
        contenders = [c for task in tasks for c in task.finished if c.label == label]
        if len(contenders) < len(tasks) or not all(_has_curve(c) for c in contenders):
            if component is None:
                return []
            continue
        if scaled:
            x = np.linspace(0.0, 1.0, NUM_SHARES)
            values = np.concatenate([_scaled_curves(c, x) for c in contenders], axis=1)
        else:
            steps, values = contenders[0].curves["eval/return"]
            few = thinned(len(steps))
            x, values = steps[few], values[few]
        band = bootstrap_band(values, generator) if component is None and not scaled else None
        found.append(Curve(component, name, x, iqm(values), band))
    return found


def _has_curve(c: Contender) -> bool:
    return "eval/return" in c.curves and len(c.curves["eval/return"].steps) > 1


def _scaled_curves(c: Contender, shares: np.ndarray) -> np.ndarray:
    """Normalised evaluation returns of all trials at shares of the budget; a trial that has ended keeps its last one.

    Args:
        c: the contender.
        shares: from 0 to 1.  # [T]

    Returns:
        NaN for a trial without values.  # [T, N]
    """
    steps, values = c.curves["eval/return"]
    columns = []
    for column in normalise(values, *c.task.scale[:2]).T:
        present = np.isfinite(column)
        places = steps[present] / steps[-1]
        columns.append(np.interp(shares, places, column[present]) if present.any() else np.full(len(shares), np.nan))
    return np.stack(columns, axis=1)


def _add_table(page: Page, ablation: Ablation, place: str) -> None:
    """One row per component, one column for each panel and measure."""
    columns = [(panel, measure) for panel in ablation.panels for measure in MEASURES]
    cells: dict[str, dict[int, str]] = {}
    for k, (panel, measure) in enumerate(columns):
        for effect in ablation.of(place, measure, panel):
            cells.setdefault(effect.name, {})[k] = _cell(effect)
    known = [k for k in range(len(columns)) if any(k in row for row in cells.values())]
    header = [f"{columns[k][0].title}: {columns[k][1]}" for k in known]
    page.table(["component", *header], [[name, *(row.get(k, "-") for k in known)] for name, row in cells.items()])


def _cell(effect: Effect) -> str:
    """`-12 [-17, -8], p = 0.003: worse`."""
    change = words.interval(*shown(effect.value, effect.low, effect.high, effect.place))
    return f"{change}, {p_in_words(effect)}: {effect.comparison.verdict}"


def _add_scores(page: Page, ablation: Ablation) -> None:
    """The normalised score of each member over all environments, the best first."""
    final, area = (ablation.scores[measure] for measure in MEASURES)
    order = sorted(final, key=lambda label: -final[label][0])
    page.table(
        ["job", "normalised final return: IQM [95 % interval]", "normalised area under the learning curve"],
        [[label, *(words.interval(*shown(*own.get(label, MISSING), OVERALL)) for own in (final, area))]
         for label in order],
    )  # fmt: skip


def _add_commands(page: Page, ablation: Ablation) -> None:
    """The commands of the members' sweeps, or those of the bases where these have run alone."""
    labels = {label for panel in ablation.panels for label in (panel.base, *(own for _, own in panel.rows))}
    bases = {panel.base for panel in ablation.panels}
    jobs = [
        (c.label, job.job) for task in ablation.tasks for c in task.contenders if c.label in labels for job in c.jobs
    ]
    swept = dict.fromkeys(str(job.get("command") or "") for _, job in jobs if job.get("sweep"))
    alone = dict.fromkeys(
        commands.of_job(job) or str(job.get("command") or "") for label, job in jobs if label in bases
    )
    found = [command for command in (swept or alone) if command]
    if found:
        page.text(
            "The command of the sweep, which goes on where it has stopped:" if swept else "Commands of the bases:"
        )
        for command in found[:MAX_COMMANDS]:
            page.command(command)


def _row(effect: Effect) -> ComponentRow:
    c = effect.comparison
    return ComponentRow(
        effect.place or "all", effect.measure, effect.panel.change, effect.component, c.second, c.first, c.num_trials,
        c.paired, effect.value, effect.low, effect.high, c.p, c.adjusted, c.verdict, c.reason,
    )  # fmt: skip
