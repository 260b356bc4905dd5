"""scripts/ppo_costs.py: what is compared runs in turn, a peer that is not installed leaves its lines out."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose


@pytest.mark.parametrize("installed", [True, False])
def test_jobs_are_timed_beside_what_they_are_compared_with(
    installed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    sys.modules.pop("ppo_costs", None)
    import ppo_costs

    ran: list[str] = []

    def run(folder: Path, *options: str) -> Any:
        ran.append(folder.name)
        if len(ran) <= 4:  # valid options
            settings, _ = resolve(compose(*options))
            assert settings.algo.num_envs == 4 and settings.algo.batch_size == 512
        speed = {"1": 80.0, "10": 190.0, "32": 300.0, "lander": 50.0}[folder.name.split("-")[1]]
        return SimpleNamespace(steps_per_second=lambda first: speed)

    def peer(which: tuple[str, str, int]) -> float | None:
        ran.append(which[1])
        return (
            100.0
            if which[0] == "bare"
            else {"ppo_cartpole": 2.0, "ppo_lunar_lander": 20.0}[which[1]] * installed or None
        )

    rows = ppo_costs.ppo(run, peer, tmp_path, ("evaluation.final_episodes=1",), rounds=2, quick=True)
    once = ["cartpole", "ppo_cartpole", "ppo_lunar_lander", "ppo-1-0", "ppo-10-0", "ppo-32-0", "ppo-lander-0"]
    assert ran == once + [name.replace("-0", "-1") if name.endswith("-0") else name for name in once]
    bare = [(">= 0.7", True), (">= 2", False), (">= 2.3", True)]
    found = [(row.target, row.met) for row in rows]
    if installed:
        assert found == [bare[0], (">= 30", True), bare[1], (">= 60", True), bare[2], (">= 5", False)]
    else:
        assert found == bare
    assert rows[0].measured == "0.80 (0.80 to 0.80); 80 and 100 steps/s"
