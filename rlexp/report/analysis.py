"""What is to be said of a study: comparisons on each environment and over all of them, and the verdict in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rlexp import provenance, seeding
from rlexp.report import words
from rlexp.report.compare import LEVEL, MIN_TRIALS, Comparison, Sample, compare
from rlexp.report.contenders import Contender, Task, tasks
from rlexp.report.load import JobData, StudyData
from rlexp.report.stats import bootstrap_ci, iqm, normalise

ENDED = {"failed": "has failed", "killed": "was killed"}  # statuses in a sentence
RULES = ("policy", "selection", "final_episodes", "final_seed")  # of the final return
CERTAIN = f"at most a {100 * LEVEL:g} % chance of any false claim"


@dataclass
class TaskAnalysis:
    """One environment.

    Attributes:
        task: with its contenders.
        intervals: label -> IQM of the final returns, with its 95 % interval; finished contenders only.
        returns: comparisons of final returns, each pair of finished contenders.
        speed: comparisons of areas under the learning curves.
        no_speed: why there are none, where there are none.
    """

    task: Task
    intervals: dict[str, tuple[float, float, float]]
    returns: list[Comparison]
    speed: list[Comparison]
    no_speed: str


@dataclass
class Overall:
    """All environments together, by normalised scores.

    Attributes:
        tasks: the environments.
        scores: label -> one array [N] an environment; the best first.
        intervals: label -> IQM over all trials on all environments, and its interval.
        comparisons: each pair.
        absent: contenders that are not on every environment, and so not here.
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
        tasks: one analysis an environment.
        overall: where there are several.
        headline: who is better and whether that is certain; one or more sentences.
        warnings: what is missing, failed, diverged, or cannot be compared; by name.
    """

    name: str
    tasks: list[TaskAnalysis]
    overall: Overall | None
    headline: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def analyse(data: StudyData, generator: np.random.Generator) -> Analysis:
    """Compare what a study has."""
    found = tasks(data.jobs)
    analyses = [_analyse_task(task, generator) for task in found]
    overall = _overall(found, generator)
    result = Analysis(data.name, analyses, overall, warnings=_warnings(data, found))
    if overall:
        result.headline.append(_sentence("Over all environments", "normalised score", overall.comparisons,
                                         list(overall.scores), overall.intervals))  # fmt: skip
    for analysis in analyses:
        result.headline += _task_sentences(analysis)
    return result


def interval_of(values: np.ndarray) -> tuple[float, float, float]:
    """IQM with its 95 % interval: to the last digit the one in the summary of a job with these values."""
    return float(iqm(values)), *bootstrap_ci(values, iqm, seeding.generator(0, "report"))


def _analyse_task(task: Task, generator: np.random.Generator) -> TaskAnalysis:
    intervals = {c.label: interval_of(c.scores) for c in task.finished}
    returns = compare([Sample(c.label, [c.seeds], [c.scores]) for c in task.finished], generator)
    learners = [c for c in task.finished if np.isfinite(c.area).any() and len(c.curves["eval/return"].steps) > 1]
    if len(learners) < 2:
        return TaskAnalysis(task, intervals, returns, [], "fewer than two learning curves")
    spans = {(int(c.curves["eval/return"].steps[0]), int(c.curves["eval/return"].steps[-1])) for c in learners}
    if len(spans) > 1:
        return TaskAnalysis(task, intervals, returns, [], "the curves cover different numbers of env steps")
    speed = compare([Sample(c.label, [c.seeds], [c.area]) for c in learners], generator)
    return TaskAnalysis(task, intervals, returns, speed, "")


def _overall(found: list[Task], generator: np.random.Generator) -> Overall | None:
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
    intervals = {label: (float(iqm(np.concatenate(scores[label]))), *_stratified(scores[label], generator))
                 for label in complete}  # fmt: skip
    samples = [Sample(label, [names[label].seeds for names in by_task], scores[label]) for label in complete]
    every = {c.label for task in found for c in task.contenders}
    return Overall(scaled, {label: scores[label] for label in complete}, intervals,
                   compare(samples, generator), sorted(every - set(complete)))  # fmt: skip


def _stratified(scores: Sequence[np.ndarray], generator: np.random.Generator) -> tuple[float, float]:
    matrix = np.full((max(map(len, scores)), len(scores)), np.nan)  # [N, M]
    for column, values in enumerate(scores):
        matrix[: len(values), column] = values
    return bootstrap_ci(matrix, iqm, generator)


# Sentences.


def _task_sentences(analysis: TaskAnalysis) -> list[str]:
    task = analysis.task
    names = [c.label for c in task.finished]
    where = f"On {task.name}"
    if not names:
        return [f"{where} no job has finished yet: there is nothing to compare."]
    sentences = [_sentence(where, "final return", analysis.returns, names, analysis.intervals)]
    leader = names[0]
    open_ = {_other(c, leader) for c in analysis.returns if leader in (c.first, c.second) and c.verdict == "undecided"}
    if not open_ or not analysis.speed:
        return sentences
    fastest = max((c for c in task.finished if np.isfinite(c.area).any()), key=lambda c: float(iqm(c.area))).label
    beaten = _beaten(analysis.speed, fastest)
    told = [name for name in beaten if name in open_ or name == leader]
    if told:
        sentences.append(
            f"{where} {fastest} certainly learned faster than {words.names(told)} (area under the learning curve)."
        )
    return sentences


def _sentence(
    where: str,
    what: str,
    comparisons: Sequence[Comparison],
    names: Sequence[str],
    intervals: dict[str, tuple[float, float, float]],
) -> str:
    """Who is first, and over whom for certain."""
    leader = names[0]
    middle, low, high = intervals[leader]
    reached = f"IQM {words.number(middle)}" + (
        f", 95 % interval {words.number(low)} to {words.number(high)}" if np.isfinite(low) else ""
    )
    own = [c for c in comparisons if leader in (c.first, c.second)]
    if not own:
        return f"{where} {leader} reached a {what} of {reached}; there is nothing to compare it with."
    beaten = _beaten(own, leader)
    undecided = [c for c in own if c.verdict == "undecided"]
    if not undecided and len(beaten) == len(own):
        others = beaten[0] if len(beaten) == 1 else f"each of the {len(beaten)} others"
        return (
            f"{where} {leader} won, and that is certain ({CERTAIN}): its {what} ({reached}) is better than that of "
            f"{others}."
        )
    lost = [c for c in own if c not in undecided and _other(c, leader) not in beaten]
    open_ = [_other(c, leader) for c in undecided]
    equal = [_other(c, leader) for c in undecided if c.p == 1 and c.more_trials is None]
    advice = _advice(undecided)
    if beaten or lost:
        certainly = f"certainly better than {words.names(beaten)}" if beaten else ""
        worse = f"certainly worse by its mean than {words.names([_other(c, leader) for c in lost])}" if lost else ""
        known = " and ".join(filter(None, [certainly, worse]))
        rest = f"; against {_open(open_)} it is undecided{advice}" if open_ else ""
        return f"{where} {leader} has the highest {what} ({reached}), {known}{rest}."
    if len(equal) == len(own):
        return (
            f"{where} {leader} and {words.names(equal)} cannot be told apart by their {what} ({reached}): equal in all "
            "trials."
        )
    return (
        f"{where} nobody won for certain: {leader} has the highest {what} ({reached}), but against {_open(open_)} it "
        f"is undecided{advice}."
    )


def _advice(undecided: Sequence[Comparison]) -> str:
    """How many further trials would decide it: against the one that is easiest to tell, and against all."""
    few = [c for c in undecided if c.num_trials < MIN_TRIALS]
    needed = [c.more_trials for c in undecided if c.more_trials is not None]
    if few:
        have = words.plural(few[0].num_trials, "trial")
        return f" ({have} can decide nothing: at least {max(needed)} more each)"
    if not needed:
        return " (equal, or too close for any affordable number of trials)"
    some = f"{min(needed)} to {max(needed)}" if min(needed) < max(needed) else str(max(needed))
    some += " more trials each needed" if max(needed) > 1 else " more trial each needed"
    rest = "; for the others no affordable number would do" if len(needed) < len(undecided) else ""
    return f" (about {some}{rest})"


def _open(names: Sequence[str]) -> str:
    return words.names(names) if len(names) <= words.NAMED else f"{len(names)} others"


def _beaten(comparisons: Sequence[Comparison], name: str) -> list[str]:
    return [_other(c, name) for c in comparisons
            if (c.first == name and c.verdict == "better") or (c.second == name and c.verdict == "worse")]  # fmt: skip


def _other(comparison: Comparison, name: str) -> str:
    return comparison.second if comparison.first == name else comparison.first


def _warnings(data: StudyData, found: list[Task]) -> list[str]:
    """What is missing, by name: nothing is left out in silence."""
    warnings = [f"{name} cannot be read: {why}" for name, why in data.problems.items()]
    for task in found:
        for c in task.contenders:
            for job in c.jobs:
                warnings += _job_warning(c, task, job)
        warnings += _pruned_warning(task)
        warnings += provenance.warnings(task.name, {c.label: [job.job for job in c.jobs] for c in task.contenders})
        trials = {len(c.seeds) for c in task.finished}
        if trials and min(trials) < MIN_TRIALS:
            warnings.append(f"On {task.name} there are as few as {min(trials)} trials a contender: intervals are too "
                            f"narrow, and nothing is claimed of fewer than {MIN_TRIALS}.")  # fmt: skip
        budgets = {c.config.get("budget.steps") or f"{c.config.get('budget.episodes')} episodes" for c in task.finished}
        if len(budgets) > 1:
            warnings.append(f"On {task.name} the budgets differ ({', '.join(sorted(map(str, budgets)))}): "
                            "a longer training is no better algorithm.")  # fmt: skip
        rules = {tuple(c.config.get(f"evaluation.{key}") for key in RULES) for c in task.finished}
        if len(rules) > 1:
            warnings.append(f"On {task.name} the rules of evaluation differ (evaluation.*: {', '.join(RULES)}): "
                            "see the configurations.")  # fmt: skip
    return warnings


def _job_warning(c: Contender, task: Task, job: JobData) -> list[str]:
    name, summary, seeds = f"{c.label} on {task.name} ({job.folder.name})", job.summary, job.job["seeds"]
    if summary is None:
        return [f"{name} is not finished (running, or killed without a word): its curve is drawn, it is not compared."]
    if _pruned(job):
        return []  # a search prunes many: one sentence for all of them
    if "final/return" not in summary:
        error = f": {summary['error']}" if summary.get("error") else ""
        return [f"{name} {ENDED.get(summary.get('status', ''), 'is not finished')}{error}; it is not compared."]
    diverged = [t for t in summary.get("trials", []) if t.get("status") == "diverged"]
    missing = [s for s, value in zip(seeds, summary["final/return"]["per_trial"], strict=True) if value is None]
    warnings = []
    if diverged:
        told = "; ".join(f"seed {t['seed']}: {t.get('note') or 'no note'}" for t in diverged)
        warnings.append(f"{name}: {len(diverged)} of {len(seeds)} trials diverged ({told}); they count with the best "
                        "weights they had before.")  # fmt: skip
    if missing:
        warnings.append(f"{name}: no final return for seed {', '.join(map(str, missing))}; in comparisons it counts as "
                        "the worst trial of all on this environment.")  # fmt: skip
    return warnings


def _pruned(job: JobData) -> bool:
    return (job.summary or {}).get("status") == "pruned"


def _pruned_warning(task: Task) -> list[str]:
    """Candidates that a search gave up, in one sentence."""
    labels = [c.label for c in task.contenders if any(map(_pruned, c.jobs))]
    if not labels:
        return []
    candidates, they = ("1 candidate", "it is") if len(labels) == 1 else (f"{len(labels)} candidates", "they are")
    return [f"On {task.name} the search pruned {candidates} before the end of the budget ({words.names(labels)}): "
            f"{they} drawn and listed as far as trained, but not compared."]  # fmt: skip
