"""The update of tables: by hand, and equal on both array namespaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rlexp.algos.double_q_learning import DoubleQLearning
from rlexp.algos.expected_sarsa import ExpectedSarsa
from rlexp.algos.q_learning import QLearning
from rlexp.algos.sarsa import Sarsa
from rlexp.config.schema.algos import TabularSettings
from rlexp.engines.fused import tensor_numpy
from rlexp.engines.host import plain_numpy
from rlexp.engines.tabular_rules import Transition, choose_table, recorded, update
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete

INFO = EnvInfo(Box((), "int64"), Discrete(3), None, False, tabular=True, num_states=4)
SCALARS = {"alpha": np.array([0.5, 0.5, 0.5, 0.5]), "epsilon": np.array([0.3])}


def transition(**changed: Any) -> Transition:
    """Trials that go on, that have terminated, that are masked, and whose reward is not finite."""
    q_t = np.array([[1.0, 4.0, -np.inf], [1.0, 4.0, 2.0], [1.0, 4.0, 2.0], [1.0, 4.0, 2.0]])
    found = Transition(
        np.array([2.0, 2.0, 2.0, 2.0]),
        np.array([1.0, 1.0, 1.0, np.nan]),
        np.array([False, True, False, False]),
        q_t,
        q_t[:, ::-1].copy(),
        np.array([0, 1, 1, 1]),
        np.array([0.0, 1.0, 3.0, 0.0]),
    )
    return found._replace(**changed)


ACTIVE = np.array([True, True, False, True])


def test_q_learning_by_hand() -> None:
    rules = QLearning(TabularSettings(), INFO)
    new = update(rules, transition(), ACTIVE, 0.9, SCALARS)
    assert new.td_error[:2].tolist() == pytest.approx([1 + 0.9 * 4 - 2, 1 - 2])
    assert new.due.tolist() == [True, True, False, False]
    assert new.q.tolist() == pytest.approx([2 + 0.5 * 2.6, 2 - 0.5, 2, 2])
    assert new.visits is not None and new.visits.tolist() == [1, 2, 3, 0]


def test_none_terminated_is_the_same_as_false_for_each() -> None:
    rules, goes_on = QLearning(TabularSettings(), INFO), np.zeros(4, bool)
    given = [transition(terminated=terminated) for terminated in (goes_on, None)]
    each, none = (update(rules, transition, ACTIVE, 0.9, SCALARS) for transition in given)
    assert each.q.tolist() == none.q.tolist() and each.due.tolist() == none.due.tolist()


def test_options() -> None:
    always = QLearning(TabularSettings(bootstrap="always"), INFO)
    assert update(always, transition(), ACTIVE, 0.9, SCALARS).td_error[1] == pytest.approx(1 + 0.9 * 4 - 2)
    by_visits = QLearning(TabularSettings(visit_power=1.0), INFO)
    assert update(by_visits, transition(), ACTIVE, 0.9, SCALARS).q[1] == pytest.approx(2 - 0.5 / 2)
    assert update(always, transition(visits=None), ACTIVE, 0.9, SCALARS).visits is None


@pytest.mark.parametrize("visits", [True, False])
@pytest.mark.parametrize("rules", [QLearning, Sarsa, ExpectedSarsa, DoubleQLearning])
def test_numpy_and_tensorflow_give_the_same_bits(rules: type[QLearning], visits: bool) -> None:
    config, given = TabularSettings(visit_power=0.5), transition(**({} if visits else {"visits": None}))
    host = update(rules(config, INFO, plain_numpy), given, ACTIVE, 0.9, SCALARS)
    for ours, theirs in zip(update(rules(config, INFO), given, ACTIVE, 0.9, SCALARS), host, strict=True):
        np.testing.assert_array_equal(ours, theirs)  # NumPy with and without its wrappers
    tensors = Transition(*[None if values is None else tf.constant(values) for values in given])

    def program(tensors: Transition) -> Any:
        gamma, scalars = tf.constant(0.9, tf.float64), {name: tf.constant(v) for name, v in SCALARS.items()}
        new = update(rules(config, INFO, tensor_numpy), tensors, tf.constant(ACTIVE), gamma, scalars)
        return [value for value in new if value is not None]

    fused = tf.function(lambda: program(tensors), jit_compile=True, autograph=False)()
    for ours, theirs in zip(fused, [value for value in host if value is not None], strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)


@pytest.mark.parametrize(("rules", "tables"), [(QLearning, [0, 0, 0]), (DoubleQLearning, [0, 0, 1])])
def test_which_table_learns(rules: type[QLearning], tables: list[int]) -> None:
    u = np.array([0.0, np.nextafter(np.float32(0.5), np.float32(0)), 0.5], np.float32)
    for xp in (plain_numpy, tensor_numpy):
        assert np.asarray(choose_table(rules(TabularSettings(), INFO, xp), u)).tolist() == tables


def test_the_algorithm_names_its_records() -> None:
    shown = recorded(QLearning(TabularSettings(), INFO), SCALARS)
    assert sorted(shown) == ["epsilon", "lr"] and shown["lr"] is SCALARS["alpha"]
