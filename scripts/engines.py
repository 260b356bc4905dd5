"""The part `engines` of benchmark.py: what `engine=auto` takes, against the better of the two engines.

Jobs with tables at several budgets, and the single jobs of README.md's code blocks. Each job is a process of its own on
each engine, in turn, timed from command to exit; auto's time is that of the engine that it takes.
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

MOST = 1.5  # times the better engine's seconds
README = Path(__file__).parents[1] / "README.md"
TABLES = ("env=frozen_lake", "env=cartpole +discretizer=cartpole", "env=taxi", "env=cliff_walking")
BUDGETS = (2_000, 10_000, 50_000, 300_000)
QUICK_BUDGETS = (2_000, 20_000)
OTHERS = (  # unlike numbers of trials and evaluations
    "algo=q_learning env=frozen_lake trials=1 budget.steps=20000",
    "algo=q_learning env=frozen_lake trials=30 budget.steps=20000",
    "algo=sarsa env=frozen_lake_8x8 budget.episodes=1000",
    "algo=q_learning env=frozen_lake budget.steps=50000 evaluation.num_episodes=5 evaluation.candidates=1",
    "algo=double_q_learning env=three_state_mdp",
    "algo=expected_sarsa env=cartpole +discretizer=cartpole budget.episodes=200",
)


def readme_commands(text: str) -> list[str]:
    """The single jobs of a README's code blocks, as overrides: no sweeps, other modules, questions, or placeholders."""
    found = []
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            match = re.search(r"(?:python -m rlexp|^rlexp(?: run)?) +(.*)", line)
            words = shlex.split(match[1], comments=True) if match else []
            single = all("=" in word and not word.startswith("-") for word in words)
            if words and single and not any(word.startswith("+sweep=") or "<" in word for word in words):
                found.append(shlex.join(words))
    return list(dict.fromkeys(found))


def choice(overrides: Sequence[str]) -> tuple[str, bool] | None:
    """The engine that auto takes, and whether there is another; None where the job is refused on this machine."""
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
    """`python -m rlexp ...`: seconds from command to exit, and seconds of all cores."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as said:
        folder = f"output_dir={tempfile.mkdtemp(dir=output)}"
        process = subprocess.Popen([sys.executable, "-m", "rlexp", folder, *overrides], stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        said.seek(0)
        if process.returncode != 0:
            raise SystemExit(f"python -m rlexp {shlex.join(overrides)} failed:\n{said.read().decode()}")
    return seconds, usage.ru_utime + usage.ru_stime


def jobs(quick: bool) -> list[str]:
    """What is timed, as overrides; quick: tables alone, since auto takes the host for no network that may be fused."""
    budgets = QUICK_BUDGETS if quick else BUDGETS
    tables = [f"algo=q_learning {env} budget.steps={budget}" for env in TABLES for budget in budgets]
    readme = readme_commands(README.read_text())
    if quick:
        readme = [job for job in readme if registry.family(compose(*shlex.split(job)).algo.name).tabular]
    return list(dict.fromkeys([*readme, *tables, *OTHERS]))


def engines(output: Path, rounds: int, quick: bool) -> list[Row]:
    """Both engines in turn; jobs that only one can run have no choice, and are timed once."""
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
        said = ", ".join(f"{name} {middle[name]:.1f} s ({median(cores[name]):.1f} of all cores)" for name in names)
        text = f"{taken}: {ratio:.2f} times ({said})" if has_choice else f"{said}, the only engine"
        print(f"{job}: {text}", file=sys.stderr, flush=True)
        rows.append(Row(f"engine=auto, `{job}`", f"<= {MOST} times the better engine", text, ratio <= MOST))
    return rows
