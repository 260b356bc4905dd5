"""The chapter, reproduced: every `book/` preset is run, and the notebook's printed figures stand beside ours.

    python scripts/reproduce_chapter.py

Nothing here is typed in but what the notebook prints, and, where its figure cannot be right, what it does wrong.
A job that is finished is not run again, an interrupted one continues: the same command brings the report up to date.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rlexp import chapter, registry
from rlexp.policy import load_table
from rlexp.preflight import resolve
from rlexp.report import plots
from rlexp.report.load import load_job
from rlexp.report.page import Page
from rlexp.runner import compose
from rlexp.untrusted.archives import open_npz
from rlexp.untrusted.links import LinkFound, check_folder

STUDY = "chapter18"
NOTEBOOK_WAY = "book/q_log_alpha algo.bootstrap=always"
ONE_TRIAL = ("book/angle_policy", "book/mdp_q_value_iteration", "book/mdp_q_value_iteration algo.gamma=0.95")
LONGEST_FIRST = (
    "book/q_log_alpha",
    "book/pg_lunar_lander",
    "book/pg",
    "book/q_epsilon",
)  # so that no process waits for them at the end


@dataclass(frozen=True)
class Exact:
    """A figure that must come out to every printed digit."""

    what: str
    printed: str
    ours: Callable[[Jobs], str]


@dataclass(frozen=True)
class Statistical:
    """A figure that depends on random numbers: ours are one value a trial."""

    job: str  # preset
    what: str
    printed: str  # as the notebook prints it, "" where it prints nothing
    figure: float | None  # what is compared: the printed one, or what it means
    ours: Callable[[JobFolder], np.ndarray]  # [N]
    why: str = ""  # the notebook's error, where there is one


class JobFolder:
    """The results of one job that the rows are computed from."""

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


def final(statistic: Callable[..., Any]) -> Callable[[JobFolder], np.ndarray]:
    """One statistic of a trial's final episodes."""
    return lambda job: statistic(job.final, axis=1)


def first_at_least(limit: float) -> Callable[[np.ndarray], float]:
    """The number (from 1) of the first episode with such a return; NaN if there is none."""
    return lambda returns: float(np.argmax(returns >= limit) + 1) if (returns >= limit).any() else float("nan")


def _q_table(job: str) -> Callable[[Jobs], str]:
    return lambda jobs: _numbers(jobs[job].history()[-1], 8)


def _policy(job: str) -> Callable[[Jobs], str]:
    return lambda jobs: _numbers(jobs[job].history()[-1].argmax(axis=1), 0)


def _numbers(values: np.ndarray, decimals: int) -> str:
    """Numbers as NumPy prints them: no zeros at the end."""
    values = np.asarray(values)
    if values.ndim:
        return f"[{', '.join(_numbers(value, decimals) for value in values)}]"
    return np.format_float_positional(float(values), decimals, trim="-") if np.isfinite(values) else str(values)


PLAN, PLAN_95 = ONE_TRIAL[1:]
STATISTICS: dict[str, Callable[..., Any]] = {"mean": np.mean, "std": np.std, "smallest": np.min, "largest": np.max}
PAST_END = "It plays on past the time limit of 500: no episode of CartPole-v1 is longer."
TERMINAL = "It bootstraps from where an episode ends, so that nothing tells a fall (algo.bootstrap=always does that)."
NO_RESET = "Its running total is never reset, so that it prints sums over episodes: 262570 after 10,000, 26.257 each."

EXACT = [
    Exact(
        "hard-coded angle policy, 500 episodes: mean, std, min, max",
        "[41.698, 8.389445512070509, 24, 63]",
        lambda jobs: _numbers(np.array([f(jobs[ONE_TRIAL[0]].final) for f in (np.mean, np.std, np.min, np.max)]), 15),
    ),
    Exact("discounted rewards 10, 0, -50, gamma 0.8", "[-22, -40, -50]",
          lambda _: _numbers(chapter.discount_rewards([10, 0, -50], 0.8), 8)),
    Exact(
        "discounted and normalised, two episodes",
        "[-0.28435071, -0.86597718, -1.18910299, 1.26665318, 1.0727777]",
        lambda _: _numbers(np.concatenate(chapter.discount_and_normalize_rewards([[10, 0, -50], [10, 20]], 0.8)), 8),
    ),
    Exact("Markov chain, first run", "0 0 3", lambda _: _chain(1)),
    Exact("Markov chain, second run", "0 1 2 1 2 1 2 1 2 1 3", lambda _: _chain(2)),
    Exact("Markov chain, fourth run", "0 3", lambda _: _chain(4)),
    Exact("Markov chain, tenth run", "0 0 0 1 2 1 3", lambda _: _chain(10)),
    Exact(
        "Q-value iteration, gamma 0.90, 50 iterations",
        "[[18.91891892, 17.02702702, 13.62162162], [0, -inf, -4.87971488], [-inf, 50.13365013, -inf]]",
        _q_table(PLAN),
    ),
    Exact("its policy", "[0, 0, 1]", _policy(PLAN)),
    Exact("its policy with gamma 0.95", "[0, 2, 1]", _policy(PLAN_95)),
    Exact("Q-learning on the decision process, seed 42: Q(s0, a0)", "18.77621289",
          lambda _: f"{chapter.mdp_q_learning()[-1, 0, 0]:.8f}"),
]  # fmt: skip

STATISTICAL = [
    Statistical("book/mdp_q_learning", "Q(s0, a0) after 10,000 steps", "18.77621289", 18.77621289,
                lambda job: np.array([_table(job, seed)[0, 0] for seed in job.seeds])),
    *(
        Statistical(f"book/{job}", f"{name} return of 10,000 episodes", str(printed), printed, training(function), why)
        for job, figures in (
            ("q_random", ((22.291, ""), (11.874818693352752, ""), (8.0, ""), (206.0, ""))),
            ("q_epsilon", ((83.2468, PAST_END), (75.87192425238733, PAST_END), (8.0, ""), (747.0, PAST_END))),
        )
        for (name, function), (printed, why) in zip(STATISTICS.items(), figures, strict=True)
    ),
    Statistical("book/q_log_alpha", "mean return of 10,000 episodes", "137017.28518629508", 26.257, training(np.mean),
                f"{NO_RESET} {TERMINAL}"),
    Statistical(NOTEBOOK_WAY, "mean return of 10,000 episodes", "137017.28518629508", 26.257, training(np.mean),
                NO_RESET),
    Statistical("book/pg", "mean return of the last 10 episodes", "177.8", 177.8,
                training(lambda returns: returns[-10:].mean())),
    *(
        Statistical("book/pg", f"evaluation with sampled actions, {name}", str(printed), printed, final(function))
        for (name, function), printed in zip(
            STATISTICS.items(), (135.0, 42.26345939461179, 73.0, 200.0), strict=True
        )
    ),
    Statistical("book/dqn", "return of episode 600", "146", 146, training(lambda returns: returns[-1])),
    Statistical("book/fixed_dqn", "return of episode 600", "200", 200, training(lambda returns: returns[-1])),
    Statistical("book/ddqn", "first episode with a return of 195 or more", "481", 481, training(first_at_least(195))),
    Statistical("book/ddqn", "best training episode", "200", 200, training(np.max)),
    Statistical("book/dueling_ddqn", "return of episode 600", "115", 115, training(lambda returns: returns[-1])),
    *(
        Statistical(f"book/{job}", "best training episode", "", None, training(np.max))
        for job in ("dqn", "fixed_dqn", "soft_dqn", "dueling_dqn", "dueling_ddqn")
    ),
    Statistical("book/pg_lunar_lander", "mean return of the last 100 episodes", "", None,
                training(lambda returns: returns[-100:].mean())),
]  # fmt: skip


def _chain(run: int) -> str:
    return " ".join(map(str, chapter.chain_runs(10)[run - 1]))


def _table(job: JobFolder, seed: int) -> np.ndarray:
    return load_table(job.folder / "trials" / str(seed) / "best.npz")


def presets() -> list[str]:
    """All book presets, the longest first, Q-value iteration with the chapter's other gamma, and a notebook's error."""
    names = [f"book/{name}" for name in registry.configured("experiment/book")]
    names.sort(key=lambda name: LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST))
    return [*names, NOTEBOOK_WAY, PLAN_95]


def overrides(preset: str, trials: int, seed: int, output_dir: Path, engine: str = "auto") -> list[str]:
    """The command line of one job."""
    name, *rest = preset.split()
    own = [] if preset in ONE_TRIAL else [f"trials={trials}"]
    own += [] if engine == "auto" else [f"engine={engine}"]
    return [f"+experiment={name}", *rest, *own, f"seed={seed}", f"study={STUDY}", f"output_dir={output_dir}"]


def verdict(row: Statistical, ours: np.ndarray) -> tuple[str, bool | None]:
    """What the comparison says, and whether it is good (None: there is nothing to compare)."""
    values = ours[np.isfinite(ours)]
    if row.figure is None:
        return "the notebook prints no figure", None
    if len(values) and values.min() <= row.figure <= values.max():
        return ("within the spread of ours" + (f". {row.why}" if row.why else "")), True
    return f"different. {row.why or 'Outside of all trials here; the notebook shows one seed.'}", False


def run_jobs(names: Sequence[str], command_line: Callable[[str], list[str]], processes: int) -> list[str]:
    """Run each preset in a process of its own, some side by side; returns the names of those that failed."""

    def one(name: str) -> str | None:
        began = time.monotonic()
        command = [sys.executable, "-m", "rlexp", *command_line(name)]
        done = subprocess.run(command, capture_output=True, text=True)
        print(f"{name}: {'done' if not done.returncode else 'FAILED'} in {time.monotonic() - began:.0f} s", flush=True)
        if done.returncode:
            print(done.stderr.strip(), file=sys.stderr, flush=True)
        return name if done.returncode else None

    with ThreadPoolExecutor(processes) as pool:
        return [name for name in pool.map(one, names) if name]


def write(jobs: Jobs, output_dir: Path, command: str) -> Path:
    """Write report.html and report.md of the study; returns the former."""
    folder = output_dir / STUDY / "report"
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    page = Page("The chapter on reinforcement learning, reproduced")
    exact = [(row, row.ours(jobs)) for row in EXACT]
    statistical = [(row, row.ours(jobs[row.job])) for row in STATISTICAL]
    verdicts = [verdict(row, ours) for row, ours in statistical]
    compared = [good for _, good in verdicts if good is not None]
    seconds = sum((job.data.summary or {})["wall_seconds"] for job in jobs.values())
    equal = sum(row.printed == ours for row, ours in exact)
    page.text(
        f"{equal} of {len(exact)} exact figures are equal to all printed digits; "
        f"{sum(compared)} of {len(compared)} statistical ones lie within the spread of our trials. "
        f"The jobs took {seconds / 60:.1f} minutes, one after the other. Made by",
        command,
    )
    page.heading("Exact figures")
    page.table(
        ["what", "notebook", "ours", "verdict"],
        [[row.what, row.printed, ours, "equal" if row.printed == ours else "different"] for row, ours in exact],
        [row.printed == ours for row, ours in exact],
    )
    page.heading("Statistical figures")
    page.text(
        "Ours: mean and standard deviation over trials, smallest and largest trial. One trial is one seed, and the "
        "notebook is one more: of N + 1 equal runs, one lies outside the other N with probability 2 / (N + 1), here "
        f"{200 / (1 + max(len(ours) for _, ours in statistical)):.0f} %."
    )
    page.table(
        ["preset", "what", "notebook", "mean", "std", "min", "max", "trials", "verdict"],
        [
            [row.job.removeprefix("book/"), row.what, row.printed or "-", *_spread(ours), text]
            for (row, ours), (text, _) in zip(statistical, verdicts, strict=True)
        ],
        [good for _, good in verdicts],
    )
    page.heading("Figures")
    plots.q_values(jobs[PLAN].history()[:, 0, 0], chapter.mdp_q_learning()[:, 0, 0], folder / "q_value_plot.png")
    page.picture(folder / "q_value_plot.png", "Figure 18-9: Q(s0, a0) by Q-value iteration, and by Q-learning")
    for name, job in jobs.items():
        if name in (*ONE_TRIAL, NOTEBOOK_WAY, "book/mdp_q_learning"):
            continue
        short = name.removeprefix("book/")
        path = folder / f"{short}.png"
        plots.episode_returns(job.training(), f"{short}, {len(job.seeds)} trials", path)
        number = "Figure 18-10: " if short == "dqn" else ""
        page.picture(path, f"{number}{short}, return of each training episode")
        if (job.folder / "animation.gif").exists():
            page.picture(job.folder / "animation.gif", f"{short}, the best trial (seed {_best_seed(job)})")
    page.write(folder / "report.html")
    return folder / "report.html"


def _best_seed(job: JobFolder) -> int:
    return int((job.data.summary or {})["best_seed"])


def _spread(values: np.ndarray) -> list[str]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return ["-", "-", "-", "-", f"0 of {len(values)}"]
    numbers = [f"{statistic(finite):.6g}" for statistic in (np.mean, np.std, np.min, np.max)]
    return [*numbers, str(len(values)) if len(finite) == len(values) else f"{len(finite)} of {len(values)}"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing and write the report; 1 if a job failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10, help="seeds a preset (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), help="default: outputs")
    parser.add_argument(
        "--engine", choices=("auto", "host"), default="auto", help="host: without the fused engine (default: auto)"
    )
    parser.add_argument("--processes", type=int, default=2, help="jobs side by side (default 2)")
    args = parser.parse_args(argv)
    began, names = time.monotonic(), presets()
    output_dir = args.output_dir.expanduser().resolve()
    print(f"{len(names)} jobs, {args.processes} at a time; each is in MLflow under the study {STUDY}", flush=True)
    command_line = partial(overrides, trials=args.trials, seed=args.seed, output_dir=output_dir, engine=args.engine)
    failed = run_jobs(names, command_line, args.processes)
    if failed:
        print(f"failed: {', '.join(failed)}; the same command tries them again", file=sys.stderr)
        return 1
    settings = {n: compose(*command_line(n)) for n in names}
    jobs = {n: JobFolder(resolve(job)[0].folder) for n, job in settings.items()}
    command = " ".join(["python scripts/reproduce_chapter.py", *(sys.argv[1:] if argv is None else argv)])
    try:
        path = write(jobs, output_dir, command)
    except LinkFound as found:
        print(f"refused: {found}", file=sys.stderr)
        return 2
    print(json.dumps({"report": str(path), "minutes": round((time.monotonic() - began) / 60, 1)}))
    return 0
