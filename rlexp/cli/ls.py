"""The command `rlexp ls`: the studies of an output folder, or the jobs of one study, with status and score."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlexp.cli.listing import STATUSES, Listed, Listing, Warnings, aligned, jobs, named_study
from rlexp.cli.watch import sweeps, watch
from rlexp.system.errors import did_you_mean, refusal
from rlexp.system.tool import Parser, tool
from rlexp.system.words import decimal

PERIOD = 2.0  # seconds between two looks of --watch
SHORTEST, LONGEST = 0.2, 86_400.0  # of it


@tool
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 2 if there is no such study."""
    parser = Parser(
        prog="rlexp ls",
        description="List the studies of an output folder, or the jobs of one study, with status and score (the "
        "interquartile mean over the trials of the final returns). --watch shows a study while its jobs run.",
        examples=(
            "rlexp ls",
            "rlexp ls dqn_ladder",
            "rlexp ls dqn_ladder --watch",
            "rlexp ls --output-dir /data/outputs",
        ),
    )
    parser.add_argument("study", nargs="?", metavar="STUDY", help="name of a study, or its folder; without it, all")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), metavar="DIR", help="default: outputs")
    parser.add_argument("--watch", action="store_true", help="show the jobs while they run, until none does")
    parser.add_argument("--interval", type=float, metavar="SECONDS", help="of --watch, between two looks; default: 2")
    args = parser.parse_args(argv)
    interval, warnings = _interval(args), Warnings()
    if args.study is not None:
        args.study, args.output_dir = named_study(args.study, args.output_dir)
    if args.watch and Path(str(args.study)).name == args.study and sweeps(args.output_dir / args.study):
        return watch(args.output_dir / args.study, interval, warnings)  # its first job may be about to start
    found = jobs(args.output_dir, warnings)
    if not found:
        print(f"refused: no jobs in {args.output_dir}; --output-dir names another folder", file=sys.stderr)
        return 2
    studies = list(dict.fromkeys(job.study for job in found))
    if args.study is None:
        aligned(
            ["study", "jobs", *STATUSES, "last started"],
            [_study_row(name, [job for job in found if job.study == name]) for name in studies],
        )
        return 0
    chosen = [job for job in found if job.study == args.study]
    if not chosen:
        hint = did_you_mean(args.study, studies) or f"There are {', '.join(studies)}."
        print(
            f"refused: STUDY: expected a study in {args.output_dir}, received {args.study!r}. {hint}", file=sys.stderr
        )
        return 2
    study = chosen[0].folder.parent
    if args.watch:
        return watch(study, interval, warnings)
    rows = []
    for job in Listing(study, warnings).jobs():
        score = f"{decimal(job.score)} {job.unhealthy}".rstrip()
        rows.append([job.name, job.status_words, score, str(job.trials), _when(job.started), job.folder.name])
    aligned(["job", "status", "final return (IQM)", "trials", "started", "folder"], rows)
    return 0


def _interval(args: Any) -> float:
    """Seconds between two looks; raises `Refusal` for options that contradict each other."""
    if args.interval is not None and not args.watch:
        raise refusal("--interval", "--watch beside it", "none", "For example: rlexp ls STUDY --watch --interval 5")
    if args.watch and args.study is None:
        raise refusal("--watch", "the name of a study", "none", "rlexp ls shows which there are.")
    if args.interval is None:
        return PERIOD
    if not SHORTEST <= args.interval <= LONGEST:
        raise refusal("--interval", f"a number from {SHORTEST:g} to {LONGEST:g}", f"{args.interval:g}")
    return float(args.interval)


def _study_row(name: str, jobs_of_it: Sequence[Listed]) -> list[str]:
    count = Counter(job.status for job in jobs_of_it)
    last = max(job.started for job in jobs_of_it)
    return [name, str(len(jobs_of_it)), *(str(count[status] or "-") for status in STATUSES), _when(last)]


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
