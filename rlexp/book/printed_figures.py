"""The figures that the chapter's notebook prints, and how the same is measured in our jobs and in literal runs.

Only the notebook's figures, and the differences between our presets and its loops, are written down here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.book import cartpole, mdp
from rlexp.book.literal_loops import Run
from rlexp.jobs.results import load_job
from rlexp.jobs.stored_models import load_table
from rlexp.system.archives import open_npz

NOTEBOOK_WAY = "book/q_log_alpha algo.bootstrap=always"
ONE_TRIAL = ("book/angle_policy", "book/mdp_q_value_iteration", "book/mdp_q_value_iteration algo.gamma=0.95")


@dataclass(frozen=True)
class Exact:
    """A figure that must be reproduced to every printed digit."""

    what: str
    printed: str
    ours: Callable[[Jobs], str]
    job: str = ""  # preset of our result; "" if none is needed
    literal: Callable[[], str] | None = None  # None if ours is the notebook's code
    note: str = ""  # on the printed figure


@dataclass(frozen=True)
class Statistical:
    """A figure that depends on random numbers: we have one value per trial."""

    job: str  # preset
    what: str
    printed: str  # as the notebook prints it; "" if it prints nothing
    figure: float | None  # the number that is compared
    ours: Callable[[JobFolder], np.ndarray]  # [N]
    literal: Callable[[Run], float] | None = None  # of one literal run; None if the loop is not run literally
    own_seed: Callable[[], float] | None = None  # the literal loop with the notebook's seed, if that is known
    values: str = "trials"  # "trials", or "maxima" or "minima", which are compared by their range


class JobFolder:
    """The results of one job, from which figures are computed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, load_job(folder)
        self.seeds: list[int] = self.data.job["seeds"]
        returns = np.loadtxt(folder / "evaluation.csv", delimiter=",", skiprows=1, usecols=2)
        self.final = returns.reshape(len(self.seeds), -1)  # [N, E]

    def training(self) -> list[np.ndarray]:
        """Returns of the training episodes of each trial, in order."""
        with open_npz(self.folder / "episodes.npz") as file:
            return [file["return"][file["trial"] == k] for k in range(len(self.seeds))]

    def per_trial(self, statistic: Callable[..., Any]) -> np.ndarray:
        """A statistic of each trial's training episodes.  # [N]"""
        return np.array([statistic(returns) for returns in self.training()], np.float64)

    def history(self) -> np.ndarray:
        """All iterates of a planning job.  # [I + 1, S, A]"""
        with open_npz(self.folder / "history.npz") as file:
            return file["q"]


Jobs = dict[str, JobFolder]  # preset (and overrides) -> results


def training(statistic: Callable[..., Any]) -> Callable[[JobFolder], np.ndarray]:
    """One statistic of a trial's training episodes."""
    return lambda job: job.per_trial(statistic)


def first_finals(number: int, statistic: Callable[..., Any]) -> Callable[[JobFolder], np.ndarray]:
    """One statistic of a trial's first final episodes, of which the notebook plays fewer."""
    return lambda job: statistic(job.final[:, :number], axis=1)


def running(statistic: Callable[..., Any]) -> Callable[[np.ndarray], float]:
    """A statistic of the running total of returns, which is never reset."""
    return lambda returns: float(statistic(np.cumsum(returns)))


def loop(name: str, statistic: Callable[..., Any]) -> Callable[[Run], float]:
    """A statistic of the episodes of one loop of a literal run."""
    return lambda run: float(statistic(run[name]))


def _q_table(job: str) -> Callable[[Jobs], str]:
    return lambda jobs: _numbers(jobs[job].history()[-1], 8)


def _policy(job: str) -> Callable[[Jobs], str]:
    return lambda jobs: _numbers(jobs[job].history()[-1].argmax(axis=1), 0)


def _four(returns: np.ndarray) -> str:
    return _numbers(np.array([statistic(returns) for statistic in STATISTICS.values()]), 15)


def _numbers(values: np.ndarray, decimals: int) -> str:
    """Numbers as NumPy prints them, without trailing zeros."""
    values = np.asarray(values)
    if values.ndim:
        return f"[{', '.join(_numbers(value, decimals) for value in values)}]"
    return np.format_float_positional(float(values), decimals, trim="-") if np.isfinite(values) else str(values)


ANGLE, PLAN, PLAN_95 = ONE_TRIAL
STATISTICS: dict[str, Callable[..., Any]] = {"mean": np.mean, "std": np.std, "smallest": np.min, "largest": np.max}
VALUES = {"mean": "trials", "std": "trials", "smallest": "minima", "largest": "maxima"}
FIRST_STATES = "Each trial draws its own first states, where the notebook resets with seed = episode."
LEARNS = "A fall has no next value (algo.bootstrap=always gives it one). Episodes end at 500 steps."
THIRD = (
    "The next value is looked up before the old one is decayed, not after. "
    "Each trial starts with a table of zeros, where the notebook goes on with that of its second loop."
)
OTHERWISE = {  # preset -> how it differs from the notebook's loop
    "book/mdp_q_learning": "Each trial has its own random numbers.",
    "book/q_random": f"{LEARNS} {FIRST_STATES}",
    "book/q_epsilon": f"{LEARNS} {FIRST_STATES}",
    "book/q_log_alpha": f"{LEARNS} {THIRD} {FIRST_STATES}",
    NOTEBOOK_WAY: f"Episodes end at 500 steps. {THIRD} {FIRST_STATES}",
}
TOTALS = (137017.28518629508, 73124.97786538936, 12.0, 262570.0)  # as printed, of the running total
TOTALS_COUNTED = 10_011  # the only number of whole totals below 20,000 whose mean has the printed digits
DRAWN = "drawn in Figure 18-9, not printed"

EXACT = [
    Exact(
        "hard-coded angle policy, 500 episodes: mean, std, min, max",
        "[41.698, 8.389445512070509, 24, 63]",
        lambda jobs: _four(jobs[ANGLE].final),
        ANGLE,
        lambda: _four(cartpole.angle_policy()),
    ),
    Exact("discounted rewards 10, 0, -50, gamma 0.8", "[-22, -40, -50]",
          lambda _: _numbers(mdp.discount_rewards([10, 0, -50], 0.8), 8)),
    Exact(
        "discounted and normalised, two episodes",
        "[-0.28435071, -0.86597718, -1.18910299, 1.26665318, 1.0727777]",
        lambda _: _numbers(np.concatenate(mdp.discount_and_normalize_rewards([[10, 0, -50], [10, 20]], 0.8)), 8),
    ),
    Exact("Markov chain, first run", "0 0 3", lambda _: _chain(1)),
    Exact("Markov chain, second run", "0 1 2 1 2 1 2 1 2 1 3", lambda _: _chain(2)),
    Exact("Markov chain, fourth run", "0 3", lambda _: _chain(4)),
    Exact("Markov chain, tenth run", "0 0 0 1 2 1 3", lambda _: _chain(10)),
    Exact(
        "Q-value iteration, gamma 0.90, 50 iterations",
        "[[18.91891892, 17.02702702, 13.62162162], [0, -inf, -4.87971488], [-inf, 50.13365013, -inf]]",
        _q_table(PLAN),
        PLAN,
        lambda: _numbers(mdp.mdp_q_value_iteration(), 8),
    ),
    Exact("its policy", "[0, 0, 1]", _policy(PLAN), PLAN,
          lambda: _numbers(mdp.mdp_q_value_iteration().argmax(axis=1), 0)),
    Exact("its policy with gamma 0.95", "[0, 2, 1]", _policy(PLAN_95), PLAN_95,
          lambda: _numbers(mdp.mdp_q_value_iteration(0.95).argmax(axis=1), 0)),
    Exact("Q-learning on the decision process, seed 42: Q(s0, a0)", "18.77621289",
          lambda _: f"{mdp.mdp_q_learning()[-1, 0, 0]:.8f}", note=DRAWN),
]  # fmt: skip

STATISTICAL = [
    Statistical("book/mdp_q_learning", "Q(s0, a0) after 10,000 steps", f"18.77621289 ({DRAWN})", 18.77621289,
                lambda job: np.array([_table(job, seed)[0, 0] for seed in job.seeds]),
                lambda run: float(run["mdp"][0, 0]),
                lambda: float(mdp.mdp_q_learning()[-1, 0, 0].round(8))),
    *(
        Statistical(f"book/{job}", f"{name} return of 10,000 episodes", str(printed), printed, training(function),
                    loop(loop_name, function), values=VALUES[name])
        for job, loop_name, figures in (
            ("q_random", "random", (22.291, 11.874818693352752, 8.0, 206.0)),
            ("q_epsilon", "epsilon", (83.2468, 75.87192425238733, 8.0, 747.0)),
        )
        for (name, function), printed in zip(STATISTICS.items(), figures, strict=True)
    ),
    *(
        Statistical("book/q_log_alpha", f"{name} of the running total of returns", str(printed), printed,
                    training(running(function)), loop("log_alpha", running(function)),
                    values=VALUES[name] if name == "smallest" else "trials")
        for (name, function), printed in zip(STATISTICS.items(), TOTALS, strict=True)
    ),
    *(
        Statistical(job, "mean return of 10,000 episodes", "26.257 (262570 / 10,000)", 26.257, training(np.mean),
                    loop("log_alpha", np.mean))
        for job in ("book/q_log_alpha", NOTEBOOK_WAY)
    ),
    Statistical("book/pg", "mean return of the last 10 episodes", "177.8", 177.8,
                training(lambda returns: returns[-10:].mean())),
    # Its variance, 1786.2, is that of whole numbers whose count is a multiple of 5; it plays 10 episodes an update.
    *(
        Statistical("book/pg", f"evaluation of 10 episodes, sampled actions: {name}", str(printed), printed,
                    first_finals(10, function), values=VALUES[name])
        for (name, function), printed in zip(
            STATISTICS.items(), (135.0, 42.26345939461179, 73.0, 200.0), strict=True
        )
    ),
    Statistical("book/dqn", "return of episode 600", "146", 146, training(lambda returns: returns[-1])),
    Statistical("book/fixed_dqn", "return of episode 600", "200", 200, training(lambda returns: returns[-1])),
    Statistical("book/ddqn", "return of episode 481, the last that it prints", "200", 200,
                training(lambda returns: returns[480])),
    Statistical("book/ddqn", "best training episode", "200", 200, training(np.max), values="maxima"),
    Statistical("book/dueling_ddqn", "return of episode 600", "115", 115, training(lambda returns: returns[-1])),
    *(
        Statistical(f"book/{job}", "best training episode", "", None, training(np.max), values="maxima")
        for job in ("dqn", "fixed_dqn", "soft_dqn", "dueling_dqn", "dueling_ddqn")
    ),
    Statistical("book/pg_lunar_lander", "mean return of the last 100 episodes", "", None,
                training(lambda returns: returns[-100:].mean())),
]  # fmt: skip


def _chain(run: int) -> str:
    return " ".join(map(str, mdp.chain_runs(10)[run - 1]))


def _table(job: JobFolder, seed: int) -> np.ndarray:
    return load_table(job.folder / "trials" / str(seed) / "best.npz")
