"""Ablations in a study: a base, and contenders that differ from it by one component (Hessel et al. 2018, section 4).

They are found in the configurations (`config.components`). One base may lose its components one by one (Rainbow), and
another gain them one by one (DQN); each with its variants is a panel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlexp.config.components import COMPONENTS, Composition, composition, difference
from rlexp.report.contenders import Contender, Task

REMOVED, ADDED = "removed from", "added to"
FEWEST = 2  # components of the larger panel: a single comparison needs no section


@dataclass(frozen=True)
class Panel:
    """A base with its variants.

    Attributes:
        change: REMOVED or ADDED.
        base: label of the base.
        has: components of the base.
        variants: component -> labels of the contenders that differ from the base by it, in the order of `COMPONENTS`.
    """

    change: str
    base: str
    has: frozenset[str]
    variants: dict[str, list[str]]

    @property
    def title(self) -> str:
        """`removed from rainbow`."""
        return f"{self.change} {self.base}"

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Component and label of each variant."""
        return [(component, label) for component, labels in self.variants.items() for label in labels]

    def named(self, component: str, label: str) -> str:
        """The component in words, with the variant's label where several variants differ by it."""
        name = COMPONENTS[component].words
        return name if len(self.variants[component]) == 1 else f"{name} ({label})"


def find_panels(tasks: Sequence[Task]) -> list[Panel]:
    """The panels of a study: at most one in which components are removed, and one in which they are added.

    Of several bases the one with the most variants counts. Both panels never hold the same comparisons.

    Args:
        tasks: the environments.

    Returns:
        The panels; none unless one of them has two components at least.
    """
    has: dict[str, frozenset[str]] = {}
    steps = dict.fromkeys(step for task in tasks for step in _steps(task, has))
    if not steps:
        return []
    panels = [_largest(change, steps, has, frozenset()) for change in (REMOVED, ADDED)]
    main = max((p for p in panels if p), key=lambda p: len(p.variants))
    if len(main.variants) < FEWEST:
        return []
    used = frozenset(frozenset((main.base, label)) for _, label in main.rows)
    other = _largest(ADDED if main.change == REMOVED else REMOVED, steps, has, used)
    return sorted((p for p in (main, other) if p), key=lambda p: p.change == ADDED)


def _steps(task: Task, has: dict[str, frozenset[str]]) -> Iterator[tuple[str, str, str]]:
    """Pairs of an environment's contenders that differ by one component: the one with it, the one without, and it.

    Args:
        task: the environment.
        has: label -> components, which is added to.
    """
    taken: list[tuple[Contender, Composition]] = []
    for c in task.contenders:
        if not c.is_foreign and (parts := composition(c.algo, c.config)) is not None:
            taken.append((c, parts))
            has[c.label] = parts.components
    for more, its in taken:
        for less, theirs in taken:
            if component := difference(its, theirs):
                yield more.label, less.label, component


def _largest(
    change: str,
    steps: dict[tuple[str, str, str], None],
    has: dict[str, frozenset[str]],
    used: frozenset[frozenset[str]],
) -> Panel | None:
    """The panel with the most components; of several the one whose base has the most (least, where they are added).

    Args:
        change: of the panel.
        steps: as from `_steps`.
        has: label -> components.
        used: pairs of labels that do not count.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for more, less, component in steps:
        base, variant = (more, less) if change == REMOVED else (less, more)
        if frozenset((base, variant)) not in used:
            found.setdefault(base, {}).setdefault(component, []).append(variant)
    if not found:
        return None
    sign = 1 if change == REMOVED else -1
    base = max(sorted(found), key=lambda label: (len(found[label]), sign * len(has[label])))
    ordered = {name: sorted(found[base][name]) for name in COMPONENTS if name in found[base]}
    return Panel(change, base, has[base], ordered)


def missing(panels: Sequence[Panel], tasks: Sequence[Task]) -> list[str]:
    """Sentences on the members of an ablation that are not there, or not finished.

    A base that loses components may lose each; one that gains them may gain each that the other base has more.
    """
    told = []
    every = {p.change: p for p in panels}
    if REMOVED in every and ADDED not in every:
        told.append(f"No two jobs add a component of {every[REMOVED].base} to a base without it.")
    for task in tasks:
        labels = {c.label: c for c in task.contenders}
        for panel in panels:
            if panel.base not in labels:
                told.append(f"On {task.name} there is no job of {panel.base}: nothing is {panel.title} there.")
                continue
            full = every.get(REMOVED, panel).has
            wanted = panel.has if panel.change == REMOVED else (full - panel.has) | set(panel.variants)
            absent = [
                COMPONENTS[name].words
                for name in COMPONENTS
                if name in wanted and not any(label in labels for label in panel.variants.get(name, ()))
            ]
            if absent:
                told.append(f"On {task.name} no job has {_every_name(absent)} {panel.title}.")
        members = dict.fromkeys(label for p in panels for label in (p.base, *(label for _, label in p.rows)))
        unfinished = [label for label in members if label in labels and not labels[label].finished]
        if unfinished:
            has = "has" if len(unfinished) == 1 else "have"
            told.append(f"On {task.name} {_every_name(unfinished)} {has} no final returns yet.")
    return told


def _every_name(several: Sequence[str]) -> str:
    """`a, b and c`, however many there are."""
    return " and ".join(filter(None, [", ".join(several[:-1]), *several[-1:]]))
