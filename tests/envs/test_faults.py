"""Environments that misbehave: a sentence that names environment, trial, episode seed and step; the others finish."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlexp.data import seeding
from rlexp.system.errors import Diverged
from tests.conftest import records

ENV = ["env.id=probes/Misbehaving-v0", "env.imports=[tests.probes.misbehaving]", "env.name=bad", "evaluation.period=10"]
FAULTS = [
    ("raises", "step raised ValueError: the sensor fell off (misbehaving.py, line "),
    ("reset raises", "reset raised RuntimeError: no level of this number (misbehaving.py, line "),
    ("reset nan", "reset: expected an observation of finite numbers, received [nan, nan]"),
    ("four values", "expected (observation, reward, terminated, truncated, info) of step, received (array([0., 0.], dtype=float32), "),
    ("nan", "expected an observation of finite numbers, received [0.0, nan]"),
    ("inf", "expected an observation of finite numbers, received [inf, 0.0]"),
    ("shape", "expected an observation of shape (2,), received shape (3,)"),
    ("scalar", "expected an observation of shape (2,), received shape ()"),
    ("short", "expected an observation of shape (2,), received shape (1,)"),
    ("None", "expected an observation of shape (2,), received shape ()"),
    ("words", "expected an observation of numbers, received ['a', 'b']"),
    ("state", "expected an observation in [0, 3), received 3"),
    ("negative state", "expected an observation in [0, 3), received -1"),
    ("half a state", "expected numbers of the declared shapes and true or false, received (0.5, 1.0, False, False) ("),
    ("nan reward", "expected a finite reward, received nan"),
    ("inf reward", "expected a finite reward, received -inf"),
    ("huge reward", "expected a finite reward, received 1e+300"),
    ("no reward", "expected a reward that is one number, received None (NoneType)"),
    ("two rewards", "expected a reward that is one number, received [1.0, 1.0] (an array of shape (2,))"),
    ("two ends", "expected terminated to be true or false, received [True, True] (ndarray)"),
]  # fmt: skip


def job(tiny: Callable[..., Any], fault: str, *options: str) -> tuple[Diverged, Path, dict[str, Any]]:
    """Run a job that must fail; its error, folder and summary."""
    states = "state" in fault
    learner = ["q_learning"] if states else ["random"]
    with pytest.raises(Diverged) as failed:
        tiny(
            *learner, *ENV, f"+env.kwargs.fault='{fault}'", f"+env.kwargs.states={states}", "budget.steps=20", *options
        )
    folder = Path(str(failed.value).rsplit(": ", 1)[1])
    return failed.value, folder, json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize(("fault", "what"), FAULTS, ids=[fault for fault, _ in FAULTS])
def test_a_misbehaving_environment_fails_its_trial_in_a_sentence(
    fault: str, what: str, tiny: Callable[..., Any]
) -> None:
    """Trial 1's first episode is bad and trial 0's are not; one is the same job without the other's."""
    bad = seeding.episode_seed(1, 0)
    only = [f"+env.kwargs.modulus={2**31}", f"+env.kwargs.remainder={bad % 2**31}", "+env.kwargs.train_only=true"]
    error, folder, summary = job(tiny, fault, "trials=2", *only)
    good, failed = summary["trials"]
    assert (good["status"], good["note"], good["steps"]) == ("done", "", 20) and good["final_return"] == 10.0
    step = 0 if fault.startswith("reset") else 3
    where = f"probes/Misbehaving-v0, trial seed 1, episode seed {bad}, step {step}: "
    assert failed["status"] == "failed" and failed["note"].startswith(f"{where}{what}")
    assert str(error) == f"1 of 2 trials failed (seeds 1): {failed['note']}; the others finished: {folder}"
    assert "\n" not in str(error) and summary["status"] == "failed"
    trace = "ValueError: the sensor fell off" in (folder / "error.txt").read_text()
    assert trace or fault != "raises"


def test_a_failed_trial_has_no_score_though_its_evaluations_went_well(
    tiny: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rlexp.cli import ls
    from rlexp.jobs.console import JobConsole

    bad = seeding.episode_seed(1, 0)
    only = [f"+env.kwargs.modulus={2**31}", f"+env.kwargs.remainder={bad % 2**31}", "+env.kwargs.train_only=true"]
    _, folder, summary = job(tiny, "reset nan", "trials=2", *only)  # not one observation was a number
    final = summary["final/return"]
    assert (final["per_trial"], final["iqm"], final["max"]) == ([10.0, None], 10.0, 10.0)
    assert [trial["final_return"] for trial in summary["trials"]] == [10.0, None]
    last = records(folder)[-1]["metrics"]
    assert last == {"final/return": [10.0, None], "final/length": [10.0, None]}
    rows = (folder / "evaluation.csv").read_text().splitlines()
    assert [row.split(",")[2] for row in rows if row.startswith("1,")] == ["nan"] * 4
    JobConsole(2).table(summary)
    assert "final return over 1 of 2 trials: IQM 10" in capsys.readouterr().out
    assert ls.main(["default", "--output-dir", str(tmp_path)]) == 0
    assert "failed  10.0 (1 of 2 trials scored; 1 failed)  2 " in capsys.readouterr().out


def test_the_others_are_untouched(tiny: Callable[..., Any]) -> None:
    bad = seeding.episode_seed(1, 0)
    only = [f"+env.kwargs.modulus={2**31}", f"+env.kwargs.remainder={bad % 2**31}", "+env.kwargs.train_only=true"]
    _, folder, _ = job(tiny, "nan", "trials=3", *only)
    healthy = tiny("random", *ENV, "+env.kwargs.fault=none", "+env.kwargs.states=false", "+env.kwargs.remainder=-1",
                   "budget.steps=20", "trials=3")  # fmt: skip
    for sick, well in zip(records(folder), records(healthy.folder), strict=True):
        for name, values in well["metrics"].items():
            assert [sick["metrics"][name][k] for k in (0, 2)] == [values[k] for k in (0, 2)]


@pytest.mark.parametrize("fault", ["raises", "reset raises", "nan"])
def test_where_every_episode_is_bad_nothing_finishes(fault: str, tiny: Callable[..., Any]) -> None:
    error, _, summary = job(tiny, fault, "trials=2")
    assert str(error).startswith(
        "2 of 2 trials failed (seeds 0, 1): probes/Misbehaving-v0, trial seed 0, episode seed "
    )
    assert "; none finished: " in str(error)
    assert [trial["final_return"] for trial in summary["trials"]] == [None, None]


def test_a_fault_in_an_evaluation(tiny: Callable[..., Any]) -> None:
    """Final episode 200,002 is bad: all trials meet it, when everything is trained."""
    error, _, summary = job(tiny, "raises", "trials=2", f"+env.kwargs.modulus={2**31}", "+env.kwargs.remainder=200002")
    assert str(error).startswith(
        "2 of 2 trials failed (seeds 0, 1): probes/Misbehaving-v0, evaluation of trial seed 0, episode seed 200002, step 3: "
        "step raised ValueError: the sensor fell off (misbehaving.py, line "
    )
    assert [trial["steps"] for trial in summary["trials"]] == [20, 20]


@pytest.mark.parametrize("fault", ["hangs", "loops", "reset hangs"])
def test_a_call_that_hangs_is_interrupted(fault: str, tiny: Callable[..., Any]) -> None:
    bad = seeding.episode_seed(1, 0)
    only = [f"+env.kwargs.modulus={2**31}", f"+env.kwargs.remainder={bad % 2**31}", "+env.kwargs.train_only=true"]
    _, _, summary = job(tiny, fault, "trials=2", "env.step_timeout=0.1", *only)
    assert [trial["status"] for trial in summary["trials"]] == ["done", "failed"]
    assert summary["trials"][1]["note"].endswith(": step has not returned within 0.1 s (env.step_timeout)"[-48:])


def test_an_episode_that_never_ends(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where episodes are counted: a budget of steps ends it, and evaluations are cut at evaluation.max_steps."""
    from rlexp.engines import bookkeeping

    monkeypatch.setattr(bookkeeping, "LONGEST_EPISODE", 40)
    endless = ["+env.kwargs.fault=endless", "trials=1", "evaluation.max_steps=20"]
    assert tiny("random", *ENV, *endless, "budget.steps=60")["status"] == "done"
    with pytest.raises(Diverged) as failed:
        tiny("random", *ENV, *endless, "budget.episodes=2")
    assert (
        "step 40: its episode has not ended by now, and the budget counts episodes; set env.max_episode_steps"
        in str(failed.value)
    )


@pytest.mark.parametrize("algo", ["dqn", pytest.param("pg_baseline", marks=pytest.mark.slow)])
def test_learners_on_networks(algo: str, tiny: Callable[..., Any]) -> None:
    bad = seeding.episode_seed(1, 0)
    options = ["budget.steps=60", f"+env.kwargs.modulus={2**31}", f"+env.kwargs.remainder={bad % 2**31}", "trials=2",
               "+env.kwargs.train_only=true", "+env.kwargs.fault=nan"]  # fmt: skip
    with pytest.raises(Diverged, match="1 of 2 trials failed"):
        tiny(algo, *ENV, *options)


def test_a_failed_trial_stays_failed_when_its_job_is_resumed(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    from rlexp.engines.bookkeeping import Interrupted, Trials

    bad = seeding.episode_seed(1, 0)
    only = [
        f"+env.kwargs.modulus={2**31}",
        f"+env.kwargs.remainder={bad % 2**31}",
        "+env.kwargs.train_only=true",
        "trials=2",
    ]
    _, whole, _ = job(tiny, "raises", *only, "study=whole")
    real = Trials.housekeeping

    def stop_at_7(self: Trials, *args: Any) -> None:
        self.services.stop = lambda: signal.SIGTERM if self.t == 7 else None
        real(self, *args)

    monkeypatch.setattr(Trials, "housekeeping", stop_at_7)
    with pytest.raises(Interrupted):
        job(tiny, "raises", *only, "study=parts")
    monkeypatch.undo()
    _, parts, _ = job(tiny, "raises", *only, "study=parts")
    assert records(whole) == records(parts)
    notes = [[t["note"] for t in json.loads((f / "summary.json").read_text())["trials"]] for f in (whole, parts)]
    assert notes[0] == notes[1] and notes[0][1] != ""
