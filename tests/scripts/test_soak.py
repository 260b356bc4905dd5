"""The short form of scripts/soak.py: each of its parts, with small numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))  # its modules import each other by their names, as when one is run
import soak  # noqa: E402

sys.path.remove(str(ROOT / "scripts"))

slow = pytest.mark.slow


@slow
@pytest.mark.parametrize("name", soak.VICTIMS)
def test_kills(name: str, tmp_path: Path) -> None:
    result = soak.kill_and_compare(tmp_path, soak.VICTIMS[name], 2, np.random.default_rng(0))
    assert result.different == []
    assert result.kills.total() == 2 and 1 <= result.chains <= 2


@slow
def test_starts(tmp_path: Path) -> None:
    assert soak.start_at_once(tmp_path, 3) == []


@slow
@pytest.mark.parametrize("target", soak.TARGETS)
def test_store(target: str, tmp_path: Path) -> None:
    """Killed half a second after the first file of the store is there: it is being made."""
    was, wrong = soak.kill_young_store(tmp_path, target, 0.5, from_its_birth=True)
    assert (was, wrong) == ("being made", [])


@slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_sweep(launcher: str, tmp_path: Path) -> None:
    done, wrong = soak.kill_sweep(tmp_path, launcher, 4, 2, np.random.default_rng(0))
    assert wrong == []
    assert len(done) == 2 and 1 <= done[0] <= done[1] <= 4


@slow
def test_outage(tmp_path: Path) -> None:
    job = ("algo=random", "engine=host", "trials=2", "budget.steps=300000", "evaluation.num_episodes=5",
           "animation.enabled=false", "tracking.timeout=300")  # fmt: skip
    found = soak.pair(tmp_path, job, away=4, moment=1, outage_first=True)
    assert (found.lost, found.doubled, found.wrong) == (0, 0, [])


@slow
@pytest.mark.parametrize(
    ("options", "num_jobs", "bound"),
    [
        # A job without TensorFlow leaves 2 to 4 MB that wait for the garbage collector. Over 14 jobs the process had 98 MB
        # after the third, 109 at most and 103 in the end: a share of so little is no leak, and hides one of a MB a job.
        pytest.param(("algo=q_learning", "env=frozen_lake", "engine=host"), 14, 0.2, id="table"),
        pytest.param((*soak.BRIEF_DQN, "engine=host"), 6, 0.05, id="dqn"),
        pytest.param((*soak.BRIEF_DQN, "engine=fused"), 6, 0.05, id="fused dqn"),
    ],
)
def test_jobs(options: tuple[str, ...], num_jobs: int, bound: float, tmp_path: Path) -> None:
    used = soak.memory_of_jobs(tmp_path, [(*soak.BRIEF, *options, f"seed={i}") for i in range(num_jobs)])
    assert len(used) == num_jobs and min(used) > 2**24
    assert soak.growth_after_the_third(used) <= bound


@slow
def test_long(tmp_path: Path) -> None:
    """More evaluations than records, and as many records of the other kind as may be."""
    job = ("algo=q_learning", "env=frozen_lake", "engine=fused", "trials=5", "budget.steps=40000", "evaluation.period=10",
           "log.points=1999", "evaluation.num_episodes=1", "evaluation.candidate_episodes=5", "evaluation.final_episodes=5",
           "evaluation.max_steps=5", "animation.enabled=false", "tracking.timeout=300")  # fmt: skip
    growth, most, points = soak.flat_memory(tmp_path, job)
    assert 1000 < points <= 2000
    assert growth <= 0.1 and most > 0
