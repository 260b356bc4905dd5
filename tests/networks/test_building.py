"""The initial weights of networks, by seed."""

from __future__ import annotations

import pytest

from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete
from rlexp.jobs.runner import compose
from rlexp.networks.building import build, redraw


@pytest.mark.parametrize("network", ["mlp", "dueling", "minatar"])
@pytest.mark.parametrize("algo", [["algo=ddqn"], ["algo=pg", "algo.head=sigmoid"], ["algo=pg_baseline"], ["algo=ppo"]])
def test_weights_are_drawn_for_a_seed_as_a_network_built_for_it_has_them(algo: list[str], network: str) -> None:
    settings = compose(*algo, f"network={network}")
    shape = (10, 10, 4) if network == "minatar" else (4,)
    info = EnvInfo(Box(shape, "float32", (0.0,), (1.0,)), Discrete(2), None, False)
    first, third = (build(settings, info, seed) for seed in (0, 2))
    drawn = redraw(first, 2)
    assert {name: drawn[name].tobytes() for name in drawn} == {
        name: model.get_params().tobytes() for name, model in third.items()
    }
