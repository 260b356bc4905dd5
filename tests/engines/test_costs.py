"""Estimates of seconds, by hand and in their order, and what is chosen by them in clear cases."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
from typing import Any

import pytest

from rlexp.config import registry
from rlexp.config.schema.job import Settings
from rlexp.config.schema.network import NetworkSettings
from rlexp.engines import costs
from rlexp.engines.costs import EngineCost, EnvCost
from rlexp.envs import inspection
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box
from rlexp.jobs.runner import compose

Job = tuple[Settings, EnvInfo]

LAKE = ("q_learning", "frozen_lake")
EVALUATION = {"evaluation__period": 2000, "evaluation__num_episodes": 5, "evaluation__candidate_episodes": 7,
              "evaluation__final_episodes": 10}  # fmt: skip
TABLE = costs.Table(
    {
        "tabular": {
            "host": EngineCost(0.5, lock_step=50, trial_step=2, evaluation=10, played=3, beside=1.5),
            "fused": EngineCost(4, lock_step=1, portion=5000, evaluation=20, played=0.1, beside=1.0),
        },
        "replay": {
            "host": EngineCost(6, lock_step=200, trial_step=10, update=300, trial_update=20, weight=0.1, evaluation=100,
                               played=1, beside=0.8),
            "fused": EngineCost(9, lock_step=5, trial_step=1, update=10, trial_update=15, weight=0.1),
        },
        "rollout": {
            "host": EngineCost(6, lock_step=200, trial_step=10, update=300, trial_update=20, weight=0.1, beside=1.0),
            "fused": EngineCost(7, lock_step=50, update=400),
        },
        "fixed": {"host": EngineCost(0, lock_step=40, trial_step=1, beside=1.0)},
    },
    {"FrozenLake-v1": EnvCost(5, 6, 60, 20, fused=0.5), "CartPole-v1": EnvCost(5, 5, 50, 60, fused=0.1)},
    {"numpy": 1.0, "tensorflow": 4.0},
)  # fmt: skip


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs in round numbers."""
    monkeypatch.setattr(costs, "table", lambda: TABLE)


@functools.cache
def composed(algo: str, env: str) -> Job:
    """The settings of a job and its environment's description."""
    settings = compose(f"algo={algo}", f"env={env}")
    return settings, inspection.inspect(settings.env, tabular=registry.family(algo).tabular)


def job(algo: str, env: str, **changed: Any) -> Job:
    """The settings of a job, and its environment's description; `changed`: keys with __ for dots."""
    settings, info = composed(algo, env)
    settings = copy.deepcopy(settings)
    for path, value in changed.items():
        *parents, key = path.split("__")
        part = functools.reduce(getattr, parents, settings)
        assert hasattr(part, key), path
        setattr(part, key, value)
    return settings, info


def test_seconds_of_tables(by_hand: None) -> None:
    """Two trials, 20,000 steps; ten evaluations and two looks of 7 / 5 portions; two portions of final episodes."""
    lake = job(*LAKE, trials=2, budget__steps=20_000, **EVALUATION)
    host_portion = 60 * 10 + 2 * 5 * (60 + 20 * (6 + 3))  # the longest episode: three mean lengths
    fused_portion = 5000 + 60 * (20 + 2 * 5 * 0.1)
    during, final = 10 + 2 * 7 / 5, 10 / 5
    host = 0.5 + 1e-6 * (20_000 * (50 + 2 * (5 + 2)) + (during + final) * host_portion)
    fused = 4 + 1e-6 * (20_000 * (1 + 2 * 0.5) + during * fused_portion + final * host_portion)
    assert costs.seconds(*lake, "host") == pytest.approx(host)
    assert costs.seconds(*lake, "fused") == pytest.approx(fused)
    one = job(*LAKE, trials=1, budget__steps=20_000, **EVALUATION)  # what each of two workers trains
    alone = costs.seconds(*one, "host")
    assert costs.seconds(*lake, "host", 2) == pytest.approx(0.5 + 1.0 + 1.5 * (alone - 0.5))
    assert costs.seconds(*lake, "host", 2) == costs.seconds(*lake, "host", 5)
    with pytest.raises(KeyError):
        costs.seconds(*job("random", "cartpole"), "fused")
    with pytest.raises(KeyError):
        costs.seconds(*job("q_value_iteration", "three_state_mdp"), "host")


NOTHING_PLAYED = {"evaluation__period": 10**6, "evaluation__num_episodes": 1, "evaluation__final_episodes": 1,
                  "evaluation__candidates": 1, "evaluation__max_steps": 1}  # fmt: skip
CHEAP = 1e-3  # seconds for two episodes of one step


def test_seconds_of_networks(by_hand: None) -> None:
    """A network 4-8-2: 48 weights. Updates by steps, by episodes of 60 steps, and by batches of either."""
    base = {"trials": 3, "budget__steps": 6000, "network__hidden_units": [8], **NOTHING_PLAYED}
    step, row = 200 + 3 * (10 + 5 + 0.25 * 48e-4), 48e-4  # 0.1 ns for each weight

    def estimated(algo: str, **changed: Any) -> float:
        return costs.seconds(*job(algo, "cartpole", **{**base, **changed}), "host")

    found = estimated("dqn", algo__learn_start=1000, algo__learn_period=4, algo__num_updates=2, algo__batch_size=32)
    expected = 6 + 1e-6 * (6_000 * step + 2_500 * (300 + 3 * (20 + 32 * row)))
    assert found == pytest.approx(expected, abs=CHEAP)
    found = estimated("dqn", algo__learn_unit="episode", algo__learn_start=50, algo__learn_period=1)
    expected = 6 + 1e-6 * (6_000 * step + 50 * (300 + 3 * (20 + 64 * row)))
    assert found == pytest.approx(expected, abs=CHEAP)
    found = estimated("ppo", algo__batch_size=500, algo__num_updates=3, algo__num_minibatches=2)
    expected = 6 + 1e-6 * (6_000 * step + 12 * 6 * (300 + 3 * (20 + 250 * row)))
    assert found == pytest.approx(expected, abs=CHEAP)
    found = estimated("pg", algo__batch_size=10)  # 100 episodes of 60 steps
    expected = 6 + 1e-6 * (6_000 * step + 10 * (300 + 3 * (20 + 600 * row)))
    assert found == pytest.approx(expected, abs=CHEAP)
    found = estimated("dqn", trials=1, algo__learn_start=100_000)  # has two lanes, but one environment
    assert found == pytest.approx(6 + 1e-6 * 6_000 * (200 + 2 * (10 + 0.25 * row) + 5), abs=CHEAP)


def test_unknown_environments_have_typical_costs() -> None:
    settings, info = job("random", "cartpole")
    other = dataclasses.replace(settings, env=dataclasses.replace(settings.env, id="somewhere:Other-v0"))
    numbers = dataclasses.replace(info, max_episode_steps=1000)
    pixels = dataclasses.replace(info, observation=Box((84, 84, 4), "uint8"), max_episode_steps=None)
    known = dataclasses.replace(settings, env=dataclasses.replace(settings.env, id="somewhere:CartPole-v1"))
    assert costs.of_env(other, numbers) == EnvCost(20, 20, 200, 300, 0.5)
    assert costs.of_env(other, pixels) == EnvCost(1_000, 1_000, 5_000, 200)
    assert costs.of_env(other, dataclasses.replace(numbers, num_states=9)).step == 7
    assert costs.of_env(known, info) == costs.table().envs["CartPole-v1"] != costs.of_env(other, info)


def test_weights_count_multiplications() -> None:
    settings, info = job("dqn", "cartpole", network__hidden_units=[120, 84])
    assert costs.weights(settings, info) == 4 * 120 + 120 * 84 + 84 * 2
    settings.network = NetworkSettings("minatar", [128], "relu", {"filters": [16], "kernel_sizes": [3], "strides": [1]})
    small = dataclasses.replace(info, observation=Box((10, 10, 4), "bool"))
    assert costs.weights(settings, small) == 8**2 * 9 * 4 * 16 + 8**2 * 16 * 128 + 128 * 2
    settings.network = NetworkSettings("cnn", [512], "relu")
    frames = dataclasses.replace(info, observation=Box((4, 84, 84), "uint8"))
    convolutions = 20**2 * 64 * 4 * 32 + 9**2 * 16 * 32 * 64 + 7**2 * 9 * 64 * 64
    assert costs.weights(settings, frames) == convolutions + 7**2 * 64 * 512 + 512 * 2


def test_the_table_has_every_family_that_is_chosen_for() -> None:
    rows = json.loads(costs.TABLE.read_text())
    families = {name: family for name, family in registry.FAMILIES.items() if name != "planning"}
    assert {name: list(row) for name, row in rows["engines"].items()} == {
        name: ["host", "fused"] if family.fused else ["host"] for name, family in families.items()
    }
    assert costs.table().engines["replay"]["fused"].beside is None  # it uses all cores already
    for row in (costs.table().engines[name][engine] for name, engines in rows["engines"].items() for engine in engines):
        assert all(value is None or 0 <= value < 1e5 for value in dataclasses.astuple(row)) and row.start < 60
    for env in costs.table().envs.values():
        assert min(env.step, env.played, env.length) > 0 and min(env.reset, env.fused) >= 0
    assert 0 < costs.table().worker["numpy"] < costs.table().worker["tensorflow"]


@pytest.mark.parametrize("algo", ["dqn", "pg", "ppo", "q_learning", "random"])
def test_more_takes_longer(algo: str) -> None:
    """More steps, trials, evaluations or updates, on each engine of the measured table."""
    base = {"trials": 4, "budget__steps": 20_000}
    more = {"trials": 8, "budget__steps": 40_000, "evaluation__period": 500, "evaluation__final_episodes": 900}
    more |= {"dqn": {"algo__learn_period": 1, "algo__batch_size": 256}, "ppo": {"algo__num_updates": 10}}.get(algo, {})
    for engine in costs.table().engines[registry.algo(algo).family]:
        less = costs.seconds(*job(algo, "frozen_lake", **base), engine)
        for key, value in more.items():
            assert costs.seconds(*job(algo, "frozen_lake", **{**base, key: value}), engine) > less, (engine, key)


@pytest.mark.parametrize(
    ("algo", "env", "engine", "trials", "steps", "most", "expected"),
    [
        ("dqn", "cartpole", "host", 10, 50_000, 2, 2),
        ("dqn", "cartpole", "host", 10, 50_000, 1, 1),
        ("dqn", "cartpole", "host", 10, 500, 8, 1),  # over in seconds
        ("dqn", "cartpole", "host", 1, 50_000, 8, 1),
        ("random", "acrobot", "host", 3, 500_000, 8, 3),
        ("random", "acrobot", "host", 4, 500_000, 3, 2),  # two and two, like three processes
        ("dqn", "cartpole", "fused", 10, 10**7, 8, 1),  # uses all cores already
        (*LAKE, "fused", 32, 9 * 10**6, 2, 2),
        (*LAKE, "host", 10, 2 * 10**6, 2, 1),  # half of the trials, 1.5 times as long
        ("q_value_iteration", "three_state_mdp", "host", 8, 10_000, 8, 1),
    ],
)
def test_workers_are_as_many_as_pay(
    by_hand: None, algo: str, env: str, engine: str, trials: int, steps: int, most: int, expected: int
) -> None:
    assert costs.best_workers(*job(algo, env, engine=engine, trials=trials, budget__steps=steps), most) == expected


def test_workers_save_a_fifth_and_five_seconds(by_hand: None, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = job(*LAKE, trials=2, engine="host")

    def chosen(one: float, two: float) -> int:
        monkeypatch.setattr(costs, "seconds", lambda settings, info, engine, n=1: one if n == 1 else two)
        return costs.best_workers(*lake, 2)

    assert (chosen(20, 15), chosen(20, 15.1), chosen(100, 80), chosen(100, 80.1)) == (2, 1, 2, 1)


def test_networks_stay_on_the_first_engine_unless_another_is_sooner_for_certain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def chosen(algo: str, fused: float, host: float) -> str:
        monkeypatch.setattr(costs, "seconds", lambda settings, info, engine: {"host": host, "fused": fused}[engine])
        return costs.sooner(*job(algo, "frozen_lake"), ("fused", "host"))

    assert [chosen("dqn", 7, host) for host in (3, 4, 4.1, 6)] == ["host", "host", "fused", "fused"]
    assert [chosen("sarsa", 9, host) for host in (8.9, 9.1)] == ["host", "fused"]
