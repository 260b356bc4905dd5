"""Other people's packages: found, named when they are missing, and never imported before TensorFlow's environment is set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from rlexp.config import hints, paths, registry
from rlexp.envs import tensor
from rlexp.jobs.runner import compose, resolve
from rlexp.system import packages
from rlexp.system.errors import Refusal
from tests.config.test_refusals import TAKE_BOX, sentence

DYNAMICS = registry.DYNAMICS["CartPole-v1"]
if "tests/Pole-v0" not in gym.registry:
    gym.register("tests/Pole-v0", "gymnasium.envs.classic_control.cartpole:CartPoleEnv", max_episode_steps=100)


@pytest.mark.parametrize("name", ["tests/Pole-v0", "tests.envs.test_plugins:tests/Pole-v0"])
@pytest.mark.parametrize("env_id", ["tests/Pole-v0", "tests.envs.test_plugins:tests/Pole-v0"])
def test_dynamics_are_found_with_and_without_the_module(name: str, env_id: str, monkeypatch: Any) -> None:
    point = EntryPoint(name, f"{__name__}:DYNAMICS", "rlexp.envs")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "rlexp.envs" else [])
    assert registry.dynamics(env_id) is DYNAMICS
    if name == "tests/Pole-v0":
        settings = compose(f"env.id={env_id}", "env.imports=[tests.envs.test_plugins]")
        assert resolve(settings)[0].engine == "fused" and tensor.build(settings.env) is not None


def test_dynamics_are_not_taken_for_a_class_that_has_replaced_gymnasiums(monkeypatch: Any) -> None:
    assert resolve(compose("env.id=gymnasium:CartPole-v1"))[0].engine == "fused"
    other = gym.envs.registration.EnvSpec("CartPole-v1", "tests.envs.test_wrappers:Odd", kwargs={"kind": "oneof"})
    monkeypatch.setitem(gym.registry, "CartPole-v1", other)
    assert resolve(compose())[0].engine == "host"
    with pytest.raises(
        Refusal, match="CartPole-v1 is registered with another class than the one whose tensor dynamics"
    ):
        resolve(compose("engine=fused"))


FAKE_TENSORFLOW = "import json, os\nos.write(2, b'I0000 00:00:1 1 cudart_stub.cc:31] noise\\nplain words\\n')\nprint('SEEN', json.dumps({k: os.environ.get(k) for k in NAMES}))\n"
NAMES = (
    "XLA_FLAGS",
    "TF_CPP_MIN_LOG_LEVEL",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_FORCE_GPU_ALLOW_GROWTH",
    "CUDA_VISIBLE_DEVICES",
)
PLUG = """
import gymnasium as gym
import tensorflow
from rlexp.config import registry
from rlexp.config.schema.algos import RandomSettings
from rlexp.algos.random import Random
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
algo = registry.Algo("fixed", RandomSettings, "rlexp.algos.random:Random")
dynamics = registry.DYNAMICS["CartPole-v1"]
class Plain(gym.Wrapper):
    pass
gym.register("Plug-v0", CartPoleEnv, max_episode_steps=20)
"""


@pytest.fixture
def plug(tmp_path: Path) -> Path:
    """An installed package `plug` whose module imports a TensorFlow that tells what it finds in the environment."""
    site = tmp_path / "site"
    info = site / "plug-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (info / "RECORD").write_text("plug.py,,\nconf/algo/plug.yaml,,\n")
    groups = {"algos": "plug = plug:algo\nbroken = nothere:algo", "networks": "plugnet = plug:algo", "envs": "Plug-v0 = plug:dynamics"}  # fmt: skip
    (info / "entry_points.txt").write_text("".join(f"[rlexp.{group}]\n{lines}\n" for group, lines in groups.items()))
    (site / "plug.py").write_text(PLUG)
    (site / "tensorflow.py").write_text(FAKE_TENSORFLOW.replace("NAMES", repr(NAMES)))
    (site / "conf" / "algo").mkdir(parents=True)
    (site / "conf" / "algo" / "plug.yaml").write_text("# Another package's.\nname: plug\n")
    return site


def run(site: Path, *args: str) -> subprocess.CompletedProcess[str]:
    paths = [str(site), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    env = {k: v for k, v in os.environ.items() if k not in NAMES} | {"PYTHONPATH": os.pathsep.join(paths)}
    quick = ("trials=1", "tracking=files", "animation.enabled=false", "budget.steps=20", "evaluation.num_episodes=1",
             "evaluation.final_episodes=1", "evaluation.candidate_episodes=1", "device=cpu")  # fmt: skip
    command = [sys.executable, "-m", "rlexp", *quick, *args]
    return subprocess.run(command, cwd=site.parent, env=env, capture_output=True, text=True, timeout=300)


WAYS = [
    ["algo=random", "algo.name=plug"],
    ["algo=random", "env.id=plug:Plug-v0"],
    ["algo=random", "env.id=Plug-v0", "env.imports=[plug]"],
    ["algo=random", "env.wrappers=[plug.Plain]"],
]


@pytest.mark.parametrize("args", [WAYS[0], *(pytest.param(way, marks=pytest.mark.slow) for way in WAYS[1:])])
def test_a_module_that_imports_tensorflow_finds_it_prepared(args: list[str], plug: Path) -> None:
    result = run(plug, *args)
    assert result.returncode == 0, result.stderr
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("SEEN ")]
    assert "noise" not in result.stderr and "plain words" in result.stderr
    seen = json.loads(line.removeprefix("SEEN "))
    assert seen["XLA_FLAGS"] == "--xla_cpu_experimental_ynn_fusion_type=" and seen["TF_CPP_MIN_LOG_LEVEL"] == "3"
    assert (seen["TF_ENABLE_ONEDNN_OPTS"], seen["TF_FORCE_GPU_ALLOW_GROWTH"]) == ("0", "true")
    if "algo.name=plug" not in args:  # whose schema is read before the device is known; it is hidden before it is used
        assert seen["CUDA_VISIBLE_DEVICES"] == "-1"


def test_a_plugin_whose_yaml_is_not_found_says_so(plug: Path, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(str(plug))
    assert compose("algo=plug").algo.name == "plug"  # whose file is in its distribution
    assert sentence_of("algo=broken") == (
        "algo: expected a YAML algo/broken.yaml on the search path, received none, though package plug registers 'broken'.\n"
        "It belongs beside the package's module; elsewhere: --config-dir <folder of algo/broken.yaml>"
    )
    assert sentence_of("network=plugnet") == (
        "network: expected a YAML network/plugnet.yaml on the search path, received none, though package plug registers "
        "'plugnet'.\nIt belongs beside the package's module; elsewhere: --config-dir <folder of network/plugnet.yaml>"
    )
    assert sentence_of("env=Plug-v0").splitlines()[1] == (
        "There are tensor dynamics for this id, which is given by env.id=Plug-v0"
    )
    assert sentence_of("algo.name=broken") == (
        "algo.name: expected an entry point that can be loaded for 'broken', received nothere:algo (No module named 'nothere').\n"
        "Perhaps: pip install nothere (a guess from its name). A file of your own is looked for in the current folder and in PYTHONPATH."
    )
    point = EntryPoint("third", f"{__name__}:THIRD", "rlexp.algos")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "rlexp.algos" else [])
    first, second = sentence_of("algo.name=third").splitlines()
    assert (
        first.startswith("algo.")
        and "a key of 'third', which the entry point tests.envs.test_plugins:THIRD registers" in first
    )
    assert second == "See its keys: rlexp algo=third --cfg job"


THIRD = registry.Algo("fixed", registry.ALGOS["random"].schema, "rlexp.algos.random:Random")


def sentence_of(*args: str) -> str:
    with pytest.raises(Refusal) as refused:
        resolve(compose(*args))
    assert len(str(refused.value).splitlines()) <= 2
    return str(refused.value)


@pytest.mark.slow
def test_a_plugin_runs_with_its_yaml(plug: Path) -> None:
    for args in (["algo=plug"], [f"--config-dir={plug}/conf", "algo=plug", "seed=1"]):
        result = run(plug, *args)
        assert result.returncode == 0 and "plug on cartpole: done" in result.stdout, result.stderr


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ModuleNotFoundError("No module named 'highway_env'", name="highway_env"), "pip install highway-env brings it."),
        (ModuleNotFoundError("No module named 'nope.sub'", name="nope.sub"), "Perhaps: pip install nope (a guess"),
        (ModuleNotFoundError("No module named 'json.x'", name="json.x"), ""),
        (gym.error.DependencyNotInstalled('box2D is not installed, run `pip install "gymnasium[box2d]"`'), "pip install 'rlexp[box2d]' brings it."),
        (gym.error.DependencyNotInstalled("MuJoCo is not installed, run `pip install \"gymnasium[mujoco]\"`"), "pip install 'gymnasium[mujoco]' brings it."),
        (gym.error.DependencyNotInstalled("opencv-python package not installed"), "pip install 'rlexp[atari]' brings it."),
        (ValueError("the sensor of mujoco fell off"), ""),
        (ModuleNotFoundError("No module named 'my_pygame'", name="my_pygame"), "Perhaps: pip install my-pygame (a guess"),
    ],
)  # fmt: skip
def test_a_missing_package_names_its_installation(error: Exception, line: str) -> None:
    said = packages.for_error(error)
    assert said.startswith(line) and bool(said) == bool(line)


def test_ids_launchers_and_games_of_packages_that_are_missing(monkeypatch: Any) -> None:
    monkeypatch.setattr(packages, "_installed", lambda module: False)
    assert sentence(["env.id=MiniGrid-Nowhere-v0"]) == (
        "env.id: expected an environment whose packages are installed, received 'MiniGrid-Nowhere-v0'.\n"
        "pip install minigrid brings it."
    )
    assert packages.for_id("ALE/Pong-v5") == "pip install 'rlexp[atari]' brings it." and packages.for_id("Own-v0") == ""
    assert packages.HYDRA["joblib"] == "rlexp[parallel]" and packages.HYDRA["submitit_slurm"] == "rlexp[slurm]"
    from rlexp.config.messages import explain

    missing = Exception(
        "Could not find 'hydra/launcher/joblib'\n\nAvailable options in 'hydra/launcher':\n\tbasic\n\tfused"
    )
    assert explain(missing) == (
        "hydra/launcher: expected one of basic, fused, received 'joblib'.\npip install 'rlexp[parallel]' brings it."
    )


@pytest.mark.parametrize("name", ["ppo", "PPO", "a3c", "reinforce", "vpg", "trpo", "double_dqn", "double-dqn", "dueling",
                                  "munchausen", "noisy_net", "implicit_quantile_network", "soft_actor_critic", "ddpg", "per", "dqn_target", "vi", "value_iteration",
                                  "td", "monte_carlo"])  # fmt: skip
def test_well_known_algorithms_point_to_what_there_is(name: str) -> None:
    hint = hints.for_choice("algo", name)
    named = {word.removeprefix("algo=").strip(".,;:") for word in hint.split() if word.startswith("algo=")}
    assert named and named <= set(registry.ALGOS)


def test_every_hint_names_what_exists() -> None:
    """Keys and algorithms that the tables advise to write are there."""
    import re

    from rlexp.config.arguments import kind_of

    words = " ".join([*hints.ALGOS.values(), *hints.KEYS.values(), *hints.ACTIONS.values()])
    assert set(re.findall(r"\balgo=(\w+)", words)) <= set(registry.ALGOS)
    for key in re.findall(r"\b((?:algo|env|evaluation|budget|animation|network)\.[a-z_.]+\w)=?", words):
        assert kind_of(key) or kind_of(key.rpartition(".")[0]) or key == "algo.optimizer", key


KEYS = [
    ("epochs=3", "Training is counted in budget.steps="), ("lr=1e-3", "It is algo.optimizer.lr"), ("gamma=.9", "Did you mean algo.gamma?"),
    ("steps=3", "Did you mean budget.steps?"), ("episodes=3", "Did you mean budget.episodes?"), ("seeds=3", "It is trials="),
    ("n_trials=3", "It is trials="), ("total_timesteps=1e5", "It is budget.steps="), ("learning_rate=1", "It is algo.optimizer.lr"),
    ("env=CartPole-v1", "A Gymnasium id is given by env.id=CartPole-v1; with the settings that ship with rlexp, env=cartpole"),
    ("env=CartPole", "Did you mean cartpole?"), ("env=Pendulum-v1", "A Gymnasium id is given by env.id=Pendulum-v1"),
    ("env=LunarLander-v2", "Did you mean env=lunar_lander? Its Gymnasium id is env.id=LunarLander-v3"),
    ("algo=ppo2", "PPO is algo=ppo."), ("algo=a3c", "Its synchronous form is algo=a2c."),
    ("algo=pg algo.clip_ratio=0.2", "It is a key of algo=ppo, which is what algo=pg_baseline was in earlier versions."),
    ("algo=pg_baseline algo.num_minibatches=4", "It is a key of algo=ppo, which is what algo=pg_baseline was in earlier"),
    ("algo=pg_baseline algo.num_updates=5", "It is a key of algo=ppo and of the DQN family; pg and pg_baseline make one"),
    ("+experiment=tuned/pg_baseline_cartpole", "It is now +experiment=tuned/ppo_cartpole"),
    ("env.id=CarRacing-v3", f"These algorithms take them: algo={TAKE_BOX}. env.kwargs.continuous=false makes its actions numbered."),
]  # fmt: skip


@pytest.mark.parametrize(("arg", "hint"), KEYS, ids=[arg for arg, _ in KEYS])
def test_words_of_other_libraries_say_where_the_key_is(arg: str, hint: str) -> None:
    alone = arg.partition("=")[0] not in ("algo", "env", "+experiment")
    said = sentence([arg]) if alone else sentence_of(*arg.split())
    assert said.splitlines()[1].startswith(hint)


def test_what_the_presets_of_earlier_versions_are_now_is_there() -> None:
    assert set(hints.MOVED_PRESETS.values()) <= set(paths.configured("experiment"))
    assert not set(hints.MOVED_PRESETS) & set(paths.configured("experiment"))
