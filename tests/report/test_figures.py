"""The figures of a report: nothing is clipped, no panel is missing, logarithms where they belong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from rlexp.report import figures
from rlexp.report.colors import COLORS, LIGHT
from rlexp.report.drawing import Line, set_limits
from rlexp.report.figures import Slice, is_logarithmic
from rlexp.report.study import logarithmic_keys


def line(label: str, color: str, values: np.ndarray, band: np.ndarray) -> Line:
    steps = 100 * np.arange(1, len(values) + 1)
    final = values[-1]
    return Line(
        label, color, "o", steps, values, np.median(values, axis=1), band, final, float(final.mean()), (0.0, 1.0)
    )


def test_limits_show_bands_and_markers_but_no_single_catastrophe() -> None:
    values = np.tile([-10.0, -11.0, -12.0, -9000.0], (5, 1))
    low = line("dqn", COLORS[0], values, np.stack([np.full(5, -400.0), np.full(5, -10.0)]))
    axes = Figure().subplots()
    set_limits(axes, [low], {})
    bottom, top = axes.get_ylim()
    assert -450 < bottom < -400 and top > -10  # the band, not the catastrophic trial
    left, right = axes.get_xlim()
    assert left < 0 and right > 500  # the marker at the last step lies inside
    set_limits(axes, [low], {"published": -700.0})
    assert axes.get_ylim()[0] < -700


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
def test_panels_fill_their_grid(count: int) -> None:
    lines = [line(f"dqn {k}", COLORS[k], np.ones((4, 2)), np.ones((2, 4))) for k in range(count)]
    figure = figures.single_trials(lines, lines, "return")
    assert all(axes.get_visible() for axes in figure.axes) and len(figure.axes) == count
    columns = [tuple(axes.get_subplotspec().colspan) for axes in figure.axes]
    assert columns == [(k % 2,) for k in range(count - count % 2)] + [(0, 1)] * (count % 2)


def test_trials_and_published_results_stand_in_the_row_of_their_contender() -> None:
    lines = [line(f"dqn {k}", color, np.ones((4, 2)), np.ones((2, 4))) for k, color in enumerate((COLORS[0], LIGHT))]
    figure = figures.final_returns(lines, {"solved 5": 5.0}, {"dqn 1": {"CleanRL": 3.0, "rl-baselines3-zoo": 4.0}})
    (axes,) = figure.axes
    hollow = [(x.get_xdata()[0], x.get_ydata()[0]) for x in axes.lines if x.get_markerfacecolor() == "white"]
    assert np.array(hollow) == pytest.approx(np.array([(3.0, 0.82), (4.0, 0.82)]))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "published, CleanRL",
        "published, rl-baselines3-zoo",
    ]
    low, high = axes.get_xlim()
    assert low < 1 and high > 5


@pytest.mark.parametrize(
    ("values", "searched", "logarithmic"),
    [
        ([1e-4, 3e-4, 1e-3], False, True),
        ([1e-4, 1e-3], False, True),
        ([32, 64, 128, 256, 512], False, True),
        ([0.9, 0.95, 0.99], False, False),
        (list(range(1, 11)), False, False),  # range(1,11): linear, although it spans a decade
        ([1e-4, 2e-4, 3e-4], True, True),
        ([0, 1e-3, 1e-2], True, False),
        ([True, False], False, False),
        (["adam", "sgd"], True, False),
    ],
)
def test_axes_are_logarithmic_for_what_was_searched_so_or_spans_decades(
    values: list[object], searched: bool, logarithmic: bool
) -> None:
    assert is_logarithmic(values, searched) is logarithmic
    shown = Slice(values, np.arange(float(len(values))), np.zeros((2, len(values))), logarithmic)
    (axes,) = figures.slices({"key": shown}).axes
    assert axes.get_xscale() == ("log" if logarithmic else "linear")


def test_the_searched_logarithms_come_from_the_plans_of_searches(tmp_path: Path) -> None:
    space = [{"key": "+algo.optimizer.lr", "log": True}, {"key": "algo.gamma", "log": False}, "odd"]
    for number, plan in enumerate(({"search": {"space": space}}, {"study": "s"})):
        folder = tmp_path / "s" / "sweeps" / str(number)
        folder.mkdir(parents=True)
        (folder / "sweep.json").write_text(json.dumps(plan))
    (tmp_path / "s" / "sweeps" / "1" / "sweep.json").write_text("{")  # damaged: a warning
    assert logarithmic_keys([tmp_path / "s", tmp_path / "t"]) == {"algo.optimizer.lr"}
