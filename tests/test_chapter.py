"""The reproduction report: the exact rows come out, the verdicts are right, every preset is run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rlexp
from rlexp import registry
from rlexp.report import chapter
from rlexp.report.chapter import EXACT, ONE_TRIAL, STATISTICAL, JobFolder, Statistical


@pytest.fixture(scope="module")
def exact_jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, JobFolder]:
    """The jobs that the exact rows are computed from."""
    output_dir = tmp_path_factory.mktemp("outputs")
    quick = ["tracking=files", "animation.enabled=false"]
    return {
        name: JobFolder(rlexp.run(*chapter.overrides(name, 10, 0, output_dir), *quick, quiet=True).folder)
        for name in ONE_TRIAL
    }


@pytest.mark.parametrize("row", EXACT, ids=[row.what for row in EXACT])
def test_exact_rows_are_equal_to_all_printed_digits(row: chapter.Exact, exact_jobs: dict[str, JobFolder]) -> None:
    assert row.ours(exact_jobs) == row.printed


def test_every_preset_is_run_and_every_row_has_one() -> None:
    presets = chapter.presets()
    books = {f"book/{name}" for name in registry.configured("experiment/book")}
    assert set(presets) == books | {ONE_TRIAL[2], chapter.NOTEBOOK_WAY}
    assert {row.job for row in STATISTICAL} <= set(presets)
    assert set(chapter.LONGEST_FIRST) <= set(presets)


def test_overrides_of_a_job() -> None:
    assert chapter.overrides("book/dqn", 10, 7, Path("o")) == [
        "+experiment=book/dqn", "trials=10", "seed=7", "study=chapter18", "output_dir=o",
    ]  # fmt: skip
    assert chapter.overrides("book/mdp_q_value_iteration algo.gamma=0.95", 10, 0, Path("o")) == [
        "+experiment=book/mdp_q_value_iteration", "algo.gamma=0.95", "seed=0", "study=chapter18", "output_dir=o",
    ]  # fmt: skip
    assert chapter.overrides("book/pg", 2, 0, Path("o"), engine="host")[1:3] == ["trials=2", "engine=host"]


@pytest.mark.parametrize(
    ("figure", "why", "ours", "text", "good"),
    [
        (3.0, "", [1.0, 5.0], "within the spread of ours", True),
        (5.0, "An error.", [1.0, 5.0], "within the spread of ours. An error.", True),
        (6.0, "An error.", [1.0, 5.0], "different. An error.", False),
        (6.0, "", [1.0, 5.0], "different. Outside of all trials here; the notebook shows one seed.", False),
        (3.0, "", [np.nan, 5.0], "different. Outside of all trials here; the notebook shows one seed.", False),
        (None, "", [1.0, 5.0], "the notebook prints no figure", None),
    ],
)
def test_verdicts(figure: float | None, why: str, ours: list[float], text: str, good: bool | None) -> None:
    row = Statistical("book/dqn", "what", "printed", figure, lambda job: np.array(ours), why)
    assert chapter.verdict(row, np.array(ours)) == (text, good)


def test_statistics_of_training_episodes() -> None:
    assert chapter.first_at_least(195)(np.array([10.0, 200.0, 195.0])) == 2
    assert np.isnan(chapter.first_at_least(195)(np.array([10.0, 20.0])))
    assert chapter._spread(np.array([1.0, 3.0, np.nan])) == ["2", "1", "1", "3", "2 of 3"]
    assert chapter._spread(np.array([np.nan])) == ["-", "-", "-", "-", "0 of 1"]
