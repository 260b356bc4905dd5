"""The exact anchors of the chapter that concern these algorithms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rlexp


def test_hard_coded_policy_equals_the_notebooks_figures(tmp_path: Any) -> None:
    """500 episodes, seed = episode, 200 steps: mean 41.698, std 8.389445512070509, min 24, max 63."""
    job = rlexp.run(
        "+experiment=book/angle_policy",
        f"output_dir={tmp_path}",
        "tracking=files",
        "animation.enabled=false",
        quiet=True,
    )
    rows = [line.split(",") for line in (job.folder / "evaluation.csv").read_text().splitlines()[1:]]
    assert [int(row[1]) for row in rows] == list(range(500))
    returns = np.array([float(row[2]) for row in rows])
    assert (returns.mean(), returns.std(), returns.min(), returns.max()) == (
        41.698,
        8.389445512070509,
        24.0,
        63.0,
    )
    assert job["final/return"]["per_trial"] == [41.698]


@pytest.mark.slow
def test_book_dueling_ddqn_runs_as_the_notebook_does(tiny: Callable[..., Any]) -> None:
    """The first 60 episodes: epsilon per episode, one update an episode from episode 51 on, 200 steps at most."""
    job = rlexp.run("+experiment=book/dueling_ddqn", "budget.episodes=60", "trials=2", "tracking=files",
                    f"output_dir={tiny('random', 'trials=1').folder.parents[1]}", "animation.enabled=false",
                    "evaluation.final_episodes=5", "evaluation.num_episodes=5", quiet=True)  # fmt: skip
    assert job["episodes"] == [60, 60] and job["updates"] == [9, 9]  # after the episodes 51, ..., 59
    with np.load(job.folder / "episodes.npz") as episodes:
        assert len(episodes["trial"]) == 120 and episodes["return"].max() <= 200
        assert (episodes["return"] == episodes["length"]).all()
    epsilon = job.curves["train/epsilon"].values
    assert np.nanmin(epsilon) == pytest.approx(1 - 59 / 500, abs=1e-6)
    best = [trial["best_train_episode"] for trial in job["trials"]]
    with np.load(job.folder / "episodes.npz") as episodes:
        assert best == [episodes["return"][episodes["trial"] == k].max() for k in range(2)]
