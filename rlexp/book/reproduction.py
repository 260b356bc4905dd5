"""Reproduction of the chapter: run every `book/` preset, and compare our results with the notebook's printed figures.

    python scripts/reproduce_chapter.py

The preset book/pg_lunar_lander needs Box2D: pip install 'rlexp[box2d]'. Without it, the report says so in its
row.

The notebook's loops on tables are also run literally, quirks included, with as many seeds: a verdict names a reason for
a difference only if such runs confirm it. The same command brings the report up to date: finished jobs and runs are
kept, and interrupted jobs continue.

Exit status: 0 with a report, even if an optional package is missing; 1 if something failed or was refused (the report
is written, and its row says why); 130 if interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rlexp.book import literal_loops
from rlexp.book.chapter_report import STUDY, write
from rlexp.book.printed_figures import (
    NOTEBOOK_WAY,
    ONE_TRIAL,
    PLAN_95,
    JobFolder,
    Jobs,
)
from rlexp.book.processes import Absent, run_all, unreadable
from rlexp.config import paths
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose
from rlexp.system.links import check_folder

LONGEST_FIRST = (
    "book/q_log_alpha",
    "book/pg_lunar_lander",
    "book/pg",
    "book/q_epsilon",
)  # so that no process waits for them at the end


def presets() -> list[str]:
    """All book presets, the longest first, Q-value iteration with the chapter's other gamma, and a notebook's error."""
    names = [f"book/{name}" for name in paths.configured("experiment/book")]
    names.sort(key=lambda name: LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST))
    return [*names, NOTEBOOK_WAY, PLAN_95]


def overrides(preset: str, trials: int, seed: int, output_dir: Path, engine: str = "auto") -> list[str]:
    """The command line of one job."""
    name, *rest = preset.split()
    own = [] if preset in ONE_TRIAL else [f"trials={trials}"]
    own += [] if engine == "auto" else [f"engine={engine}"]
    return [f"+experiment={name}", *rest, *own, f"seed={seed}", f"study={STUDY}", f"output_dir={output_dir}"]


def load(names: Sequence[str], command_line: Callable[[str], list[str]]) -> tuple[Jobs, dict[str, Absent]]:
    """The results of finished jobs, and the reasons for those that cannot be read."""
    jobs: Jobs = {}
    absent = {}
    for name in names:
        try:
            jobs[name] = JobFolder(resolve(compose(*command_line(name)))[0].folder)
        except Exception as error:  # whatever is wrong with the files of one job, the others are shown
            absent[name] = unreadable(error)
    return jobs, absent


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, received {number}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--trials", type=_positive, default=10, help="seeds per preset, and of the notebook's loops (default 10)"
    )
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), help="default: outputs")
    parser.add_argument(
        "--engine", choices=("auto", "host"), default="auto", help="host: without the fused engine (default: auto)"
    )
    parser.add_argument("--processes", type=_positive, default=2, help="jobs side by side (default 2)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing and write the report; the exit status is explained at the top of this file."""
    args = _parser().parse_args(argv)
    began, names = time.monotonic(), presets()
    output_dir = args.output_dir.expanduser().resolve()
    study, seeds = output_dir / STUDY, range(args.seed, args.seed + args.trials)
    try:
        check_folder(study / "report")
        (study / "report").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(
            f"--output-dir: expected a folder that can be written, received {args.output_dir}: {error}", file=sys.stderr
        )
        return 1
    command_line = partial(overrides, trials=args.trials, seed=args.seed, output_dir=output_dir, engine=args.engine)
    left = [seed for seed in seeds if literal_loops.read(literal_loops.file(study, seed)) is None]
    commands = {name: [sys.executable, "-m", "rlexp", *command_line(name)] for name in names}
    commands |= {f"notebook's loops, seed {seed}": literal_loops.command(study, seed) for seed in left}
    print(
        f"{len(names)} jobs, and {len(left)} literal runs of the notebook's loops ({len(seeds) - len(left)} are done), "
        f"{args.processes} at a time; each job is in MLflow under the study {STUDY}",
        flush=True,
    )
    try:
        absent = run_all(commands, args.processes)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130
    jobs, unread = load([name for name in names if name not in absent], command_line)
    absent |= unread
    found = (literal_loops.read(literal_loops.file(study, seed)) for seed in seeds)
    command = " ".join(["python scripts/reproduce_chapter.py", *(sys.argv[1:] if argv is None else argv)])
    path = write(jobs, absent, [run for run in found if run is not None], output_dir, command)
    for name, why in absent.items():
        print(f"{name}: {why.why}", file=sys.stderr if why.failed else sys.stdout)
    failed = [name for name, why in absent.items() if why.failed]
    if failed:
        print(f"failed: {', '.join(failed)}; the same command tries them again", file=sys.stderr)
    print(json.dumps({"report": str(path), "minutes": round((time.monotonic() - began) / 60, 1)}))
    return 1 if failed else 0
