"""`python -m rlexp.best STUDY`: the best job of a study, as the command that reproduces it."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlexp.arguments import as_written
from rlexp.objective import WORDS, Objective
from rlexp.report.load import JobData, load_job
from rlexp.report.stats import iqm
from rlexp.report.words import plural
from rlexp.settings import Refusal, did_you_mean, refusal
from rlexp.sync import final_status, find_jobs, find_sweeps


@dataclass(frozen=True)
class Ranked:
    """A finished job with its score.

    Attributes:
        job: its folder's content.
        trials: its score, one number a trial.  # [N]
        score: their IQM.
    """

    job: JobData
    trials: np.ndarray
    score: float


def ranking(folder: Path, objective: Objective) -> dict[str, list[Ranked]]:
    """The finished jobs of a study with a score, by environment, the best first; of equals the one that ran first."""
    found: dict[str, list[Ranked]] = {}
    for job in (load_job(path) for path in find_jobs(folder) if final_status(path) == "done"):
        trials = objective.per_trial(job)
        score = float(iqm(trials))
        if not math.isnan(score):
            found.setdefault(job.job["env"], []).append(Ranked(job, trials, score))
    sign = 1.0 if objective.smaller_is_better else -1.0
    for jobs in found.values():
        jobs.sort(key=lambda ranked: (sign * ranked.score, ranked.job.job["started"]))
    return found


def command(job: JobData) -> str:
    """What runs a job again; raises `Refusal` where its overrides are not known."""
    overrides = job.job.get("overrides")
    if overrides is None:
        raise refusal(
            "STUDY", "a best job that was composed from overrides", f"{job.folder}, which was not",
            "Its whole configuration is in config.yaml there.",
        )  # fmt: skip
    if any(override.lstrip("+").startswith("sweep=") for override in overrides):
        overrides = [*overrides, "hydra.mode=RUN"]  # a named sweep would start again
    return " ".join(["python -m rlexp", *(shlex.quote(as_written(o)) for o in overrides)])


def searched_for(folder: Path) -> Objective | None:
    """The objective of the last search in a study, if there was one."""
    sweeps = [json.loads((path / "sweep.json").read_text()) for path in find_sweeps(folder)]
    searches = sorted((sweep["started"], i) for i, sweep in enumerate(sweeps) if "search" in sweep)
    if not searches:
        return None
    search = sweeps[searches[-1][1]]["search"]
    return Objective(search["objective"], search["threshold"])


def describe(jobs: Sequence[Ranked], objective: Objective) -> str:
    """The best of some jobs: its command, its score, and how the second compares with it."""
    best = jobs[0]
    number = int(np.count_nonzero(~np.isnan(best.trials)))
    lines = [
        command(best.job),
        f"  {objective} (IQM over {plural(number, 'trial')}): {best.score:,.4g}   {best.job.folder}",
    ]
    if len(jobs) == 1:
        return "\n".join([*lines, "  the only finished job"])
    second = jobs[1]
    gap = abs(best.score - second.score)
    line = f"  second of {len(jobs)}: {second.score:,.4g}, {gap:,.4g} worse"
    if best.job.job["seeds"] == second.job.job["seeds"]:
        sign = -1.0 if objective.smaller_is_better else 1.0
        difference = sign * (best.trials - second.trials)  # [N]
        better, worse = int((difference > 0).sum()), int((difference < 0).sum())
        line += f" (better in {better} of {len(difference)} seeds, worse in {worse})"
    lines.append(f"{line}   {second.job.folder}")
    fresh = max(best.job.job["seeds"]) + 1
    lines.append(f"  the best of several is partly luck: add seed={fresh} to see it on fresh seeds")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 where there is no such study or no finished job in it."""
    parser = argparse.ArgumentParser(
        prog="python -m rlexp.best",
        description="Print the best finished job of a study as the command that reproduces it, with its score and the "
        "second's; for each environment of the study.",
    )
    parser.add_argument("study", metavar="STUDY", help="name of a study")
    parser.add_argument(
        "--objective", choices=tuple(WORDS), help="what is compared, as IQM over the trials; default: that of the "
        "study's last search, else final",
    )  # fmt: skip
    parser.add_argument("--threshold", type=float, metavar="RETURN", help="of --objective steps_to_threshold")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), metavar="DIR", help="default: outputs")
    args = parser.parse_args(argv)
    try:
        print(_answer(args.output_dir, args.study, args.objective, args.threshold))
    except Refusal as refused:
        print(f"refused: {refused}", file=sys.stderr)
        return 2
    return 0


def _answer(output_dir: Path, study: str, name: str | None, threshold: float | None) -> str:
    studies = sorted({path.parent.name for path in find_jobs(output_dir)})
    if study not in studies:
        hint = did_you_mean(study, studies) or (f"There are {', '.join(studies)}." if studies else "It has none.")
        raise refusal("STUDY", f"a study in {output_dir}", repr(study), hint)
    folder = output_dir / study
    objective = Objective(name or "final", threshold) if name or threshold is not None else searched_for(folder)
    found = ranking(folder, objective or Objective())
    if not found:
        raise refusal("STUDY", f"a finished job with a score ({objective or Objective()})", f"{study!r} without one")
    several = len(found) > 1
    return "\n".join(
        (f"{env}:\n" if several else "") + describe(jobs, objective or Objective()) for env, jobs in found.items()
    )


if __name__ == "__main__":
    sys.exit(main())
