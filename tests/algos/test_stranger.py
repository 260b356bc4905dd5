"""An algorithm of another package, in the five steps of CONTRIBUTING: one Python file, one YAML, one entry point."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rlexp.config import registry
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose
from rlexp.system.errors import Refusal
from tests.engines.test_engines import trial

HERE = Path(__file__).parents[1] / "stranger"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of site packages with the package in it, as an installer would leave it."""
    site = tmp_path / "site"
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    info = site / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]["rlexp.algos"]
    assert [*points] == ["advantage_dqn"]
    (info / "entry_points.txt").write_text(
        "[rlexp.algos]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
    )
    files = ("advantage_learning.py", "advantage_dqn.yaml")
    for name in files:
        shutil.copy(HERE / name, site)
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setitem(sys.modules, "advantage_learning", None)  # put back after the test, whatever it imports
    del sys.modules["advantage_learning"]
    return site


def test_it_is_one_short_file_one_yaml_and_one_entry_point() -> None:
    assert sorted(path.name for path in HERE.iterdir() if path.name != "__pycache__") == [
        "advantage_dqn.yaml", "advantage_learning.py", "pyproject.toml",
    ]  # fmt: skip
    assert len((HERE / "advantage_learning.py").read_text().splitlines()) <= 40


@pytest.mark.usefixtures("installed")
def test_its_yaml_is_found_and_its_settings_are_checked() -> None:
    settings, _ = resolve(compose("algo=advantage_dqn", "algo.alpha=0.1"))
    assert (settings.algo.name, settings.algo.target, settings.algo.alpha, settings.algo.persistent) == (
        "advantage_dqn", "soft", 0.1, True,
    )  # fmt: skip
    assert settings.engine == "fused"
    for args, said in (
        (["algo.alpha=1.5"], "algo.alpha: expected a number >= 0 and <= 1, received 1.5."),
        (["algo.target=none"], "algo.target: expected hard or soft for advantage_dqn, received 'none'.\nWithout a"),
        (["algo.batch_size=60000"], "algo.batch_size: expected at most algo.replay_size (50000), received 60000."),
        (
            ["algo.persistant=1"],
            "algo.persistant: expected a key of 'advantage_dqn', which package advantage-learning registers, received one",
        ),
        (["evaluation.policy=sampled"], "evaluation.policy: expected greedy for advantage_dqn, received 'sampled'."),
    ):
        with pytest.raises(Refusal) as refused:
            resolve(compose("algo=advantage_dqn", *args))
        assert str(refused.value).startswith(said)
    with pytest.raises(Refusal, match="advantage_dqn, angle_policy, "):
        compose("algo=advantge")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("persistent", "expected"), [("true", [3, 2.5]), ("false", [2, 2.5])])
def test_its_target_by_hand(persistent: str, expected: list[float]) -> None:
    """Q(o_tm1) = [3, 1]: action 1 has a gap of 2, action 0 none. Q(o_t) = [4, 4], then [3, 2].

    y = 1 + .5 max Q(o_t) - .5 gap: 2 and 2.5; repeating the action: 1 + .5 * 4 = 3, and 2.5.
    """
    kind = importlib.import_module("advantage_learning").AdvantageDQN
    config = compose("algo=advantage_dqn", "algo.alpha=.5", f"algo.persistent={persistent}").algo
    agent = kind(config, {}, EnvInfo(Box((2,), "float32"), Discrete(2), None, False))
    agent.q_values = lambda params, o_t: o_t  # what is observed are the values
    batch = {"o_tm1": [[3, 1], [3, 1]], "a_tm1": [1, 0], "r_t": [1, 1], "terminated": [0, 0], "num_steps": [1, 1],
             "o_t": [[4, 4], [3, 2]]}  # fmt: skip
    rows = {name: tf.constant(x, tf.int32 if name == "a_tm1" else tf.float32) for name, x in batch.items()}
    y = agent.target({"online": {}, "target": {}}, rows, tf.zeros(0), {"gamma": tf.constant(0.5)})
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.usefixtures("installed")
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "fused"])
def test_a_trial_alone_equals_the_trial_in_a_batch(engine: str, tiny: Callable[..., Any]) -> None:
    options = (f"engine={engine}", "network.hidden_units=[8]", "algo.target_period=20")
    three, one = tiny("advantage_dqn", "trials=3", *options), tiny("advantage_dqn", "trials=1", "seed=2", *options)
    assert three["engine"] == engine and three["updates"][2] > 10
    assert trial(three, 2) == trial(one, 2) != trial(three, 0)


def command(installed: Path, folder: Path, *args: str) -> str:
    """What Python prints in a process that finds the package."""
    paths = [str(installed), str(Path(registry.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    result = subprocess.run([sys.executable, *args], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_help_names_it_and_imports_none_of_it(installed: Path, tmp_path: Path) -> None:
    code = "import sys; from rlexp.cli.help import overview; print(overview(), 'imported:', sorted(sys.modules))"
    listed, _, modules = command(installed, tmp_path, "-c", code).partition("imported:")
    assert "advantage_dqn, angle_policy" in listed
    assert not {"'advantage_learning'", "'tensorflow'", "'keras'"} & set(modules.split(", "))
    assert "persistent: true" in command(installed, tmp_path, "-m", "rlexp", "algo=advantage_dqn", "--cfg", "job")


@pytest.mark.slow
def test_a_sweep_finds_it(installed: Path, tmp_path: Path) -> None:
    said = command(
        installed, tmp_path, "-m", "rlexp", "-m", "algo=advantage_dqn,random", "trials=1", "tracking=files",
        "animation.enabled=false", "budget.steps=30", "evaluation.num_episodes=1", "evaluation.final_episodes=1",
        "evaluation.candidate_episodes=1", "network.hidden_units=[4]",
    )  # fmt: skip
    assert "advantage_dqn on CartPole-v1" in said
