"""`rlexp env`: what it says of environments, and of those that misbehave."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

import rlexp
from rlexp.cli import env
from rlexp.cli.completion import candidates
from rlexp.cli.help import overview
from rlexp.config import registry
from rlexp.envs import facts
from rlexp.system.errors import Refusal


class Odd(gym.Env[Any, Any]):
    """An environment that misbehaves at its first reset, in one of several ways."""

    observation_space = gym.spaces.Box(np.float32([-1, -np.inf]), np.float32([1, np.inf]))
    action_space = gym.spaces.Discrete(3, start=1)

    def __init__(self, way: str) -> None:
        self.way = way

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if self.way == "raise":
            raise ValueError("the \x1b[31msensor fell off")
        if self.way == "exit":
            sys.exit(3)
        while self.way == "hang":
            pass
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 1e30, False, False, {}


@pytest.fixture(scope="module", autouse=True)
def odd() -> Any:
    for way in ("raise", "exit", "hang", "huge"):
        gym.register(f"odd/{way.capitalize()}-v0", Odd, kwargs={"way": way}, max_episode_steps=7, reward_threshold=3.0)
    gym.register("odd/Several-v0", lambda: several())
    yield
    for env_id in [i for i in gym.registry if i.startswith("odd/")]:
        del gym.registry[env_id]


def several() -> gym.Env[Any, Any]:
    made = Odd("huge")
    made.action_space = gym.spaces.MultiDiscrete([2, 3])
    made.observation_space = gym.spaces.Dict({"a\x1b": Odd.observation_space, "b": gym.spaces.Discrete(4)})
    return made


def told(name: str, seconds: float = 0.0, **more: Any) -> dict[str, str]:
    """The first column -> the rest; lines without a first column are joined to those above."""
    rows: dict[str, str] = {}
    last = ""
    for line in env.described(name, more.get("picture"), seconds, more.get("timeout", 5.0)):
        what, rest = line[: env.WIDTH].strip(), line[env.WIDTH :].strip()
        last = what or last
        rows[last] = f"{rows[last]} | {rest}" if last in rows else rest
    return rows


def test_an_environment_with_tensor_dynamics_and_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = told("CartPole-v1", seconds=0.01)
    assert (
        rows["observation"]
        == "Box: 4 numbers, float32 | 0  -4.8 to 4.8 | 1  unbounded | 2  -0.418879 to 0.418879 | 3  unbounded"
    )
    assert rows["actions"] == "Discrete: one of 2 numbers, 0 to 1" and rows["time limit"] == "500 steps"
    assert rows["reward threshold"] == "475.0: a mean return that counts as solved"
    assert rows["wrappers"] == "OrderEnforcing, TimeLimit" and rows["package"] == f"gymnasium {gym.__version__}"
    assert rows["transition table"] == "no" and rows["fused engine"] == "yes, by its dynamics in TensorFlow"
    assert " steps/s of one instance here" in rows["speed"] and "rewards from 1 to 1 in " in rows["random actions"]
    assert "fixed_dqn           book/fixed_dqn, book/soft_dqn, cleanrl_dqn" in rows["algorithms"]
    assert rows["for any"].startswith("families/ddqn, families/dqn,")
    assert rows["not"] == (
        "sac, td3: env.id: expected an environment with a Box action space | "
        "q_value_iteration: env.id: expected an environment with a transition table P"
    )
    assert rows["start with"] == "rlexp algo=dueling_ddqn env=cartpole"


def test_a_table(tmp_path: Path) -> None:
    rows = told("frozen_lake", picture=tmp_path / "lake.png")
    assert (
        rows["observation"]
        == "Discrete: one of 16 numbers, 0 to 15 | tables see 16 states | networks see Box(0.0, 1.0, (16,), float32)"
    )
    assert rows["rewards"] == "0 to 1, from the transition table" and rows["transition table"] == "yes, complete"
    assert rows["fused engine"] == "yes, by its transition table"
    assert "q_learning          tuned/q_learning_frozen_lake" in rows["algorithms"]
    assert rows["start with"] == "rlexp algo=q_learning env=frozen_lake"
    with Image.open(tmp_path / "lake.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (256, 256))


def test_random_actions_respect_the_action_mask() -> None:
    with pytest.raises(
        Refusal, match="expected an environment that renders to rgb_array, received one that renders to nothing"
    ):
        told("three_state_mdp", picture=Path("mdp.png"))
    rows = told("three_state_mdp", seconds=0.05)
    assert rows["package"] == f"rlexp {rlexp.__version__}"
    assert " | tables see 3 states, an action mask beside it | " in rows["observation"]
    low, high = facts.measure(env._settings("three_state_mdp").env, 0.05).rewards
    assert (low, high) == (-50, 40)
    assert rows["random actions"].startswith("rewards from -50.0 to 40.0 in ")


def test_actions_that_some_algorithms_take(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = told("Pendulum-v1")
    assert rows["actions"] == "Box: 1 number, float32, each -2 to 2"
    assert "| pg                  -" in rows["algorithms"] and "| dqn " not in rows["algorithms"]
    assert rows["not"].endswith("env.id: expected an environment with a Discrete action space")
    taken = {name: replace(entry, actions=("discrete",)) for name, entry in registry.ALGOS.items()}
    monkeypatch.setattr(registry, "ALGOS", taken)
    assert told("Pendulum-v1")["algorithms"] == "none takes Box actions now"
    rows = told("odd/Several-v0", seconds=0.01)
    assert rows["observation"].startswith("Dict of 2 parts | 'a\\x1b': Box: 2 numbers, float32 | ")
    assert rows["actions"].startswith("MultiDiscrete")
    assert rows["algorithms"] == "none takes MultiDiscrete actions now"
    assert rows["random actions"].startswith("rewards from 1e+30 to 1e+30 in ")


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("Raise", "reset raised ValueError: the  [31msensor fell off (test_env.py, line "),
        ("Exit", "reset raised SystemExit: 3 (test_env.py, line "),
        pytest.param("Hang", "reset has not returned within 1 s (env.step_timeout)", marks=pytest.mark.slow),
    ],
)
def test_whatever_an_environment_does_is_told_in_a_sentence(way: str, words: str) -> None:
    with pytest.raises(Refusal) as refused:
        told(f"odd/{way}-v0", seconds=0.01, timeout=1.0)
    assert str(refused.value).startswith(
        f"env.id: expected an environment that can be made, received 'odd/{way}-v0' ({words}"
    )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["cartpol"], "received 'cartpol'.\nDid you mean cartpole or CartPole-v1"),
        (["CartPole"], "received 'CartPole'.\nDid you mean CartPole-v1?"),
        (["x'y-v0"], '"x\'y-v0".'),
        (["a\x1b[2Jb"], "received 'a\\x1b[2Jb'."),
        ([], "ENV: expected an environment, or --list, received neither."),
        (["CartPole-v1", "--picture", "x.gif"], "--picture: expected a .png file, received x.gif."),
        (["CartPole-v1", "--picture", "no/x.png"], "--picture: expected a file in a folder that is there"),
        (["CartPole-v1", "--timeout", "nan"], "--timeout: expected seconds above 0"),
        (["--list", "zzzz"], "--list: expected a text in a name or a registered id, received 'zzzz'."),
    ],
)
def test_refusals(
    args: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "register_all", lambda: None)
    monkeypatch.setattr(env.supervisor, "enable", lambda: None)  # this process is the tests' own
    assert env.main(args) == 2
    said = capsys.readouterr()
    assert said.err.startswith("refused: ") and words in said.err and "\x1b" not in said.err and said.out == ""


def test_lists_of_ids(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(facts, "register_all", lambda: asked.append(1))  # imports whatever is installed
    assert env.main(["--list", "CART"]) == 0
    found = capsys.readouterr().out.split()
    assert found[:2] == ["env=cartpole", "CartPole-v1"] and {"env.id=CartPole-v0", "env.id=CartPole-v1"} <= {*found}
    assert env.main(["--list", "Acro*-v?"]) == 0
    assert capsys.readouterr().out.split() == ["env=acrobot", "Acrobot-v1", "env.id=Acrobot-v1"]
    assert asked == [1, 1]


def test_an_environment_whose_package_is_missing_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "Box2D", None)
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    lines = []
    with pytest.raises(Refusal, match=r"whose packages are installed.*\n.*rlexp\[box2d\]"):
        for line in env.described("lunar_lander", None, 0.0, 5.0):
            lines.append(line)
    assert [line.split()[:2] for line in lines[1:]] == [
        ["registered", "as"],
        ["time", "limit"],
        ["reward", "threshold"],
    ]


def test_it_is_a_tool_like_the_others() -> None:
    assert "rlexp env " in overview()
    assert candidates("rlexp env cartp") == ["cartpole"] and "env" in candidates("rlexp e")


def test_bounds_in_words() -> None:
    box = gym.spaces.Box
    assert facts.space_words(box(-1, 1, (2, 3), np.float32)) == ["Box: 6 numbers, shape (2, 3), float32, each -1 to 1"]
    assert facts.space_words(box(np.float32([-0.0, -3e38]), np.float32([1, np.inf])))[1:] == [
        "  0  0 to 1",
        "  1  -infinity to infinity",
    ]
    wide = box(np.arange(-20, 0, dtype=np.float32), np.ones(20, np.float32))
    assert facts.space_words(wide) == ["Box: 20 numbers, float32, between -20 and 1"]
    assert facts.space_words(gym.spaces.Tuple((gym.spaces.Discrete(2), gym.spaces.MultiBinary(3)))) == [
        "Tuple of 2 parts", "  0: Discrete: one of 2 numbers, 0 to 1", "  1: MultiBinary: numbers of shape (3,), sizes 2 each",
    ]  # fmt: skip


@pytest.mark.slow
def test_an_environment_that_ends_its_process(tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text(
        "import os\nimport gymnasium as gym\nfrom gymnasium.envs.classic_control.cartpole import CartPoleEnv\n"
        "class Deadly(CartPoleEnv):\n    def reset(self, **_):\n        os._exit(7)\ngym.register('Deadly-v0', Deadly)\n"
    )
    command = [sys.executable, "-m", "rlexp", "env", "deadly:Deadly-v0"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.startswith("failed: the process died in ") and "(something called os._exit(7))" in ended.stderr
    assert ended.stdout.startswith("deadly:Deadly-v0\n")
