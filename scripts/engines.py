"""The part `engines` of benchmark.py: the choice of `engine=auto` against the better of the two engines.

The jobs are tables at several budgets and the single jobs in README.md's code blocks. Each job runs in a process of its
own on each engine in turn, timed from command to exit; the time of auto is that of the engine that it chooses.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from measuring import Row

from rlexp.config import registry
from rlexp.jobs.engine_choice import choose_engine
from rlexp.jobs.preflight import preflight
from rlexp.jobs.runner import compose
from rlexp.system.errors import Refusal

MAX_RATIO = 1.5  # of auto's seconds to those of the better engine
README = Path(__file__).parents[1] / "README.md"
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


def readme_commands(text: str) -> list[str]:
    """The overrides of the single jobs in a README's code blocks; no sweeps, other modules, flags or placeholders."""
    found = []
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            match = re.search(r"(?:python -m |^|&& )rlexp(?: run)? +(.*)", line)
            words = shlex.split(match[1], comments=True) if match else []
            single = all("=" in word and not word.startswith("-") for word in words)
            if words and single and not any(word.startswith("+sweep=") or "<" in word for word in words):
                found.append(shlex.join(words))
    return list(dict.fromkeys(found))


def choice(overrides: Sequence[str]) -> tuple[str, bool] | None:
    """The engine that auto chooses, and whether the other could run the job; None if the job is refused here."""
    try:
        settings = compose(*overrides)
        info = preflight(settings)
        taken = choose_engine(replace(settings, engine="auto"), info)
    except Refusal as refused:
        print(f"{shlex.join(overrides)} is left out: {refused}", file=sys.stderr)
        return None
    try:
        choose_engine(replace(settings, engine="fused"), info)
    except Refusal:
        return taken, False
    return taken, True


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
    """The overrides of the jobs; quick: tables only, since auto fuses every network that can be fused."""
    budgets = QUICK_BUDGETS if quick else BUDGETS
    tables = [f"algo=q_learning {env} budget.steps={budget}" for env in TABLES for budget in budgets]
    readme = readme_commands(README.read_text())
    if quick:
        readme = [job for job in readme if registry.family(compose(*shlex.split(job)).algo.name).tabular]
    return list(dict.fromkeys([*readme, *tables, *OTHERS]))


def engines(output: Path, rounds: int, quick: bool) -> list[Row]:
    """Time both engines in turn; a job that only one engine can run is timed once."""
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for job in jobs(quick):
        overrides = shlex.split(job)
        chosen = choice(overrides)
        if chosen is None:
            continue
        taken, has_choice = chosen
        names = ("host", "fused") if has_choice else (taken,)
        wall: dict[str, list[float]] = {name: [] for name in names}
        cores: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(1 if quick or not has_choice else rounds):
            for name in names:
                seconds = timed(output, *(o for o in overrides if not o.startswith("engine=")), f"engine={name}")
                wall[name].append(seconds[0])
                cores[name].append(seconds[1])
        middle = {name: median(values) for name, values in wall.items()}
        ratio = middle[taken] / min(middle.values())
        times = ", ".join(f"{name} {middle[name]:.1f} s ({median(cores[name]):.1f} of all cores)" for name in names)
        text = f"{taken}: {ratio:.2f} times ({times})" if has_choice else f"{times}, the only engine"
        print(f"{job}: {text}", file=sys.stderr, flush=True)
        rows.append(Row(f"engine=auto, `{job}`", f"<= {MAX_RATIO} times the better engine", text, ratio <= MAX_RATIO))
    return rows
