"""`env.wrappers`: Gymnasium wrappers by class path, in every environment of a job; and observations that are no vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import rlexp
from rlexp.config.schema.env import EnvSettings
from rlexp.envs import inspection, making, transition_table, trial_envs, wrappers
from rlexp.envs.flattening import obstacles
from rlexp.jobs.policy import load_policy
from rlexp.jobs.runner import compose, resolve
from rlexp.system.errors import Refusal
from tests.config.test_refusals import sentence

TIME = "env.wrappers=[TimeAwareObservation]"
ROOM = ("env.id=MiniGrid-Empty-5x5-v0", "env.wrappers=[minigrid.wrappers.ImgObsWrapper]")


class Scaled(gym.ObservationWrapper):
    """A third party's: observations times `by`."""

    def __init__(self, env: gym.Env, by: tuple[float, ...], shift: float = 0.0) -> None:
        super().__init__(env)
        assert isinstance(by, tuple), "lists of YAML arrive as tuples"
        self.by, self.shift = np.array(by, np.float32), shift

    def observation(self, observation: Any) -> Any:
        """Scale it."""
        return (observation * self.by + self.shift).astype(np.float32)


class Odd(gym.Env):
    """Observes what `kind` says."""

    action_space = spaces.Discrete(2)

    def __init__(self, kind: str) -> None:
        text, sequence, number = spaces.Text(5), spaces.Sequence(spaces.Discrete(3)), spaces.Discrete(3)
        self.observation_space = {
            "text": text,
            "sequence": sequence,
            "graph": spaces.Graph(spaces.Box(0, 1, (2,)), None),
            "dict": spaces.Dict(word=text, count=number, deep=spaces.Dict(more=sequence)),
            "tuple": spaces.Tuple((number, sequence)),
            "oneof": spaces.OneOf((number, spaces.Box(0, 1, (2,)))),
        }[kind]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """A sample."""
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        """Another."""
        return self.observation_space.sample(), 0.0, True, False, {}


if "tests/Odd-v0" not in gym.registry:
    gym.register("tests/Odd-v0", Odd)
ODD = ("env.id=tests/Odd-v0", "env.imports=[tests.envs.test_wrappers]")


def test_a_job_trains_scores_and_deploys_what_its_wrappers_observe(tiny: Callable[..., Any]) -> None:
    job = tiny("dqn", TIME, "trials=1", "budget.steps=120", "animation.enabled=true", "animation.max_steps=5")
    policy = load_policy(job.folder)
    env = policy.make_env()
    assert policy.model.input_shape == (None, 5) and env.observation_space.shape == (5,)
    own = gym.wrappers.TimeAwareObservation(gym.make("CartPole-v1"))
    assert policy(env.reset(seed=3)[0]) == policy(own.reset(seed=3)[0]) in (0, 1)
    assert (job.folder / "animation.gif").is_file() and job["engine"] == "host"
    assert "- name: TimeAwareObservation" in (job.folder / "config.yaml").read_text()


def test_their_order_and_arguments() -> None:
    entries = [
        "{name: tests.envs.test_wrappers:Scaled, by: [1,2]}",
        "{name: tests.envs.test_wrappers.Scaled, by: [3,3], shift: 1}",
    ]
    settings = compose("env=mountain_car", f"env.wrappers=[{','.join(entries)}]", "env.frame_stack=2")
    env, plain = making.make(settings.env), gym.make("MountainCar-v0")
    expected = plain.reset(seed=1)[0] * [3, 6] + 1
    assert np.allclose(env.reset(seed=1)[0], [expected, expected]) and env.observation_space.shape == (2, 2)
    assert settings.env.wrappers[0]["name"] == "tests.envs.test_wrappers.Scaled"
    env = making.make(compose("env=mountain_car", "env.wrappers=[{name: RescaleObservation, min_obs: 0, max_obs: 1},"
                               "TimeAwareObservation]").env)  # fmt: skip
    assert np.allclose(env.observation_space.low, 0) and env.observation_space.shape == (3,)


def test_an_environment_is_rebuilt_through_its_wrappers() -> None:
    settings = compose(TIME, "trials=2")
    info = inspection.inspect(settings.env)
    first = trial_envs.TrialEnvs(settings.env, info, [0, 1])
    for _ in range(7):
        first.step(np.array([1, 0]), np.array([True, True]))
    second = trial_envs.TrialEnvs(settings.env, info, [0, 1])
    assert not second.set_state(first.get_state()).any()
    assert second.observation.tobytes() == first.observation.tobytes() and first.observation[0, -1] == 7


def test_an_empty_list_changes_nothing_and_equal_lists_are_one_configuration() -> None:
    plain, wrapped = compose(), compose(TIME)
    assert compose("env.wrappers=[]").config_id == plain.config_id != wrapped.config_id
    assert compose("env.wrappers=[{name: TimeAwareObservation}]").config_id == wrapped.config_id
    assert resolve(plain)[0].engine == "fused" and resolve(wrapped)[0].engine == "host"
    assert not isinstance(making.make(plain.env), wrappers.Configured)
    with pytest.raises(Refusal, match=r"engine: expected auto or host, received 'fused', but env\.wrappers exist"):
        resolve(compose(TIME, "engine=fused"))


def test_a_table_is_not_trusted_behind_wrappers() -> None:
    lake = EnvSettings(id="FrozenLake-v1", wrappers=["RecordEpisodeStatistics"])
    info = inspection.inspect(lake, tabular=True)
    assert (info.num_states, info.table, info.is_table, transition_table.load(lake)) == (16, False, False, None)
    assert inspection.inspect(EnvSettings(id="FrozenLake-v1"), tabular=True).is_table
    with pytest.raises(Refusal, match="'FrozenLake-v1', which has none that env"):
        resolve(compose("algo=q_value_iteration", "env=frozen_lake", "env.wrappers=[RecordEpisodeStatistics]"))


def test_wrappers_may_make_numbered_states_and_actions(tiny: Callable[..., Any]) -> None:
    pendulum = "env.wrappers=[{name: DiscretizeAction, bins: 5}, {name: DiscretizeObservation, bins: 4}]"
    job = tiny("q_learning", "env.id=Pendulum-v1", pendulum, "trials=1", "budget.steps=50", "evaluation.max_steps=5")
    assert job["status"] == "done" and load_policy(job.folder).model.shape == (64, 5)


def test_minigrid_needs_no_module_of_ones_own(tiny: Callable[..., Any]) -> None:
    assert inspection.inspect(compose(*ROOM).env).observation_shape == (7, 7, 3)
    job = tiny("random", *ROOM, "trials=1", "budget.steps=30", "evaluation.max_steps=20")
    assert job["status"] == "done" and job["env"] == "MiniGrid-Empty-5x5-v0"
    parts = "env.wrappers=[{name: FilterObservation, filter_keys: [image, direction]}]"
    info = inspection.inspect(compose(ROOM[0], parts).env)
    assert info.observation_shape == (7 * 7 * 3 + 4,)
    with pytest.raises(Refusal) as refused:
        resolve(compose(ROOM[0]))
    assert str(refused.value) == (
        "env.id: expected an environment whose observations can become a vector of numbers, received "
        "'MiniGrid-Empty-5x5-v0', which observes mission (MissionSpace).\n"
        "For example env.wrappers=[minigrid.wrappers.ImgObsWrapper]"
    )


def test_a_policy_flattens_what_the_wrappers_leave(tiny: Callable[..., Any]) -> None:
    wrapped = "env.wrappers=[{name: FilterObservation, filter_keys: [count]}]"
    job = tiny("random", *ODD, "env.kwargs.kind=dict", wrapped, "trials=1", "budget.steps=10")
    policy = load_policy(job.folder, allow_imports=True)  # this module is of no distribution
    assert policy({"count": 2}) in (0, 1) and policy._flatten({"count": 2}).tolist() == [0, 0, 1]


REFUSED = [
    ("env.wrappers=[TimeAware]", "env.wrappers[0]: expected a wrapper of gymnasium.wrappers, received 'TimeAware'.\nDid you mean TimeAwareObservation or ClipReward?"),
    ("env.wrappers=[TimeLimit2,x y]", None),
    ("env.wrappers=[gymnasium.wrapper.TimeLimit]", "env.wrappers[0]: expected a wrapper that can be imported, received 'gymnasium.wrapper.TimeLimit' (No module named 'gymnasium.wrapper')."),
    ("env.wrappers=[nomodule.Own]", "env.wrappers[0]: expected a wrapper that can be imported, received 'nomodule.Own' (No module named 'nomodule').\nPerhaps: pip install nomodule (a guess from its name). A file of your own is looked for in the current folder and in PYTHONPATH."),
    ("env.wrappers=[json.dumps]", "env.wrappers[0]: expected a class derived from gymnasium.Wrapper, received 'json.dumps', which is none."),
    ("env.wrappers=[FlattenObservation,gymnasium.Env]", "env.wrappers[1]: expected a class derived from gymnasium.Wrapper, received 'gymnasium.Env', which is none."),
    ("env.wrappers=[{name: TimeLimit}]", "env.wrappers[0]: expected arguments that TimeLimit takes, received none (missing a required argument: 'max_episode_steps').\nThere are max_episode_steps."),
    ("env.wrappers=[{name: TimeLimit, steps: 3}]", None),
    ("env.wrappers=[{name: TimeLimit, max_episode_steps: x}]", None),
    ("env.wrappers=[minigrid.wrappers.ImgObsWrapper]", None),
    ("env.wrappers=[NormalizeReward]", "env.wrappers[0]: expected a wrapper whose state ends with the episode, received 'NormalizeReward', which keeps statistics over episodes.\nEvaluation and resumed jobs would see other numbers; RescaleObservation and ClipReward keep none."),
    ("env.wrappers=TimeLimit", "env.wrappers: expected a list, received 'TimeLimit'.\nA list of one: 'env.wrappers=[TimeLimit]'"),
    ("env.wrappers={name: TimeLimit}", "env.wrappers: expected a list, received '{name: TimeLimit}'.\nA list of one: 'env.wrappers=[{name: TimeLimit}]'"),
    ("env.wrappers=[1]", None),
    ("env.wrappers=[null]", None),
    ("env.wrappers=[[TimeLimit]]", None),
    ("env.wrappers=[{max_episode_steps: 3}]", None),
    ("env.wrappers=['a-b.C']", None),
    ("env.wrappers=['']", None),
    ("env.wrappers=[.x]", None),
    ("env.wrappers=null", "env.wrappers: expected a list, received null."),
]  # fmt: skip


@pytest.mark.parametrize(("arg", "message"), REFUSED, ids=[arg for arg, _ in REFUSED])
def test_what_is_no_wrapper_is_refused(arg: str, message: str | None) -> None:
    said = sentence([arg])
    assert said.startswith("env.wrappers") and len(said.splitlines()) <= 2 and said == (message or said)


def test_spaces_that_are_no_vector() -> None:
    for kind, what, hint in (
        ("text", "a Text", "A wrapper that observes numbers makes them one: env.wrappers=[module.Class]"),
        ("sequence", "a Sequence", "A wrapper"),
        ("graph", "a Graph", "A wrapper"),
        ("tuple", "1 (Sequence)", "A wrapper"),
        ("dict", "word (Text) and deep.more (Sequence)", "Leave out the others: env.wrappers='[{name: FilterObservation, filter_keys: [count]}]'"),
    ):  # fmt: skip
        for tabular in (False, True):
            with pytest.raises(Refusal) as refused:
                inspection.inspect(EnvSettings(id="tests/Odd-v0", kwargs={"kind": kind}), tabular)
            first, second = str(refused.value).splitlines()
            assert first.endswith(f"received 'tests/Odd-v0', which observes {what}.") and second.startswith(hint)
    assert inspection.inspect(EnvSettings(id="tests/Odd-v0", kwargs={"kind": "oneof"})).observation_shape == (4,)
    assert obstacles(spaces.Dict(a=spaces.Tuple((spaces.Text(2),)))) == ["a.0 (Text)"]


def test_an_environment_without_a_limit_says_so_once(tiny: Callable[..., Any], capsys: Any, tmp_path: Any) -> None:
    from rlexp.jobs.notices import no_time_limit

    chain = ("env.id=Blackjack-v1", "env.max_episode_steps=null", "evaluation.max_steps=12345")
    settings = compose("algo=random", *chain)
    info = inspection.inspect(settings.env)
    said = (
        "Blackjack-v1 declares no time limit: evaluation episodes that have not ended by themselves are cut at 12,345 steps "
        "(evaluation.max_steps), with their return so far; training episodes are not cut. env.max_episode_steps=500 limits both"
    )
    assert no_time_limit(settings, info, None) == said
    assert [no_time_limit(settings, info, tmp_path) for _ in range(3)] == [said, None, None]
    limited = compose("algo=random", *chain[:1], "env.max_episode_steps=50")
    assert no_time_limit(limited, inspection.inspect(limited.env), None) is None
    quick = ("algo=random", f"output_dir={tmp_path}", "trials=2", "tracking=files", "animation.enabled=false", "budget.steps=20",
             "evaluation.num_episodes=1", "evaluation.final_episodes=1", "evaluation.candidate_episodes=1")  # fmt: skip
    rlexp.run(*quick, *chain)
    assert capsys.readouterr().out.count("declares no time limit") == 1
