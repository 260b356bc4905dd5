"""Atari games: what the agent sees, that jobs run as on any other environment, and what they cost in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlexp
from rlexp.data.replay_ring import FrameRing, ReplayRing
from rlexp.engines.host.replay import ReplayLoop
from rlexp.envs import inspection, making, trial_envs
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete
from rlexp.jobs.preflight import preflight
from rlexp.jobs.runner import compose
from rlexp.system.errors import Refusal
from tests.conftest import records
from tests.engines.test_engines import trial

GAME = compose("env=space_invaders", "network=cnn").env
TINY_ATARI = (
    "+experiment=atari_dqn", "tracking=files", "animation.enabled=false", "network.hidden_units=[16]", "budget.steps=120",
    "algo.replay_size=60", "algo.batch_size=4", "algo.learn_start=20", "algo.target_period=40", "evaluation.period=60",
    "evaluation.num_episodes=2", "evaluation.final_episodes=2", "evaluation.candidate_episodes=2", "evaluation.max_steps=40",
)  # fmt: skip


def test_what_the_agent_sees() -> None:
    """Bytes, four frames of 84 x 84, the six actions that mean something, sticky actions, half an hour at most."""
    assert inspection.inspect(GAME) == EnvInfo(
        Box((4, 84, 84), "uint8", (0.0,), (255.0,)), Discrete(6), 27_000, rgb_array=True
    )
    env = making.make(GAME, "rgb_array")
    game = env.unwrapped
    assert game.ale.getFloat("repeat_action_probability") == 0.25  # type: ignore[attr-defined]
    observation, info = env.reset(seed=0)
    assert observation.dtype == np.uint8 and (observation == observation[3]).all() and info["frame_number"] == 0
    before, lives = observation, []
    for t in range(1, 301):
        observation, _, terminated, truncated, info = env.step(t % 6)
        np.testing.assert_array_equal(observation[:3], before[1:])
        assert info["episode_frame_number"] == 4 * t
        assert not (terminated or truncated)
        before = observation
        lives.append(info["lives"])
    assert (lives[0], lives[-1]) == (3, 2)  # a life was lost and the episode went on
    assert observation.max() > 100 and env.render().shape == (210, 160, 3)  # type: ignore[union-attr]
    env.close()


def test_the_limit_of_an_episode_counts_steps_not_frames() -> None:
    env = making.make(compose("env=space_invaders", "network=cnn", "env.max_episode_steps=5").env)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(5)] == [False] * 4 + [True]


@pytest.mark.slow
def test_a_games_position_is_rebuilt_from_its_seed_and_actions() -> None:
    settings = compose("env=space_invaders", "network=cnn", "env.max_episode_steps=20").env
    info, everyone = inspection.inspect(settings), np.ones(2, bool)
    one, other = (trial_envs.TrialEnvs(settings, info, [3, 4]) for _ in range(2))
    rng = np.random.default_rng(0)
    for _ in range(35):
        one.step(rng.integers(6, size=2), everyone)
    other.set_state(one.get_state())
    for _ in range(30):
        actions = rng.integers(6, size=2)
        a, b = one.step(actions, everyone), other.step(actions, everyone)
        np.testing.assert_array_equal(a.o_t, b.o_t)
        np.testing.assert_array_equal(a.r_t, b.r_t)
        np.testing.assert_array_equal(one.observation, other.observation)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return rlexp.run(*TINY_ATARI, "trials=2", f"output_dir={tmp_path_factory.mktemp('pair')}", quiet=True)


@pytest.mark.slow
def test_a_trial_alone_equals_the_trial_in_a_batch(
    pair: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = rlexp.run(*TINY_ATARI, "trials=1", "seed=1", f"output_dir={tmp_path}")
    assert trial(alone, 1) == trial(pair, 1) != trial(pair, 0)
    assert pair["updates"] == [25, 25] and pair["observation_dtype"] == "uint8"
    printed = capsys.readouterr()
    warning = "no GPU was found and the network is convolutional: training will be very slow"
    assert (printed.out + printed.err).count(warning) == 1


@pytest.mark.slow
def test_best_weights_play_as_they_were_scored(pair: Any) -> None:
    policy = rlexp.load_policy(pair.folder)
    env = policy.make_env()
    returns = []
    for seed in (200_000, 200_001):
        observation, _ = env.reset(seed=seed)
        total = 0.0
        for _ in range(40):
            observation, reward, *_ = env.step(policy(observation))
            total += float(reward)
        returns.append(total)
    assert np.mean(returns) == pair["final/return"]["max"]
    assert policy(np.stack([observation, observation])).tolist() == [policy(observation)] * 2
    assert policy.model.input_shape == (None, 4, 84, 84) and policy.model.name == "cnn"
    values = policy.model(observation[None].astype(np.float32))  # bytes as numbers, 0 to 255
    assert int(np.argmax(values)) == policy(observation)
    assert np.abs(values).max() < 10  # the network scales them


@pytest.mark.slow
def test_the_ring_of_frames_changes_nothing_but_memory(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rings: list[ReplayRing] = []
    real = ReplayLoop.__init__

    def init(self: ReplayLoop, *args: Any) -> None:
        real(self, *args)
        rings.append(self.ring)

    monkeypatch.setattr(ReplayLoop, "__init__", init)
    options = ["trials=2", "env.frame_stack=3", "algo.n_step=3", "algo.replay_size=90"]
    frames = tiny("ddqn", *options, "study=frames")
    monkeypatch.setattr("rlexp.engines.host.replay.ring_type", lambda frame_stack: ReplayRing)
    whole = tiny("ddqn", *options, "study=whole")
    assert [type(ring) for ring in rings] == [FrameRing, ReplayRing]
    assert records(frames.folder) == records(whole.folder)


@pytest.mark.slow
def test_rewards_are_clipped_in_what_is_learned_and_returns_are_raw(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rings: list[ReplayRing] = []
    real = ReplayRing.add

    def add(self: ReplayRing, active: np.ndarray, **transition: np.ndarray) -> None:
        rings.append(self)
        real(self, active, **transition)

    monkeypatch.setattr(ReplayRing, "add", add)
    job = tiny("ddqn", "trials=2", "algo.reward_clip=0.25", "algo.replay_size=90", "budget.steps=100")
    assert set(rings[-1]._data["r_t"].ravel().tolist()) == {0.25}
    assert (job.curves["eval/return"].values >= 8).all()


def test_replay_that_does_not_fit_is_counted_by_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**30 // 4096}
    monkeypatch.setattr("os.sysconf", lambda name: sizes[name])
    preflight(compose("+experiment=atari_dqn", "trials=1"))
    with pytest.raises(Refusal, match=r"memory \(1 GiB\), received 2 rings of 100000 transitions, 1 GiB"):
        preflight(compose("+experiment=atari_dqn", "trials=2"))
