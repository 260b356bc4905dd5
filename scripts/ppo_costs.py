"""The part `ppo` of benchmark.py: PPO with four environments per trial, a bare environment and Stable-Baselines3.

Fused on CartPole with 1, 10 and 32 trials, where an iteration is one XLA program, and on the host engine on LunarLander
with ten. Each number comes from a process of its own, after compilation; those that are compared run in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from measuring import Row, spread

Run = Callable[..., Any]  # `benchmark.run`: a job in a process of its own, whose records it has read
Peer = Callable[[tuple[str, str, int]], float | None]  # `speed.peer`: env steps per second, None if not installed

PPO = (
    *("algo=ppo", "algo.num_envs=4", "algo.batch_size=512", "algo.num_updates=4", "algo.num_minibatches=4"),
    *("algo.optimizer.lr=2.5e-4", "algo.optimizer.clip_norm=0.5", "algo.entropy_coef=0.01", "algo.gae_lambda=0.95"),
    *("algo.gamma=0.99", "network.hidden_units=[64,64]", "network.activation=tanh"),
)
CARTPOLE = {1: (600_000, 0.7, 30.0), 10: (200_000, 2.0, 60.0), 32: (80_000, 2.3, None)}  # trials: steps, least ratios
LANDER = 10, 20_000, 5.0  # trials, steps, least ratio to the peer
BARE, PEER = ("bare", "cartpole", 200_000), ("sb3", "ppo_cartpole", 10_240)
LANDER_PEER = ("sb3", "ppo_lunar_lander", 10_240)
QUICK = 10  # a quick run has this fraction of the steps


def ppo(run: Run, peer: Peer, output: Path, no_scoring: Sequence[str], rounds: int, quick: bool) -> list[Row]:
    """Time all of them in turn.

    Args:
        run: `benchmark.run`.
        peer: `speed.peer`.
        output: folder for the jobs.
        no_scoring: options that leave out everything but training.
        rounds: measurements of each number.
        quick: jobs of fewer steps.
    """
    speeds: dict[Any, list[float]] = {}

    def note(name: Any, value: float | None) -> None:
        if value is not None:
            speeds.setdefault(name, []).append(value)

    for repeat in range(rounds):
        for which in (BARE, PEER, LANDER_PEER):
            note(which, peer(which))
        for trials, (steps, *_) in CARTPOLE.items():
            note(
                trials,
                _speed(run, output / f"ppo-{trials}-{repeat}", "fused", "cartpole", trials, steps, no_scoring, quick),
            )
        trials, steps, _ = LANDER
        note(
            "lander",
            _speed(run, output / f"ppo-lander-{repeat}", "host", "lunar_lander", trials, steps, no_scoring, quick),
        )
    return rows(speeds)


def _speed(
    run: Run, folder: Path, engine: str, env: str, trials: int, steps: int, no_scoring: Sequence[str], quick: bool
) -> float:
    """Env steps per second over all trials, from a fifth of the job on."""
    steps = steps // QUICK if quick else steps
    options = (*PPO, f"env={env}", f"engine={engine}", f"trials={trials}", f"budget.steps={steps}", *no_scoring)
    return float(run(folder, *options).steps_per_second(first=steps // 5))


def rows(speeds: Mapping[Any, Sequence[float]]) -> list[Row]:
    """The lines of the table: ratios of each round, and medians of the steps per second."""
    made: list[Row] = []
    what = "steps/s of ppo over all trials, E = 4, T = 128, 4 epochs of 4 minibatches"
    for trials, (_, least, least_peer) in CARTPOLE.items():
        job = f"{what}, CartPole, fused, {trials} trial{'s' * (trials > 1)}"
        made.append(_row(f"{job}, against one bare CartPole", least, speeds[trials], speeds[BARE]))
        if PEER in speeds and least_peer is not None:
            made.append(_row(f"{job}, against Stable-Baselines3", least_peer, speeds[trials], speeds[PEER]))
    if LANDER_PEER in speeds:
        job = f"{what}, LunarLander, host, {LANDER[0]} trials, against Stable-Baselines3"
        made.append(_row(job, LANDER[2], speeds["lander"], speeds[LANDER_PEER]))
    return made


def _row(what: str, least: float, own: Sequence[float], other: Sequence[float]) -> Row:
    """One line; the two were measured in turn."""
    ratios = [a / b for a, b in zip(own, other, strict=True)]
    text = f"{spread(ratios, '.2f')}; {median(own):,.0f} and {median(other):,.0f} steps/s"
    return Row(what, f">= {least:g}", text, median(ratios) >= least)
