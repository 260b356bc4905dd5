import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from rlexp.jobs.plots import BLUE, ORANGE, SKY, VERMILION, learning_curve, learning_curve_figure
from rlexp.jobs.results import JobData
from rlexp.math.statistics import bootstrap_ci, iqm, summarize

STEPS = np.arange(1, 51) * 1000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def curve(num_trials: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return STEPS, np.linspace(20, 480, 50)[:, None] + rng(seed).normal(0, 20, size=(50, num_trials))


def job(curves, num_trials, summary=None) -> JobData:
    return JobData(Path(), {"algo": "ddqn", "env": "CartPole-v1", "seeds": [*range(num_trials)]}, summary, curves)


def lines(axes, color):
    return [line for line in axes.lines if to_hex(line.get_color()) == color.lower()]


def texts(figure):
    axes = figure.axes[0]
    return axes.get_title(loc="left"), *(text.get_text() for text in axes.texts)


def legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_finished_job_shows_trials_iqm_band_training_and_final_returns():
    curves = {"eval/return": curve(5), "train/return": curve(5, seed=1)}
    final = summarize([500.0, 490.0, 480.0, 470.0, 9.5], rng())
    summary = {"final/return": final, "trials": [{"seed": seed, "status": "done"} for seed in range(5)]}
    figure = learning_curve_figure(job(curves, 5, summary), rng())
    low, high = final["ci95"]
    assert texts(figure) == (
        "ddqn on CartPole-v1",
        f"5 trials  ·  final return: IQM 480.0, 95 % interval {low:.1f} to {high:.1f}",
    )
    axes, edge = figure.axes
    assert axes.get_xlabel() == "env steps per trial"
    assert axes.get_ylabel() == "return per episode (evaluation)"
    assert legend(figure) == ["single trials", "95 % interval", "IQM", "training (mean of 2 records)"]
    assert axes.get_xlim() == (-1_000, 51_000)  # markers lie inside the frame

    steps, values = curves["eval/return"]
    trials = lines(axes, SKY)
    assert len(trials) == 5
    for line, column in zip(trials, values.T, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.stack([steps, column], axis=1))
    (thick,) = lines(axes, BLUE)
    np.testing.assert_array_equal(thick.get_xdata(), steps)
    np.testing.assert_array_equal(thick.get_ydata(), iqm(values))
    assert thick.get_linewidth() > 2 * trials[0].get_linewidth()
    assert len(range(0, 50, thick.get_markevery())) <= 12

    (training,) = lines(axes, ORANGE)
    raw = curves["train/return"][1]
    np.testing.assert_array_equal(training.get_ydata()[0], iqm(raw[0]))
    np.testing.assert_allclose(training.get_ydata()[1:], iqm((raw[1:] + raw[:-1]) / 2))

    dots = edge.collections[0]
    np.testing.assert_array_equal(dots.get_offsets()[:, 1], final["per_trial"])
    assert to_hex(dots.get_facecolor()[0]) == VERMILION.lower()
    diamond, interval = edge.lines
    assert diamond.get_ydata() == [480.0]
    np.testing.assert_array_equal(interval.get_ydata(), [low, high])
    assert edge.get_ylim() == axes.get_ylim()


def test_band_is_the_bootstrap_interval_at_each_step():
    data = job({"eval/return": curve(5)}, 5)
    band = learning_curve_figure(data, rng(3)).axes[0].collections[0]
    seed = int(rng(3).integers(2**32))
    vertices = band.get_paths()[0].vertices
    for step, values in zip(*curve(5), strict=True):
        at_step = vertices[vertices[:, 0] == step, 1]
        expected = bootstrap_ci(values, iqm, np.random.default_rng(seed))
        np.testing.assert_allclose([at_step.min(), at_step.max()], expected)


def test_figure_depends_on_the_generator_alone():
    data = job({"eval/return": curve(9)}, 9)
    first, again, other = (
        learning_curve_figure(data, rng(seed)).axes[0].collections[0].get_paths()[0].vertices for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_running_job_gives_its_last_evaluation():
    data = job({"eval/return": curve(4)}, 4)
    figure = learning_curve_figure(data, rng())
    assert len(figure.axes) == 1
    expected = iqm(curve(4)[1][-1])
    assert texts(figure)[1].startswith(f"4 trials  ·  last evaluation: IQM {expected:.1f}, 95 % interval 4")


def test_diverged_trial_is_counted_and_its_line_ends():
    steps, values = curve(4)
    values[20:, 1] = np.nan
    final = summarize([500.0, math.nan, 400.0, 300.0], rng())
    trials = [{"seed": seed, "status": "diverged" if seed == 1 else "done"} for seed in range(4)]
    summary = {"final/return": final, "trials": trials}
    figure = learning_curve_figure(job({"eval/return": (steps, values)}, 4, summary), rng())
    assert texts(figure)[1].startswith("4 trials (1 diverged)  ·  final return: IQM 400.0, 95 % interval")
    assert [len(line.get_xdata()) for line in lines(figure.axes[0], SKY)] == [50, 20, 50, 50]
    np.testing.assert_allclose(lines(figure.axes[0], BLUE)[0].get_ydata()[20:], values[20:, [0, 2, 3]].mean(axis=1))


def test_one_trial_has_neither_band_nor_interval():
    summary = {"final/return": summarize([9.5], rng()), "trials": [{"seed": 0, "status": "done"}]}
    figure = learning_curve_figure(job({"eval/return": curve(1)}, 1, summary), rng())
    axes, edge = figure.axes
    assert texts(figure)[1] == "1 trial  ·  final return: 9.5"
    assert legend(figure) == ["evaluation"]
    assert (len(axes.lines), len(axes.collections), len(edge.lines)) == (1, 0, 0)
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), curve(1)[1][:, 0])


def test_training_takes_the_place_of_a_missing_evaluation():
    values = np.full((50, 3), np.nan)
    figure = learning_curve_figure(job({"train/return": curve(3), "eval/return": (STEPS, values)}, 3), rng())
    axes = figure.axes[0]
    assert texts(figure)[1] == "3 trials"
    assert axes.get_ylabel() == "return per training episode (mean of 2 records)"
    assert (len(lines(axes, SKY)), len(lines(axes, BLUE)), len(lines(axes, ORANGE))) == (3, 1, 0)


def test_moving_mean_skips_missing_values():
    values = np.tile([[1.0], [3.0], [np.nan], [np.nan], [7.0]], (10, 1))
    axes = learning_curve_figure(job({"train/return": (STEPS, values)}, 1), rng()).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_ydata()[:6], [1.0, 2.0, 3.0, np.nan, 7.0, 4.0])


def test_the_axis_says_how_the_evaluated_policy_acts():
    data = job({"eval/return": curve(2)}, 2)
    for policy, words in (("greedy", "greedy evaluation"), ("sampled", "sampling evaluation"), (7, "evaluation")):
        data.config = {"evaluation": {"policy": policy}}
        axes = learning_curve_figure(data, rng()).axes[0]
        assert axes.get_ylabel() == f"return per episode ({words})"


@pytest.mark.parametrize(
    ("curves", "text"),
    [
        ({}, "no records yet"),
        ({"eval/return": (STEPS, np.full((50, 2), np.nan))}, "all returns are missing"),
        ({"train/loss": curve(2)}, "all returns are missing"),
    ],
)
def test_picture_says_when_there_is_nothing_to_draw(curves, text, tmp_path):
    final = summarize([math.nan, math.nan], rng())
    data = job(curves, 2, {"final/return": final, "trials": []})
    figure = learning_curve_figure(data, rng())
    assert texts(figure) == ("ddqn on CartPole-v1", text, "2 trials")
    assert figure.axes[0].lines[:] == []
    learning_curve(data, tmp_path / "curve.png", rng())
    assert Image.open(tmp_path / "curve.png").size == (900, 570)


def test_single_record_is_visible():
    axes = learning_curve_figure(job({"eval/return": (np.array([0]), np.array([[1.0, 2.0]]))}, 2), rng()).axes[0]
    assert [line.get_marker() for line in axes.lines] == [".", ".", "o"]
    assert axes.get_xlim() == (-0.02, 1.02)


def test_missing_last_evaluation_and_infinite_returns_are_drawn(tmp_path):
    steps, values = curve(3)
    values[-1], values[4, 0] = np.nan, np.inf
    figure = learning_curve_figure(job({"eval/return": (steps, values)}, 3), rng())
    assert texts(figure)[1] == "3 trials  ·  last evaluation: IQM missing"
    assert np.isfinite(figure.axes[0].get_ylim()).all()
    figure.savefig(tmp_path / "curve.png")


def test_png_is_900_pixels_wide_and_has_the_colours(tmp_path):
    path = tmp_path / "curve.png"
    learning_curve(job({"eval/return": curve(5), "train/return": curve(5, seed=1)}, 5), path, rng())
    image = Image.open(path).convert("RGB")
    assert image.size == (900, 570)
    colors = {"#{:02x}{:02x}{:02x}".format(*color) for _, color in image.getcolors(900 * 570)}
    assert {BLUE.lower(), ORANGE.lower(), "#ffffff"} <= colors


def test_pyplot_is_not_imported():
    code = "import sys, rlexp.jobs.plots; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
