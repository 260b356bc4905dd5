"""Policy gradients: the weighted loss against the notebook's per-step gradients, heads, padding, and the family's loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tests.probes  # noqa: F401  (registers the probe environments)
from rlexp.algos.pg import PG
from rlexp.algos.pg_baseline import PGBaseline
from rlexp.algos.ppo import PPO
from rlexp.config.schema.algos import OptimizerSettings, PGBaselineSettings, PGSettings, PPOSettings
from rlexp.config.schema.network import NetworkSettings
from rlexp.data import seeding
from rlexp.data.rollout_buffer import RolloutBuffer, minibatches
from rlexp.engines.rollout_lanes import RolloutLanes
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete
from rlexp.networks import mlp
from rlexp.networks.flat_model import FlatModel
from tests.math.test_returns import discount_rewards

SGD = OptimizerSettings(name="sgd", clip_norm=None)  # w <- w - gradient at lr 1, so that a step shows the gradient


NO_NUMBERS = tf.zeros(0)  # an update draws none


def agent(kind: Callable[..., PG], num_actions: int, config: PGSettings) -> tuple[PG, FlatModel]:
    network, info = (
        NetworkSettings(hidden_units=[5], activation="tanh"),
        EnvInfo(Box((3,), "float32"), Discrete(num_actions), None, False),
    )
    models = kind.models(lambda outputs: mlp.build((3,), outputs, network), info, config)  # type: ignore[attr-defined]
    networks = {name: FlatModel(model) for name, model in models.items()}
    return kind(config, networks, info), networks["policy"]


def rollout(num_actions: int, lengths: tuple[int, ...], num_rows: int) -> dict[str, tf.Tensor]:
    """Episodes that terminate, then padding."""
    rng = np.random.default_rng(1)
    used = sum(lengths)
    terminated = np.zeros(num_rows, bool)
    terminated[np.cumsum(lengths) - 1] = True
    batch = {
        "o_tm1": rng.normal(size=(num_rows, 3)),
        "o_t": rng.normal(size=(num_rows, 3)),
        "a_tm1": rng.integers(num_actions, size=num_rows),
        "r_t": rng.normal(size=num_rows),
    }
    for values in batch.values():
        values[used:] = 0
    batch = {name: tf.constant(x, tf.int32 if name == "a_tm1" else tf.float32) for name, x in batch.items()}
    flags = {"terminated": terminated, "truncated": np.zeros(num_rows, bool), "mask": np.arange(num_rows) < used}
    return {**batch, **{name: tf.constant(x) for name, x in flags.items()}}


def scalars(gamma: float = 0.9, entropy_coef: float = 0.0) -> dict[str, tf.Tensor]:
    return {"gamma": tf.constant(gamma), "optimizer.lr": tf.constant(1.0), "entropy_coef": tf.constant(entropy_coef)}


def learn(learner: PG, params: np.ndarray, batch: dict[str, tf.Tensor], order: Any = None, **options: float) -> Any:
    """New parameters, and the metrics of each update, from the rows of `order` (default: one update from all)."""
    state, metrics = learner.init(policy(params)), []
    prepared = learner.prepare(learner.acting(state), batch, scalars(**options))
    for rows in order or [range(len(batch["mask"]))]:
        some = {name: tf.gather(field, list(rows)) for name, field in prepared.items()}
        state, each, _ = learner.learn(state, some, NO_NUMBERS, scalars(**options))
        metrics.append(each)
    return learner.acting(state)["policy"].numpy(), metrics


def policy(params: Any) -> dict[str, tf.Tensor]:
    return {"policy": tf.constant(params)}


def gradient(learner: PG, params: np.ndarray, batch: dict[str, tf.Tensor], **options: float) -> Any:
    return params - learn(learner, params, batch, **options)[0]


def notebooks_gradient(
    model: FlatModel,
    params: np.ndarray,
    lengths: tuple[int, ...],
    batch: dict[str, tf.Tensor],
    loss_fn: Callable[..., Any],
) -> np.ndarray:
    """One tape a step, as the chapter does it: the mean of final_reward * gradient over all steps of all episodes."""
    model.set_params(params)
    starts = np.cumsum([0, *lengths])
    rewards = batch["r_t"].numpy()
    discounted = np.concatenate([discount_rewards(rewards[a:b], 0.9) for a, b in itertools.pairwise(starts)])
    final_rewards = (discounted - discounted.mean()) / discounted.std()
    gradients = []
    for step, final_reward in enumerate(final_rewards):
        with tf.GradientTape() as tape:
            loss = loss_fn(model.model(batch["o_tm1"][step : step + 1]), batch["a_tm1"][step])
        grads = tape.gradient(loss, model.model.trainable_variables)
        gradients.append(final_reward * np.concatenate([g.numpy().ravel() for g in grads]))
    return np.mean(gradients, axis=0)


def test_sigmoid_update_is_the_mean_of_the_notebooks_per_step_gradients() -> None:
    """Binary cross-entropy with the target 1 - action on the probability of action 0."""
    learner, model = agent(PG, 2, PGSettings(head="sigmoid", optimizer=SGD))
    lengths, params = (4, 2, 5), model.get_params()
    batch = rollout(2, lengths, num_rows=16)

    def loss_fn(logits: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
        left_proba = tf.sigmoid(logits[:, :1])
        y_target = tf.constant([[1.0]]) - tf.cast(action, tf.float32)
        return tf.reduce_mean(keras.losses.binary_crossentropy(y_target, left_proba))

    expected = notebooks_gradient(model, params, lengths, batch, loss_fn)
    np.testing.assert_allclose(gradient(learner, params, batch), expected, rtol=1e-4, atol=1e-6)


def test_softmax_update_is_the_mean_of_the_notebooks_per_step_gradients() -> None:
    learner, model = agent(PG, 4, PGSettings(optimizer=SGD))
    lengths, params = (3, 6), model.get_params()
    batch = rollout(4, lengths, num_rows=16)

    def loss_fn(logits: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(action[None], tf.nn.softmax(logits)))

    expected = notebooks_gradient(model, params, lengths, batch, loss_fn)
    np.testing.assert_allclose(gradient(learner, params, batch), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "config"), [
    (PG, PGSettings(optimizer=SGD)),
    (PGBaseline, PGBaselineSettings(optimizer=SGD, gae_lambda=0.9)),
    (PPO, PPOSettings(optimizer=SGD, gae_lambda=0.9)),
])  # fmt: skip
def test_padding_leaves_the_update_unchanged(kind: type[PG], config: PGSettings) -> None:
    learner, model = agent(kind, 3, config)
    params = model.get_params()
    short = rollout(3, (4, 4), 8)
    longer = {name: tf.concat([x, tf.zeros_like(x)], axis=0) for name, x in short.items()}
    np.testing.assert_allclose(
        gradient(learner, params, longer, entropy_coef=0.1), gradient(learner, params, short, entropy_coef=0.1),
        rtol=1e-5, atol=1e-7,
    )  # fmt: skip


def test_a_sigmoid_is_a_softmax_with_one_logit_at_zero() -> None:
    sigmoid, model = agent(PG, 2, PGSettings(head="sigmoid", optimizer=SGD))
    params = policy(model.get_params())
    o_t = tf.constant(np.random.default_rng(0).normal(size=(50, 3)), tf.float32)
    logits = sigmoid.outputs(params, o_t).numpy()
    assert logits.shape == (50, 2) and not logits[:, 1].any()
    left = tf.sigmoid(logits[:, 0]).numpy()
    np.testing.assert_allclose(tf.nn.softmax(logits)[:, 0], left, rtol=1e-6)
    assert (sigmoid.greedy(params, o_t).numpy() == (left < 0.5)).all()
    u = np.linspace(0, 1, 50, endpoint=False).astype(np.float32)
    assert (sigmoid.sample(params, o_t, tf.constant(u)[:, None]).numpy() == (u > left)).all()  # the notebook's rule


def test_actions_are_drawn_with_their_probabilities() -> None:
    learner, model = agent(PG, 4, PGSettings(optimizer=SGD))
    params = policy(model.get_params())
    o_t = tf.constant([[0.5, -1.0, 2.0]])
    pi = tf.nn.softmax(learner.outputs(params, o_t)).numpy()[0]
    u = (np.arange(10_000) + 0.5) / 10_000
    actions = learner.sample(params, tf.repeat(o_t, 10_000, axis=0), tf.constant(u, tf.float32)[:, None]).numpy()
    np.testing.assert_allclose(np.bincount(actions, minlength=4) / 10_000, pi, atol=2e-4)
    assert learner.act(params, o_t[0], tf.constant([0.99999]), {}).numpy() == 3


def test_the_entropy_bonus_moves_towards_even_probabilities() -> None:
    learner, model = agent(PG, 3, PGSettings(optimizer=SGD))
    batch = {**rollout(3, (8,), 8), "r_t": tf.zeros(8)}  # nothing else to learn
    _, (before, after) = learn(learner, model.get_params(), batch, [range(8)] * 2, entropy_coef=0.3)
    assert after["entropy"] > before["entropy"]
    assert float(before["loss"]) == pytest.approx(-0.3 * float(before["entropy"]))


def test_the_baseline_learns_values_and_truncation_bootstraps() -> None:
    """One row: r = 1, d = 0.9, so that A = 1 + 0.9 V(o_t) - V(o_tm1), and 1 - V(o_tm1) where the cut counts as an end."""
    row = {**rollout(2, (1,), 1), "terminated": tf.constant([False]), "truncated": tf.constant([True]), "r_t": tf.ones(1),
           "mask": tf.constant([1.0])}  # fmt: skip
    for truncation, d_t in (("bootstrap", 0.9), ("terminate", 0.0)):
        config = PGBaselineSettings(optimizer=SGD, truncation=truncation, normalize=False, value_coef=0.25)
        learner, model = agent(PGBaseline, 2, config)
        assert isinstance(learner, PGBaseline)
        params = policy(model.get_params())
        v_tm1, v_t = learner.value(params, row["o_tm1"]).numpy(), learner.value(params, row["o_t"]).numpy()
        expected = 1 + d_t * v_t - v_tm1
        prepared = learner.prepare(params, row, scalars())
        np.testing.assert_allclose(prepared["advantage"], expected, rtol=1e-5)
        np.testing.assert_allclose(prepared["target"], 1 + d_t * v_t, rtol=1e-5)
        _, metrics, _ = learner.learn(learner.init(params), prepared, NO_NUMBERS, scalars())
        assert float(metrics["value_loss"]) == pytest.approx(float(expected[0] ** 2), rel=1e-5)
        log_pi = tf.nn.log_softmax(learner.outputs(params, row["o_tm1"]))[0, int(row["a_tm1"][0])]
        assert float(metrics["loss"]) == pytest.approx(float(-expected[0] * log_pi + 0.25 * expected[0] ** 2), rel=1e-4)


def test_the_clipped_surrogate_by_hand() -> None:
    """c = 0.2. rho, G -> gain: 1.5, 2 -> 2.4;  0.5, 2 -> 1;  1.5, -1 -> -1.5;  0.5, -1 -> -0.8. Clipped rows do not pull."""
    learner, model = agent(PPO, 2, PPOSettings(optimizer=SGD, normalize=False, clip_ratio=0.2, value_coef=1e-9))
    plain, _ = agent(PGBaseline, 2, PGBaselineSettings(optimizer=SGD, normalize=False, value_coef=1e-9))
    params, returns = model.get_params(), tf.constant([2.0, 2.0, -1.0, -1.0])
    batch = rollout(2, (1, 1, 1, 1), 4)

    def update(learner: PG, rewards: tf.Tensor, log_ratio: Any = 0.0) -> tuple[np.ndarray, float]:
        """The gradient and the loss, where these returns stand for the advantages."""
        prepared = {**learner.prepare(policy(params), batch, scalars()), "advantage": rewards}
        if "log_prob" in prepared:
            prepared["log_prob"] -= log_ratio
        state, metrics, _ = learner.learn(learner.init(policy(params)), prepared, NO_NUMBERS, scalars())
        return params - learner.acting(state)["policy"].numpy(), float(metrics["loss"])

    log_prob = learner.prepare(policy(params), batch, scalars())["log_prob"]
    pi = tf.nn.softmax(learner.outputs(policy(params), batch["o_tm1"])).numpy()[range(4), batch["a_tm1"]]
    np.testing.assert_allclose(log_prob, np.log(pi), rtol=1e-5)
    moved, loss = update(learner, returns, tf.math.log([1.5, 0.5, 1.5, 0.5]))
    assert loss == pytest.approx(-(2.4 + 1.0 - 1.5 - 0.8) / 4, rel=1e-5)
    pulls = tf.constant([0.0, 1.0, -1.5, 0.0])  # d rho G = rho G d log pi
    np.testing.assert_allclose(moved, update(plain, pulls)[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(update(learner, returns)[0], update(plain, returns)[0], rtol=1e-4, atol=1e-6)


def ppo() -> tuple[PPO, FlatModel]:
    learner, model = agent(PPO, 3, PPOSettings(optimizer=SGD, gae_lambda=0.9))
    assert isinstance(learner, PPO)
    return learner, model


@pytest.mark.parametrize(
    ("side_by_side", "together"), [(False, False), (True, False), pytest.param(False, True, marks=pytest.mark.slow)]
)
def test_all_updates_of_a_batch_in_one_call_aim_at_what_the_policy_that_acted_made_of_it(
    side_by_side: bool, together: bool
) -> None:
    """Compiled for five trials against one by one: advantages, targets and log-probabilities stay; metrics are means."""
    learner, model = ppo()
    params = model.get_params() * np.linspace(0.5, 1.5, 5, dtype=np.float32)[:, None]  # [N, P]
    lanes = RolloutLanes(learner, {"policy": params}, exact=True, side_by_side=side_by_side, graph="test_all_updates")
    batch, order = rollout(3, (3, 5), 8), [[6, 1, 4, 3], [0, 7, 2, 5], [5, 5, 1, 0]]
    orders = np.array([np.roll(order, k, axis=0) for k in range(5)])  # [N, U, M]
    batches = {name: np.repeat(field.numpy()[None], 5, axis=0) for name, field in batch.items()}
    now = {path: np.full(5, value.numpy()) for path, value in scalars().items()}
    metrics = lanes.learn_some(np.arange(5), batches, orders, np.zeros((5, 3, 0)), now, together)
    for k in range(5):
        new, each = learn(learner, params[k], batch, orders[k].tolist())
        np.testing.assert_allclose(lanes.params()[k], new, rtol=1e-4, atol=1e-6)
        for name, values in metrics.items():
            assert values[k] == pytest.approx(np.mean([m[name] for m in each]), rel=1e-4, abs=1e-6), name
    assert set(metrics) == set(PPO.metrics)


def test_padding_leaves_minibatches_unchanged() -> None:
    learner, model = ppo()
    short, order = rollout(3, (4, 4), 8), [[6, 1, 4, 3], [0, 7, 2, 5]]
    longer = {name: tf.concat([x, tf.zeros_like(x)], axis=0) for name, x in short.items()}
    padded = [[6, 8, 1, 4, 3, 9, 10, 11], [*order[1], 12, 13, 14, 15]]
    params = model.get_params()
    np.testing.assert_allclose(
        learn(learner, params, longer, padded, entropy_coef=0.1)[0],
        learn(learner, params, short, order, entropy_coef=0.1)[0], rtol=1e-5, atol=1e-6,
    )  # fmt: skip


def test_the_buffer_pads_by_the_trials_own_batch_and_grows() -> None:
    buffer = RolloutBuffer(2, Box((1,), "float32"), Discrete(2))
    yes, no = np.ones(2, bool), np.zeros(2, bool)
    for t in range(300):
        active = np.array([True, t < 133])
        x = np.full((2, 1), t, np.float32)
        buffer.add(active, o_tm1=x, o_t=x + 1, a_tm1=np.ones(2), r_t=np.full(2, t), truncated=no,
                   terminated=yes if t % 10 == 9 else no)  # fmt: skip
    both = np.arange(2)
    assert buffer.num_steps.tolist() == [300, 133] and buffer.num_episodes.tolist() == [30, 13]
    assert buffer.num_rows(both).tolist() == [512, 256]
    batch = buffer.batch(both[1:], 256)
    assert batch["r_t"][0].tolist() == [*range(133), *[0] * 123] and batch["mask"].sum() == 133
    buffer.forget_episode(yes)  # of trial 0, episode 30 has just ended; trial 1 is in its 14th
    assert buffer.num_steps.tolist() == [300, 130] and buffer.num_episodes.tolist() == [30, 13]
    buffer.clear(np.array([False, True]))
    assert buffer.num_steps.tolist() == [300, 0] and buffer.num_episodes.tolist() == [30, 0]
    buffer.forget_episode(yes)
    assert buffer.num_steps.tolist() == [300, 0]
    assert buffer.num_rows(both[1:]).tolist() == [128]


def test_a_batch_is_dealt_to_its_minibatches_anew_in_each_epoch() -> None:
    """11 rows of 16, four minibatches: 3, 3, 3 and 2 rows that count, each row once an epoch."""
    order = minibatches(11, 16, num_epochs=3, num_minibatches=4, shuffle=np.random.default_rng(0))
    assert order.shape == (12, 4)
    epochs = order.reshape(3, 16)
    assert np.sort(epochs, axis=1).tolist() == [list(range(16))] * 3
    assert (order < 11).sum(axis=1).tolist() == [3, 3, 3, 2] * 3
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3
    assert minibatches(11, 16, 2, 1, None).tolist() == [list(range(16))] * 2


PG_BATCHES = [
    pytest.param("pg", ["algo.batch_size=3"], marks=pytest.mark.slow),
    ("pg", ["algo.batch_size=2", "algo.head=sigmoid", "evaluation.policy=sampled", "evaluation.selection=last"]),
    pytest.param("pg_baseline", ["algo.batch_unit=step", "algo.batch_size=37"], marks=pytest.mark.slow),
    pytest.param("ppo", ["algo.batch_unit=step", "algo.batch_size=37", "algo.num_updates=2"], marks=pytest.mark.slow),
    pytest.param(
        "ppo",
        ["algo.batch_unit=step", "algo.batch_size=37", "algo.num_updates=1", "algo.num_minibatches=2"],
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(("algo", "options"), PG_BATCHES)
def test_updates_come_when_a_batch_is_complete(algo: str, options: list[str], tiny: Callable[..., Any]) -> None:
    job = tiny(algo, "trials=5", *options)
    with np.load(job.folder / "episodes.npz") as episodes:
        counts = [int((episodes["trial"] == k).sum()) for k in range(5)]
    size = int(options[0].split("=")[1]) if algo == "pg" else 37
    expected = [n // size for n in counts] if algo == "pg" else [(2 if algo == "ppo" else 1) * (300 // 37)] * 5
    assert job["updates"] == expected


@pytest.mark.slow
def test_each_trial_shuffles_its_batches_by_its_own_stream(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    real = RolloutLanes.learn_some

    def learn_some(self: RolloutLanes, trials: np.ndarray, batch: Any, order: np.ndarray, *rest: Any) -> Any:
        seen.append(order)
        return real(self, trials, batch, order, *rest)

    monkeypatch.setattr(RolloutLanes, "learn_some", learn_some)
    tiny("ppo", "trials=2", "seed=5", "budget.steps=100", "algo.batch_unit=step", "algo.batch_size=50",
         "algo.num_updates=2", "algo.num_minibatches=4")  # fmt: skip
    assert [order.shape for order in seen] == [(2, 8, 32)] * 2
    for updates, order in zip((0, 8), seen, strict=True):
        for k in range(2):
            shuffle = seeding.generator(5 + k, "minibatch", updates)
            assert (order[k] == minibatches(50, 128, 2, 4, shuffle)).all()
    assert len({order[k].tobytes() for order in seen for k in range(2)}) == 4


@pytest.mark.slow
def test_the_last_weights_are_those_of_the_end(tiny: Callable[..., Any]) -> None:
    job = tiny("pg", "trials=3", "budget.episodes=12", "evaluation.selection=last", "algo.batch_size=4")
    assert job["updates"] == [3, 3, 3]
    assert [t["best_step"] for t in job["trials"]] == [t["steps"] for t in job["trials"]]
    eval_return = job.curves["eval/return"].values
    last = [column[np.isfinite(column)][-1] for column in eval_return.T]
    assert [t["last_eval_return"] for t in job["trials"]] == last


@pytest.mark.slow
def test_penalty_and_scale_reach_learning_and_nothing_else(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TruncatedLoop pays 1 a step and is cut after 10: learned from are 9 times 2 and 2 (1 - 5)."""
    learned = []
    real = RolloutBuffer.batch

    def batch(self: RolloutBuffer, trials: np.ndarray, num_rows: int) -> dict[str, np.ndarray]:
        learned.append(real(self, trials, num_rows)["r_t"][0, :10].tolist())
        return real(self, trials, num_rows)

    monkeypatch.setattr(RolloutBuffer, "batch", batch)
    job = tiny("pg", "env.id=probes/TruncatedLoop-v0", "env.imports=[tests.probes]", "trials=1", "budget.episodes=2",
               "algo.reward_scale=2.0", "algo.truncation_penalty=5.0")  # fmt: skip
    assert learned == [[2.0] * 9 + [-8.0]]
    assert job.curves["train/return"].values.tolist() == [[10.0]] and job["final/return"]["mean"] == 10.0
