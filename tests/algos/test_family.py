"""What every algorithm of the DQN family has to have right, whatever its head: silent bugs of others, each a test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rlexp.algos.base import State
from rlexp.algos.c51 import C51
from rlexp.algos.ddqn import DoubleDQN
from rlexp.algos.dqn import DQN
from rlexp.algos.iqn import IQN
from rlexp.algos.munchausen_dqn import MunchausenDQN
from rlexp.algos.qr_dqn import QRDQN
from rlexp.config.schema.algos import (
    C51Settings,
    FixedDQNSettings,
    IQNSettings,
    MunchausenDQNSettings,
    QRDQNSettings,
)
from tests.algos.test_base import NO_NUMBERS, ONLINE, SGD, TARGET, batch, flat, made, scalars, state_of

FAMILY: list[tuple[type[DQN], Any]] = [
    (DQN, FixedDQNSettings(optimizer=SGD)),
    (DoubleDQN, FixedDQNSettings(optimizer=SGD)),
    (C51, C51Settings(optimizer=SGD, num_atoms=5, v_min=-8, v_max=8)),
    (QRDQN, QRDQNSettings(optimizer=SGD, num_quantiles=4)),
    (IQN, IQNSettings(optimizer=SGD, batch_size=2, num_taus=3, num_target_taus=3, num_features=4)),
    (MunchausenDQN, MunchausenDQNSettings(optimizer=SGD, temperature=0.5)),
]
each = pytest.mark.parametrize(("kind", "config"), FAMILY, ids=[kind.__name__ for kind, _ in FAMILY])


def learner(kind: type[DQN], config: Any) -> tuple[Any, State, tf.Tensor]:
    """An agent, its state with an online and a target network of random weights, and the numbers of one update."""
    agent, generator = made(kind, config), np.random.default_rng(0)
    online, target = (
        {name: tf.constant(generator.normal(size=network.size), tf.float32) for name, network in agent.networks.items()}
        for _ in range(2)
    )
    u = tf.constant(generator.random(agent.widths["learn"]), tf.float32)
    return agent, {**agent.init(online), "target": target}, u


@each
def test_the_value_after_n_steps_counts_gamma_to_the_n(kind: type[DQN], config: Any) -> None:
    """And that of a terminated row, the second, not at all: what is observed then does not matter."""
    agent, state, u = learner(kind, config)
    three = agent.target(state, batch(num_steps=[3.0, 3.0]), u, scalars(gamma=0.5))
    np.testing.assert_allclose(three, agent.target(state, batch(), u, scalars(gamma=0.125)), rtol=1e-6)
    assert np.abs(three - agent.target(state, batch(), u, scalars(gamma=0.5)))[0].max() > 0.01
    other = agent.target(state, batch(num_steps=[3.0, 3.0], o_t=[[-1.0, 4.0], [9.0, -7.0]]), u, scalars(gamma=0.5))
    moved = np.abs(three - other).reshape(2, -1).max(axis=1)
    assert moved[0] > 0.01 and moved[1] == 0


@each
def test_importance_weights_scale_each_rows_gradient_and_loss_and_no_priority(kind: type[DQN], config: Any) -> None:
    agent, state, u = learner(kind, config)

    def update(*weight: float) -> tuple[np.ndarray, float, np.ndarray]:
        more = {"weight": [*weight]} if weight else {}
        new, metrics, priorities = agent.learn(state, batch(**more), u, scalars(**{"optimizer.lr": 0.01}))
        moves = [(new["online"][name] - state["online"][name]).numpy() for name in agent.networks]
        return np.concatenate(moves), float(metrics["loss"]), priorities.numpy()

    none, plain, half = update(0.0, 0.0), update(), update(0.5, 0.0)
    first, second = update(1.0, 0.0), update(0.0, 1.0)
    assert not none[0].any() and none[1] == 0
    assert np.abs(first[0]).max() > 1e-3 and np.abs(second[0]).max() > 1e-3
    for k in (0, 1):  # what moves, and the loss
        np.testing.assert_allclose(half[k], first[k] / 2, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(np.add(first[k], second[k]), plain[k], rtol=1e-3, atol=2e-6)
    for _, _, priorities in (none, first, half):
        np.testing.assert_array_equal(priorities, plain[2])
    assert (plain[2] > 0).all()


def test_the_priorities_of_distributions_are_their_losses() -> None:
    """In Rainbow the cross-entropy (Hessel et al. 2018): the mean of the priorities is the loss of the update."""
    for kind, config in FAMILY:
        agent, state, u = learner(kind, config)
        _, metrics, priorities = agent.learn(state, batch(), u, scalars())
        is_loss = float(metrics["loss"]) == pytest.approx(priorities.numpy().mean(), rel=1e-5)
        assert is_loss == (kind in (C51, QRDQN, IQN)), kind


def test_both_terms_of_munchausen_dqn_are_the_target_networks() -> None:
    """Of the target's values [9, 0, 1] before and [18, 0, 2] after, and [9, 0, 1] before the second, terminated step."""
    agent = made(MunchausenDQN, MunchausenDQNSettings(optimizer=SGD, temperature=4.0, alpha=0.5, clip=-2.0))
    y = agent.target(state_of(agent, TARGET), batch(), NO_NUMBERS, scalars())

    def log_pi(*q: float) -> np.ndarray:
        return np.array(q) - 4 * np.log(np.exp(np.array(q) / 4).sum())  # tau log softmax(q / tau)

    before, after = log_pi(9, 0, 1), log_pi(18, 0, 2)
    value = np.sum(np.exp(after / 4) * ([18, 0, 2] - after))
    assert before[0] > -2 > before[2]  # that of the second row is clipped
    np.testing.assert_allclose(y, [1 + 0.5 * before[0] + 0.5 * value, 2 + 0.5 * -2], rtol=1e-6)
    online = agent.target(state_of(agent, ONLINE), batch(), NO_NUMBERS, scalars())
    assert np.abs(online - y).min() < 1 < np.abs(online - y).max()


def test_the_bonus_of_munchausen_dqn_is_never_above_zero() -> None:
    """tau log pi is at most 0, which it is for an action that is all but certain: then y is that of DQN."""
    agent = made(MunchausenDQN, MunchausenDQNSettings(optimizer=SGD, temperature=0.03))
    rows = batch(a_tm1=[0, 0])
    y = agent.target(state_of(agent, TARGET), rows, NO_NUMBERS, scalars())
    plain = made(DQN, FixedDQNSettings(optimizer=SGD)).target(state_of(agent, TARGET), rows, NO_NUMBERS, scalars())
    np.testing.assert_allclose(y, plain, rtol=1e-6)


def test_iqn_draws_other_shares_for_the_online_and_the_target_network_for_each_row_and_update() -> None:
    agent = made(IQN, IQNSettings(optimizer=SGD, batch_size=2, num_taus=4, num_target_taus=4, num_features=4))
    assert agent.widths["learn"] == 2 * (4 + 4)
    state = agent.init({name: tf.ones(network.size) for name, network in agent.networks.items()})
    seen: list[np.ndarray] = []
    inner = agent.quantiles

    def quantiles(params: Any, o_t: tf.Tensor, taus: tf.Tensor) -> tf.Tensor:
        seen.append(np.asarray(taus))
        return inner(params, o_t, taus)

    agent.quantiles = quantiles
    generator = np.random.default_rng(1)
    for _ in range(2):
        agent.learn(state, batch(), tf.constant(generator.random(16), tf.float32), scalars())
    drawn = [taus for taus in seen if taus.shape == (2, 4)]  # the others choose the next action: at fixed shares
    assert len(drawn) == 4 and all((taus == agent.choice_taus).all() for taus in seen if taus.shape != (2, 4))
    assert np.unique(np.concatenate(drawn)).size == 2 * 16  # all the numbers that were given, each once


def test_flat_is_what_the_tests_say() -> None:
    """The values that the tests above name, of observations [1, 0], [0, 1] and [1, 1]."""
    agent = made(DQN, FixedDQNSettings(optimizer=SGD))
    values = agent.q_values({"q": flat(TARGET)}, tf.constant([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    assert values.numpy().tolist() == [[9, 0, 1], [9, 0, 1], [18, 0, 2]]
