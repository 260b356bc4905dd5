"""Whether the two engines learn alike: the same job on the host engine and on the fused one, many trials each.

    python scripts/engines_agree.py                                   rainbow, qr_dqn and munchausen_dqn on CartPole
    python scripts/engines_agree.py --algo ddqn env=acrobot --steps 30000

The engines have other random numbers for resets, so that their curves differ as those of other seeds do. For the final
return and for the area under the learning curve (mean height of `eval/return`) the table has the means and the 95 %
interval of their difference (Welch's t); equal engines have intervals with 0 in them, but for one in twenty. Jobs that
are done are not run again. Exit status: 1 if an interval does not have 0 in it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

import numpy as np
from measuring import Row

import rlexp
from rlexp.jobs.results import JobData, load_job
from rlexp.math.statistics import area_under_curve, t_quantile

ALGOS = ("rainbow", "qr_dqn", "munchausen_dqn")
ENGINES = ("host", "fused")


def difference(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """The difference of two means and its interval by Welch's t test: (difference, low, high)."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    gap, (u, v) = float(a.mean() - b.mean()), (float(x.var(ddof=1) / len(x)) for x in (a, b))
    if u + v == 0:
        return gap, gap, gap
    df = (u + v) ** 2 / (u**2 / (len(a) - 1) + v**2 / (len(b) - 1))
    half = t_quantile(0.5 + confidence / 2, df) * math.sqrt(u + v)
    return gap, gap - half, gap + half


def measured(job: JobData) -> dict[str, list[float]]:
    """Final return and area under the learning curve of each trial."""
    assert job.summary is not None, f"{job.folder} has ended"
    finals = [trial["final_return"] for trial in job.summary["trials"]]
    return {"final return": finals, "area": area_under_curve(*job.curves["eval/return"]).tolist()}


def rows(algo: str, host: JobData, fused: JobData) -> list[Row]:
    """The two lines of one algorithm."""
    found = []
    for what, values in measured(host).items():
        others = measured(fused)[what]
        gap, low, high = difference(values, others)
        text = f"{np.mean(values):.1f} and {np.mean(others):.1f}, difference {gap:+.1f} [{low:.1f}, {high:.1f}]"
        inside = low <= 0 <= high
        found.append(Row(f"{algo}: {what}, host and fused, {len(values)} trials", "0 inside 95 %", text, inside))
    return found


def main() -> int:
    """Run the jobs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algo", action="append", help=f"may be repeated (default: {', '.join(ALGOS)})")
    parser.add_argument("--trials", type=int, default=20, help="per engine (default: 20)")
    parser.add_argument("--steps", type=int, default=20_000, help="env steps per trial (default: 20,000)")
    parser.add_argument("--seed", type=int, default=40_000, help="first seed (default: 40000)")
    parser.add_argument("--output-dir", default="outputs", help="default: outputs")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of all jobs (default: env=cartpole)")
    args = parser.parse_intermixed_args()
    numbers = (f"trials={args.trials}", f"seed={args.seed}", f"budget.steps={args.steps}")
    quiet = ("tracking=files", "animation.enabled=false", f"output_dir={args.output_dir}")
    common = (*numbers, *quiet, *(args.overrides or ("env=cartpole",)))
    found: list[Row] = []
    for algo in args.algo or ALGOS:
        folders = [
            rlexp.run(f"algo={algo}", f"engine={engine}", f"study=engines_agree_{engine}", *common).folder
            for engine in ENGINES
        ]
        found += rows(algo, *(load_job(folder) for folder in folders))
        print(*(f"{row.what}: {row.measured}" for row in found[-2:]), sep="\n", file=sys.stderr, flush=True)
    print("| what | target | measured | met |\n|---|---|---|---|")
    for row in found:
        print(f"| {row.what} | {row.target} | {row.measured} | {'yes' if row.met else 'no'} |")
    return 0 if all(row.met for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
