"""The parts `overhead`, `workers`, `ladder` and `families` of benchmark.py: the cost of a sweep beyond its training.

Every sweep runs as one process, or those that its launcher starts, in a folder of its own. MLflow tracks every job.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from measuring import Row, spread

from rlexp.config import registry

Command = Callable[..., tuple[float, float, str]]  # `benchmark.command`: seconds, MB, output

SEEDS = ",".join(str(10 * i) for i in range(8))


def summaries(output: Path) -> list[dict[str, Any]]:
    """The jobs' summaries with their folders, in the order of their ends."""
    found = [{**json.loads(path.read_text()), "folder": path.parent} for path in output.glob("*/*/summary.json")]
    return sorted(found, key=lambda summary: float(summary["finished"]))


def loop_seconds(folder: Path) -> float:
    """Seconds from the first to the last training record. (`train_seconds` includes building the networks.)

    This is slightly less than the loop takes; the rest counts as overhead.
    """
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    times = [float(record["time"]) for record in records if "final/return" not in record["metrics"]]
    return times[-1] - times[0]


def overhead(command: Command, output: Path) -> list[Row]:
    """The time between the ends of two jobs without training, for jobs of ten trials that share a compiled program.

    Measured bare, with one scoring episode and no animation, so that folders, pictures, weights and MLflow remain; and
    with the defaults, 100 final episodes, 200 episodes for each of three candidates per trial, and the GIF.
    """
    job = ("algo=dqn", "trials=10", "budget.steps=6000", "engine=fused")
    bare = ("animation.enabled=false", "evaluation.candidates=1", "evaluation.final_episodes=1")
    rates = "algo.optimizer.lr=1e-4,2e-4,4e-4,8e-4"
    what = "one more job in a sweep, without its training"
    rows: list[Row] = []
    sweeps: tuple[tuple[str, float | None, tuple[str, ...]], ...] = (
        (f"{what}: another learning rate", 1.5, (f"{rates},1.6e-3,3.2e-3,6.4e-3,1.28e-2", *bare)),
        (f"{what}: ten other seeds", None, (f"seed={SEEDS}", *bare)),
        ("the same with the default scoring of ten trials and the animation", None, (rates,)),
    )
    for name, target, options in sweeps:
        folder = output / f"overhead-{len(rows)}"
        command("-m", f"output_dir={folder}", *job, *options)
        jobs = summaries(folder)
        seconds = [b["finished"] - a["finished"] - loop_seconds(b["folder"]) for a, b in pairwise(jobs)]
        met = target is None or median(seconds) < target
        rows.append(Row(name, f"< {target} s" if target else "reported", f"{spread(seconds, '.2f')} s", met))
    return rows


def workers(command: Command, output: Path, rounds: int) -> list[Row]:
    """Time eight CPU-bound jobs with one and with two joblib workers in turn, from command to exit."""
    job = ("algo=q_learning", "+discretizer=cartpole", "engine=host", "trials=10", "budget.steps=20000")
    options = ("-m", "hydra/launcher=joblib", *job, f"seed={SEEDS}", "animation.enabled=false")
    ratios = []
    for repeat in range(rounds):
        taken = {}
        for n in (1, 2) if repeat % 2 else (2, 1):
            folder = output / f"workers-{n}-{repeat}"
            taken[n] = command(*options, f"hydra.launcher.n_jobs={n}", f"output_dir={folder}")[0]
            assert len(summaries(folder)) == 8
        ratios.append(taken[1] / taken[2])
    what = "throughput of eight CPU-bound jobs, two joblib workers against one"
    return [Row(what, ">= 1.6", spread(ratios, ".2f"), median(ratios) >= 1.6)]


def ladder(command: Command, output: Path) -> list[Row]:
    """Time `+sweep=dqn_ladder` on CartPole-v1, ten trials per job, with its report."""
    folder = output / "ladder"
    seconds, _, output_text = command("+sweep=dqn_ladder", f"output_dir={folder}")
    jobs = summaries(folder)
    assert len(jobs) == 4 and all(len(job["seeds"]) == 10 and job["status"] == "done" for job in jobs), output_text
    assert re.search(r"report.*\.html", output_text), output_text
    scores = ", ".join(f"{job['algo']} {job['final/return']['iqm']:.0f}" for job in jobs)
    text = f"{seconds / 60:.1f} min (IQM {scores})"
    return [
        Row("+sweep=dqn_ladder on CartPole-v1, 10 trials per job, with its report", "< 10 min", text, seconds < 600)
    ]


def families(command: Command, output: Path) -> list[Row]:
    """Time `+sweep=families` on CartPole-v1 and on FrozenLake-v1: eleven jobs of ten trials each, with its report."""
    rows: list[Row] = []
    for env, minutes in (("cartpole", 6), ("frozen_lake", None)):
        folder = output / f"families-{env}"
        seconds, _, output_text = command("+sweep=families", f"env={env}", f"output_dir={folder}")
        jobs = summaries(folder)
        assert len(jobs) == 11 and all(len(job["seeds"]) == 10 and job["status"] == "done" for job in jobs), output_text
        assert re.search(r"report.*\.html", output_text), output_text
        best: dict[str, dict[str, Any]] = {}
        for job in jobs:
            family = registry.algo(job["algo"]).family
            best[family] = max(best.get(family, job), job, key=lambda job: job["final/return"]["iqm"])
        scores = ", ".join(f"{family}: {job['algo']} {job['final/return']['iqm']:.3g}" for family, job in best.items())
        target = f"< {minutes} min" if minutes else "reported"
        met = minutes is None or seconds < 60 * minutes
        what = f"+sweep=families env={env}, 10 trials per job, with its report"
        rows.append(Row(what, target, f"{seconds / 60:.1f} min (best IQM of {scores})", met))
    return rows
