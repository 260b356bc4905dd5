"""The tuned presets' table as a page, as a part of the documentation, and as a few lines of the README."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

from rlexp.book.tuned_rows import Row
from rlexp.report.page import Page
from rlexp.report.references import ONE_RUN, Published
from rlexp.system import words
from rlexp.system.errors import refusal

BEGIN, END = "<!-- tuned -->", "<!-- /tuned -->"  # around what is generated in a file
HEAD = (
    "algorithm", "env steps", "trials", "IQM [95 %]", "min, max", "published, with its protocol", "minutes", "command",
)  # fmt: skip
PUBLISHED_HEAD = ("published", "return", "env steps", "runs", "kind of return", "source", "comparable")
SCORED = (
    "One line is one preset with one range of seeds. A trial's figure is the mean return of 100 fresh episodes, played "
    "greedily by its best weights, which evaluations during the training have chosen. IQM: interquartile mean over the "
    "trials, with a 95 % bootstrap interval. Min and max: of the trials. Every trial counts."
)
EXACT = (
    "Where a transition table tells the expected return of a policy, it stands in place of the played returns "
    '("exact"), beside that of the best of all policies.'
)
PROTOCOLS = (
    "Published figures come from other protocols: other numbers of env steps and seeds, averages over the training "
    "instead of evaluations, single runs, another version of an environment. What sets a figure apart is told beside "
    "it; one that is not comparable stands here for orientation. Of several figures of an algorithm, the one "
    "with the nearest protocol stands in its line."
)


def page(rows: Sequence[Row], command: str, changes: Sequence[str] = ()) -> Page:
    """The page of a table.

    Args:
        rows: in their order.
        command: that made the page.
        changes: overrides of every job.
    """
    made = Page("The tuned presets, measured")
    done = sum(row.measured for row in rows)
    made.text(f"{done} of {len(rows)} lines have figures. Made by", command)
    if changes:
        made.notice([f"Every job has {' '.join(changes)}: these are not the results of the presets."])
    add_tables(made, rows)
    return made


def add_tables(made: Page, rows: Sequence[Row]) -> None:
    """Add the results and the published figures to a page, environment by environment."""
    for text in (SCORED, EXACT, PROTOCOLS):
        made.text(text)
    if used := sorted({row.cores for row in rows if row.measured}):
        made.text(f"Minutes: of the whole job, all trials together, on {' or '.join(map(str, used))} cores.")
    for env in dict.fromkeys(environment(row) for row in rows):
        own = [row for row in rows if environment(row) == env]
        made.heading(env)
        before = [None, *(row.preset for row in own)]
        made.table(
            HEAD, [cells(row, row.preset == last) for row, last in zip(own, before, strict=False)], code=HEAD[-1:]
        )
        if found := published_cells(own):
            made.table(PUBLISHED_HEAD, found)


def environment(row: Row) -> str:
    """The title of a row's part of the page."""
    return row.place or "Presets that are refused"


def cells(row: Row, again: bool = False) -> list[str]:
    """The cells of a row, as in `HEAD`; `again` for a further range of seeds of the preset in the line above."""
    digits = figure if row.exact else words.number
    score, ends, minutes = f"missing: {row.missing}", "-", "-"
    if row.measured:
        score, ends = scored(row), f"{digits(row.smallest)}, {digits(row.largest)}"
        minutes = f"{row.seconds / 60:.1f}" if row.seconds >= 60 else f"{row.seconds / 60:.1g}"
    return [
        row.name, f"{row.steps:,}" if row.steps else "-", f"{row.trials}, seeds from {row.seed}", score, ends,
        "as above" if again else beside(row), minutes, row.command,
    ]  # fmt: skip


def scored(row: Row) -> str:
    """The IQM with its interval."""
    digits = figure if row.exact else words.number
    known = f"{digits(row.low)}, {digits(row.high)}" if row.low is not None else "-"
    return f"{digits(row.iqm)} [{known}]" + (", exact" if row.exact else "")


def figure(value: float | None) -> str:
    """An exact value, with four digits."""
    return "-" if value is None else f"{value:.4g}"


def beside(row: Row) -> str:
    """What stands beside the figures of a row: the nearest published result of its algorithm, or the best of others."""
    if row.optimum is not None:
        return f"best of all policies: {figure(row.optimum)}, exact"
    published = row.reference.published if row.reference else ()
    same = [p for p in published if p.algo in row.published_as]
    if same:
        nearest = min(same, key=lambda p: (_apart(p, row), -p.value))
        rest = f"; {words.plural(len(same) - 1, 'other')} below" if len(same) > 1 else ""
        own = f"; here with {words.names(row.differences)}" if row.differences else ""
        return _told(nearest, row) + own + rest
    if published:
        best = highest(published)
        return f"none; the highest of others: {best.algo} {_value(best)} ({best.source}), below"
    return "none"


def highest(published: Sequence[Published]) -> Published:
    """The highest published result; of equal ones the one that is most like ours."""
    return max(published, key=lambda p: (p.value, -len(p.unlike(()))))


def _apart(published: Published, row: Row) -> int:
    """How far a protocol is from that of a row: the number of reasons, one run being the least of them."""
    return sum(1 if why == ONE_RUN else 2 for why in published.unlike([row.steps]))


def _told(published: Published, row: Row) -> str:
    apart = "; not comparable" if set(published.unlike([row.steps])) - {ONE_RUN} else ""
    return f"{published.algo} {_value(published)} ({published.source}: {published.note}{apart})"


def _value(published: Published) -> str:
    return words.number(published.value) + ("" if published.spread is None else f" +- {words.number(published.spread)}")


def published_cells(rows: Sequence[Row]) -> list[list[str]]:
    """The published figures on the environment of rows, as in `PUBLISHED_HEAD`, the highest first."""
    reference = next((row.reference for row in rows if row.reference), None)
    published = sorted(reference.published, key=lambda p: -p.value) if reference else []
    steps = {row.steps for row in rows}
    return [
        [p.algo, _value(p), "not stated" if p.steps is None else f"{p.steps:,.0f}", str(p.seeds),
         ", ".join(filter(None, [p.measure or "not stated", p.version])), p.source, comparable(p, steps)]
        for p in published
    ]  # fmt: skip


def comparable(published: Published, steps: Collection[float]) -> str:
    """Whether a published figure can be compared with results after `steps` env steps, and why not."""
    why = published.unlike(steps)
    if set(why) - {ONE_RUN}:
        return f"no: {', '.join(why)}"
    return f"yes, but {ONE_RUN}" if why else "yes"


def documentation(rows: Sequence[Row]) -> str:
    """The part of docs/researchers/tuned.md that is generated: Markdown."""
    if not any(row.measured for row in rows):
        return "Not measured yet.\n"
    made = Page("")
    add_tables(made, rows)
    return made.markdown(Path())


def summary(rows: Sequence[Row]) -> str:
    """The part of the README that is generated: the best preset of each environment, in Markdown.

    A preset with several ranges of seeds is represented by its lowest. The lines have no spaces between their cells:
    README counts its words.
    """
    lowest: dict[str, Row] = {}  # preset -> its row
    for row in sorted((row for row in rows if row.measured), key=_score, reverse=True):
        lowest[row.preset] = row
    best: dict[str, list[Row]] = {}  # environment -> the rows of its best presets
    for row in sorted(lowest.values(), key=lambda row: row.rank):
        before = best.get(row.place)
        if before is None or _score(row) > _score(before[0]):
            best[row.place] = [row]
        elif _score(row) == _score(before[0]):
            before.append(row)
    lines = [
        f"|{env}|{_named(equal)}, {words.steps(equal[0].steps)}|{scored(equal[0])}|{_goal(equal[0])}|"
        for env, equal in best.items()
    ]
    about = "[every tuned preset, with protocols](docs/researchers/tuned.md)"
    if not lines:
        return f"See {about}.\n"
    trials = sorted({row.trials for equal in best.values() for row in equal})
    many = f"{trials[0]} to {trials[-1]}" if len(trials) > 1 else f"{trials[0]}"
    told = f"The best presets, {many} trials on fresh seeds. Published figures have other protocols: {about}."
    head = "|environment|preset, steps|IQM [95 %]|best published|\n|---|---|---|---|"
    return "\n".join([told, "", head, *lines]) + "\n"


def _named(equal: Sequence[Row]) -> str:
    others = f" and {words.plural(len(equal) - 1, 'other')}" if len(equal) > 1 else ""
    return f"`{equal[0].name}`{others}"


def _score(row: Row) -> tuple[float, ...]:
    """What is compared, in this order: IQM, low end of its interval, worst trial, fewer steps."""
    values = [-math.inf if value is None else value for value in (row.iqm, row.low, row.smallest)]
    return (*values, -row.steps)


def _goal(row: Row) -> str:
    if row.optimum is not None:
        return f"optimum {figure(row.optimum)}"
    if not row.reference or not row.reference.published:
        return "-"
    found = highest(row.reference.published)
    steps = "" if found.steps is None else f", {words.steps(found.steps)}"
    return f"{words.number(found.value)} {found.algo}{steps}, {found.source}"


def put(text: str, generated: str, where: str) -> str:
    """A text with its part between `BEGIN` and `END` replaced; raises `Refusal` without that part."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise refusal(where, f"a part between {BEGIN} and {END}", "none")
    return f"{before}{BEGIN}\n\n{generated}\n{END}{after}"
