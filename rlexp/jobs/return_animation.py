"""Animations of an episode with the distribution of returns of each action beside the environment.

A frame shows the state before a step, what the policy expects of each action there, and the action that it takes.
Axes: T frames, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image

from rlexp.jobs.animation import rendered, write_gif, write_mp4
from rlexp.jobs.plots import BLUE, GREY, INK, ORANGE, SKY, VERMILION, style
from rlexp.jobs.policy import Policy
from rlexp.jobs.returns import Histogram, histogram, quantity, returns_of
from rlexp.system.errors import refusal
from rlexp.system.words import number

COLORS = (BLUE, VERMILION, "#009E73", ORANGE, "#CC79A7", SKY)  # of actions (Okabe and Ito 2008)
HEIGHT, WIDTH, DPI = 270, 420, 100  # pixels of the panel; the environment is scaled to its height
MAX_FRAMES = 100  # more would take too long to draw, and make a large file
MAX_ACTIONS = len(COLORS)  # drawn: those chosen most often, then those with the highest means


def animate_returns(policy: Policy, episode_seed: int, path: Path, max_steps: int) -> float:
    """Render one episode with its distributions to a `.gif` or `.mp4` file.

    Args:
        policy: of a distributional algorithm.
        episode_seed: of the episode.
        path: file to write.
        max_steps: the episode is cut here.

    Returns:
        The undiscounted return.

    Raises:
        Refusal: if the algorithm has no distributions, or they are not finite.
    """
    returns = returns_of(policy)
    observations: list[np.ndarray] = []
    actions: list[int] = []

    def act(observation: Any) -> Any:
        observations.append(np.array(policy.observed(observation)))  # a copy
        action = policy(observation)
        actions.append(int(action))
        return action

    frames, episode_return, fps = rendered(policy, act, episode_seed, max_steps)
    kept = np.unique(np.rint(np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES))).astype(int))
    steps = np.minimum(kept, len(actions) - 1)  # the last frame shows the state after the last step
    found = returns(np.stack([observations[step] for step in steps]))
    if not (np.isfinite(found.values).all() and np.isfinite(found.probabilities).all()):
        raise refusal("distribution", "a saved model that gives finite returns", "one that does not")
    panels = draw_panels(histogram(found), found.means, [actions[step] for step in steps], quantity(policy.settings))
    joined = [beside(frames[place], panel) for place, panel in zip(kept, panels, strict=True)]
    rate = fps * len(joined) / len(frames)  # as long as the episode
    if path.suffix == ".mp4":
        write_mp4(joined, path, rate)
    else:
        write_gif(joined, path, rate, max_width=joined[0].shape[1])
    return episode_return


def draw_panels(bars: Histogram, means: np.ndarray, chosen: Sequence[int], xlabel: str) -> list[np.ndarray]:
    """A picture of the distributions for each frame: bars per action, a line at its mean, the chosen one in front.

    Args:
        bars: the distributions.  # [T, A, H]
        means: action values.  # [T, A]
        chosen: action of each frame.  # [T]
        xlabel: what the distributions are of.

    Returns:
        RGB pictures of `HEIGHT` by `WIDTH` pixels.
    """
    number_of_times = np.bincount(chosen, minlength=means.shape[1])
    drawn = sorted(np.lexsort((-means.max(axis=0), -number_of_times))[:MAX_ACTIONS].tolist())
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    style(axes)
    axes.set_xlabel(xlabel, fontsize=8, color=INK)
    axes.set_ylabel("probability", fontsize=8, color=INK)
    axes.tick_params(labelsize=7)
    axes.set_ylim(0, 1.05 * float(bars.heights[:, drawn].max()))
    axes.set_xlim(*_with_room(bars.limits))
    colors = {action: COLORS[k] for k, action in enumerate(drawn)}
    shapes = {a: axes.stairs(bars.heights[0, a], bars.edges, fill=True, color=colors[a]) for a in drawn}
    outlines = {a: axes.stairs(bars.heights[0, a], bars.edges, color=colors[a]) for a in drawn}
    lines = {a: axes.axvline(0.0, color=colors[a], linestyle="--") for a in drawn}
    _add_legend(axes, colors, means.shape[1] - len(drawn))
    title = axes.set_title(_title(chosen[0], means[0]), loc="left", fontsize=8, color=INK)
    pictures = []
    for t, action in enumerate(chosen):
        for a in drawn:
            front = a == action
            for shape in (shapes[a], outlines[a]):
                shape.set_data(bars.heights[t, a])
            shapes[a].set(alpha=0.6 if front else 0.15, zorder=3 if front else 2)
            outlines[a].set(linewidth=2.0 if front else 0.8, zorder=3.5 if front else 2.5)
            lines[a].set(xdata=[means[t, a]] * 2, linewidth=2.2 if front else 1.0, zorder=5 if front else 4)
        title.set_text(_title(action, means[t]))
        canvas.draw()
        if t == 0:
            figure.set_layout_engine("none")  # the axes keep their place
        pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return pictures


def _title(action: int, means: np.ndarray) -> str:
    return f"chosen: action {action}, mean {number(float(means[action]))}"


def _with_room(limits: tuple[float, float]) -> tuple[float, float]:
    room = 0.03 * (limits[1] - limits[0])
    return limits[0] - room, limits[1] + room


def _add_legend(axes: Axes, colors: dict[int, str], left_out: int) -> None:
    handles: list[Any] = [Patch(color=color, alpha=0.6) for color in colors.values()]
    handles.append(Line2D([], [], color=GREY, linestyle="--"))
    names = [*(f"action {action}" for action in colors), "mean"]
    if left_out:
        handles.append(Line2D([], [], linestyle=""))
        names.append(f"{left_out} not drawn")
    axes.legend(handles, names, fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def beside(frame: np.ndarray, panel: np.ndarray) -> np.ndarray:
    """A frame of the environment, scaled to a panel's height, and the panel at its right.  # [HEIGHT, W, 3]"""
    height, width = frame.shape[:2]
    size = (max(1, round(width * panel.shape[0] / height)), panel.shape[0])
    scaled = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))
    return np.concatenate([scaled, panel], axis=1)
