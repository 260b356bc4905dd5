"""How tables see an environment stands in the environment's YAML, and is nothing to networks."""

from __future__ import annotations

import pytest

from rlexp.config.schema.env import DiscretizerSettings
from rlexp.jobs.preflight import preflight
from rlexp.jobs.runner import compose
from rlexp.system.errors import Refusal

CHAPTER = DiscretizerSettings(
    [2, 3], [-0.41887903213500977, -0.8726646259971648], [0.41887903213500977, 0.8726646259971648], [6, 12]
)
NONE = DiscretizerSettings()


def seen(*overrides: str) -> DiscretizerSettings:
    settings = compose("algo=q_learning", *overrides)
    preflight(settings)
    bins: DiscretizerSettings = settings.algo.discretizer
    return bins


def test_environments_bring_their_bins_by_name_and_by_id() -> None:
    assert seen() == seen("env.id=CartPole-v1") == seen("+discretizer=cartpole") == CHAPTER
    assert seen("env=mountain_car", "env.id=CartPole-v1") == seen("env=frozen_lake", "env.id=CartPole-v1") == CHAPTER
    assert seen("env.id=gymnasium.envs:CartPole-v1") == CHAPTER
    assert seen("env.id=MountainCar-v0") == seen("env=mountain_car") != CHAPTER
    assert seen("env=acrobot").dimensions == [0, 1, 2, 3, 4, 5]
    assert seen("env=frozen_lake") == seen("env.id=FrozenLake-v1") == seen("env.id=Blackjack-v1") == NONE


def test_they_may_be_replaced_whole_or_by_single_keys() -> None:
    finer = seen("algo.discretizer.num_bins=[8,16]")
    assert finer.num_bins == [8, 16] and finer.dimensions == [2, 3]
    assert seen("env.discretizer.num_bins=[8,16]") == finer
    own = [f"algo.discretizer.{key}" for key in ("dimensions=[0]", "low=[-1]", "high=[1]", "num_bins=[4]")]
    assert seen(*own, "env=mountain_car") == DiscretizerSettings([0], [-1.0], [1.0], [4])
    # Bins that a person writes stay where the id is not the named environment's.
    written = ["env.id=MountainCar-v0", *(o.replace("algo", "env", 1) for o in own)]
    assert seen(*written) == DiscretizerSettings([0], [-1.0], [1.0], [4])


def test_an_algorithm_without_a_table_reads_none() -> None:
    """The same job with and without, so that a sweep may mix them; the environment's own are no part of its id either."""
    for algo in ("ddqn", "pg_baseline", "random"):
        plain = compose(f"algo={algo}")
        for bins in ("+discretizer=cartpole", "env.discretizer.num_bins=[8,16]"):
            assert compose(f"algo={algo}", bins).config_id == plain.config_id
        assert "discretizer" not in plain.to_dict()["algo"]
    with pytest.raises(Refusal, match=r"^algo\.discretizer\.bins: expected a key of the configuration"):
        compose("algo=ddqn", "+algo.discretizer.bins=[3]")


def test_for_tables_they_are_what_the_folder_is_named_by() -> None:
    assert compose("algo=q_learning").config_id == compose("algo=q_learning", "+discretizer=cartpole").config_id
    changed = {compose("algo=q_learning", f"{who}.discretizer.num_bins=[8,16]").config_id for who in ("env", "algo")}
    assert len(changed) == 1 and compose("algo=q_learning").config_id not in changed


def test_advice_fits_the_environment() -> None:
    for env in ("env.id=Blackjack-v1", "env=mountain_car", "env=acrobot"):
        with pytest.raises(Refusal) as refused:
            preflight(compose("algo=q_learning", env, "+discretizer=cartpole", "algo.discretizer.dimensions=[90,91]"))
        assert "Add +discretizer=cartpole" not in str(refused.value)
