"""The part `engines` of benchmark.py: what `engine=auto` and `workers=auto` choose against the better choice.

The jobs are tables at several budgets, short jobs with networks, the single jobs in the code blocks of README.md and of
the documentation for researchers, and jobs worth dealing out to worker processes. Each job runs in a process of its own
in each way in turn, timed from command to exit; the time of auto is that of the way that it chooses. `engine_costs.py`
measures the costs that it chooses by.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from measuring import Row

from rlexp.config import registry
from rlexp.engines import costs
from rlexp.jobs.engine_choice import choose_engine
from rlexp.jobs.preflight import preflight, resolve
from rlexp.jobs.runner import compose
from rlexp.system.errors import Refusal

MAX_RATIO = 1.5  # of auto's seconds to those of the better choice
ROOT = Path(__file__).resolve().parents[1]
TEXTS = (ROOT / "README.md", *sorted((ROOT / "docs" / "researchers").glob("*.md")))
TABLES = ("env=frozen_lake", "env=cartpole +discretizer=cartpole", "env=taxi", "env=cliff_walking")
BUDGETS = (2_000, 10_000, 50_000, 300_000)
QUICK_BUDGETS = (2_000, 20_000)
OTHERS = (  # other numbers of trials and evaluations
    "algo=q_learning env=frozen_lake trials=1 budget.steps=20000",
    "algo=q_learning env=frozen_lake trials=30 budget.steps=20000",
    "algo=sarsa env=frozen_lake_8x8 budget.episodes=1000",
    "algo=q_learning env=frozen_lake budget.steps=50000 evaluation.num_episodes=5 evaluation.candidates=1",
    "algo=double_q_learning env=three_state_mdp",
    "algo=expected_sarsa env=cartpole +discretizer=cartpole budget.episodes=200",
)
NETWORKS = (  # short jobs, which the start decides
    "algo=dqn env=cartpole trials=1 budget.steps=500",
    "algo=dqn env=cartpole trials=5 budget.steps=3000",
    "algo=ddqn env=frozen_lake trials=10 budget.steps=3000",
    "algo=pg_baseline env=cartpole trials=5 budget.steps=2000",
    "algo=ppo env=acrobot trials=5 budget.steps=5000",
)
DEALT_OUT = (
    "algo=ddqn env=lunar_lander trials=10 budget.steps=10000",
    "algo=q_learning env=cartpole +discretizer=cartpole engine=fused trials=32 budget.steps=3000000",
    "algo=pg_baseline env=lunar_lander trials=10 budget.steps=20000",
    "algo=q_learning env=frozen_lake engine=host trials=10 budget.steps=50000",
    "algo=q_learning env=frozen_lake engine=host trials=10 budget.steps=5000",
    "algo=dqn env=cartpole trials=10 budget.steps=20000",
    "algo=random env=lunar_lander trials=10 budget.steps=20000",
)


def commands_in(text: str) -> list[str]:
    """The overrides of the single jobs in a text's code blocks; no sweeps, other modules, flags or placeholders, and
    none with a module of the reader's own."""
    found = []
    for language, block in re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines() if not language else ():
            match = re.search(r"(?:python -m |^|&& )rlexp(?: run)? +(.*)", line)
            words = shlex.split(match[1], comments=True) if match else []
            single = all("=" in word and not word.startswith("-") for word in words)
            own = any(re.search(r"=\w+:\w", word) for word in words)  # env.id=corridor:Corridor-v0
            if words and single and not own and not any(word.startswith("+sweep=") or "<" in word for word in words):
                found.append(shlex.join(words))
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Choice:
    """What auto chooses among the ways to run a job.

    Attributes:
        taken: the way that it chooses.
        ways: name -> override; a single one where nothing is to be chosen.
    """

    taken: str
    ways: dict[str, str]


def engine_choice(overrides: Sequence[str]) -> Choice | None:
    """The engine that auto chooses; None if the job is refused here."""
    try:
        settings = compose(*overrides)
        info = preflight(settings)
        taken = choose_engine(replace(settings, engine="auto"), info)
    except Refusal as refused:
        _leave_out(overrides, refused)
        return None
    names = ["host"]
    with contextlib.suppress(Refusal):
        names.append(choose_engine(replace(settings, engine="fused"), info))
    return Choice(taken, {name: f"engine={name}" for name in names})


def worker_choice(overrides: Sequence[str]) -> Choice | None:
    """The number of worker processes that auto chooses, against one and against one per core; None as above."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        compose(*overrides, "workers=1")
        settings, info = resolve(compose(*overrides))
    except Refusal as refused:
        _leave_out(overrides, refused)
        return None
    taken = costs.best_workers(settings, info, cores)
    numbers = sorted({1, taken, min(cores, settings.trials)})
    return Choice(str(taken), {str(number): f"workers={number}" for number in numbers})


def _leave_out(overrides: Sequence[str], refused: Refusal) -> None:
    print(f"{shlex.join(overrides)} is left out: {refused}", file=sys.stderr)


def timed(output: Path, *overrides: str) -> tuple[float, float]:
    """Run `rlexp ...`; returns the seconds from command to exit and the CPU seconds of all cores."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as output_file:
        folder = f"output_dir={tempfile.mkdtemp(dir=output)}"
        process = subprocess.Popen(
            [sys.executable, "-m", "rlexp", folder, *overrides], stdout=output_file, stderr=output_file
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        output_file.seek(0)
        if process.returncode != 0:
            raise SystemExit(f"rlexp {shlex.join(overrides)} failed:\n{output_file.read().decode()}")
    return seconds, usage.ru_utime + usage.ru_stime


def jobs(quick: bool) -> list[str]:
    """The overrides of the jobs whose engine is chosen."""
    tables = [
        f"algo=q_learning {env} budget.steps={n}" for env in TABLES for n in (QUICK_BUDGETS if quick else BUDGETS)
    ]
    shown = commands_in("\n".join(path.read_text() for path in TEXTS))
    if quick:
        shown = [job for job in shown if registry.family(compose(*shlex.split(job)).algo.name).tabular]
    return list(dict.fromkeys([*shown, *tables, *OTHERS, *NETWORKS[: 2 if quick else None]]))


def engines(output: Path, rounds: int, quick: bool) -> list[Row]:
    """Time the ways to run each job in turn; a job that can be run in one way only is timed once."""
    output.mkdir(parents=True, exist_ok=True)
    chosen = [("engine", job, engine_choice(shlex.split(job))) for job in jobs(quick)]
    chosen += [("workers", job, worker_choice(shlex.split(job))) for job in DEALT_OUT[: 2 if quick else None]]
    found = [(name, job, choice) for name, job, choice in chosen if choice is not None]
    return [_row(output, name, job, choice, 1 if quick else rounds) for name, job, choice in found]


def _row(output: Path, setting: str, job: str, choice: Choice, rounds: int) -> Row:
    """Time the ways to run one job; `setting`: what auto chooses."""
    wall: dict[str, list[float]] = {name: [] for name in choice.ways}
    cores: dict[str, list[float]] = {name: [] for name in choice.ways}
    own = [override for override in shlex.split(job) if not override.startswith(f"{setting}=")]
    for _ in range(rounds if len(choice.ways) > 1 else 1):
        for name, override in choice.ways.items():
            seconds = timed(output, *own, override)
            wall[name].append(seconds[0])
            cores[name].append(seconds[1])
    middle = {name: median(values) for name, values in wall.items()}
    ratio = middle[choice.taken] / min(middle.values())
    times = ", ".join(f"{name} {middle[name]:.1f} s ({median(cores[name]):.1f} of all cores)" for name in choice.ways)
    text = f"{choice.taken}: {ratio:.2f} times ({times})" if len(choice.ways) > 1 else f"{times}, the only {setting}"
    print(f"{job}: {text}", file=sys.stderr, flush=True)
    return Row(f"{setting}=auto, `{job}`", f"<= {MAX_RATIO} times the better choice", text, ratio <= MAX_RATIO)
