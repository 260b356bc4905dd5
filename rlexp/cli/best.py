"""The command `rlexp best`: the best job of a study, as the command that reproduces it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlexp.cli.listing import named_study
from rlexp.config import commands
from rlexp.config.study_names import job_names
from rlexp.jobs.names import stored_configs
from rlexp.jobs.results import JobData, load_job
from rlexp.math.statistics import iqm
from rlexp.sweeps.search.objective import CHOSEN_BY, WORDS, Objective
from rlexp.system.errors import did_you_mean, refusal
from rlexp.system.stored_files import read_job, read_json, skipping
from rlexp.system.stored_schemas import SWEEP
from rlexp.system.text import clean
from rlexp.system.tool import Parser, tool, warn
from rlexp.system.words import plural
from rlexp.tracking.folders import find_jobs, find_sweeps


@dataclass(frozen=True)
class Ranked:
    """A finished job and its score.

    Attributes:
        job: the content of its folder.
        trials: the score of each trial; a trial without one gets the worst score on its environment.  # [N]
        score: their interquartile mean (IQM).
        words: the name of the score.
        missing: number of trials without a score.
        diverged: number of trials that diverged or failed.
    """

    job: JobData
    trials: np.ndarray
    score: float
    words: str
    missing: int
    diverged: int


def ranking(folder: Path, objective: Objective, searched: bool = False) -> dict[str, list[Ranked]]:
    """The finished jobs of a study that have a score, by environment, best first; ties in the order of their starts.

    A job with diverged trials is ranked, too. As in a report, a diverged trial counts with its best weights before it
    diverged, or, without a score, as the worst trial on its environment.

    Args:
        folder: the study's folder.
        objective: the objective to rank by.
        searched: rank by the values that a search for this objective has used.
    """
    scored: dict[str, list[tuple[JobData, np.ndarray, str]]] = {}
    for job in _finished(folder):
        trials, words = objective.choice(job) if searched else (objective.per_trial(job), str(objective))
        if np.isfinite(trials).any() and "final/return" in (job.summary or {}):
            scored.setdefault(job.job["env"], []).append((job, trials, words))
    found: dict[str, list[Ranked]] = {}
    sign = 1.0 if objective.smaller_is_better else -1.0
    for env, jobs in scored.items():
        every = [trials for _, trials, _ in jobs]
        ranked = []
        for job, trials, words in jobs:
            statuses = [trial.get("status") for trial in (job.summary or {}).get("trials", [])]
            filled = objective.filled(trials, every)
            unhealthy = sum(status in ("diverged", "failed") for status in statuses)
            ranked.append(Ranked(job, filled, float(iqm(filled)), words, int(np.isnan(trials).sum()), unhealthy))
        ranked.sort(key=lambda r: (sign * r.score, r.job.job["started"], r.job.folder.name))
        found[env] = ranked
    return found


def _finished(folder: Path) -> Iterator[JobData]:
    """The finished jobs of a study; a damaged one gets a warning."""
    for path in find_jobs(folder):
        with skipping(warn):
            _, summary = read_job(path, "env", "started")
            if summary is not None and summary["status"] in ("done", "failed"):
                yield load_job(path)


def command(job: JobData) -> str:
    """The command that runs a job again; raises `Refusal` if its overrides are unknown."""
    found = commands.of_job(job.job)
    if found is None:
        raise refusal(
            "STUDY", "a best job that was composed from overrides", f"{job.folder}, which was not",
            "Its whole configuration is in config.yaml there.",
        )  # fmt: skip
    return found


def searched_for(folder: Path) -> Objective | None:
    """The objective of the last search in a study, if there is one."""
    sweeps = []
    for path in find_sweeps(folder):
        with skipping(warn):
            sweeps.append(read_json(path / "sweep.json", SWEEP, "started"))
    searches = sorted((sweep["started"], i) for i, sweep in enumerate(sweeps) if "search" in sweep)
    if not searches:
        return None
    search = sweeps[searches[-1][1]]["search"]
    return Objective(search.get("objective", "final"), search.get("threshold"))


def describe(
    jobs: Sequence[Ranked], objective: Objective, searched: bool = False, names: Mapping[Path, str] | None = None
) -> str:
    """The command and score of the best job, or of all that are equally good, and how the next job compares.

    Args:
        jobs: best first.
        objective, searched: as of `ranking`.
        names: of the study's jobs, by folder, as far as they are known.
    """
    names = names or {}
    best = jobs[0]
    equal = [ranked for ranked in jobs if math.isclose(ranked.score, best.score, rel_tol=1e-9, abs_tol=1e-12)]
    lines = [line for ranked in equal for line in _described(ranked, objective, searched, _name(names, ranked))]
    if len(equal) > 1:
        lines.append(f"  these {len(equal)} jobs share the first place: equal scores, in the order of their starts")
    if len(jobs) == 1:
        return "\n".join([*lines, "  the only finished job"])
    if len(equal) < len(jobs):
        second = jobs[len(equal)]
        gap = abs(best.score - second.score)
        place = "second" if len(equal) == 1 else "next"
        line = f"  {place} of {len(jobs)}: {_name(names, second)}{second.score:,.4g}, {gap:,.4g} worse"
        if len(equal) == 1 and best.job.job["seeds"] == second.job.job["seeds"]:
            sign = -1.0 if objective.smaller_is_better else 1.0
            difference = sign * (best.trials - second.trials)  # [N]
            better, worse = int((difference > 0).sum()), int((difference < 0).sum())
            line += f" (better in {better} of {len(difference)} seeds, worse in {worse})"
        lines.append(f"{line}   {second.job.folder}")
    fresh = max(best.job.job["seeds"]) + 1
    lines.append(f"  the best of several is partly luck: add seed={fresh} to see it on fresh seeds")
    return "\n".join(lines)


def _name(names: Mapping[Path, str], ranked: Ranked) -> str:
    """The name of a job, to stand in front of its score; empty if it is not known."""
    name = names.get(ranked.job.folder)
    return f"{clean(name, newlines=False)}: " if name else ""


def _described(ranked: Ranked, objective: Objective, searched: bool, name: str) -> list[str]:
    over = f"(IQM over {plural(len(ranked.trials), 'trial')})"
    lines = [command(ranked.job)]
    if searched and objective.name == "final":
        final = Objective().score(ranked.job)
        lines.append(f"  {name}chosen by its {ranked.words} {over}: {ranked.score:,.4g}   {ranked.job.folder}")
        if ranked.words != CHOSEN_BY["final"]:
            lines.append(f"  final return, in fresh episodes {over}: {final:,.4g}")
    else:
        lines.append(f"  {name}{ranked.words} {over}: {ranked.score:,.4g}   {ranked.job.folder}")
    if ranked.diverged or ranked.missing:
        told = []
        if ranked.diverged:
            told.append(f"{ranked.diverged} of {plural(len(ranked.trials), 'trial')} diverged or failed")
        counted = "with the best weights before that"
        if ranked.missing:
            counted = f"{ranked.missing} without a score as the worst trial of all on this environment"
        lines.append(f"  {', '.join([*told, 'counted: ' + counted])}")
    return lines


@tool
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 2 if there is no such study or it has no finished job."""
    parser = Parser(
        prog="rlexp best",
        description="Print the best finished job of a study (or all that are equally good) as the command that "
        "reproduces it, with its score and the second's; for each environment of the study.",
        examples=("rlexp best dqn_ladder", "rlexp best search_dqn --objective steps_to_threshold --threshold 475"),
    )
    parser.add_argument("study", metavar="STUDY", help="name of a study, or its folder")
    parser.add_argument(
        "--objective", choices=tuple(WORDS), help="what is compared, as IQM over the trials; default: what the "
        "study's last search has chosen by, else final",
    )  # fmt: skip
    parser.add_argument("--threshold", type=float, metavar="RETURN", help="of --objective steps_to_threshold")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), metavar="DIR", help="default: outputs")
    args = parser.parse_args(argv)
    study, output_dir = named_study(args.study, args.output_dir)
    print(_answer(output_dir, study, args.objective, args.threshold))
    return 0


def _answer(output_dir: Path, study: str, name: str | None, threshold: float | None) -> str:
    studies = sorted({path.parent.name for path in find_jobs(output_dir)})
    if study not in studies:
        hint = did_you_mean(study, studies) or (f"There are {', '.join(studies)}." if studies else "It has none.")
        raise refusal("STUDY", f"a study in {output_dir}", repr(study), hint)
    folder = output_dir / study
    objective = Objective(name or "final", threshold) if name or threshold is not None else searched_for(folder)
    searched = name is None and threshold is None and objective is not None
    found = ranking(folder, objective or Objective(), searched)
    if not found:
        raise refusal("STUDY", f"a finished job with a score ({objective or Objective()})", f"{study!r} without one")
    several, configs = len(found) > 1, stored_configs(find_jobs(folder))
    names = dict(zip(configs, job_names(list(configs.values())), strict=True))
    return "\n".join(
        (f"{env}:\n" if several else "") + describe(jobs, objective or Objective(), searched, names)
        for env, jobs in found.items()
    )
