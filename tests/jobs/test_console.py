"""What a job shows while it runs: a bar or lines, its place in a sweep, and the phases after the training."""

from __future__ import annotations

import io
import re
import time
from functools import partial
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from rlexp.jobs import console
from rlexp.jobs.console import JobConsole
from rlexp.jobs.place import Place

NONE = np.full(2, np.nan)


def place(beside: bool = False, together: int = 1) -> Place:
    return Place(2, 4, "fixed_dqn on acrobot", beside, lambda here: 300.0 * (3 - here), together)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 130 columns."""
    screen = io.StringIO()
    monkeypatch.setattr(console, "Console", partial(Console, file=screen, force_terminal=True, width=130))
    monkeypatch.setattr(console, "BAR_PERIOD", 0.0)
    return screen


def lines(screen: io.StringIO) -> list[str]:
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    return [" ".join(line.split()) for line in text.replace("\r", "\n").splitlines() if line.strip()]


def test_a_job_of_a_sweep_says_which_one_it_is_and_how_long_the_sweep_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "LINE_PERIOD", 0.0)
    shown = JobConsole(2, place=place())
    shown.greet("fixed_dqn", "Acrobot-v1", "2 trials (seeds 0-1), 100 env steps each")
    shown.start()
    shown.update(0.5, 50, np.array([-80.0, np.nan]))
    shown.update(1.0, 100, NONE)  # its end has a line of its own, by the sweep
    shown.stop()
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "[2/4] fixed_dqn on acrobot: 2 trials (seeds 0-1), 100 env steps each"
    assert re.fullmatch(
        r"\[2/4\] fixed_dqn on acrobot:  50%  step 50  [0-9,]+ steps/s  eval return -80.0  0 s left, "
        r"about 12 min for the sweep", said[1])  # fmt: skip
    assert len(said) == 2


def test_the_bar_of_a_sweeps_job_and_its_phases(terminal: io.StringIO) -> None:
    shown = JobConsole(2, place=place())
    shown.start()
    shown.update(0.5, 50, NONE)
    assert shown._bar is not None
    shown._bar.refresh()
    for done in (0, 50):
        shown.phase("final episodes", done, 100)
        shown._bar.refresh()
    shown.phase("animation")
    shown.stop()
    said = lines(terminal)
    assert any(
        line.startswith("[2/4] fixed_dqn on acrobot 50% ") and "about 12 min for the sweep" in line for line in said
    )
    assert any("final episodes 50/100" in line for line in said) and "animation" in said[-1]


def test_speed_and_time_left_are_those_of_training_without_compiling(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(console, "LINE_PERIOD", 0.0)
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    shown = JobConsole(2)
    shown.start()
    for now[0], done in ((100.0, 0.01), (101.0, 0.11), (102.0, 0.21)):
        shown.update(done, int(1000 * done), NONE)
    shown.stop()
    assert capsys.readouterr().out.splitlines() == [
        " 11%  step 110  200 steps/s  eval return -  9 s left",
        " 21%  step 210  200 steps/s  eval return -  8 s left",
    ]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("alone", [True, False])
def test_the_bar_fits_into_one_line_of_any_terminal(width: int, alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "Console", partial(Console, file=screen, force_terminal=True, width=width))
    monkeypatch.setattr(console, "BAR_PERIOD", 0.0)
    shown = JobConsole(2, place=None if alone else place())
    shown.start()
    shown.update(0.5, 123_456, np.array([-432.1, -432.1]))
    assert shown._bar is not None
    shown._bar.refresh()
    shown.stop()
    text = lines(screen)[-1]
    assert len(text) <= width and " 50% ━" in f" {text}" and text.startswith("50%" if alone else "[2/4] fixed_dqn")
    assert ("step 123,456" if alone else "0 s left, a") in text


def test_jobs_that_print_beside_each_other_have_no_bars(terminal: io.StringIO) -> None:
    shown = JobConsole(2, place=place(beside=True))
    shown.start()
    assert shown._bar is None


def test_elsewhere_a_long_phase_has_a_line_and_a_short_one_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "LINE_PERIOD", 0.0)
    monkeypatch.setattr(console, "SHORT", 0.05)
    shown = JobConsole(2)
    shown.start()
    shown.phase("second look at the best weights", 0, 3)
    shown.phase("animation")
    time.sleep(0.2)
    shown.phase("delivery")
    shown.stop()
    time.sleep(0.1)
    assert capsys.readouterr().out.splitlines() == ["animation ..."]


def test_at_most_one_line_of_phases_in_a_period(capsys: pytest.CaptureFixture[str]) -> None:
    shown = JobConsole(2)
    shown.start()
    for done in range(0, 100, 20):
        shown.phase("final episodes", done, 100)
    shown._shown -= console.LINE_PERIOD
    for done in (40, 60):
        shown.phase("final episodes", done, 100)
    shown.stop()
    assert capsys.readouterr().out.splitlines() == ["final episodes 40/100 ..."]


def test_a_quiet_job_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shown = JobConsole(2, quiet=True)
    shown.start()
    shown.phase("animation")
    shown.update(1.0, 10, NONE)
    shown.stop()
    assert capsys.readouterr() == ("", "")


def test_a_spread_of_rounding_errors_is_zero_and_huge_returns_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    def summary(values: list[float], **final: Any) -> dict[str, Any]:
        numbers = {"per_trial": values, "iqm": values[0], "mean": values[0], "min": min(values), "max": max(values)}
        return {
            "algo": "dqn", "env": "cartpole", "status": "done", "trials": [], "wall_seconds": 1.0, "grouped": 4,
            "steps_per_second": 10.0, "final/return": {**numbers, **final},
        }  # fmt: skip

    JobConsole(2).table(summary([9.999999999999998, 10.0], std=9.93e-16, ci95=[10.0, 10.0]))
    JobConsole(2).table(summary([1e30, 1e30], std=0.0, ci95=[None, None]))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("final", "10 env"))]
    assert said == [
        "final return over 2 trials: IQM 10 [10.0, 10.0], mean 10, std 0, min 10, max 10.0",
        "10 env steps/s over all trials, 1.0 s in all, with the 4 jobs of its group",
        "final return over 2 trials: IQM 1e+30, mean 1e+30, std 0, min 1e+30, max 1e+30",
        "10 env steps/s over all trials, 1.0 s in all, with the 4 jobs of its group",
    ]
