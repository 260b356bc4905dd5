"""The short form of `scripts/soak.py attack`: damaged files, whatever command reads them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import attack  # noqa: E402

sys.path.remove(str(ROOT / "scripts"))


@pytest.mark.slow
def test_no_damage_is_silent_a_traceback_or_a_hang(tmp_path: Path) -> None:
    """Jobs with tables, which need no TensorFlow; commands that take less than a second."""
    attack.load(networks=False)
    base = attack.prepare(tmp_path / "base", networks=False, sweeps=False)
    report = attack.attack(base, 16, 0, (*("ls", "ls study", "best") * 3, "ls", "play", "train"))
    assert attack.failures(report) == []
    assert report.cases == 16 and set(report.kinds) <= set(attack.KINDS) and len(report.kinds) >= 5


@pytest.mark.slow
def test_networks_sweeps_and_searches(tmp_path: Path) -> None:
    attack.load()
    report = attack.attack(attack.prepare(tmp_path / "base"), 150, 1)
    assert attack.failures(report) == []
