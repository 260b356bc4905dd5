"""A table of comparisons on the page."""

from __future__ import annotations

from collections.abc import Sequence

from rlexp.report.compare import Comparison
from rlexp.report.page import Page
from rlexp.system import words

MAX_ROWS = 20  # of a table; all comparisons are in the CSV
HEADER = (
    "comparison", "mean difference", "probability of improvement [95 % interval]", "p (Holm)", "trials", "verdict",
)  # fmt: skip
MARKS = {"better": True, "worse": False}  # of verdicts, for `Page.table`


def add_comparisons(page: Page, comparisons: Sequence[Comparison]) -> None:
    """Add a table of comparisons; if there are many, those of the first contender and then those that are decided."""
    first = comparisons[0].first
    wanted = sorted(comparisons, key=lambda c: (c.first != first, c.verdict == "undecided"))  # stable
    shown = comparisons if len(comparisons) <= MAX_ROWS else wanted[:MAX_ROWS]
    page.table(HEADER, [_cells(c) for c in shown], [MARKS.get(c.verdict) for c in shown])
    if len(shown) < len(comparisons):
        page.text(f"{MAX_ROWS} of {len(comparisons)} pairs; all of them are in tables/comparisons.csv.", small=True)


def _cells(c: Comparison) -> list[str]:
    return [
        f"{c.first} against {c.second}",
        words.signed(c.difference),
        "{:.2f} [{:.2f}, {:.2f}]".format(*c.improvement),
        f"{words.p_value(c.p)} ({words.p_value(c.adjusted)})",
        f"{c.num_trials} {'pairs' if c.paired else 'trials each'}",
        c.reason,
    ]
