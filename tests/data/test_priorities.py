"""Prioritised replay on the host engine, and that the fused engine's form draws the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rlexp.data.priorities import BLOCK, Priorities
from rlexp.data.replay_ring import ReplayRing
from rlexp.engines.fused import prioritized
from rlexp.envs.spec import Box, Discrete
from rlexp.jobs.runner import compose
from rlexp.system.errors import Refusal
from tests.conftest import records
from tests.engines.test_engines import trial

ALL = np.array([True])


def filled(errors: list[float], alpha: float = 1.0, epsilon: float = 1e-12, size: int = 1000) -> Priorities:
    """The priorities of one ring whose transitions had these errors."""
    priorities = Priorities(1, size, alpha, epsilon)
    for slot in range(len(errors)):
        priorities.add(ALL, np.array([slot]))
    priorities.update(ALL, np.arange(len(errors))[None], np.array([errors]))
    return priorities


def drawn(priorities: Priorities, held: int, beta: float = 1.0, number: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    u = np.random.default_rng(0).random((1, number))
    slots, weights = priorities.draw(u, np.array([held]), np.array([beta]))
    return slots[0], weights[0]


@pytest.mark.parametrize(
    ("alpha", "beta", "expected"),
    [(1.0, 1.0, [1, 1 / 2, 1 / 3, 1 / 4]), (0.6, 0.4, [1, 0.846745, 0.768229, 0.716978])],
)
def test_shares_and_weights_by_hand(alpha: float, beta: float, expected: list[float]) -> None:
    slots, weights = drawn(filled([1.0, 2.0, 3.0, 4.0], alpha), 4, beta)
    for slot, weight in enumerate(expected):
        np.testing.assert_allclose(weights[slots == slot], weight, rtol=1e-5)
    shares = np.arange(1, 5) ** alpha / (np.arange(1, 5) ** alpha).sum()
    np.testing.assert_allclose(np.bincount(slots) / len(slots), shares, atol=2e-4)  # stratified: nearly exact


def test_weights_are_divided_by_the_largest_of_the_batch_and_not_of_the_ring() -> None:
    """Of priorities 1 to 4, the third and the fourth are drawn: weights 10/12 and 10/16, divided by the first of them."""
    u = np.array([[0.62, 0.8]])  # of the halves 0 to 5 and 5 to 10: 3.1 and 9
    slots, weights = filled([1.0, 2.0, 3.0, 4.0]).draw(u, np.array([4]), np.ones(1))
    assert slots.tolist() == [[2, 3]]
    np.testing.assert_allclose(weights, [[1, 3 / 4]], rtol=1e-6)


def test_a_new_transition_has_the_highest_priority_itself_and_not_its_power() -> None:
    priorities = filled([16.0], alpha=0.5)
    priorities.add(ALL, np.array([1]))  # 16^.5 = 4 beside 4; a running maximum of powers would give it 4^.5 = 2
    slots, _ = drawn(priorities, 2)
    assert np.bincount(slots).tolist() == [5000, 5000]


def test_the_first_transitions_are_drawn_alike_and_an_error_of_zero_leaves_a_weight() -> None:
    priorities = Priorities(1, 10, 0.6, 1e-6)
    for slot in range(4):
        priorities.add(ALL, np.array([slot]))
    slots, weights = drawn(priorities, 4)
    assert np.bincount(slots).tolist() == [2500] * 4 and (weights == 1).all()
    priorities.update(ALL, np.array([[0]]), np.array([[0.0]]))
    priorities.add(ALL, np.array([4]))  # the highest is still 1, and not the first error of 0
    slots, weights = drawn(priorities, 5, beta=0.4, number=100_000)
    counts = np.bincount(slots, minlength=5)
    assert counts[0] in (6, 7) and np.ptp(counts[1:]) <= 2  # (1e-6)^.6 of 4 in all: a share of 6.3e-5
    assert (weights[slots == 0] == 1).all()  # the largest of the batch
    np.testing.assert_allclose(weights[slots > 0], (1e-6**0.6) ** 0.4, rtol=1e-5)


def test_a_ring_that_overwrites_and_has_many_blocks() -> None:
    size = 3 * BLOCK + 17
    generator, priorities, expected = np.random.default_rng(1), Priorities(2, size, 0.7, 1e-3), np.zeros((2, size))
    both, highest = np.ones(2, bool), np.ones(2)
    for step in range(2 * size):
        slot = step % size
        priorities.add(both, np.full(2, slot))
        expected[:, slot] = highest
        if step % 5 == 0:
            slots = generator.integers(0, min(step + 1, size), (2, 8))
            errors = generator.exponential(2, (2, 8))
            errors[:, 4:], slots[:, 4:] = errors[:, :4], slots[:, :4]  # a batch may hold a transition twice
            priorities.update(np.array([True, step % 2 == 0]), slots, errors)
            for k in range(1 + (step % 2 == 0)):
                expected[k, slots[k]] = errors[k] + 1e-3
                highest[k] = max(highest[k], errors[k].max() + 1e-3)
    u = generator.random((2, 20_000))
    slots, weights = priorities.draw(u, np.full(2, size), np.ones(2))
    for k in range(2):
        shares = expected[k] ** 0.7 / (expected[k] ** 0.7).sum()
        assert np.abs(np.bincount(slots[k], minlength=size) / 20_000 - shares).max() <= 2 / 20_000
        every = 1 / (size * shares)
        np.testing.assert_allclose(weights[k], every[slots[k]] / every[slots[k]].max(), rtol=1e-6)


def test_the_ends_of_the_unit_interval_and_errors_that_are_not_finite() -> None:
    priorities = filled([1.0] * 5, size=5)
    priorities.update(ALL, np.array([[0, 1]]), np.array([[np.nan, np.inf]]))
    slots, _ = priorities.draw(np.array([[0.0, 1 - 2**-24]]), np.array([5]), np.ones(1))
    assert slots.tolist() == [[0, 4]]


def test_a_state_is_put_back_to_the_bit() -> None:
    priorities = filled(np.random.default_rng(3).exponential(1, 600).tolist(), alpha=0.6, size=700)
    again = Priorities(1, 700, 0.6, 1e-12)
    again.set_state(priorities.get_state(600))
    for _ in range(2):
        first, second = drawn(priorities, 600), drawn(again, 600)
        assert (first[0] == second[0]).all() and (first[1] == second[1]).all()
        for one in (priorities, again):
            one.update(ALL, np.arange(50)[None], np.linspace(0, 3, 50)[None])
            one.add(ALL, np.array([3]))


def test_samples_at_slots_are_those_at_ages() -> None:
    """A ring of 4 after 6 transitions: slots 2, 3, 0, 1 hold the rewards 2, 3, 4, 5, the oldest first."""
    ring = ReplayRing(1, 4, Box((1,), "float32"), Discrete(2), n_step=2)
    for r in range(6):
        ring.add(ALL, o_tm1=np.array([[r]]), a_tm1=np.array([0]), r_t=np.array([r]), terminated=np.array([False]),
                 truncated=np.array([False]), o_t=np.array([[r + 1]]))  # fmt: skip
    assert ring.next_slot.tolist() == [2] and ring.held.tolist() == [4]
    batch = ring.at(np.array([[0, 1, 2, 3]]), np.ones(1))
    assert batch["o_tm1"][0, :, 0].tolist() == [4, 5, 2, 3]
    assert batch["r_t"].tolist() == [[4 + 5, 5, 2 + 3, 3 + 4]] and batch["num_steps"].tolist() == [[2, 1, 2, 2]]


def test_the_fused_form_by_hand() -> None:
    """As the host's above: shares, weights, new transitions, an error of 0, errors that are not finite."""
    one, beta = tf.constant([True]), tf.constant([0.4])

    def after(errors: list[float], alpha: float = 0.6, new: int = 0) -> prioritized.Priorities:
        now = prioritized.empty(1, 10)
        for slot in range(len(errors)):
            now = prioritized.add(now, tf.constant(slot), alpha)
        slots = tf.range(len(errors))[None]
        now = prioritized.update(now, one, slots, tf.constant([errors]), alpha, 1e-3)
        for slot in range(len(errors), len(errors) + new):
            now = prioritized.add(now, tf.constant(slot), alpha)
        return now

    def draws(now: prioritized.Priorities, held: int, number: int = 4096) -> tuple[np.ndarray, np.ndarray]:
        u = tf.constant(np.random.default_rng(0).random((1, number)), tf.float32)
        slots, weights = prioritized.draw(now, u, tf.constant(held), beta)
        return slots[0].numpy(), weights[0].numpy()

    slots, weights = draws(after([0.999, 1.999, 2.999, 3.999]), 4)
    for slot, weight in enumerate([1, 0.846745, 0.768229, 0.716978]):
        np.testing.assert_allclose(weights[slots == slot], weight, rtol=1e-5)
    shares = np.arange(1, 5) ** 0.6 / (np.arange(1, 5) ** 0.6).sum()
    np.testing.assert_allclose(np.bincount(slots) / 4096, shares, atol=1e-3)
    np.testing.assert_allclose(after([15.999], alpha=0.5, new=1).powers[0, 0, :2], [4, 4])  # and not 4^.5 = 2
    zero = after([0.0, 0.5], new=1)
    np.testing.assert_allclose(
        zero.powers[0, 0, :4], [1e-3**0.6, 0.501**0.6, 1, 0], rtol=1e-5
    )  # the highest is still 1
    slots, weights = draws(zero, 3)
    assert set(slots) == {0, 1, 2} and (weights[slots == 0] == 1).all() and weights.min() > 0.05
    kept = prioritized.update(zero, one, tf.constant([[1, 2]]), tf.constant([[np.nan, np.inf]]), 0.6, 1e-3)
    assert all((a.numpy() == b.numpy()).all() for a, b in zip(kept, zero, strict=True))


def test_counts_of_running_sums_are_those_of_a_cumulative_sum_to_the_bit() -> None:
    """Where a sum ends exactly at the point, just before or just after it, and in blocks that are not full."""
    generator = np.random.default_rng(0)
    powers = generator.exponential(1, (3, 50, BLOCK)).astype(np.float32)
    powers[1, :, 100:] = powers[2, :25, :] = 0
    forms = [tf.function(form, jit_compile=True, autograph=False) for form in (
        lambda powers, rest: tf.reduce_sum(tf.cast(tf.cumsum(powers, axis=-1) <= rest[..., None], tf.int32), axis=-1),
        prioritized._count_running_sums,
    )]  # fmt: skip
    ends = tf.function(lambda x: tf.cumsum(x, axis=-1), jit_compile=True, autograph=False)(tf.constant(powers)).numpy()
    for away in (0.0, -np.inf, np.inf):
        chosen = generator.integers(0, BLOCK, (3, 50, 1))
        exact = np.take_along_axis(ends, chosen, axis=-1)[..., 0]
        rest = tf.constant(np.nextafter(exact, np.float32(away)) if away else exact)
        counts, found = (form(tf.constant(powers), rest).numpy() for form in forms)
        assert (counts == found).all() and (counts == chosen[..., 0] + (away >= 0))[0].all()


def test_the_fused_form_draws_the_same() -> None:
    size, alpha, generator = 2 * BLOCK + 40, 0.6, np.random.default_rng(5)
    host, both = Priorities(2, size, alpha, 1e-6), np.ones(2, bool)
    fused = prioritized.empty(2, size)
    for step in range(size + 100):
        host.add(both, np.full(2, step % size))
        fused = prioritized.add(fused, tf.constant(step % size), alpha)
        if step % 50 == 10:
            held = min(step + 1, size)
            u, beta = generator.random((2, 16)).astype(np.float32), np.array([0.4, 1.0])
            slots, weights = host.draw(u, np.full(2, held), beta)
            slots_, weights_ = prioritized.draw(fused, tf.constant(u), tf.constant(held), tf.constant(beta, tf.float32))
            assert (slots == slots_.numpy()).mean() > 0.95  # float32: a point may fall on the other side of an end
            same = slots == slots_.numpy()
            np.testing.assert_allclose(weights[same], weights_.numpy()[same], rtol=2e-2)
            errors, due = generator.exponential(1, (2, 16)).astype(np.float32), np.array([True, step % 100 == 10])
            host.update(due, slots, errors)
            fused = prioritized.update(
                fused, tf.constant(due), tf.constant(slots, tf.int32), tf.constant(errors), alpha, 1e-6
            )
    np.testing.assert_allclose(fused.powers, host._powers, rtol=1e-5)
    np.testing.assert_allclose(fused.sums, host._sums, rtol=1e-5)
    np.testing.assert_allclose(fused.highest, host._highest, rtol=1e-6)


def test_settings_and_names() -> None:
    plain, by_priority = compose("algo=ddqn"), compose("algo=ddqn", "algo.replay=prioritized")
    assert plain.config_id != by_priority.config_id
    assert (
        plain.config_id == compose("algo=ddqn", "algo.priority_alpha=.3").config_id
    )  # it moves no curve of uniform replay
    with pytest.raises(Refusal, match=r"algo\.replay: expected one of uniform, prioritized, received 'per'"):
        compose("algo=ddqn", "algo.replay=per")
    with pytest.raises(Refusal, match=r"algo\.priority_beta"):
        compose("algo=ddqn", "algo.priority_beta=2")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "fused"])
def test_weights_and_errors_reach_a_job(engine: str, tiny: Callable[..., Any]) -> None:
    """By alpha the draws change, and by beta what is learned from the same draws: a weight that is lost changes nothing."""
    options = (f"engine={engine}", "algo.replay=prioritized", "trials=1", "budget.steps=100", "evaluation.period=100")

    def losses(alpha: float, beta: float) -> list[float]:
        job = tiny("ddqn", *options, f"algo.priority_alpha={alpha}", f"algo.priority_beta={beta}")
        found = [record["metrics"].get("train/loss") for record in records(job.folder)]
        return [values[0] for values in found if values and values[0] is not None]

    plain, weighted, uniform = losses(1, 0), losses(1, 1), losses(0, 0)
    assert len(plain) > 3 and plain[-1] != weighted[-1] and plain[-1] != uniform[-1] != weighted[-1]
    # The priorities of all transitions are 1 until the first update: its loss, and its weights of 1, are the same.
    assert losses(0, 1) == uniform


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "fused"])
@pytest.mark.parametrize("algo", ["ddqn", "rainbow"])
def test_a_trial_alone_equals_the_trial_in_a_batch(engine: str, algo: str, tiny: Callable[..., Any]) -> None:
    options = (f"engine={engine}", "network.hidden_units=[8]", "algo.target_period=20", "algo.replay=prioritized")
    three, one = tiny(algo, "trials=3", *options), tiny(algo, "trials=1", "seed=2", *options)
    assert three["engine"] == engine and three["updates"][2] > 10
    assert trial(three, 2) == trial(one, 2) != trial(three, 0)
