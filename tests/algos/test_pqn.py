"""The parallelised Q-network: hand-computed targets, and what its official code has got wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rlexp.algos.pqn import PQN
from rlexp.config.schema.rollouts import PQNSettings
from rlexp.jobs.preflight import preflight
from rlexp.jobs.runner import compose
from rlexp.networks.flat_model import FlatModel
from rlexp.system.errors import Refusal
from tests.algos.test_base import INFO, NO_NUMBERS, SGD, linear


def learner(**options: Any) -> Any:
    config = PQNSettings(optimizer=SGD, **options)
    return PQN(config, {name: FlatModel(model) for name, model in PQN.models(linear, INFO, config).items()}, INFO)


def batch(number: int, **fields: Any) -> dict[str, tf.Tensor]:
    """Rows of one episode that goes on; observation k is [k, 0], the one after it [k + 1, 0]."""
    no = [False] * number
    o_tm1 = np.stack([np.arange(number), np.zeros(number)], axis=1).astype(np.float32)
    rows = {"o_tm1": o_tm1, "o_t": o_tm1 + np.float32([1, 0]), "a_tm1": [0] * number, "r_t": [1.0] * number,
            "terminated": no, "truncated": no, "mask": [True] * number, **fields}  # fmt: skip
    return {name: tf.constant(values) for name, values in rows.items()}


SCALARS = {"gamma": tf.constant(1.0), "epsilon": tf.constant(0.0), "optimizer.lr": tf.constant(0.01)}


def ten_times_the_place(params: Any, o_t: tf.Tensor) -> tf.Tensor:
    """Action values 0, 10 k and 5 k of observation [k, 0]: the best is the second one."""
    return o_t[:, :1] * tf.constant([[0.0, 10.0, 5.0]])


def test_targets_by_hand() -> None:
    """r 1, 1, 1; gamma 1; lambda .5; max Q 10, 20, 30 in the states after them. The official code, off by one, takes
    0, 10 and 20. The first loss is that of these targets: Q of action 0 is 0."""
    agent = learner(q_lambda=0.5)
    agent.q_values = ten_times_the_place
    prepared = agent.prepare({}, batch(3), SCALARS)
    assert prepared["target"].numpy().tolist() == [19.25, 26.5, 31.0]
    losses = agent.losses({}, prepared, agent.target({}, prepared, NO_NUMBERS, SCALARS), NO_NUMBERS, SCALARS)
    np.testing.assert_allclose(losses.parts["td"], np.square([19.25, 26.5, 31.0]))


@pytest.mark.parametrize(
    ("ended", "truncation", "expected"),
    [
        ("terminated", "bootstrap", [1 + 10 / 2 + 1 / 2, 1.0, 31.0]),
        ("truncated", "bootstrap", [1 + 10 / 2 + 21 / 2, 21.0, 31.0]),
        ("truncated", "terminate", [1 + 10 / 2 + 1 / 2, 1.0, 31.0]),
    ],
)
def test_returns_stop_where_an_episode_ends_and_a_cut_one_bootstraps(
    ended: str, truncation: str, expected: list[float]
) -> None:
    agent = learner(q_lambda=0.5, truncation=truncation)
    agent.q_values = ten_times_the_place
    rows = batch(3, **{ended: [False, True, False]})
    assert agent.prepare({}, rows, SCALARS)["target"].numpy().tolist() == expected


def test_returns_stop_between_environments_and_padding_counts_for_nothing() -> None:
    agent = learner(q_lambda=0.5)
    agent.q_values = ten_times_the_place
    rows = batch(4, cut=[False, True, True, False], mask=[True, True, True, False])
    prepared = agent.prepare({}, rows, SCALARS)
    assert prepared["target"].numpy()[:3].tolist() == [1 + 10 / 2 + 21 / 2, 21.0, 31.0]
    state = agent.init({"q": tf.zeros(agent.networks["q"].size)})
    del agent.q_values
    short = {name: field[:3] for name, field in prepared.items()}
    moved, same = (agent.learn(state, rows, NO_NUMBERS, SCALARS) for rows in (prepared, short))
    assert float(moved.metrics["loss"]) == pytest.approx(float(same.metrics["loss"]))
    np.testing.assert_allclose(moved.state["online"]["q"], same.state["online"]["q"], rtol=1e-6)
    assert "target" not in state


def test_each_environment_explores_by_numbers_of_its_own() -> None:
    """u of the first environment is above epsilon; those of the others below it: random actions int(3 u)."""
    agent = learner()
    agent.q_values = ten_times_the_place
    u = tf.constant([[0.5, 0.99], [0.1, 0.99], [0.2, 0.4], [0.0, 0.0]])
    o_t = tf.ones((4, 2))
    actions = agent.act_each({}, o_t, u, {"epsilon": tf.constant(0.3)})
    assert actions.numpy().tolist() == [1, 2, 1, 0]
    for k in range(4):
        assert int(agent.act({}, o_t[k], u[k], {"epsilon": tf.constant(0.3)})) == int(actions[k])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("env.id=Pendulum-v1", "Box"),
        ("algo.num_minibatches=3", "algo.num_minibatches: expected a power of two"),
        ("algo.batch_size=100", "algo.batch_size: expected a multiple of algo.num_envs (32), received 100."),
        ("evaluation.policy=sampled", "evaluation.policy: expected greedy for pqn"),
        ("network.noisy=true", "network.noisy"),
    ],
)
def test_what_it_does_not_do_is_refused(options: str, said: str) -> None:
    with pytest.raises(Refusal) as refused:
        preflight(compose("algo=pqn", *options.split()))
    assert said in str(refused.value)
