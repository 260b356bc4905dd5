"""Published results beside the contenders whose algorithm they belong to."""

from __future__ import annotations

from rlexp.math.statistics import iqm
from rlexp.report.contenders import Contender, Task
from rlexp.report.page import Page
from rlexp.report.references import DRAWN, Published, differences
from rlexp.system import words

MAX_NAMED = 1  # contenders of one algorithm that a cell names, the best first


def add_published(page: Page, task: Task) -> None:
    """Add a table of published results on an environment, if there are any; first of our algorithms."""
    if not task.reference or not task.reference.published:
        return
    page.heading(f"Published results on {task.name}", 3)
    page.text(
        "Each figure beside the algorithm that it belongs to, with its protocol. For orientation: budgets, networks "
        f"and rules of evaluation differ, and seeds are few.{_what_is_not_published(task)}"
    )
    ranks = {c.algo: rank for rank, c in reversed(list(enumerate(task.contenders)))}  # of the best of each algorithm
    ordered = sorted(
        task.reference.published, key=lambda p: (ranks.get(str(p.ours), len(task.contenders)), p.ours is None, p.algo)
    )
    page.table(
        ["published algorithm", "result here", "source", "return", "how it was measured"],
        [[p.algo + (f" (here {p.ours})" if p.ours else ""), _here(task, p), p.source, _value(p), p.note]
         for p in ordered],
    )  # fmt: skip


def marks(task: Task) -> dict[str, dict[str, float]]:
    """Label of a contender -> results of its algorithm by source, of the sources that are drawn."""
    found: dict[str, dict[str, float]] = {}
    for p in task.reference.published if task.reference else ():
        if p.source in DRAWN:
            for c in _same(task, p):
                found.setdefault(c.label, {})[p.source] = p.value
    return found


def _same(task: Task, p: Published) -> list[Contender]:
    """The contenders with the algorithm of a published result, the best first."""
    return [c for c in task.contenders if p.ours and c.algo == p.ours and not c.is_foreign]


def _value(p: Published) -> str:
    return words.number(p.value) + (f" +- {words.number(p.spread)}" if p.spread is not None else "")


def _here(task: Task, p: Published) -> str:
    same = _same(task, p)
    if not same:
        return "not among the contenders" if p.ours else "no algorithm of this name"
    told = []
    for c in same[:MAX_NAMED]:
        own = differences(c.algo, c.config)
        score = f"{words.number(float(iqm(c.scores)))} at {words.steps(c.steps)} steps" if c.finished else c.status
        told.append(f"{c.label}: {score}{f', with {words.names(own)}' if own else ''}")
    rest = len(same) - len(told)
    return "; ".join(told) + (f"; and {words.plural(rest, 'other')}" if rest else "")


def _what_is_not_published(task: Task) -> str:
    """A sentence on contenders whose name is that of a published algorithm, which they are not."""
    apart = {c.label: own for c in task.contenders if c.algo == "dqn" and not c.is_foreign
             if (own := differences(c.algo, c.config))}  # fmt: skip
    if not apart:
        return ""
    told = {"; ".join(own) for own in apart.values()}
    which = words.names(list(apart))
    verb = "is" if len(apart) == 1 else "are"
    return (
        f" {which} {verb} the chapter's DQN, not the published one ({' / '.join(sorted(told))}), so none belongs to it."
    )
