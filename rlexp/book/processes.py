"""The processes that reproduce the chapter: each runs one preset, or one seed of the notebook's loops.

A process that fails, or is refused, does not stop the others; the reason is printed and shown in the report.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

REFUSED, INTERRUPTED = 2, (130, 143, -signal.SIGINT, -signal.SIGTERM)  # exit status of `rlexp`
LONGEST = 240  # characters of a reason in a cell


@dataclass(frozen=True)
class Absent:
    """The reason why there are no results.

    Attributes:
        why: one line.
        failed: False if only an optional package is missing.
    """

    why: str
    failed: bool = True


def run_all(commands: Mapping[str, Sequence[str]], processes: int) -> dict[str, Absent]:
    """Run each command in a process of its own, in this order; returns those without results."""

    def one(name: str) -> Absent | None:
        began = time.monotonic()
        done = subprocess.run(commands[name], capture_output=True, text=True)
        seconds = f"{time.monotonic() - began:.0f} s"
        if done.returncode == 0:
            print(f"{name}: done in {seconds}", flush=True)
            return None
        absent = explain(done.returncode, done.stderr)
        print(f"{name}: {absent.why}" + (f" (after {seconds})" if absent.failed else ""), flush=True)
        if absent.failed and done.returncode not in INTERRUPTED:
            print(done.stderr.strip(), file=sys.stderr, flush=True)
        return absent

    with ThreadPoolExecutor(processes) as pool:
        found = dict(zip(commands, pool.map(one, commands), strict=True))
    return {name: absent for name, absent in found.items() if absent}


def explain(status: int, stderr: str) -> Absent:
    """Explain an exit status, with the text that the process wrote to stderr."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if status == REFUSED:
        starts = [i for i, line in enumerate(lines) if line.startswith("refused: ")]
        said = " ".join(lines[starts[-1] :] if starts else lines).removeprefix("refused: ")
        package = re.search(r"pip install (?:-\S+ \S+ )*(?:'[^']+'|\S+)", said)
        if package:
            return Absent(f"not run: needs {package[0].rstrip('.,;')}", failed=False)
        return Absent(f"refused: {_short(said)}")
    if status in INTERRUPTED:
        return Absent("interrupted: the same command continues it")
    if status < 0:
        return Absent(f"failed: killed by signal {-status}")
    told = [line.removeprefix("failed: ") for line in lines if line.startswith("failed: ")]
    return Absent(f"failed: {_short((told or lines or [f'exit status {status}'])[-1])}")


def unreadable(error: Exception) -> Absent:
    """The reason for a job that is done, but whose results do not contain what a row needs."""
    return Absent(f"failed: its results cannot be read ({_short(f'{type(error).__name__}: {error}')})")


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 4] + " ..."
