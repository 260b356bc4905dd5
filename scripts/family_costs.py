"""The part `family` of benchmark.py: what the components of the DQN family cost on the fused engine, against ddqn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from measuring import Row, spread

Run = Callable[..., Any]  # `benchmark.run`: a job in a process of its own, whose records it has read

BASE = ("algo=ddqn",)
MEMBERS: dict[str, tuple[tuple[str, ...], float | None]] = {  # options, least share of ddqn's steps per second
    "prioritised ddqn": ((*BASE, "algo.replay=prioritized"), 0.5),
    "noisy ddqn": ((*BASE, "network.noisy=true", "algo.epsilon=null"), 0.6),
    "c51": (("algo=c51",), 0.5),
    "qr_dqn": (("algo=qr_dqn",), 0.5),
    "iqn": (("algo=iqn",), 0.35),
    "rainbow": (("algo=rainbow",), 0.25),
    "munchausen_dqn": (("algo=munchausen_dqn",), None),
}
STEPS, QUICK_STEPS = 20_000, 4_000  # of each trial
LEARNING = (
    2_000  # steps from which on it is timed: all replays have been learned from, and nothing is compiled any more
)


def family(run: Run, output: Path, no_scoring: Sequence[str], rounds: int, quick: bool) -> list[Row]:
    """Time each member and ddqn in turn, ten trials with CartPole's defaults.

    Args:
        run: `benchmark.run`.
        output: folder for the jobs.
        no_scoring: options that leave out everything but training.
        rounds: pairs of each ratio.
        quick: jobs of fewer steps.
    """
    steps = QUICK_STEPS if quick else STEPS
    common = ("env=cartpole", "trials=10", "engine=fused", f"budget.steps={steps}", *no_scoring)
    ratios: dict[str, list[float]] = {name: [] for name in MEMBERS}
    speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in MEMBERS}
    for repeat in range(rounds):
        for name, (options, _) in MEMBERS.items():
            pair = {}
            for which in (options, BASE) if repeat % 2 else (BASE, options):
                folder = output / f"family-{name.replace(' ', '-')}-{repeat}-{'ddqn' if which is BASE else 'member'}"
                pair[which] = run(folder, *which, *common).steps_per_second(first=LEARNING)
            ratios[name].append(pair[options] / pair[BASE])
            speeds[name].append((pair[options], pair[BASE]))
    return [row(name, least, ratios[name], speeds[name]) for name, (_, least) in MEMBERS.items()]


def row(name: str, least: float | None, ratios: Sequence[float], speeds: Sequence[tuple[float, float]]) -> Row:
    """The line of one member: its share of ddqn's speed in each pair, and the steps per second of both."""
    own, base = (median(values) for values in zip(*speeds, strict=True))
    return Row(
        f"steps/s of {name} against ddqn's, CartPole's defaults, 10 trials, fused",
        "reported" if least is None else f">= {least:g}",
        f"{spread(ratios, '.2f')}; {own:,.0f} and {base:,.0f} steps/s",
        least is None or median(ratios) >= least,
    )
