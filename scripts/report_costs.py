"""The part `report` of benchmark.py: seconds and megabytes of the report of a large study.

python scripts/benchmark.py report
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measuring import Row, spread

JOBS, TRIALS, POINTS = 100, 10, 500
MOST_SECONDS, MOST_BYTES = 20.0, 15e6
ANIMATION = 300_000  # bytes of each, as those of Acrobot: more of them than the page may contain

Command = Callable[..., tuple[float, float, str]]  # `benchmark.command`: seconds, MB, output


def report(command: Command, output: Path, rounds: int) -> list[Row]:
    """The report of synthetic jobs with learning curves, final episodes and animations, as a process of its own."""
    sys.path.append(str(Path(__file__).resolve().parents[1]))  # the makers of synthetic studies are the tests'
    from tests.studies import make_job

    generator, study = np.random.default_rng(0), output / "hundred"
    for k in range(JOBS):
        final = generator.normal(300 + k, 50, TRIALS)
        job = make_job(study, "ddqn", final.tolist(), config={"gamma": 0.9 + k / 1000}, points=POINTS)
        (job / "animation.gif").write_bytes(b"GIF89a" + generator.bytes(ANIMATION))
    seconds = [command("report", "hundred", "--output-dir", str(output))[0] for _ in range(rounds)]
    size = (study / "report" / "index.html").stat().st_size
    what = f"report of {JOBS} jobs of {TRIALS} trials and {POINTS} points"
    return [
        Row(f"{what}: seconds", f"< {MOST_SECONDS:g}", spread(seconds), statistics.median(seconds) < MOST_SECONDS),
        Row(f"{what}: MB of the page", f"< {MOST_BYTES / 1e6:g}", f"{size / 1e6:.1f}", size < MOST_BYTES),
    ]
