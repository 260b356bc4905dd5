"""The chapter's Figures 18-9 and 18-10, drawn from our results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rlexp.jobs.plots import BLUE, DPI, INK, SKY, WIDTH, style


def q_values(planned: np.ndarray, learned: np.ndarray, path: str | Path) -> None:
    """Write the chapter's Figure 18-9 as a PNG: one action value by planning and by learning.

    Args:
        planned: the value after each sweep of Q-value iteration; the last one is drawn as the true value.  # [I]
        learned: the value after each step of Q-learning.  # [T]
        path: file to write.
    """
    figure = Figure(figsize=(8.0, 3.4), dpi=DPI, facecolor="white", layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, values, title in zip(panels, (planned, learned), ("Q-value iteration", "Q-learning"), strict=True):
        style(axes)
        axes.axhline(planned[-1], color=INK, linestyle="--", linewidth=1.0)
        axes.plot(values, color=BLUE, linewidth=1.6)
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        axes.set_xlabel("iterations", fontsize=8.5, color=INK)
        axes.set_xlim(0, len(values) - 1)
        axes.set_ylim(0, 1.25 * planned[-1])
    panels[0].set_ylabel("Q(s0, a0)", fontsize=8.5, color=INK)
    figure.savefig(path, format="png")


def episode_returns(returns: list[np.ndarray], title: str, path: str | Path) -> None:
    """Write the chapter's Figure 18-10, or the same for another job, as a PNG: the return of each training episode.

    Thin lines are trials (moving means if there are many episodes), the thick line is their mean.

    Args:
        returns: of each trial, in order.  # N arrays [E_k]
        title: above the axes.
        path: file to write.
    """
    figure = Figure(figsize=(WIDTH, 3.0), dpi=100, facecolor="white", layout="constrained")
    axes = figure.subplots()
    style(axes)
    values = np.full((max(map(len, returns)), len(returns)), np.nan)  # [E, N]
    for trial, column in enumerate(returns):
        values[: len(column), trial] = column
    window = max(1, len(values) // 60)
    kernel = np.ones(window) / window
    smooth = np.stack([np.convolve(column, kernel, mode="valid") for column in values.T], axis=1)  # [E - window + 1, N]
    episodes = np.arange(window, len(values) + 1)
    axes.plot(episodes, smooth, color=SKY, linewidth=0.7, alpha=0.7)
    axes.plot(episodes, smooth.mean(axis=1), color=BLUE, linewidth=1.8)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set_xlabel("episode", fontsize=8.5, color=INK)
    axes.set_ylabel("sum of rewards" + (f" (mean of {window})" if window > 1 else ""), fontsize=8.5, color=INK)
    axes.set_xlim(0, len(values))
    axes.set_ylim(bottom=min(0.0, float(np.nanmin(smooth))))
    figure.savefig(path, format="png")
