"""The figure of one job: the learning curves of its trials, and their final returns at the right.

Figures are built without pyplot, so there is no global state and no window, and threads are safe. Axes: `N` trials, `T`
records.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from rlexp.jobs.pictures import Picture
from rlexp.jobs.results import JobData
from rlexp.math.statistics import bootstrap_band, iqm, summarize
from rlexp.system.words import decimal

# Okabe-Ito palette, told apart with any colour vision (Okabe and Ito 2008, "Color Universal Design").
BLUE, SKY, ORANGE, VERMILION = "#0072B2", "#56B4E9", "#E69F00", "#D55E00"
INK, GREY, PALE = "#222222", "#666666", "#E6E6E6"

WIDTH, HEIGHT, DPI = 6.0, 3.8, 150  # inches, inches, pixels per inch: 900 x 570 pixels
NUM_BAND_POINTS = 200  # steps at which the bootstrap band is computed, at most: more cannot be told apart
NUM_MARKERS = 12  # on the IQM line, at most
ROOM = 0.02  # of the x axis at each end, so that markers lie inside the frame
SMOOTHING_WINDOWS = 25  # training returns: the moving mean covers one 25th of the records


def learning_curve(data: JobData, path: str | Path, generator: np.random.Generator) -> None:
    """Write `learning_curve_figure` as a PNG of 900 x 570 pixels.

    Args:
        data: the job.
        path: file to write.
        generator: source of the bootstrap.
    """
    learning_curve_figure(data, generator).savefig(path, format="png", dpi=DPI)


def learning_curve_figure(data: JobData, generator: np.random.Generator) -> Figure:
    """Draw a job's returns against the env steps of one trial.

    `eval/return`: thin lines are trials, the thick line is their interquartile mean (IQM), the band its pointwise 95 %
    bootstrap interval, each over the trials that have a value there. `train/return`: the IQM of the trials' trailing
    moving means, dashed; it replaces `eval/return` if there is none. `final/return` of the summary: one dot per trial
    at the right edge, with their IQM and its interval.

    Args:
        data: the job, finished or not; if there is nothing to draw, a text says so.
        generator: source of the bootstrap.

    Returns:
        The figure, not known to pyplot.
    """
    evaluation, training = _curve(data, "eval/return"), _curve(data, "train/return")
    final = (data.summary or {}).get("final/return")
    if final and final["iqm"] is None:  # no trial has a value
        final = None
    figure, axes, edge = _panels(data, with_final=bool(final))
    if evaluation:
        _draw_evaluation(axes, evaluation, training, generator)
    elif training:
        _draw_training(axes, training, generator)
    else:
        _draw_nothing(axes, "all returns are missing" if data.curves else "no records yet")
    curves = [curve for curve in (evaluation, training) if curve]
    if curves:
        last = max(1, *(curve[0][-1] for curve in curves))
        axes.set_xlim(-ROOM * last, (1 + ROOM) * last)
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.015, 1.0), ncols=4, frameon=False, fontsize=7.5, borderaxespad=0.1
        )
    if final and edge is not None:
        _draw_final(edge, final)
    name, result = "final return", final
    if evaluation and not final:
        name, result = "last evaluation", summarize(evaluation[1][-1], generator)
    _add_titles(axes, data, f"{name}: {_result_text(result)}" if result else "", above_legend=bool(curves))
    return figure


def _panels(data: JobData, with_final: bool) -> tuple[Figure, Axes, Axes | None]:
    """A figure with axes for the curves, and narrow ones at the right for the final returns if there are any."""
    figure = Picture(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor="white")
    figure.subplots_adjust(left=0.105, right=0.975, bottom=0.13, top=0.82, wspace=0.05)
    width_ratios = [9, 1] if with_final else [1]
    grid = figure.add_gridspec(1, len(width_ratios), width_ratios=width_ratios)
    axes, *edge = grid.subplots(sharey=True, squeeze=False)[0]
    axes.set_xlabel("env steps per trial", fontsize=8.5, color=INK)
    axes.set_ylabel(f"return per episode ({_policy(data)}evaluation)", fontsize=8.5, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    for panel in (axes, *edge):
        style(panel)
    return figure, axes, edge[0] if edge else None


def _policy(data: JobData) -> str:
    """How actions are chosen in the evaluations, as an adjective; nothing where the configuration is not known."""
    policy = (data.config.get("evaluation") or {}).get("policy")
    return {"greedy": "greedy ", "sampled": "sampling "}.get(str(policy), "")


def _draw_evaluation(
    axes: Axes,
    evaluation: tuple[np.ndarray, np.ndarray],
    training: tuple[np.ndarray, np.ndarray] | None,
    generator: np.random.Generator,
) -> None:
    _draw_trials(axes, *evaluation, generator)
    if training:
        smooth, label = _moving_mean(training[1])
        axes.plot(training[0], iqm(smooth), "--", color=ORANGE, lw=1.3, zorder=3, label=f"training{label}")


def _draw_training(axes: Axes, training: tuple[np.ndarray, np.ndarray], generator: np.random.Generator) -> None:
    smooth, label = _moving_mean(training[1])
    _draw_trials(axes, training[0], smooth, generator)
    axes.set_ylabel(f"return per training episode{label}")


def _draw_nothing(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=11, color=GREY)
    axes.set(xticks=[], yticks=[])


def _add_titles(axes: Axes, data: JobData, result: str, above_legend: bool) -> None:
    """The title of the job, and below it the number of trials and their result."""
    subtitle = _trials_text(data) + (f"  ·  {result}" if result else "")
    above = 20 if above_legend else 7  # points
    axes.annotate(subtitle, (0, 1), (0, above), "axes fraction", "offset points", fontsize=9, color=GREY)
    title = axes.set_title(
        f"{data.job['algo']} on {data.job['env']}",
        loc="left",
        pad=above + 15,
        fontsize=11.5,
        weight="bold",
        color=INK,
    )
    title.set_parse_math(False)  # a name may contain dollar signs


def _curve(data: JobData, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Steps [T] and values [T, N], with NaN for what is not finite; None if no value is finite."""
    if name not in data.curves:
        return None
    steps, values = data.curves[name]
    values = np.where(np.isfinite(values), values, np.nan)
    return None if np.isnan(values).all() else (steps, values)


def _moving_mean(values: np.ndarray) -> tuple[np.ndarray, str]:
    """The trailing mean over existing values [T, N], and its description in a label."""
    window = max(1, len(values) // SMOOTHING_WINDOWS)
    padded = np.pad(values, ((window - 1, 0), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, window, axis=0)  # [T, N, window]
    present = ~np.isnan(windows)
    with np.errstate(invalid="ignore"):  # 0 / 0 where a window has no value
        means = np.sum(windows, axis=-1, where=present) / present.sum(axis=-1)  # [T, N]
    return means, f" (mean of {window} records)" if window > 1 else ""


def _draw_trials(axes: Axes, steps: np.ndarray, values: np.ndarray, generator: np.random.Generator) -> None:
    num_records, num_trials = values.shape
    if num_trials > 1:
        for trial, column in enumerate(values.T):
            present = ~np.isnan(column)
            line = axes.plot(steps[present], column[present], color=SKY, lw=0.8, alpha=0.6, zorder=2)[0]
            line.set(label="" if trial else "single trials", marker="." if num_records == 1 else "")
        points = np.unique(np.linspace(0, num_records - 1, min(num_records, NUM_BAND_POINTS)).astype(int))
        band = bootstrap_band(values[points], generator)
        axes.fill_between(steps[points], *band, color=BLUE, alpha=0.18, linewidth=0, zorder=1, label="95 % interval")
    axes.plot(
        steps,
        iqm(values),
        color=BLUE,
        linewidth=2.0,
        marker="o",
        markersize=4,
        markeredgecolor="white",
        markeredgewidth=0.7,
        markevery=-(-num_records // NUM_MARKERS),
        zorder=4,
        label="IQM" if num_trials > 1 else "evaluation",
    )


def _draw_final(axes: Axes, final: dict[str, Any]) -> None:
    """Draw a dot per trial, side by side so that equal returns stay visible, and the IQM with its interval."""
    returns = np.array(final["per_trial"], dtype=np.float64)
    several = len(returns) > 1
    places = np.linspace(-0.55, 0.15, len(returns)) if several else [0.0]
    axes.scatter(places, returns, s=14, color=VERMILION, alpha=0.8, linewidth=0, zorder=3)
    if several:
        axes.plot(0.45, final["iqm"], "D", color=INK, markersize=4, zorder=4)
        if None not in final["ci95"]:
            axes.plot([0.45, 0.45], final["ci95"], color=INK, linewidth=1.3, zorder=4)
    axes.set_xlim(-0.7, 0.7)
    axes.set_xticks([0], ["final"])
    axes.tick_params(axis="x", labelcolor=VERMILION)
    axes.tick_params(axis="y", labelleft=False)
    axes.spines["left"].set_visible(False)


def style(axes: Axes) -> None:
    """Give axes the look of all figures: few lines, a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(axis="y", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, labelcolor=INK, color=GREY, length=0, pad=4)


def _trials_text(data: JobData) -> str:
    num_trials = len(data.job["seeds"])
    text = "1 trial" if num_trials == 1 else f"{num_trials} trials"
    # A diverged trial has no values, so it is missing from the mean: the reader must see that.
    trials = (data.summary or {}).get("trials", [])
    num_diverged = sum(trial["status"] == "diverged" for trial in trials)
    return text + (f" ({num_diverged} diverged)" if num_diverged else "")


def _result_text(result: dict[str, Any]) -> str:
    if len(result["per_trial"]) == 1:
        return _number(result["iqm"])
    low, high = result["ci95"]
    interval = "" if None in (low, high) else f", 95 % interval {_number(low)} to {_number(high)}"
    return f"IQM {_number(result['iqm'])}{interval}"


def _number(value: float | None) -> str:
    return "missing" if value is None else decimal(value)
