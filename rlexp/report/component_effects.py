"""The effects of single components: estimates, intervals and verdicts, and the sentences on them.

All comparisons of a study's ablation are one family of Holm's correction: each variant with its base, on each
environment and over all of them, by the final return and by the area under the learning curve.

Axes: `N` trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rlexp.data import seeding
from rlexp.jobs.results import Episodes
from rlexp.math import two_way
from rlexp.math.statistics import iqm, normalise
from rlexp.report.ablation import REMOVED, Panel, find_panels, missing
from rlexp.report.compare import Comparison, Sample, compare_pairs, difference_interval
from rlexp.report.contenders import Contender, Task
from rlexp.system import words

FINAL, AREA = "final return", "area under the learning curve"
OVERALL = ""  # no environment has this name


@dataclass(frozen=True)
class Effect:
    """What the removal or the addition of one component changes.

    Attributes:
        place: name of the environment, or OVERALL.
        measure: FINAL or AREA; of normalised scores over all environments.
        panel: of the variant.
        component: that is removed or added.
        value, low, high: the variant minus the base, with its 95 % interval: the mean difference on one environment,
            the difference of the IQMs of normalised scores over all.
        comparison: of the variant with the base, corrected for all comparisons of the ablation.
    """

    place: str
    measure: str
    panel: Panel
    component: str
    value: float
    low: float
    high: float
    comparison: Comparison

    @property
    def name(self) -> str:
        """The component in words."""
        return self.panel.named(self.component, self.comparison.first)

    @property
    def significant(self) -> bool:
        """Whether it is certain that the component matters."""
        return self.comparison.verdict != "undecided"


@dataclass(frozen=True)
class Ablation:
    """The ablation in a study.

    Attributes:
        panels: one or two.
        tasks: the environments on which something is compared.
        everywhere: those of the comparison over all environments; empty if there are not two.
        scores: measure -> label -> IQM of the normalised scores over all environments, with its interval.
        effects: of all places, measures and variants.
        missing: sentences on the members that are not there.
    """

    panels: list[Panel]
    tasks: list[Task]
    everywhere: list[Task]
    scores: dict[str, dict[str, tuple[float, float, float]]]
    effects: list[Effect]
    missing: list[str]

    @property
    def places(self) -> list[str]:
        """OVERALL, if there are several environments, and the environments."""
        return [*([OVERALL] if self.everywhere else []), *(task.name for task in self.tasks)]

    def of(self, place: str, measure: str, panel: Panel) -> list[Effect]:
        """The effects of one panel in one place, by one measure."""
        return [e for e in self.effects if (e.place, e.measure, e.panel) == (place, measure, panel)]

    @property
    def sentences(self) -> list[str]:
        """What is certain about the components in each place, and who is missing."""
        return [*map(self.sentence, self.places), *self.missing]

    def sentence(self, place: str) -> str:
        """The certain effects in one place, and that there are no others."""
        where = "Over all environments" if place == OVERALL else f"On {place}"
        told = []
        for panel in self.panels:
            for measure in (FINAL, AREA):
                if effects := self.of(place, measure, panel):
                    told.append(_clause(panel, measure, effects, scaled=place == OVERALL))
        return " ".join([f"{where}, {told[0]}.", *(f"{clause[0].upper()}{clause[1:]}." for clause in told[1:])])


def study_ablation(tasks: Sequence[Task]) -> Ablation | None:
    """The ablation in a study; None if there is none, or nothing of it has finished."""
    panels = find_panels(tasks)
    generator = seeding.generator(3, "report")
    everywhere = _everywhere(panels, tasks)
    over_all = list(_pairs(panels, everywhere, OVERALL)) if everywhere else []
    everywhere = everywhere if over_all else []  # else no variant is on each environment
    planned = [*over_all, *(pair for task in tasks for pair in _pairs(panels, [task], task.name))]
    if not planned:
        return None
    compared = compare_pairs([(pair.variant, pair.base) for pair in planned], generator)
    effects = [_effect(pair, comparison, generator) for pair, comparison in zip(planned, compared, strict=True)]
    places = {effect.place for effect in effects}
    scores = {measure: _scores(panels, everywhere, measure, generator) for measure in (FINAL, AREA)}
    return Ablation(
        panels, [task for task in tasks if task.name in places], everywhere, scores, effects, missing(panels, tasks)
    )


@dataclass(frozen=True)
class _Planned:
    """A comparison to be made."""

    place: str
    measure: str
    panel: Panel
    component: str
    variant: Sample
    base: Sample


def _pairs(panels: Sequence[Panel], tasks: Sequence[Task], place: str) -> Iterator[_Planned]:
    """The comparisons in one place: an environment, or several by normalised scores."""
    for panel in panels:
        for measure in (FINAL, AREA):
            for component, label in panel.rows:
                variants, bases = (_members(tasks, name) for name in (label, panel.base))
                if variants is None or bases is None:
                    continue
                if measure == AREA and not all(map(_same_span, variants, bases)):
                    continue
                scaled = place == OVERALL
                yield _Planned(place, measure, panel, component, _sample(variants, measure, scaled),
                               _sample(bases, measure, scaled))  # fmt: skip


def _members(tasks: Sequence[Task], label: str) -> list[Contender] | None:
    """A contender on some environments; None unless it has finished on each."""
    found = [c for task in tasks for c in task.finished if c.label == label]
    return found if len(found) == len(tasks) else None


def _same_span(a: Contender, b: Contender) -> bool:
    """Whether two contenders have learning curves over the same env steps."""
    spans = []
    for c in (a, b):
        if not np.isfinite(c.area).any() or len(c.curves["eval/return"].steps) < 2:
            return False
        spans.append(c.curves["eval/return"].steps[[0, -1]].tolist())
    return bool(spans[0] == spans[1])


def _sample(members: Sequence[Contender], measure: str, scaled: bool) -> Sample:
    """The results of a contender on some environments.

    Args:
        members: the contender on each.
        measure: FINAL or AREA.
        scaled: whether returns are normalised.
    """
    values = [c.scores if measure == FINAL else c.area for c in members]
    episodes = [c.score_episodes if measure == FINAL else None for c in members]
    if scaled:
        limits = [c.task.scale[:2] for c in members]
        values = [normalise(v, *ends) for v, ends in zip(values, limits, strict=True)]
        episodes = [
            e and Episodes(e.seeds, normalise(e.returns, *ends)) for e, ends in zip(episodes, limits, strict=True)
        ]
    return Sample(members[0].label, [c.pairs for c in members], values, episodes)


def _everywhere(panels: Sequence[Panel], tasks: Sequence[Task]) -> list[Task]:
    """The environments of the comparison over all: those with a scale on which the bases have finished, if several."""
    bases = {panel.base for panel in panels}
    found = [t for t in tasks if np.isfinite(t.scale[0]) and bases <= {c.label for c in t.finished}]
    return found if len(found) > 1 else []


def _effect(pair: _Planned, comparison: Comparison, generator: np.random.Generator) -> Effect:
    value = comparison.difference
    if pair.place == OVERALL:
        value = _pooled(pair.variant) - _pooled(pair.base)
    statistic = iqm if pair.place == OVERALL else np.mean
    low, high = difference_interval(pair.variant, pair.base, generator, statistic)
    return Effect(pair.place, pair.measure, pair.panel, pair.component, value, low, high, comparison)


def _pooled(sample: Sample) -> float:
    """The IQM over all trials on all environments."""
    return float(iqm(np.concatenate([np.asarray(v) for v in sample.values])))


def _scores(
    panels: Sequence[Panel], tasks: Sequence[Task], measure: str, generator: np.random.Generator
) -> dict[str, tuple[float, float, float]]:
    """The normalised score of each member over all environments, with its interval."""
    found = {}
    for label in dict.fromkeys(label for panel in panels for label in (panel.base, *(own for _, own in panel.rows))):
        members = _members(tasks, label) if tasks else None
        if members is not None and all(np.isfinite(c.area).any() or measure == FINAL for c in members):
            sample = _sample(members, measure, scaled=True)
            played = [known.returns if known else None for known in sample.episodes]
            found[label] = (_pooled(sample), *two_way.iqm_interval(sample.values, played, generator))
    return found


# Sentences.


def _clause(panel: Panel, measure: str, effects: Sequence[Effect], scaled: bool) -> str:
    """`removing n-step returns from rainbow costs 12 [8, 17] of the final return (p = 0.003); no other ...`."""
    removed = panel.change == REMOVED
    noun, doing = ("removal", "removing") if removed else ("addition", "adding")
    base = f" {'from' if removed else 'to'} {panel.base}"
    what = f"the normalised {measure}" if scaled else f"the {measure}"
    certain = sorted((e for e in effects if e.significant), key=lambda e: -abs(e.value))
    if not certain:
        few = [e.comparison for e in effects if e.comparison.num_trials < e.comparison.minimum]
        why = f" ({few[0].reason.removeprefix('undecided: ')})" if len(few) == len(effects) else ""
        none = f"no component's {noun}{base} is" if len(effects) > 1 else f"{doing} {effects[0].name}{base} is not"
        return f"by {what}, {none} significant{why}"
    told = [f"{doing} {e.name}{base if e is certain[0] else ''} {_change(e, what if e is certain[0] else '')}"
            for e in certain]  # fmt: skip
    others = "" if len(certain) == len(effects) else f"; no other component's {noun} is significant"
    return " and ".join(filter(None, [", ".join(told[:-1]), told[-1]])) + others


def _change(effect: Effect, what: str) -> str:
    """`costs 12 [8, 17] of the final return (p = 0.003)`."""
    sign = -1 if effect.value < 0 else 1
    low, high = sorted((sign * effect.low, sign * effect.high))
    change = words.interval(*shown(abs(effect.value), low, high, effect.place))
    return f"{'costs' if sign < 0 else 'gains'} {change}{f' of {what}' if what else ''} ({p_in_words(effect)})"


def p_in_words(effect: Effect) -> str:
    """`p = 0.003` or `p < 0.001`, corrected."""
    p = words.p_value(effect.comparison.adjusted)
    return f"p {p}" if p.startswith("<") else f"p = {p}"


def shown(value: float, low: float, high: float, place: str) -> tuple[float, float, float]:
    """An estimate as it is shown: normalised scores have three decimals."""
    if place != OVERALL:
        return value, low, high
    return round(value, 3), round(low, 3), round(high, 3)
