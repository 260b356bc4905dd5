"""scripts/family_costs.py: pairs within one run, their median against the target, and every member's options are valid."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlexp.jobs.runner import compose


@pytest.mark.slow
def test_each_member_is_timed_beside_ddqn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    sys.modules.pop("family_costs", None)
    import family_costs

    speeds = {"algo=ddqn": 100.0, "algo.replay=prioritized": 50.0, "network.noisy=true": 59.0, "algo=c51": 80.0,
              "algo=qr_dqn": 90.0, "algo=iqn": 40.0, "algo=rainbow": 30.0, "algo=munchausen_dqn": 1.0}  # fmt: skip
    ran: list[str] = []

    def run(folder: Path, *options: str) -> Any:
        (name,) = [o for o in options if o in speeds and o != "algo=ddqn"] or ["algo=ddqn"]
        assert not folder.exists() and folder.parent == tmp_path
        assert name in ran or compose(*options).trials == 10  # valid options, once each
        folder.mkdir()
        ran.append(name)
        return SimpleNamespace(steps_per_second=lambda first: speeds[name] * (1 + 0.1 * (len(ran) > 14)))

    rows = family_costs.family(run, tmp_path, ("evaluation.final_episodes=1",), rounds=3, quick=True)
    assert ran[:4] == ["algo=ddqn", "algo.replay=prioritized", "algo=ddqn", "network.noisy=true"]
    assert (
        ran[14:16] == ["algo.replay=prioritized", "algo=ddqn"] and len(ran) == 3 * 2 * 7
    )  # in turn: the other way round
    assert [(row.target, row.met) for row in rows] == [
        (">= 0.5", True), (">= 0.6", False), (">= 0.5", True), (">= 0.5", True), (">= 0.35", True), (">= 0.25", True),
        ("reported", True),
    ]  # fmt: skip
    assert rows[0].measured == "0.50 (0.50 to 0.50); 55 and 110 steps/s"
