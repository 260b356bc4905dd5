"""Families of algorithms: policy gradients, tables, and DQN, each with its members on one environment.

A family is ranked by its best member. The trials that score this member also chose it, so its interval is biased
upwards, and no test follows from it. Families are compared by a number without a choice in it: for each seed, the mean
of all members' final returns. There are few families, so ten trials can tell them apart.

Axes: `N` trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlexp.config import registry
from rlexp.data import seeding
from rlexp.math.statistics import iqm
from rlexp.report.compare import Comparison, Sample, compare
from rlexp.report.contenders import Contender, Task
from rlexp.system import words
from rlexp.system.errors import Refusal

NAMES = {"rollout": "policy gradients", "tabular": "tables", "replay": "DQN"}  # of families that learn, by registry key
OTHERS = {
    "pqn": "DQN",
    "sac": "policy gradients",
    "td3": "policy gradients",
}  # which learn as one family, and are run as another


@dataclass(frozen=True)
class Family:
    """Algorithms of one kind on one environment.

    Attributes:
        name: shown in the report.
        members: its finished contenders, the best first.
    """

    name: str
    members: list[Contender]

    @property
    def best(self) -> Contender:
        """The member with the highest IQM of final returns."""
        return self.members[0]

    @property
    def seeds(self) -> list[int]:
        """The seeds that all members have."""
        return sorted(set.intersection(*(set(c.seeds) for c in self.members)))

    @property
    def means(self) -> np.ndarray:
        """The mean of all members' final returns for each of `seeds`.  # [N]"""
        return np.array([np.mean([c.scores[c.seeds.index(seed)] for c in self.members]) for seed in self.seeds])


def families(task: Task) -> list[Family]:
    """The families that have a finished member, ranked by their best member."""
    found: dict[str, list[Contender]] = {}
    for c in task.finished:  # ranked, and so are the families
        if not c.is_foreign and (name := family_of(c.algo)):
            found.setdefault(name, []).append(c)
    return [Family(name, members) for name, members in found.items()]


def family_of(algo: str) -> str | None:
    """The name of an algorithm's family; None if the algorithm does not learn, or is not installed here."""
    try:
        return OTHERS.get(algo) or NAMES.get(registry.algo(algo).family)
    except Refusal:
        return None


def compare_families(ranked: Sequence[Family]) -> list[Comparison]:
    """Compare each pair of families as wholes, by their `means`."""
    return compare([Sample(f.name, [f.seeds], [f.means]) for f in ranked], seeding.generator(2, "report"))


def sentence(ranked: Sequence[Family], compared: Sequence[Comparison]) -> str:
    """The ranking of the families by their best members, and which of them are certainly better as wholes."""
    order = ", then ".join(
        f"{family.name} ({family.best.label}, IQM {words.number(float(iqm(family.best.scores)))})" for family in ranked
    )
    text = f"By their best members: {order}."
    for family in ranked:
        worse = [c.second for c in compared if c.first == family.name and c.verdict == "better"]
        worse += [c.first for c in compared if c.second == family.name and c.verdict == "worse"]
        if worse:
            text += f" The mean of all members of {family.name} is certainly better than that of {words.names(worse)}."
    return text


def count_verdicts(
    one: Contender, others: Sequence[Contender], comparisons: Sequence[Comparison]
) -> tuple[int, int, int]:
    """How many of `others` a contender is better than, worse than, and undecided against."""
    labels, counts = {c.label for c in others}, {"better": 0, "worse": 0, "undecided": 0}
    turned = {"better": "worse", "worse": "better", "undecided": "undecided"}
    for c in comparisons:
        if c.first == one.label and c.second in labels:
            counts[c.verdict] += 1
        elif c.second == one.label and c.first in labels:
            counts[turned[c.verdict]] += 1
    return counts["better"], counts["worse"], counts["undecided"]
