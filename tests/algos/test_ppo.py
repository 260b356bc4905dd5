"""Proximal policy optimisation and its relatives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlexp.algos.base import Batch, Params, Scalars, State
from rlexp.algos.ppo import PPO
from rlexp.config.schema.algos import PPOSettings
from rlexp.engines.rollout_lanes import RolloutLanes
from rlexp.jobs.weights import save_model
from rlexp.networks.flat_model import FlatModel
from tests.engines.test_pg import NO_NUMBERS, SGD, agent, learn, policy, rollout, scalars

PLAIN = PPOSettings(optimizer=SGD, gae_lambda=0.9)


def ppo(**options: Any) -> tuple[Any, FlatModel]:
    """An agent with these settings, of three observed numbers and actions."""
    return agent(PPO, 3, replace(PLAIN, **options))


class Summing(PPO):
    """Counts the updates from a batch in its state, and sums what its batches have paid when each is over."""

    def init(self, params: Params) -> State:
        return {**super().init(params), "updates": tf.zeros(()), "paid": tf.zeros(())}

    def learn(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> Any:
        new, metrics, priorities = super().learn(state, batch, u, scalars)
        return {**new, "updates": state["updates"] + 1.0}, metrics, priorities

    def end_batch(self, state: State, batch: Batch, scalars: Scalars) -> State:
        paid = tf.reduce_sum(tf.where(batch["mask"], batch["r_t"], 0.0))
        return {**state, "paid": state["paid"] + state["updates"] * paid, "updates": tf.zeros(())}


def test_a_batch_ends_once_after_all_updates_from_it() -> None:
    learner, model = agent(Summing, 3, PPOSettings(optimizer=SGD))
    lanes = RolloutLanes(learner, {"policy": np.stack([model.get_params()] * 3)}, True, True, "test_a_batch_ends")
    batch = {name: np.stack([field.numpy()] * 2) for name, field in rollout(3, (3, 4), 8).items()}
    batch["r_t"] *= np.array([[1.0], [3.0]], np.float32)
    now = {path: np.full(2, value.numpy()) for path, value in scalars().items()}
    order = np.array([[[6, 1, 4, 3], [0, 7, 2, 5]]] * 2)  # [n, U, M]
    for _ in range(2):
        lanes.learn_some(np.array([0, 2]), batch, order, np.zeros((2, 2, 0)), now)
    paid = 2 * 2 * batch["r_t"].sum(axis=1)  # two batches, two updates each
    np.testing.assert_allclose(lanes.state["paid"], [paid[0], 0.0, paid[1]], rtol=1e-5)
    assert not lanes.state["updates"].numpy().any()


def test_the_clipped_surrogate_as_published() -> None:
    """Ratios 1, 1, e^-2 and advantages .3, .2, .1 of either sign, clipped at .2: a loss of -.171175, and of .193333."""
    learner, _ = ppo(clip_ratio=0.2)
    log_prob, advantage = tf.constant([0.0, 0.0, -2.0]), tf.constant([0.3, 0.2, 0.1])
    for sign, expected in ((1.0, -0.171175), (-1.0, 0.193333)):
        gain = learner.gain(sign * advantage, log_prob, {"log_prob": tf.zeros(3)})
        assert -float(tf.reduce_mean(gain)) == pytest.approx(expected, abs=1e-5)


def test_value_clipping_bounds_the_change_of_the_value_and_not_the_loss() -> None:
    """Values of 1 when they acted, clipped at .5. Target, value -> loss: 3, 2.5 -> 2.25 (not .25: moved enough);
    3, 1.2 -> 3.24; 3, 0 -> 9 (away from the target: it is pulled back); 40, 1.1 -> 1513.21 (a large loss stays large)."""
    learner, model = ppo(value_clip=0.5)
    batch = {"o_tm1": tf.zeros((4, 3)), "a_tm1": tf.zeros(4, tf.int32), "mask": tf.ones(4), "advantage": tf.ones(4),
             "log_prob": tf.zeros(4), "target": tf.constant([3.0, 3.0, 3.0, 40.0]), "value": tf.ones(4)}  # fmt: skip
    values = tf.Variable([2.5, 1.2, 0.0, 1.1])
    learner.value = lambda params, o_t: values
    with tf.GradientTape() as tape:
        losses = learner.losses(policy(model.get_params()), batch, (), NO_NUMBERS, scalars()).parts["value_loss"]
        total = tf.reduce_sum(losses)
    np.testing.assert_allclose(losses, [2.25, 3.24, 9.0, 1513.21], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(total, values), [0.0, -3.6, -6.0, -77.8], rtol=1e-6)


def test_a_minibatch_of_one_row_learns_from_its_advantage() -> None:
    learner, model = ppo(normalize=True)
    params, batch = model.get_params(), rollout(3, (4,), 4)
    new, (metrics,) = learn(learner, params, batch, [[2]])
    assert np.isfinite(new).all() and np.isfinite(float(metrics["loss"]))
    plain, _ = ppo(normalize=False)
    np.testing.assert_array_equal(new, learn(plain, params, batch, [[2]])[0])
    assert np.abs(new - params).max() > 1e-3


def test_a_truncated_episode_bootstraps_from_its_final_observation_and_not_from_the_next_episode() -> None:
    """lambda 1, gamma .9: the target of the first row is r + .9 V(its own o_t), whatever the second row observes."""
    learner, model = ppo(gae_lambda=1.0)
    params, batch = policy(model.get_params()), rollout(3, (1, 1), 2)
    batch["terminated"], batch["truncated"] = tf.constant([False, True]), tf.constant([True, False])
    v_t = learner.value(params, batch["o_t"])
    target = learner.prepare(params, batch, scalars(gamma=0.9))["target"].numpy()
    np.testing.assert_allclose(target, [float(batch["r_t"][0] + 0.9 * v_t[0]), float(batch["r_t"][1])], rtol=1e-5)


def lanes_of(learner: PPO, model: FlatModel, number: int, name: str) -> RolloutLanes:
    """Trials with the same weights, side by side."""
    return RolloutLanes(learner, {"policy": np.stack([model.get_params()] * number)}, True, True, name)


def test_a_trial_that_has_moved_enough_leaves_its_batch_and_no_other_trials() -> None:
    """The second trial's rewards are the first one's; its learning rate is so low that it never moves far."""
    learner, model = ppo(target_kl=0.01)
    free, _ = ppo()
    lanes, unbound = lanes_of(learner, model, 2, "kl"), lanes_of(free, model, 2, "no kl")
    batch = {name: np.stack([field.numpy()] * 2) for name, field in rollout(3, (4, 4), 8).items()}
    order = np.array([[list(range(8))] * 6] * 2)  # [n, U, M]
    now = {path: np.full(2, value.numpy()) for path, value in scalars().items()}
    now["optimizer.lr"] = np.array([0.5, 1e-3], np.float32)
    moved = []
    for _ in range(2):
        metrics = lanes.learn_some(np.arange(2), batch, order, np.zeros((2, 6, 0)), now)
        moved.append(lanes.params())
        assert not lanes.state["enough"].numpy().any()  # the next batch is learned from again
        assert metrics["approx_kl"][0] > 0.01 > 1e-4 > metrics["approx_kl"][1] >= 0
    unbound.learn_some(np.arange(2), batch, order, np.zeros((2, 6, 0)), now)
    np.testing.assert_allclose(moved[0][1], unbound.params()[1], rtol=1e-5, atol=1e-7)
    assert np.abs(moved[0][0] - unbound.params()[0]).max() > 0.1
    assert np.abs(moved[1][0] - moved[0][0]).max() > 0.01


def test_the_update_that_has_moved_too_far_is_the_last() -> None:
    """The second update sees what the first has done, is not made, and neither is any after it."""
    learner, model = ppo(target_kl=1e-6)
    params, batch = model.get_params(), rollout(3, (8,), 8)
    one, _ = learn(learner, params, batch, [range(8)])
    three, (first, second, third) = learn(learner, params, batch, [range(8)] * 3)
    np.testing.assert_array_equal(one, three)
    assert float(first["approx_kl"]) == pytest.approx(0, abs=1e-6)
    assert float(second["approx_kl"]) == float(third["approx_kl"]) > 1e-5


def test_observations_are_normalised_by_the_batches_before() -> None:
    """The first batch is seen as it is, the second one by the moments of the first: by the policy that acts, the one that
    learns, and the one that is saved. The ratio of the first update is 1 all the same."""
    learner, model = ppo(normalize_observations=True, target_kl=1e9)
    plain, _ = ppo()
    state, batch = learner.init(policy(model.get_params())), rollout(3, (5,), 8)
    batch["o_tm1"] = batch["o_tm1"] * [1.0, 5.0, 0.0] + [0.0, 30.0, 7.0]  # the last number never changes
    seen = learner.prepare(learner.acting(state), batch, scalars())["o_tm1"]
    np.testing.assert_allclose(seen, tf.clip_by_value(batch["o_tm1"], -10.0, 10.0), rtol=1e-6)
    state = learner.end_batch(state, batch, scalars())
    acting, rows = learner.acting(state), batch["o_tm1"].numpy()[:5]
    expected = (rows - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0) + 1e-8)
    prepared = learner.prepare(acting, batch, scalars())
    np.testing.assert_allclose(prepared["o_tm1"][:5], expected, rtol=1e-3, atol=2e-2)
    np.testing.assert_allclose(prepared["o_tm1"][:5, :2], expected[:, :2], rtol=1e-4, atol=1e-5)
    assert float(learner.learn(state, prepared, NO_NUMBERS, scalars()).metrics["approx_kl"]) == pytest.approx(
        0, abs=1e-6
    )
    u = tf.linspace(0.0, 0.999, 5)[:, None]
    for method, more in (("greedy", ()), ("sample", (u,))):
        mine = getattr(learner, method)(learner.unpack(acting), batch["o_tm1"][:5], *more)
        theirs = getattr(plain, method)(policy(model.get_params()), prepared["o_tm1"][:5], *more)
        np.testing.assert_array_equal(mine, theirs)


def test_a_far_observation_is_clipped() -> None:
    learner, model = ppo(normalize_observations=True)
    state = learner.end_batch(learner.init(policy(model.get_params())), rollout(3, (8,), 8), scalars())
    far = {**rollout(3, (8,), 8), "o_tm1": tf.fill((8, 3), 1e6), "o_t": tf.fill((8, 3), -1e6)}
    prepared = learner.prepare(learner.acting(state), far, scalars())
    assert prepared["o_tm1"].numpy().tolist() == [[10.0] * 3] * 8


def test_rewards_are_divided_by_the_deviation_of_discounted_returns() -> None:
    """gamma .5, r 2, 0, 4 cut and 8 in the next batch: R = 2, 1, 4.5 and 10.25. Their variance counts, not the mean."""
    learner, model = ppo(normalize_rewards=True, gae_lambda=0.0)
    learner.value = lambda params, o_t: tf.zeros(len(o_t))
    state, batch = learner.init(policy(model.get_params())), rollout(3, (3,), 3)
    batch = {**batch, "r_t": tf.constant([2.0, 0.0, 4.0]), "terminated": tf.constant([False] * 3)}
    later = {name: field[2:] for name, field in batch.items()} | {"r_t": tf.constant([8.0])}
    for rows, seen in ((batch, [2.0, 1.0, 4.5]), (later, [2.0, 1.0, 4.5, 10.25])):
        found = learner.prepare(learner.acting(state), rows, scalars(gamma=0.5))["target"]  # r + gamma * 0
        np.testing.assert_allclose(found, rows["r_t"] / np.std(seen), rtol=1e-5)
        state = learner.end_batch(state, rows, scalars(gamma=0.5))
    assert float(state["rewards"]["count"]) == 4 and state["rewards"]["running"].numpy().tolist() == [10.25]
    huge = {**later, "r_t": tf.constant([1e9])}
    state["rewards"] = {**state["rewards"], "count": tf.constant(1e9)}
    assert learner.prepare(learner.acting(state), huge, scalars(gamma=0.5))["target"].numpy().tolist() == [10.0]


def test_the_saved_model_normalises_and_needs_nothing_but_keras(tmp_path: Any) -> None:
    """In safe mode, and equal to what acts."""
    learner, model = ppo(normalize_observations=True, normalize_rewards=True)
    lanes = lanes_of(learner, model, 2, "saved")
    batch = {name: np.stack([field.numpy()] * 2) for name, field in rollout(3, (5,), 8).items()}
    batch["o_tm1"] = batch["o_tm1"] * np.float32(3) + np.float32(50)
    now = {path: np.full(2, value.numpy()) for path, value in scalars().items()}
    lanes.learn_some(np.arange(2), batch, np.array([[list(range(8))]] * 2), np.zeros((2, 1, 0)), now)
    rows = lanes.params()
    save_model(lanes.deploy(rows[1]), tmp_path / "best.keras")
    loaded = keras.models.load_model(tmp_path / "best.keras", safe_mode=True)
    assert [type(layer).__module__.partition(".")[0] for layer in loaded.layers] == ["keras"] * len(loaded.layers)
    observations = np.random.default_rng(3).normal(50, 3, size=(200, 3)).astype(np.float32)
    logits = loaded(observations)
    assert logits.shape == (200, 3)
    greedy = lanes.greedy(lanes.acting_of(rows), np.stack([observations] * 2))[1]
    np.testing.assert_array_equal(np.argmax(logits, axis=1), greedy)
    assert len(set(greedy.tolist())) > 1
