"""scripts/engine_costs.py: the costs of made-up jobs are found again from their times; the table that it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rlexp.engines.costs import EngineCost

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import engine_costs  # noqa: E402

sys.path.remove(str(ROOT / "scripts"))

ENV = {"step": 5.0, "played": 4.0, "fused": 0.2}
COST = EngineCost(start=3, lock_step=100, trial_step=10, update=300, trial_update=20, weight=0.1, portion=700,
                  evaluation=50, played=2)  # fmt: skip
SIZES = {"[32,32]": 4 * 32 + 32 * 32 + 32 * 2, "[120,84]": 4 * 120 + 120 * 84 + 84 * 2}


def made_up(overrides: list[str]) -> engine_costs.Times:
    """The times of a job by COST and ENV; episodes take 400 steps on average, and at most 500."""
    given = dict(override.lstrip("+").split("=", 1) for override in overrides)
    steps, trials, host = int(given["budget.steps"]), int(given["trials"]), given["engine"] == "host"
    episodes, period = int(given["evaluation.num_episodes"]), int(given["evaluation.period"])
    longest = int(given.get("evaluation.max_steps", 500))
    played = trials * episodes * min(longest, 400)
    rows, every = 256, 250 / int(given.get("algo.num_updates", 1))  # of policy gradients
    first = 0
    if given["algo"] == "dqn":
        rows, every, first = int(given.get("algo.batch_size", 64)), 1, int(given["algo.learn_start"])
    weights = SIZES[given.get("network.hidden_units", "[32,32]")]
    update = COST.update + trials * (COST.trial_update + rows * weights * COST.weight * 1e-3)
    if given["algo"] in ("q_learning", "random"):
        update = 0
    step = COST.lock_step + trials * (COST.trial_step + (ENV["step"] if host else ENV["fused"]))
    # On the fused engine all episodes go on until the longest has ended.
    share = played * (COST.played + ENV["played"]) if host else trials * episodes * longest * COST.played
    evaluation = 1e-6 * (COST.portion + longest * COST.evaluation + share)
    records = []
    for now in range(steps // 40, steps + 1, steps // 40):
        seconds = COST.start + 1e-6 * (now * step + max(0, now - first) / every * update)
        records.append({"step": now, "updates": 0, "seconds": seconds})
    number = steps // period
    evaluations = [{"seconds": evaluation, "longest": longest, "played": played}] * number
    return engine_costs.Times(records[-1]["seconds"] + number * evaluation, records, evaluations)


@pytest.mark.parametrize(
    ("family", "engine"),
    [
        ("replay", "host"),
        ("replay", "fused"),
        ("rollout", "host"),
        ("rollout", "fused"),
        ("tabular", "fused"),
        ("fixed", "host"),
    ],
)
def test_costs_are_found_again(family: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_costs, "_started", lambda overrides: overrides)
    monkeypatch.setattr(engine_costs, "_times", made_up)
    found = engine_costs.measure_engine(family, engine, 1, ENV)
    assert found.pop("portion") == pytest.approx(COST.portion, rel=0.1)  # with the one step of its evaluations
    assert found.pop("evaluation") == pytest.approx(COST.evaluation, rel=0.01)
    expected = {name: getattr(COST, name) for name in found}
    assert found == pytest.approx(expected, rel=1e-3)
    assert ("update" in found) == (family in ("replay", "rollout"))


def test_the_fastest_of_rounds_and_no_negative_costs() -> None:
    rounds = iter([{"a": 3.0, "b": 1.0}, {"a": 2.0, "b": 5.0}])
    assert engine_costs.fastest(2, lambda: next(rounds)) == {"a": 2.0, "b": 1.0}
    assert engine_costs.per_trial(10, 26, 10) == (6, 2)
    assert engine_costs.per_trial(10, 9, 10) == (10, 0) and engine_costs.per_trial(1, 17, 10) == (0, 2)


def test_the_written_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each row, three digits, and the old figure beside the new one."""
    table = tmp_path / "costs_table.json"
    former: dict[str, Any] = json.loads(engine_costs.costs.TABLE.read_text())
    table.write_text(engine_costs._lines(former) + "\n")
    assert table.read_text() == engine_costs.costs.TABLE.read_text()  # it is written by the script alone
    monkeypatch.setattr(engine_costs.costs, "TABLE", table)
    row = {**former["engines"]["fixed"]["host"], "start": 0.123456, "beside": None}
    new = {**former, "engines": {**former["engines"], "fixed": {"host": row}}}
    monkeypatch.setattr(engine_costs, "measure", lambda rounds: new)
    engine_costs.write(1)
    written = json.loads(table.read_text())
    assert written["engines"]["fixed"]["host"]["start"] == 0.123 and written["envs"] == former["envs"]
    assert f"| fixed host start | {former['engines']['fixed']['host']['start']} | 0.123 |" in capsys.readouterr().out
