"""Whether an environment does the same again."""

from __future__ import annotations

import numpy as np
import pytest

from rlexp.envs import repeatability
from rlexp.jobs.runner import compose


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["env=cartpole"], None),
        (["env=frozen_lake", "algo=q_learning"], None),
        (["env=three_state_mdp", "algo=q_learning"], None),
        (
            ["env=frozen_lake", "algo=q_learning", "+env.kwargs.desc=null", "+env.kwargs.map_name=null"],
            "FrozenLake-v1 is not repeatable: two instances have different transition tables; each instance draws what "
            "env.kwargs.desc=null, env.kwargs.map_name=null leaves open: give a value (FrozenLake: map_name=8x8)",
        ),
    ],
)
def test_whether_an_environment_does_the_same_again(
    overrides: list[str], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeatability, "_checked", set())
    settings = compose("algo=random", *overrides)
    before = np.random.get_state()[1].tobytes()
    assert repeatability.why_not_repeatable(settings.env, "algo=q_learning" in overrides) == said
    assert repeatability.why_not_repeatable(settings.env, "algo=q_learning" in overrides) is None  # said once
    assert np.random.get_state()[1].tobytes() == before
