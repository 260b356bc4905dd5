"""The names of the jobs of a study."""

from __future__ import annotations

from typing import Any

import pytest

from rlexp.config.study_names import LONGEST, job_names


def config(algo: str = "dqn", env: str = "cartpole", **others: Any) -> dict[str, Any]:
    """A configuration as in config.yaml; `lr`, `gamma`, `kwargs`, `label`, `seed` and `trials` may be given."""
    found = {
        "algo": {"name": algo, "gamma": others.get("gamma", 0.99), "optimizer": {"lr": others.get("lr", 0.001)}},
        "env": {"name": env, "id": f"{env}-v1", "kwargs": others.get("kwargs", {})},
        "study": "s",
        "seed": others.get("seed", 0),
        "trials": others.get("trials", 10),
    }
    return {**found, "label": others.get("label")}


@pytest.mark.parametrize(
    ("configs", "names"),
    [
        ([config()], ["dqn"]),
        ([config(), config("ddqn")], ["dqn", "ddqn"]),
        ([config(lr=1e-4), config(lr=1e-3), config("ddqn")], ["dqn lr=0.0001", "dqn lr=0.001", "ddqn"]),
        (
            [config(lr=1e-4, gamma=0.95), config(lr=1e-3), config(lr=1e-4)],
            ["dqn gamma=0.95 lr=0.0001", "dqn gamma=0.99 lr=0.001", "dqn gamma=0.99 lr=0.0001"],
        ),
        ([config(), config(env="acrobot"), config("pg")], ["dqn on cartpole", "dqn on acrobot", "pg on cartpole"]),
        ([config(), config(seed=10)], ["dqn seeds 0-9", "dqn seeds 10-19"]),
        ([config(seed=1, trials=1), config(seed=2, trials=1)], ["dqn seed 1", "dqn seed 2"]),
        ([config(label="plain"), config(lr=0.1)], ["plain", "dqn"]),
        ([config(kwargs={"g": 1}), config(kwargs={"g": 2})], ["dqn on cartpole g=1", "dqn on cartpole g=2"]),
        ([config(lr={"kind": "linear", "initial": 1}), config(lr=0.1)], ["dqn lr=linear 1", "dqn lr=0.1"]),
        ([], []),
    ],
)
def test_names_say_what_differs(configs: list[dict[str, Any]], names: list[str]) -> None:
    assert job_names(configs) == names


def test_jobs_with_equal_configurations_share_a_name() -> None:
    assert job_names([config(), config()]) == ["dqn seeds 0-9"] * 2


def test_long_names_are_numbers() -> None:
    names = job_names([config(lr="x" * LONGEST), config(lr="y")])
    assert names == ["dqn #1", "dqn #2"]


def test_a_key_that_moves_no_curve_is_in_no_name() -> None:
    assert job_names([config() | {"study": "a", "workers": 1}, config("pg") | {"study": "b", "workers": 2}]) == [
        "dqn",
        "pg",
    ]
