"""Settings as Python keywords: what Hydra reads is what was given."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from rlexp.config.keywords import overrides, written
from rlexp.jobs.runner import compose
from rlexp.system.errors import Refusal


def read(value: Any) -> Any:
    """A value on its way through Hydra: written, parsed, put into a configuration."""
    override = OverridesParser.create().parse_override(f"key={written(value)}")
    config = OmegaConf.create({"key": None})
    OmegaConf.update(config, "key", override.value(), merge=True)
    return OmegaConf.to_container(config)["key"]


@pytest.mark.parametrize(
    "text",
    ["", " a b ", "a,b", "x=1", "it's", 'say "x"', "a\\", "\\'", "a\\\\'", "null", "True", "inf", "1e3", "1_000", "[1]",
     "{a}", "$x", "${algo}", "a\nb", "a\tb", "é ü", "???", "a:b=c@d", "C:\\dir"],
)  # fmt: skip
def test_texts_come_back_as_they_are(text: str) -> None:
    assert read(text) == text


@settings(max_examples=100, deadline=None)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="$"), max_size=12) | st.text("\\'\"{}a,=[]: \n", max_size=8)
)
def test_any_text_comes_back_as_it_is(text: str) -> None:
    assert read([text]) == [text]


@settings(max_examples=100, deadline=None)
@given(st.floats())
def test_floats_keep_every_bit(value: float) -> None:
    found = read(value)
    assert isinstance(found, float) and (
        np.float64(found).tobytes() == np.float64(value).tobytes() or math.isnan(value)
    )


def test_other_values() -> None:
    assert [written(v) for v in (None, True, False, 7, -0.0, 1e-5)] == ["null", "true", "false", "7", "-0.0", "1e-05"]
    assert [written(v) for v in (np.int32(4), np.bool_(True), np.float64(0.3))] == ["4", "true", "0.3"]
    assert read(np.float32(0.1)) == float(np.float32(0.1))
    assert read(np.array([[1, 2], [3, 4]])) == [[1, 2], [3, 4]]
    assert read((1, None, "a b", range(2))) == [1, None, "a b", [0, 1]]
    assert read(Path("/a b/c")) == "/a b/c"
    assert read({"kind": "linear", "b c": [{"x": 1e-3}]}) == {"kind": "linear", "b c": [{"x": 1e-3}]}
    with pytest.raises(Refusal, match=r"^algo.gamma: expected None, a number, a text, .* received a complex: 1j"):
        overrides({"algo.gamma": 1j})
    with pytest.raises(Refusal, match=r"env.kwargs: expected keys that are names, received 3"):
        overrides({"env.kwargs": {3: 1}})


def test_one_job() -> None:
    assert overrides({"algo": "ddqn", "env": "acrobot", "trials": 10}) == ["algo=ddqn", "env=acrobot", "trials=10"]
    assert overrides({"experiment": "book/dqn", "discretizer": "cartpole"}) == [
        "+experiment=book/dqn",
        "+discretizer=cartpole",
    ]
    assert overrides({"schedule": {"algo.epsilon": "linear"}, "schedule@algo.lr": "log10"}) == [
        "schedule@algo.epsilon=linear", "schedule@algo.lr=log10",
    ]  # fmt: skip
    nested = {"gamma": 0.9, "name": "ddqn", "optimizer": {"name": "adam", "lr": {"kind": "constant", "initial": 1e-3}}}
    assert overrides({"algo": nested, "budget": {"steps": 1000}}) == [
        "algo=ddqn", "algo.gamma=0.9", "algo.optimizer.name=adam", "algo.optimizer.lr={kind:constant,initial:0.001}",
        "budget.steps=1000",
    ]  # fmt: skip
    assert overrides({"network": {"name": "mine:net", "options": {"a": 1}}}) == [
        "network.name='mine:net'",
        "network.options={a:1}",
    ]
    assert overrides({"env": {"id": "CartPole-v1", "kwargs": {"gravity": 5}}}) == [
        "env.id=CartPole-v1",
        "env.kwargs={gravity:5}",
    ]


def test_a_list_is_no_single_job() -> None:
    with pytest.raises(
        Refusal, match=r"algo: expected one name, .*\nSeveral jobs: rlexp.sweep\(algo=\['dqn', 'ddqn'\]\)"
    ):
        overrides({"algo": ["dqn", "ddqn"]})
    with pytest.raises(Refusal, match=r"sweep: expected one job.*\nrlexp.sweep runs several"):
        overrides({"sweep": "dqn_ladder"})


@pytest.mark.parametrize("key", ["algo", "env", "network", "tracking", "experiment", "discretizer"])
@pytest.mark.parametrize("value", [3, [{"name": "dqn"}], True])
def test_choices_of_groups_are_names(key: str, value: Any) -> None:
    with pytest.raises(Refusal, match=rf"^{key}: expected a name, received .*\nFor example: {key}='"):
        overrides({key: value}, several=True)


def test_choices_of_a_sweep() -> None:
    found = overrides(
        {"algo": ["dqn", "ddqn"], "sweep": "dqn_ladder", "seed": range(0, 30, 10), "algo.optimizer.lr": np.array([1e-4, 1e-3]),
         "network.hidden_units": [64, 64], "schedule": {"algo.epsilon": ["linear", "log10"]}, "label": ["a,b", None],
         "tracking": ["mlflow", "tensorboard"], "trials": 3},
        several=True,
    )  # fmt: skip
    assert found == [
        "algo=dqn,ddqn", "+sweep=dqn_ladder", "seed=0,10,20", "algo.optimizer.lr=0.0001,0.001", "network.hidden_units=[64,64]",
        "schedule@algo.epsilon=linear,log10", "label='a,b',null", "tracking=[mlflow,tensorboard]", "trials=3",
    ]  # fmt: skip
    assert overrides({"network.hidden_units": [[64], (120, 84)]}, several=True) == [
        "network.hidden_units=[64],[120,84]"
    ]
    with pytest.raises(Refusal, match="algo: expected at least one choice, received none"):
        overrides({"algo": []}, several=True)


def test_composed() -> None:
    """The whole way to checked settings, with what differs from the presets and what needs quotes."""
    given = {
        "experiment": "book/dqn", "algo": {"gamma": 0.1 + 0.2, "epsilon": {"kind": "constant", "initial": 0.05}},
        "env": {"kwargs": {"sutton_barto_reward": True}}, "budget": {"steps": 1e4}, "label": "a, b = 'c' in ${study}",
        "network": {"hidden_units": (np.int64(16), 8)}, "output_dir": Path("/tmp/a b"), "trials": np.int64(2),
    }  # fmt: skip
    found = compose(*overrides(given))
    assert (found.algo.name, found.algo.gamma, found.budget.steps, found.trials) == ("dqn", 0.1 + 0.2, 10_000, 2)
    assert (found.label, found.output_dir) == ("a, b = 'c' in chapter18", "/tmp/a b")  # as on the command line
    assert found.network.hidden_units == [16, 8] and found.env.kwargs == {"sutton_barto_reward": True}
    assert compose(*overrides({"algo": "ddqn"})).config_id == compose("algo=ddqn").config_id


@pytest.mark.parametrize("name", ["", "no_such", None])
def test_wrong_names_are_refused_in_words(name: Any) -> None:
    with pytest.raises(Refusal, match=r"^algo: expected (a name|one of )") as refused:
        compose(*overrides({"algo": name}))
    assert refused.value.__cause__ is None and refused.value.__suppress_context__ is (name == "no_such")
