"""Which algorithms take an environment, and which presets are for it."""

from __future__ import annotations

import pytest

from rlexp.config.paths import configured
from rlexp.config.schema.env import EnvSettings
from rlexp.config.schema.job import Settings
from rlexp.envs.inspection import inspect
from rlexp.jobs.runner import compose
from rlexp.jobs.suitability import presets, suitability


def test_algorithms_that_take_numbered_states() -> None:
    settings = Settings(env=EnvSettings("frozen_lake", "FrozenLake-v1"))
    found = suitability(settings, inspect(settings.env), inspect(settings.env, tabular=True))
    assert [one.algo for one in found if one.refused] == ["angle_policy", "sac", "td3"]
    assert {one.more for one in found} == {""} and {one.algo for one in found} >= {*configured("algo")}


def test_every_preset_has_an_algorithm() -> None:
    found = {preset.name: preset for preset in presets()}
    assert [*found] == configured("experiment") and all(preset.algo for preset in found.values())
    assert (found["book/dueling_ddqn"].algo, found["book/dueling_ddqn"].env) == ("dueling_ddqn", "cartpole")
    assert found["families/pg"].env == ""


@pytest.mark.slow
def test_presets_choose_what_they_are_said_to_choose() -> None:
    for preset in presets():
        composed = compose(f"+experiment={preset.name}")
        assert (composed.algo.name, composed.env.name) == (preset.algo, preset.env or "cartpole")
