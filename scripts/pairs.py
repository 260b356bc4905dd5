"""Compare this checkout with another one, for example a worktree of an earlier commit, in pairs of runs.

    git worktree add ../before <commit>
    python scripts/pairs.py ../before                  # everything (about 20 minutes on two cores)
    python scripts/pairs.py ../before jobs --only q_learning --rounds 7

cli    time of commands that answer without training
jobs   training loops of each family and engine: env steps per second over all trials
start  time from command to exit of a short job

Both checkouts run the same command, one after the other, and change places after each pair, since machines are noisy.
A ratio above 1 means that this checkout is faster. Exit status: 1 if the median of a row is below `--least`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from measuring import spread

HERE = Path(__file__).resolve().parents[1]
QUIET = ("tracking=files", "animation.enabled=false", "evaluation.num_episodes=1", "evaluation.final_episodes=1",
         "evaluation.candidates=1", "evaluation.period=1000000")  # fmt: skip
CLI = {
    "--help": ("--help",),
    "a refused configuration": ("algo.gamma=2",),
    "a refused environment": ("env.id=Pendulum-v1",),
    "--cfg job": ("--cfg", "job"),
}
JOBS = {
    "dqn, fused, 10 trials": ("+experiment=cleanrl_dqn", "trials=10", "budget.steps=100000", "engine=fused"),
    "dqn, fused, 1 trial": ("+experiment=cleanrl_dqn", "trials=1", "budget.steps=100000", "engine=fused"),
    "dqn, fused, 1 trial, 32-32, an update every step": (
        "algo=fixed_dqn", "env=cartpole", "network.hidden_units=[32,32]", "algo.batch_size=32", "algo.learn_period=1",
        "algo.replay_size=10000", "algo.target_period=500", "trials=1", "budget.steps=50000", "engine=fused"),
    "ddqn, fused, 10 trials": ("algo=ddqn", "trials=10", "budget.steps=30000", "engine=fused"),
    "ddqn, host, 10 trials": ("algo=ddqn", "trials=10", "budget.steps=12000", "engine=host"),
    "pg, fused, 10 trials": ("algo=pg", "trials=10", "budget.steps=150000", "engine=fused"),
    "pg, host, 10 trials": ("algo=pg", "trials=10", "budget.steps=15000", "engine=host"),
    "q_learning, fused, 32 trials": (
        "algo=q_learning", "+discretizer=cartpole", "trials=32", "budget.steps=2000000", "engine=fused"),
    "q_learning, host, 10 trials": (
        "algo=q_learning", "env=frozen_lake", "trials=10", "budget.steps=20000", "engine=host"),
}  # fmt: skip
START: dict[str, tuple[str, ...]] = {"the default job, 2,000 steps": ("budget.steps=2000",)}


def command(checkout: Path, args: Sequence[str], folder: Path) -> float:
    """Seconds that a command of a checkout takes; its exit status is 0 or, for a refusal, 2."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "rlexp", *args], cwd=folder, env=environment, capture_output=True)
    if done.returncode not in (0, 2):
        raise SystemExit(f"{checkout}: {' '.join(args)}: {done.stderr.decode()}")
    return time.monotonic() - began


def speed_of_command(checkout: Path, args: Sequence[str], folder: Path) -> float:
    """Commands per second."""
    return 1 / command(checkout, args, folder)


def speed_of_job(checkout: Path, args: Sequence[str], folder: Path) -> float:
    """Env steps per second of a job's training loop, over all trials."""
    command(checkout, (*QUIET, *args, "rerun=true", f"output_dir={folder}"), folder)
    (path,) = folder.glob("*/*/summary.json")
    summary = json.loads(path.read_text())
    records = [json.loads(line) for line in path.with_name("metrics.jsonl").read_text().splitlines()]
    # Between two records, so that compilation and the first steps, in which nothing is learned, do not count.
    points = [(r["step"], r["time"]) for r in records if summary["steps"] / 4 <= r["step"] < summary["steps"]]
    (first, began), (last, ended) = points[0], points[-1]
    return float((last - first) * len(summary["seeds"]) / (ended - began))


def speed_of_start(checkout: Path, args: Sequence[str], folder: Path) -> float:
    """Short jobs per second, from command to exit."""
    return 1 / command(checkout, (*QUIET, *args, "rerun=true", f"output_dir={folder}"), folder)


Speed = Callable[[Path, Sequence[str], Path], float]
PARTS: dict[str, tuple[Speed, dict[str, tuple[str, ...]]]] = {
    "cli": (speed_of_command, CLI),
    "jobs": (speed_of_job, JOBS),
    "start": (speed_of_start, START),
}


def main() -> int:
    """Print one row for each command; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="another checkout of this repository")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--only", default="", metavar="TEXT", help="commands whose name holds it")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of each command (default: 5)")
    parser.add_argument("--least", type=float, default=0.95, help="smallest ratio that counts as no slower")
    args = parser.parse_args()
    other = args.other.resolve()
    if not (other / "rlexp" / "__init__.py").is_file():
        parser.error(f"{other}: expected a checkout of this repository, received another folder")
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown part {min(unknown)!r}: choose among {', '.join(PARTS)}")
    slower = False
    print("| what | this checkout against the other | |\n|---|---|---|")
    for part in args.parts or PARTS:
        speed, commands = PARTS[part]
        for name, words in commands.items():
            if args.only not in name:
                continue
            ratios = []
            for i in range(args.rounds):
                speeds = {}
                for checkout in (HERE, other) if i % 2 else (other, HERE):
                    with tempfile.TemporaryDirectory() as folder:
                        speeds[checkout] = speed(checkout, words, Path(folder))
                ratios.append(speeds[HERE] / speeds[other])
            good = sorted(ratios)[len(ratios) // 2] >= args.least
            slower |= not good
            print(f"| {part}: {name} | {spread(ratios, '.2f')} | {'no slower' if good else 'slower'} |", flush=True)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
