"""The analysis of a study: comparisons on each environment and over all of them, verdicts and warnings in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rlexp.jobs import provenance
from rlexp.jobs.results import Episodes, JobData, StudyData
from rlexp.math import two_way
from rlexp.math.statistics import iqm, normalise
from rlexp.report import verdicts
from rlexp.report.compare import Comparison, Sample, compare
from rlexp.report.component_effects import Ablation, study_ablation
from rlexp.report.contenders import Contender, Task
from rlexp.report.foreign import ForeignJob
from rlexp.report.grouping import tasks
from rlexp.system import words
from rlexp.system.errors import did_you_mean, refusal

ENDED = {"failed": "has failed", "killed": "was killed"}  # statuses in a sentence
RULES = ("policy", "selection", "final_episodes", "final_seed")  # keys of evaluation that define the final return
NARROW = 5  # trials; with fewer, intervals are too narrow


@dataclass
class TaskAnalysis:
    """One environment.

    Attributes:
        task: with its contenders.
        intervals: label -> IQM of the final returns, with its 95 % interval; finished contenders only.
        returns: comparisons of final returns, each pair of finished contenders.
        speed: comparisons of areas under the learning curves.
        no_speed: why `speed` is empty, if it is.
    """

    task: Task
    intervals: dict[str, tuple[float, float, float]]
    returns: list[Comparison]
    speed: list[Comparison]
    no_speed: str


@dataclass
class Overall:
    """The comparison over all environments, by normalised scores.

    Attributes:
        tasks: the environments.
        scores: label -> one array [N] per environment; the best first.
        intervals: label -> IQM over all trials on all environments, and its interval.
        comparisons: each pair.
        absent: contenders that are left out because they are not on every environment.
    """

    tasks: list[Task]
    scores: dict[str, list[np.ndarray]]
    intervals: dict[str, tuple[float, float, float]]
    comparisons: list[Comparison]
    absent: list[str]


@dataclass
class Analysis:
    """A study.

    Attributes:
        name: of the study.
        tasks: one analysis per environment.
        overall: None unless there are several environments.
        baseline: label of the contender that the others are compared with; None: each pair is compared.
        ablation: the effects of single components; None unless contenders differ by one component each.
        headline: one or more sentences on which contender is better, and how certain that is.
        warnings: sentences on what is missing, failed, diverged, or cannot be compared.
    """

    name: str
    tasks: list[TaskAnalysis]
    overall: Overall | None
    baseline: str | None = None
    ablation: Ablation | None = None
    headline: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def analyse(data: StudyData, generator: np.random.Generator, baseline: str | None = None) -> Analysis:
    """Analyse a study, or several as one.

    Args:
        data: the jobs.
        generator: source of arrangements and resamples where they cannot be enumerated.
        baseline: label of a contender with which the others are compared, or its algorithm if that tells it; None:
            compare each pair.

    Raises:
        Refusal: if there is no such contender.
    """
    found = tasks(data.jobs)
    baseline = _find_baseline(found, baseline) if baseline is not None else None
    analyses = [_analyse_task(task, generator, baseline) for task in found]
    overall = _overall(found, generator, baseline)
    ablation = study_ablation(found)
    result = Analysis(data.name, analyses, overall, baseline, ablation, warnings=_warnings(data, found))
    if overall and baseline is not None:
        result.headline.append(verdicts.against("Over all environments", "normalised score", baseline,
                                                overall.comparisons, overall.intervals))  # fmt: skip
    elif overall:
        result.headline.append(verdicts.sentence("Over all environments", "normalised score", overall.comparisons,
                                                 list(overall.scores), overall.intervals))  # fmt: skip
    for analysis in analyses:
        result.headline += _task_sentences(analysis, baseline)
    result.headline += ablation.sentences if ablation else []
    return result


def _find_baseline(found: Sequence[Task], named: str) -> str:
    """The label of the contender that `named` means."""
    every = {c.label: c for task in found for c in task.contenders}
    if named in every:
        return named
    same = list(dict.fromkeys(label for label, c in every.items() if named in (c.name, c.algo)))
    if len(same) == 1:
        return same[0]
    near = f"Name one: {', '.join(same[:20])}" if same else did_you_mean(named, every)
    received = f"{named!r}, which is the algorithm of {len(same)}" if same else repr(named)
    raise refusal(
        "--baseline", "the name of a contender", received, near or f"There are: {', '.join(list(every)[:20])}"
    )


def interval_of(values: np.ndarray, episodes: Episodes | None = None) -> tuple[float, float, float]:
    """IQM with its 95 % interval: exactly that in the summary of a job with these values and episodes."""
    return float(iqm(values)), *two_way.interval(values, episodes.returns if episodes else None)


def _analyse_task(task: Task, generator: np.random.Generator, baseline: str | None) -> TaskAnalysis:
    intervals = {c.label: interval_of(c.scores, c.score_episodes) for c in task.finished}
    samples = [Sample(c.label, [c.pairs], [c.scores], [c.score_episodes]) for c in task.finished]
    returns = compare(samples, generator, baseline)
    learners = [c for c in task.finished if np.isfinite(c.area).any() and len(c.curves["eval/return"].steps) > 1]
    if len(learners) < 2:
        return TaskAnalysis(task, intervals, returns, [], "fewer than two learning curves")
    spans = {(int(c.curves["eval/return"].steps[0]), int(c.curves["eval/return"].steps[-1])) for c in learners}
    if len(spans) > 1:
        return TaskAnalysis(task, intervals, returns, [], "the curves cover different numbers of env steps")
    speed = compare([Sample(c.label, [c.pairs], [c.area]) for c in learners], generator, baseline)
    return TaskAnalysis(task, intervals, returns, speed, "")


def _overall(found: list[Task], generator: np.random.Generator, baseline: str | None) -> Overall | None:
    scaled = [task for task in found if np.isfinite(task.scale[0]) and task.finished]
    if len(scaled) < 2:
        return None
    by_task = [{c.label: c for c in task.finished} for task in scaled]
    labels = list(dict.fromkeys(label for names in by_task for label in names))
    complete = [label for label in labels if all(label in names for names in by_task)]
    if not complete:
        return None
    scores = {
        label: [normalise(names[label].scores, *task.scale[:2]) for task, names in zip(scaled, by_task, strict=True)]
        for label in complete
    }
    complete.sort(key=lambda label: -float(iqm(np.concatenate(scores[label]))))
    episodes = {
        label: [_scaled(names[label].score_episodes, task) for task, names in zip(scaled, by_task, strict=True)]
        for label in complete
    }
    intervals = {}
    for label in complete:
        played = [known.returns if known else None for known in episodes[label]]
        middle = float(iqm(np.concatenate(scores[label])))
        intervals[label] = (middle, *two_way.iqm_interval(scores[label], played, generator))
    samples = [
        Sample(label, [names[label].pairs for names in by_task], scores[label], episodes[label]) for label in complete
    ]
    every = {c.label for task in found for c in task.contenders}
    return Overall(scaled, {label: scores[label] for label in complete}, intervals,
                   compare(samples, generator, baseline), sorted(every - set(complete)))  # fmt: skip


def _scaled(episodes: Episodes | None, task: Task) -> Episodes | None:
    return Episodes(episodes.seeds, normalise(episodes.returns, *task.scale[:2])) if episodes else None


# Sentences.


def _task_sentences(analysis: TaskAnalysis, baseline: str | None) -> list[str]:
    task = analysis.task
    names = [c.label for c in task.finished]
    where = f"On {task.name}"
    if not names:
        return [f"{where} no job has finished yet: there is nothing to compare."]
    best = [c.label for c in task.finished if c.at_maximum]
    sentences = [verdicts.maximum(where, best, task)] if best else []
    if baseline is not None:
        found = [verdicts.against(where, "final return", baseline, analysis.returns, analysis.intervals)]
        areas = {c.label: interval_of(c.area) for c in task.finished if np.isfinite(c.area).any()}
        if analysis.speed:
            found.append(verdicts.against(where, "area under the learning curve", baseline, analysis.speed, areas))
        return [*sentences, *found]
    first, why = _first(task, best, analysis.intervals)
    sentences.append(
        verdicts.sentence(where, "final return", analysis.returns, names, analysis.intervals, first=first, why=why)
    )
    speed = sorted(
        (c for c in task.finished if np.isfinite(c.area).any()), key=lambda c: -float(iqm(c.area))
    )  # the fastest first
    if len(first) > 1:
        among = [c for c in analysis.speed if c.first in first and c.second in first]
        if not among:
            return [*sentences, f"{where} their areas under the learning curves are not compared: {analysis.no_speed}."]
        areas = {c.label: interval_of(c.area) for c in speed if c.label in first}
        what = "area under the learning curve"
        return [*sentences, verdicts.sentence(f"{where}, of these,", what, among, list(areas), areas)]
    leader = names[0]
    open_ = {
        verdicts.other(c, leader)
        for c in analysis.returns
        if leader in (c.first, c.second) and c.verdict == "undecided"
    }
    if not open_ or not analysis.speed:
        return sentences
    fastest = speed[0].label
    told = [name for name in verdicts.beaten(analysis.speed, fastest) if name in open_ or name == leader]
    if told:
        sentences.append(
            f"{where} {fastest} certainly learned faster than {words.names(told)} (area under the learning curve)."
        )
    return sentences


def _first(
    task: Task, best: list[str], intervals: dict[str, tuple[float, float, float]]
) -> tuple[list[str], str | None]:
    """The contenders that share the first place, and what they have in common, if that is not their IQM."""
    leader = task.finished[0]
    if leader.label in best:
        return best, ""
    if np.isfinite(leader.value).all():  # then their final returns differ only by the luck of the episodes
        value = float(iqm(leader.value))
        equal = [
            c.label for c in task.finished if np.isfinite(c.value).all() and verdicts.same(float(iqm(c.value)), value)
        ]
        if len(equal) > 1:
            return equal, f" with the same exact value (IQM {words.number(value)})"
    middle = intervals[leader.label][0]
    return [label for label, (other, _, _) in intervals.items() if verdicts.same(other, middle)], None


def _warnings(data: StudyData, found: list[Task]) -> list[str]:
    """Sentences on everything that is missing or cannot be compared, by name."""
    warnings = [f"{name} cannot be read: {why}" for name, why in data.problems.items()]
    for task in found:
        for c in task.contenders:
            for job in c.jobs:
                warnings += _job_warning(c, task, job)
        warnings += _pruned_warning(task)
        warnings += provenance.warnings(task.name, {c.label: [job.job for job in c.jobs] for c in task.contenders})
        trials = {len(c.seeds) for c in task.finished}
        if trials and min(trials) < NARROW:
            warnings.append(f"On {task.name} a contender has only {words.plural(min(trials), 'trial')}: "
                            f"intervals are too narrow with fewer than {NARROW}.")  # fmt: skip
        unknown = [c for c in task.finished if c.episodes is None]
        if unknown:
            why = "; ".join(dict.fromkeys(c.no_episodes for c in unknown))
            warnings.append(f"On {task.name} the final episodes of {words.names([c.label for c in unknown])} are not "
                            f"known ({why}): intervals and comparisons of their returns include only the luck of "
                            "the trials, not that of the episodes.")  # fmt: skip
        budgets = {c.config.get("budget.steps") or f"{c.config.get('budget.episodes')} episodes" for c in task.finished}
        if len(budgets) > 1:
            warnings.append(f"On {task.name} the budgets differ ({', '.join(sorted(map(str, budgets)))}): "
                            "longer training does not make a better algorithm.")  # fmt: skip
        own = [c for c in task.finished if not c.is_foreign]
        rules = {tuple(c.config.get(f"evaluation.{key}") for key in RULES) for c in own}
        if len(rules) > 1:
            warnings.append(f"On {task.name} the rules of evaluation differ (evaluation.*: {', '.join(RULES)}): "
                            "see the configurations.")  # fmt: skip
    return warnings


def _job_warning(c: Contender, task: Task, job: JobData) -> list[str]:
    name, summary, seeds = f"{c.label} on {task.name} ({job.folder.name})", job.summary, job.job["seeds"]
    if isinstance(job, ForeignJob):
        return [f"{name} was not trained by rlexp. {job.told}"]
    if summary is None:
        return [f"{name} is not finished (it runs, or was killed): its curve is drawn, but it is not compared."]
    if _pruned(job):
        return []  # one sentence covers all that a search has pruned
    if "final/return" not in summary:
        error = f": {summary['error']}" if summary.get("error") else ""
        return [f"{name} {ENDED.get(summary.get('status', ''), 'is not finished')}{error}; it is not compared."]
    diverged = [t for t in summary.get("trials", []) if t.get("status") == "diverged"]
    missing = [s for s, value in zip(seeds, summary["final/return"]["per_trial"], strict=True) if value is None]
    warnings = []
    if diverged:
        told = "; ".join(f"seed {t['seed']}: {t.get('note') or 'no note'}" for t in diverged)
        warnings.append(f"{name}: {len(diverged)} of {len(seeds)} trials diverged ({told}); they count with the best "
                        "weights that they had before.")  # fmt: skip
    if missing:
        warnings.append(f"{name}: no final return for seed {', '.join(map(str, missing))}; in comparisons it counts as "
                        "the worst trial of all on this environment.")  # fmt: skip
    return warnings


def _pruned(job: JobData) -> bool:
    return (job.summary or {}).get("status") == "pruned"


def _pruned_warning(task: Task) -> list[str]:
    """One sentence on the candidates that a search has pruned."""
    labels = [c.label for c in task.contenders if any(map(_pruned, c.jobs))]
    if not labels:
        return []
    candidates, they = ("1 candidate", "it is") if len(labels) == 1 else (f"{len(labels)} candidates", "they are")
    return [f"On {task.name} the search pruned {candidates} before the end of the budget ({words.names(labels)}): "
            f"{they} drawn and listed as far as trained, but not compared."]  # fmt: skip
