"""Values stand in conf/: the dataclasses say the same, key by key, and each key of a schema is in its YAML."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from rlexp.config import registry
from rlexp.config.build import build
from rlexp.config.paths import conf_dir
from rlexp.config.schema.env import DiscretizerSettings
from rlexp.config.schema.job import Settings
from rlexp.jobs.runner import compose

STEPS = 50_000  # as on CartPole
SCHEMAS = sorted({entry.schema for entry in registry.ALGOS.values()}, key=lambda schema: schema.__name__)


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Values by dotted keys; schedules and options are values."""
    found: dict[str, Any] = {}
    for f in dataclasses.fields(node):
        value = getattr(node, f.name)
        found.update(flat(value, f"{prefix}{f.name}.") if dataclasses.is_dataclass(value) else {prefix + f.name: value})
    return found


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__name__)
def test_an_algorithms_dataclass_says_what_its_yaml_says(schema: type) -> None:
    """Of several algorithms with one schema, the one that its name says; the others differ from it in their YAML."""
    assert flat(schema()) == flat(compose(f"algo={schema().name}", "env=frozen_lake", f"budget.steps={STEPS}").algo)


def test_everything_else_says_what_the_yaml_says() -> None:
    """The root configuration, cartpole, mlp_tanh, MLflow, and the algorithm of the schema's default.

    But for CartPole's bins: an environment of one's own, whose YAML may leave them out, has none.
    """
    said = compose("algo=dqn", "network=mlp_tanh")
    said.env.discretizer = DiscretizerSettings()
    assert flat(Settings()) == flat(said)


@pytest.mark.parametrize(
    "choice", [*(f"algo={n}" for n in registry.ALGOS), *(f"network={n}" for n in registry.NETWORKS)]
)
def test_every_key_of_a_schema_is_in_its_yaml(choice: str) -> None:
    """So that no value comes from a dataclass."""
    with initialize_config_dir(str(conf_dir()), version_base=None):
        composed = hydra_compose("config", [choice])
    raw = OmegaConf.to_container(composed)
    assert isinstance(raw, dict)

    def missing(node: Any, values: dict[str, Any], prefix: str = "") -> list[str]:
        absent = [prefix + f.name for f in dataclasses.fields(node) if f.name not in values]
        for f in dataclasses.fields(node):
            value = getattr(node, f.name)
            if dataclasses.is_dataclass(value) and f.name in values:
                absent += missing(value, values[f.name], f"{prefix}{f.name}.")
        return absent

    assert missing(build(raw), raw) == []


def test_a_schema_of_ones_own_may_leave_values_to_its_parents() -> None:
    """As a plugin's does that adds a key to DQN's schema."""

    @dataclasses.dataclass
    class Mine(registry.ALGOS["dqn"].schema):  # type: ignore[misc, name-defined]
        name: str = "mine"
        temperature: float = 0.5

    assert {**flat(Mine()), "name": "dqn"} == {**flat(compose("algo=dqn").algo), "temperature": 0.5}


def test_a_schedule_that_is_given_has_no_keys_of_the_default_one() -> None:
    given = {"kind": "exponential", "initial": 1.0, "final": 0.1, "decay": 0.5}
    settings = build({"algo": {"name": "dqn", "epsilon": given, "optimizer": {"lr": given}}})
    assert settings.algo.epsilon == settings.algo.optimizer.lr == given
