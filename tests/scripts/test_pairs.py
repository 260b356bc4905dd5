"""scripts/pairs.py: what it compares, and how it says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "pairs.py", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2 and f"{tmp_path}: expected a checkout of this repository" in done.stderr
    done = run(ROOT, "clu")
    assert done.returncode == 2 and "unknown part 'clu': choose among cli, jobs, start" in done.stderr


@pytest.mark.slow  # eight starts of a command
@pytest.mark.parametrize(("least", "status", "word"), [("0", 0, "no slower"), ("1000", 1, "slower")])
def test_a_checkout_against_itself(least: str, status: int, word: str) -> None:
    done = run(ROOT, "cli", "--rounds", "1", "--least", least)
    lines = done.stdout.splitlines()
    assert done.returncode == status and len(lines) == 6
    assert all(line.endswith(f"| {word} |") for line in lines[2:]), done.stdout
