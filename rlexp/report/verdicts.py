"""The sentences of a report's headline: the best algorithm, how certain that is, and what would decide the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rlexp.report.compare import LEVEL, Comparison
from rlexp.report.contenders import Task
from rlexp.system import words

CERTAIN = f"at most a {100 * LEVEL:g} % chance of any false claim"


def sentence(
    where: str,
    what: str,
    comparisons: Sequence[Comparison],
    names: Sequence[str],
    intervals: Mapping[str, tuple[float, float, float]],
    first: Sequence[str] | None = None,
    why: str | None = None,
) -> str:
    """Which contender is first, and over which others this is certain.

    Args:
        where, what: the environment, and the measure.
        comparisons: of the pairs.
        names: of the contenders, the best first.
        intervals: IQM and interval of each.
        first: the contenders that share the first place; default: those with the highest IQM.
        why: what these have in common, if that is not their IQM.
    """
    leader = names[0]
    middle = intervals[leader][0]
    if first is None:
        first = [name for name in names if same(intervals[name][0], middle)]
    reached = _reached(intervals[leader])
    if len(first) > 1:
        return _shared(where, what, comparisons, names, first, reached, why)
    own = [c for c in comparisons if leader in (c.first, c.second)]
    if not own:
        return f"{where} {leader} reached {_article(what)} {what} of {reached}; there is nothing to compare it with."
    certain = beaten(own, leader)
    undecided = [c for c in own if c.verdict == "undecided"]
    if not undecided and len(certain) == len(own):
        others = certain[0] if len(certain) == 1 else f"each of the {len(certain)} others"
        return (
            f"{where} {leader} won, and that is certain ({CERTAIN}): its {what} ({reached}) is better than that of "
            f"{others}."
        )
    lost = [other(c, leader) for c in own if c not in undecided and other(c, leader) not in certain]
    if certain or lost:
        better = f"certainly better than {words.names(certain)}" if certain else ""
        worse = f"certainly worse by its mean than {words.names(lost)}" if lost else ""
        known = " and ".join(filter(None, [better, worse]))
        rest = f"; it is undecided against {_open(undecided, leader)}" if undecided else ""
        return f"{where} {leader} has the highest {what} ({reached}), {known}{rest}."
    return (
        f"{where} no algorithm is significantly better: {leader} has the highest {what} ({reached}), but it is "
        f"undecided against {_open(undecided, leader)}."
    )


def against(
    where: str,
    what: str,
    baseline: str,
    comparisons: Sequence[Comparison],
    intervals: Mapping[str, tuple[float, float, float]],
) -> str:
    """Which contenders are certainly better or worse than a baseline, and which are undecided.

    Args:
        where, what: the environment, and the measure.
        baseline: the second of each of the comparisons.
        comparisons: with the baseline.
        intervals: IQM and interval of each contender.
    """
    if baseline not in intervals:
        return f"{where} the baseline {baseline} has no {what}: nothing is compared."
    text = f"{where} the {what} of the baseline {baseline} is {_reached(intervals[baseline])}"
    if not comparisons:
        return f"{text}; there is nothing to compare it with."
    told = []
    for verdict in ("better", "worse"):
        names = [f"{c.first} ({words.signed(c.difference)})" for c in comparisons if c.verdict == verdict]
        if names:
            told.append(f"{words.names(names)} {'is' if len(names) == 1 else 'are'} certainly {verdict}")
    if told:
        told[0] += f" ({CERTAIN}; numbers are mean differences)"
    undecided = [c for c in comparisons if c.verdict == "undecided"]
    if undecided:
        told.append(f"{'it is undecided' if told else 'nothing is decided'} against {_open(undecided, baseline)}")
    return f"{text}: {'; '.join(told)}."


def _reached(interval: tuple[float, float, float]) -> str:
    middle, low, high = interval
    return f"IQM {words.number(middle)}" + (
        f", 95 % interval {words.number(low)} to {words.number(high)}" if np.isfinite(low) else ""
    )


def maximum(where: str, best: Sequence[str], task: Task) -> str:
    """Which contenders reach the maximum of an environment."""
    verb = "reaches" if len(best) == 1 else "reach"
    if task.optimum is not None:
        their = "its policies are" if len(best) == 1 else "their policies are"
        return (
            f"{where} {words.names(best)} {verb} the maximum of {words.number(task.optimum)}: {their} worth as much as "
            "the best one (exact values, IQM)."
        )
    assert task.reference is not None and task.reference.maximum is not None
    return f"{where} {words.names(best)} {verb} the maximum of {words.number(task.reference.maximum)} (IQM)."


def same(a: float, b: float) -> bool:
    """Whether two IQMs are equal up to rounding."""
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def beaten(comparisons: Sequence[Comparison], name: str) -> list[str]:
    """The contenders over which one is certainly better."""
    return [other(c, name) for c in comparisons
            if (c.first == name and c.verdict == "better") or (c.second == name and c.verdict == "worse")]  # fmt: skip


def other(comparison: Comparison, name: str) -> str:
    """The one of a pair that is not `name`."""
    return comparison.second if comparison.first == name else comparison.first


def _shared(
    where: str,
    what: str,
    comparisons: Sequence[Comparison],
    names: Sequence[str],
    first: Sequence[str],
    reached: str,
    why: str | None,
) -> str:
    """The sentence on contenders that share the first place, against the others and among each other."""
    text = f"{where} {words.names(first)} share the first place"
    among = [c for c in comparisons if c.first in first and c.second in first]
    if why is None:
        equal = ", equal in all trials" if all(c.p == 1 and c.difference == 0 for c in among) else ""
        why = f" with the same {what} ({reached}{equal})"
    text += why
    rivals = [name for name in names if name not in first]
    against = {r: [c for c in comparisons if r in (c.first, c.second) and other(c, r) in first] for r in rivals}
    certain = [r for r, own in against.items() if own and all(r in beaten(comparisons, other(c, r)) for c in own)]
    undecided = [next(c for c in own if r not in beaten(comparisons, other(c, r)))
                 for r, own in against.items() if own and r not in certain]  # fmt: skip
    if certain and len(certain) == len(rivals):
        others = certain[0] if len(certain) == 1 else f"each of the {len(certain)} others"
        text += f", certainly before {others} ({CERTAIN})"
    elif certain:
        text += f", certainly before {words.names(certain)}"
    if undecided:
        decided = [c for c in undecided if c.verdict != "undecided"]
        unsure = [c for c in undecided if c.verdict == "undecided"]
        if unsure:
            text += f"; against {_open(unsure, *first)} it is undecided"
        for c in decided:  # the rival's mean is better
            rival, beats = next((r, other(c, r)) for r in rivals if r in (c.first, c.second))
            text += f"; by its mean {rival} is certainly better than {beats}"
    for c in among:
        if c.verdict != "undecided":
            better, worse = (c.first, c.second) if c.verdict == "better" else (c.second, c.first)
            text += f"; by its mean {better} is certainly better than {worse}"
    return f"{text}."


def _open(undecided: Sequence[Comparison], *leaders: str) -> str:
    """The rivals of undecided comparisons, grouped by the reason, which is in parentheses."""
    by_reason: dict[str, list[str]] = {}
    for c in undecided:
        rival = c.second if c.first in leaders else c.first
        by_reason.setdefault(c.reason.removeprefix("undecided: "), []).append(rival)
    groups = [f"{words.names(rivals)} ({reason})" for reason, rivals in by_reason.items()]
    if len(groups) > words.MAX_NAMES:
        left = sum(map(len, list(by_reason.values())[words.MAX_NAMES :]))
        groups = [*groups[: words.MAX_NAMES], f"{words.plural(left, 'other')} (see the table)"]
        return f"{', '.join(groups[:-1])} and {groups[-1]}"
    return words.names(groups)


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"
