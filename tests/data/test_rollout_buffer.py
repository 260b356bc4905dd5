"""Rollout buffers of trials with several environments: rectangles, one environment after the other."""

from __future__ import annotations

import numpy as np

from rlexp.data.rollout_buffer import RolloutBuffer
from rlexp.data.transition import FIELDS
from rlexp.envs.spec import Box, Discrete


def steps(count: int, num_trials: int = 3, num_envs: int = 2) -> dict[str, np.ndarray]:
    """Transitions whose reward says where they are from: 100 trial + 10 environment + lock-step."""
    rng = np.random.default_rng(count)
    i, k, e = np.ogrid[:count, :num_trials, :num_envs]
    reward = (100 * k + 10 * e + i).astype(np.float32)
    fields = {"r_t": reward, "o_tm1": reward[..., None] + 0.25, "o_t": reward[..., None] + 0.5, "a_tm1": reward % 3}
    flags = {name: rng.random(reward.shape) < 0.3 for name in ("terminated", "truncated")}
    return {**fields, **flags}


def buffer(num_envs: int = 2) -> RolloutBuffer:
    return RolloutBuffer(3, Box((1,), "float32"), Discrete(3), num_envs)


def test_rows_are_those_of_one_environment_after_the_other() -> None:
    """Trial 0 holds 5 lock-steps, trial 2 holds 3: 10 and 6 rows of 128."""
    held, data = buffer(), steps(5)
    for i in range(5):
        held.add(np.array([True, False, i < 3]), **{name: values[i] for name, values in data.items()})
    assert held.num_steps.tolist() == [5, 0, 3]
    ended = data["terminated"] | data["truncated"]
    assert held.num_episodes.tolist() == [ended[:, 0].sum(), 0, ended[:3, 2].sum()]
    batch = held.batch(np.array([0, 2]), 128)
    assert batch["r_t"][0, :11].tolist() == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 0]
    assert batch["r_t"][1, :7].tolist() == [200, 201, 202, 210, 211, 212, 0]
    assert np.flatnonzero(batch["cut"][0]).tolist() == [4, 9] and np.flatnonzero(batch["cut"][1]).tolist() == [2, 5]
    assert batch["mask"].sum(axis=1).tolist() == [10, 6]
    for name in FIELDS:
        assert (batch[name][0, :10] == data[name][:, 0].swapaxes(0, 1).reshape(10, *data[name].shape[3:])).all()
        assert not batch[name][:, 10:].any()


def test_many_lock_steps_are_added_as_one_after_the_other_and_it_grows() -> None:
    one, many, active = buffer(), buffer(), np.array([True, False, True])
    for count in (3, 200):
        data = steps(count)
        for i in range(count):
            one.add(active, **{name: values[i] for name, values in data.items()})
        many.add_many(active, data)
    assert one.num_steps.tolist() == many.num_steps.tolist() == [203, 0, 203]
    assert one.num_episodes.tolist() == many.num_episodes.tolist() and one.num_episodes[0] > 0
    both = np.array([0, 2])
    assert one.num_rows(both).tolist() == [512, 512]
    for name, values in one.batch(both, 512).items():
        assert (many.batch(both, 512)[name] == values).all(), name


def test_a_restart_removes_the_whole_batch_of_its_trial() -> None:
    held = buffer()
    held.add_many(np.ones(3, bool), steps(4))
    episodes = held.num_episodes.tolist()
    held.forget_episode(np.array([False, True, False]))
    assert held.num_steps.tolist() == [4, 0, 4] and held.num_episodes.tolist() == [episodes[0], 0, episodes[2]]


def test_one_environment_has_no_cuts_and_no_axis_of_its_own() -> None:
    held, data = buffer(1), {name: values[:, :, 0] for name, values in steps(4).items()}
    held.add_many(np.ones(3, bool), data)
    batch = held.batch(np.arange(3), 128)
    assert "cut" not in batch and batch["r_t"].shape == (3, 128) and batch["o_t"].shape == (3, 128, 1)
    assert held.get_state()["data"]["r_t"].shape == (3, 128)
