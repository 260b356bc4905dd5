"""A search's candidates on disk: the same after a restart, and pruned by the median rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlexp.sweeps.search import candidates
from rlexp.sweeps.search.candidates import Candidates, pruner
from rlexp.sweeps.search.space import Dimension
from rlexp.system.errors import Refusal

SPACE = (
    Dimension("a", ("x", "y")),
    Dimension("b", low=1e-4, high=1e-1, log=True),
    Dimension("c", low=1, high=9, step=2),
    Dimension("d", low=0.0, high=1.0),
)


def start(folder: Path, seed: int = 0, minimize: bool = False) -> Candidates:
    return Candidates(folder, SPACE, seed, 3, minimize)


def plan(folder: Path, **changes: Any) -> None:
    search = {"prune": True, "startup": 2, "warmup": 0.25, "objective": "final", **changes}
    (folder / "sweep.json").write_text(json.dumps({"search": search}))


def test_a_search_that_is_opened_again_before_each_candidate_asks_for_the_same_ones(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir(), (tmp_path / "two").mkdir(), (tmp_path / "other").mkdir()
    search, other = start(tmp_path / "one"), start(tmp_path / "other", seed=1)
    for number in range(6):
        again = start(tmp_path / "two")
        for each in (search, again, other):
            assert each.ask() == number
            each.tell(number, "done", float(each.values(number)[-1]))
    values = [search.values(number) for number in range(6)]
    assert values == [start(tmp_path / "two").values(number) for number in range(6)]
    assert len({json.dumps(v) for v in values}) == 6 and values != [other.values(number) for number in range(6)]
    for a, b, c, d in values:
        assert a in ("x", "y") and 1e-4 <= b <= 1e-1 and c in (1, 3, 5, 7, 9) and 0 <= d <= 1


@pytest.mark.parametrize(
    ("value", "low", "high", "step", "plain"),
    [
        (0.00123456789, 1e-4, 1e-2, None, 0.001235),
        (0.987654321, 0.98, 0.9999, None, 0.98765),  # four digits would leave twenty values
        (0.99999, 0.5, 0.99995, None, 0.99995),
        (123456.789, 1e3, 1e6, None, 123500.0),
        (0.30000000000000004, 0.1, 0.9, 0.1, 0.3),
        (0.0, 0.0, 1.0, None, 0.0),
        (-0.123456, -1.0, 1.0, None, -0.1235),
    ],
)
def test_samples_have_the_digits_that_matter(
    value: float, low: float, high: float, step: float | None, plain: float
) -> None:
    assert candidates.rounded(value, low, high, step) == plain


def test_what_a_candidate_prints_is_what_it_runs_and_what_optuna_knows(tmp_path: Path) -> None:
    search = start(tmp_path)
    for _ in range(5):  # drawn at random, and by what is known
        number = search.ask()
        trial = search._study.get_trials()[number]
        values = search.values(number)
        assert values == [trial.params[d.key] for d in SPACE]
        assert all(len(f"{value:g}") <= 9 and float(f"{value}") == value for value in values[1::2])
        assert all(trial.distributions[d.key].to_internal_repr(v) == trial.distributions[d.key].to_internal_repr(
            trial.params[d.key]) for d, v in zip(SPACE, values, strict=True))  # fmt: skip
        search.tell(number, "done", float(values[-1]))


def test_candidates_of_earlier_versions_keep_all_their_digits(tmp_path: Path) -> None:
    """Their jobs are found by the values that were stored."""
    from optuna.samplers import TPESampler

    search, long = start(tmp_path), {"a": "x", "b": 0.0123456789012345, "c": 3, "d": 0.12345678901234567}
    search._study.sampler = TPESampler(seed=0)
    search._study.enqueue_trial(long)
    search._study.ask({d.key: candidates._distribution(d) for d in SPACE})
    again = start(tmp_path)
    assert again.values(0) == list(long.values()) and again.unfinished() == [0]
    again.tell(0, "done", 1.0)
    assert again.ask() == 1


def test_outcomes_that_are_told(tmp_path: Path) -> None:
    search = start(tmp_path)
    for status, score in (("done", 2.5), ("failed", 9.0), ("pruned", 9.0), ("done", float("nan")), ("lost", 9.0)):
        search.tell(search.ask(), status, score)
    search.ask()
    assert search.scores() == [2.5, None, None, None, None, None] and search.unfinished() == [5]
    assert len(start(tmp_path)) == 6 and start(tmp_path).unfinished() == [5]


def report(folder: Path, number: int, value: float, steps: tuple[int, ...] = (100,), share: float = 0.5) -> list[bool]:
    prune = pruner(folder / "jobs" / str(number))
    assert prune is not None
    return [prune(step, share, np.array([value, value, np.nan])) for step in steps]


def test_a_candidate_below_the_median_of_those_trained_to_the_end_is_pruned(tmp_path: Path) -> None:
    plan(tmp_path)
    search = start(tmp_path)
    for number, value in enumerate((1.0, 3.0, 2.0)):
        search.ask()
        assert report(tmp_path, number, value) == [False]  # two are to be trained to the end before; then it is best
        search.tell(number, "done", value)
    for _ in range(4):
        search.ask()
    assert report(tmp_path, 3, 1.9) == [True] and report(tmp_path, 4, 2.0) == [False]
    assert report(tmp_path, 5, 1.9, share=0.2) == [False]  # warm-up
    assert report(tmp_path, 6, 1.9, steps=(50, 100)) == [False, True]  # nobody to compare with at step 50
    search.tell(3, "pruned")
    assert report(tmp_path, 3, 1.0) == [False]  # what has ended is not asked again


def test_a_search_for_fewer_steps_prunes_low_returns_as_well(tmp_path: Path) -> None:
    plan(tmp_path, objective="steps_to_threshold")
    search = start(tmp_path, minimize=True)
    for number, value in enumerate((1.0, 3.0)):
        search.ask()
        report(tmp_path, number, value)
        search.tell(number, "done", 1000 - value)
    search.ask(), search.ask()
    assert report(tmp_path, 2, 1.9) == [True] and report(tmp_path, 3, 2.1) == [False]


def test_other_jobs_have_no_pruner(tmp_path: Path) -> None:
    assert pruner(tmp_path / "jobs" / "0") is None
    start(tmp_path).ask()
    plan(tmp_path, prune=False)
    assert pruner(tmp_path / "jobs" / "0") is None


def test_without_optuna_the_refusal_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Refusal, match=r"which is not installed.\npip install -c constraints.txt 'rlexp\[search\]'"):
        candidates.require_optuna()
