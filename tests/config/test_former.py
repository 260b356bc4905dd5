"""Configurations of earlier versions."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from rlexp.config.build import build
from rlexp.config.former import current
from rlexp.jobs.runner import compose
from rlexp.system.errors import Refusal


def stored(algo: str, **keys: Any) -> dict[str, Any]:
    """A job's configuration with the keys that policy gradients had."""
    config = compose(f"algo={algo}").to_dict()
    return {**config, "algo": {"num_updates": 1, "num_minibatches": 1, "clip_ratio": None, **config["algo"], **keys}}


def test_a_job_that_was_ppo_under_another_name_is_ppo() -> None:
    config = stored("ppo", name="pg_baseline", num_updates=7)
    settings = build(current(config))
    assert (settings.algo.name, settings.algo.num_updates, settings.algo.clip_ratio) == ("ppo", 7, 0.2)
    assert config["algo"]["name"] == "pg_baseline"  # nobody's mapping is changed


@pytest.mark.parametrize("algo", ["pg", "pg_baseline"])
def test_a_job_that_made_one_update_per_batch_is_what_it_was(algo: str) -> None:
    assert build(current(stored(algo))).algo == compose(f"algo={algo}").algo


def test_what_is_of_this_version_stays_as_it_is() -> None:
    for algo in ("pg_baseline", "ppo", "ddqn"):
        config = dataclasses.asdict(compose(f"algo={algo}"))
        assert current(config) is config
    assert current({"algo": None}) == {"algo": None}


@pytest.mark.parametrize("keys", [{"name": "pg", "clip_ratio": 0.2}, {"name": "pg_baseline", "num_updates": 5}])
def test_what_is_no_algorithm_any_more_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="algo=ppo"):
        build(current(stored(keys["name"], **keys)))
