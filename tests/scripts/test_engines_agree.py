"""scripts/engines_agree.py: the interval of a difference, and the lines of its table."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlexp.jobs.results import load_job


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    return importlib.import_module("engines_agree")


def test_the_interval_of_a_difference_by_welch(script: Any) -> None:
    """Means 2 and 5; variances of the means 1/3 and 7/6; 4.418 degrees of freedom, between 2.776 (4) and 2.571 (5)."""
    gap, low, high = script.difference([1.0, 2.0, 3.0], [3.0, 4.0, 5.0, 8.0])
    assert gap == -3 and low == pytest.approx(2 * -3 - high)
    assert high - gap == pytest.approx(2.676 * 1.5**0.5, rel=0.005)
    assert script.difference([500.0, 500.0], [500.0, 500.0]) == (0, 0, 0)


def test_a_job_against_itself_and_against_another(script: Any, tiny: Callable[..., Any]) -> None:
    one, other = (load_job(tiny("random", "trials=3", f"seed={seed}").folder) for seed in (1, 50))
    same = script.rows("random", one, one)
    assert [row.met for row in same] == [True, True] and "difference +0.0 [" in same[0].measured
    assert same[0].what == "random: final return, host and fused, 3 trials" and same[1].what.startswith("random: area")
    assert script.rows("random", one, other)[0].measured != same[0].measured
