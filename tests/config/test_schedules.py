"""Schedules against values computed by hand and against the formulas of the chapter's notebook."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from rlexp.config.schedules import KINDS, STEPS_AHEAD, UNITS, Ahead, Schedule, Stacked, parse


def at(schedule: Schedule | Stacked, n: Any) -> np.ndarray:
    """The values where the schedule's own unit stands at n and the others far away."""
    n = np.asarray(n)
    return schedule({unit: n if unit == schedule.unit else n + 12345 for unit in UNITS})


@pytest.mark.parametrize(
    "fields, counts, expected",
    [
        ({"kind": "constant", "initial": 0.3}, [0, 7, 10**9], [0.3, 0.3, 0.3]),
        ({"kind": "linear", "initial": 1, "final": 0.2, "duration": 8}, [0, 2, 8, 9], [1, 0.8, 0.2, 0.2]),
        ({"kind": "linear", "initial": 0, "final": 4, "duration": 0.5}, [0, 1], [0, 4]),
        ({"kind": "exponential", "initial": 8, "decay": 0.5}, [0, 1, 3], [8, 4, 1]),
        ({"kind": "exponential", "initial": 8, "decay": 0.25, "duration": 10}, [5, 10, 20], [4, 2, 0.5]),
        ({"kind": "exponential", "initial": 8, "decay": 0.5, "final": 3}, [1, 2, 9], [4, 3, 3]),
        ({"kind": "exponential", "initial": -8, "decay": 0.5, "final": -3}, [1, 2, 9], [-4, -3, -3]),
        ({"kind": "exponential", "initial": 1, "decay": 0.9}, [10**6], [0]),
        ({"kind": "inverse_time", "initial": 1, "decay": 0.5}, [0, 2, 6], [1, 0.5, 0.25]),
        ({"kind": "inverse_time", "initial": 1, "decay": 0.5, "final": 0.4}, [2, 3, 6], [0.5, 0.4, 0.4]),
        ({"kind": "inverse_time", "initial": -1, "decay": 0.5, "final": -0.4}, [2, 3], [-0.5, -0.4]),
        ({"kind": "log10", "initial": 1, "final": 0.1, "duration": 10}, [0, 9, 99, 999], [1, 1, 0.1, 0.1]),
        ({"kind": "log10", "initial": 2, "final": 0, "duration": 10}, [0, 9, 99, 999], [2, 2, 1, 0]),
    ],
)
def test_hand_computed(fields: dict[str, Any], counts: list[int], expected: list[float]) -> None:
    values = at(parse(fields, "x"), counts)
    assert values.dtype == np.float32 and values.shape == (len(counts),)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-12)


def test_notebook_epsilon_of_dqn_is_linear_over_495_episodes() -> None:
    n = np.arange(601)
    schedule = parse({"kind": "linear", "initial": 1, "final": 0.01, "duration": 495, "unit": "episode"}, "x")
    np.testing.assert_array_equal(at(schedule, n), np.maximum(1 - n / 500, 0.01).astype(np.float32))


def test_notebook_epsilon_of_tabular_q_learning() -> None:
    schedule = parse({"kind": "log10", "initial": 1, "final": 0.1, "duration": 25, "unit": "episode"}, "x")
    expected = [max(0.1, min(1, 1 - math.log10((n + 1) / 25))) for n in range(1000)]
    np.testing.assert_array_equal(at(schedule, np.arange(1000)), np.array(expected, np.float32))
    by_hand = [1, 0.98296666, 0.69897, 0.30103, 0.1]
    np.testing.assert_allclose(at(schedule, [24, 25, 49, 124, 199]), by_hand, rtol=1e-6)


def test_notebook_learning_rate_of_tabular_q_learning() -> None:
    schedule = parse({"kind": "inverse_time", "initial": 0.05, "decay": 0.005}, "x")
    np.testing.assert_allclose(at(schedule, [0, 200, 1000, 9800]), [0.05, 0.025, 0.05 / 6, 0.001], rtol=1e-6)


@pytest.mark.parametrize("unit", ["step", "episode", "update"])
def test_each_trial_is_where_its_own_count_is(unit: str) -> None:
    counts = {"step": np.array([0, 10, 20]), "episode": np.array([0, 1, 2]), "update": np.array([4, 5, 6])}
    schedule = parse({"kind": "linear", "initial": 0, "final": 100, "duration": 100, "unit": unit}, "x")
    np.testing.assert_array_equal(schedule(counts), counts[unit].astype(np.float32))


def test_numbers_mappings_and_schedules_are_parsed() -> None:
    constant = Schedule("constant", 0.5)
    for same in (0.5, np.float32(0.5), {"kind": "constant", "initial": 0.5}):
        assert parse(same, "x") == constant
    assert parse(constant, "x") is constant
    assert parse(3, "x").initial == 3.0 and isinstance(parse(3, "x").initial, float)


def test_none_is_absent_and_keys_of_another_kind_are_dropped() -> None:
    merged = {"kind": "inverse_time", "initial": 0.1, "final": None, "duration": 0, "decay": 0.01}
    merged["unit"] = None
    assert parse(merged, "x") == Schedule("inverse_time", 0.1, decay=0.01)
    assert parse(merged | {"kind": "constant", "unit": "episode"}, "x") == parse(0.1, "x")
    with pytest.raises(ValueError, match=r"^x\.duration: expected a finite number"):
        parse(merged | {"duration": math.nan}, "x")


@pytest.mark.parametrize("kind", KINDS)
def test_to_dict_round_trip(kind: str) -> None:
    fields = {"initial": 1.0, "final": 0.5, "duration": 9.0, "decay": 0.5}
    schedule = parse({"kind": kind, "unit": "update", **fields}, "x")
    assert parse(schedule.to_dict(), "x") == schedule
    assert schedule.to_dict() == {
        "kind": kind,
        **{key: fields[key] for key in fields if key in KINDS[kind]},
        "unit": "step" if kind == "constant" else "update",
    }


LINEAR = {"kind": "linear", "initial": 1.0, "final": 0.1, "duration": 100}
LOG10 = LINEAR | {"kind": "log10"}
DECAY = {"kind": "exponential", "initial": 1.0, "decay": 0.5}
INVERSE = DECAY | {"kind": "inverse_time"}


KEYS = "kind, initial, final, duration, decay, unit"
KIND_NAMES = "constant, linear, exponential, inverse_time, log10"


@pytest.mark.parametrize(
    "value, message",
    [
        ("fast", f"e: expected a number or a mapping with the keys {KEYS}; received 'fast' (str)."),
        (
            "1e-3",
            f"e: expected a number or a mapping with the keys {KEYS}; received '1e-3' (str). "
            "It is text: write 0.001, without quotes (some YAML readers take 1e-3 for text, not 1.0e-3).",
        ),
        (None, f"e: expected a number or a mapping with the keys {KEYS}; received None (NoneType)."),
        (
            True,
            f"e: expected a number or a mapping with the keys {KEYS}; received True (bool). "
            "Write 1 or 0 if a number is meant.",
        ),
        (
            math.nan,
            "e: expected a finite number (float32), received nan. "
            "Look for a division by zero or an overflow where it is computed.",
        ),
        (
            -math.inf,
            "e: expected a finite number (float32), received -inf. "
            "Look for a division by zero or an overflow where it is computed.",
        ),
        (
            10**400,
            f"e: expected a finite number (float32), received {10**400}. "
            "Look for a division by zero or an overflow where it is computed.",
        ),
        (
            1e39,
            "e: expected a finite number (float32), received 1e+39. "
            "Look for a division by zero or an overflow where it is computed.",
        ),
        (
            {},
            f"e: expected the key kind, one of {KIND_NAMES}; received only an empty mapping. "
            "Add kind, or write a plain number for a constant.",
        ),
        (
            {"initial": 1.0, "kind": None},
            f"e: expected the key kind, one of {KIND_NAMES}; received only initial. "
            "Add kind, or write a plain number for a constant.",
        ),
        (
            LINEAR | {"kind": "exponental"},
            f"e.kind: unknown kind 'exponental'; expected one of {KIND_NAMES}. Did you mean 'exponential'?",
        ),
        (LINEAR | {"kind": 3}, f"e.kind: unknown kind 3; expected one of {KIND_NAMES}."),
        (
            LINEAR | {"unit": "steps"},
            "e.unit: unknown unit 'steps'; expected one of step, episode, update. Did you mean 'step'?",
        ),
        (LINEAR | {"unit": 7}, "e.unit: unknown unit 7; expected one of step, episode, update."),
        (LINEAR | {"inital": 2}, f"e: unknown key 'inital'; expected one of {KEYS}. Did you mean 'initial'?"),
        (LINEAR | {"x": None}, f"e: unknown key 'x'; expected one of {KEYS}."),
        (
            {"kind": "linear", "initial": 1, "duration": None},
            "e: kind 'linear' needs initial, final, duration; received initial. Add final, duration.",
        ),
        ({"kind": "constant"}, "e: kind 'constant' needs initial; received none of them. Add initial."),
        (
            {"kind": "exponential", "initial": 1},
            "e: kind 'exponential' needs initial, decay; received initial. Add decay.",
        ),
        (
            {"kind": "inverse_time", "decay": 1},
            "e: kind 'inverse_time' needs initial, decay; received decay. Add initial.",
        ),
        (
            {"kind": "log10", "initial": 1, "final": 0},
            "e: kind 'log10' needs initial, final, duration; received initial, final. Add duration.",
        ),
        (
            LINEAR | {"final": False},
            "e.final: expected a number, received False (bool). Write 1 or 0 if a number is meant.",
        ),
        (
            LINEAR | {"final": "0.1"},
            "e.final: expected a number, received '0.1' (str). It is text: write 0.1, without quotes "
            "(some YAML readers take 1e-3 for text, not 1.0e-3).",
        ),
        (LINEAR | {"decay": [1]}, "e.decay: expected a number, received [1] (list)."),
        (
            LINEAR | {"initial": math.inf},
            "e.initial: expected a finite number (float32), received inf. "
            "Look for a division by zero or an overflow where it is computed.",
        ),
        *[
            (
                base | {"duration": duration},
                f"e.duration: expected a number of counts > 0; received {duration}. "
                "For a value that does not change, write the plain number.",
            )
            for base, duration in ((LINEAR, 0), (LOG10, -3), (DECAY, -0.5))
        ],
        *[
            (
                DECAY | {"decay": decay},
                f"e.decay: expected the factor kept each `duration`, in (0, 1]; received "
                f"{decay}. 0.99 loses one percent; for a rise use kind linear.",
            )
            for decay in (1.01, 0, -0.5)
        ],
        (
            INVERSE | {"decay": -0.1},
            "e.decay: expected a rate >= 0 in initial / (1 + decay n); received -0.1, "
            "for which the value would grow without bound and change its sign.",
        ),
        *[
            (
                base | {"final": final},
                f"e.final: expected a limit between initial (1) and 0, the range of kind '{base['kind']}'; "
                f"received {final}. Choose one there, or use kind linear.",
            )
            for base, final in ((INVERSE, 2), (DECAY, -0.1))
        ],
        (
            LOG10 | {"final": 1.5},
            "e.final: expected at most initial (1), since kind 'log10' falls; received 1.5. "
            "Swap the two, or use kind linear.",
        ),
    ],
)
def test_refusals(value: Any, message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        parse(value, "e")
    assert str(refusal.value) == message


def test_a_schedule_made_by_hand_is_checked_too() -> None:
    with pytest.raises(ValueError) as refusal:
        Schedule("linear", 1.0)
    assert str(refusal.value) == (
        "schedule: kind 'linear' needs initial, final, duration; received initial. Add final, duration."
    )


def test_tensorflow_is_not_imported() -> None:
    code = "import sys, rlexp.config.schedules; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_stacked_schedules_are_those_of_the_jobs_side_by_side() -> None:
    linear = parse({"kind": "linear", "initial": 1, "final": 0, "duration": 4, "unit": "update"}, "x")
    inverse = parse({"kind": "inverse_time", "initial": 1, "decay": 1, "unit": "update"}, "x")
    stacked = Stacked((linear, inverse), (2, 1))
    assert stacked.unit == "update" and parse(stacked, "x") is stacked
    assert at(stacked, [1, 2, 3]).tolist() == [0.75, 0.5, 0.25] and at(stacked, [1, 2, 3]).dtype == np.float32
    table = np.array([[0, 1], [2, 3], [3, 4]])  # [N, M], as the fused engine asks
    np.testing.assert_array_equal(at(stacked, table), np.array([[1, 0.75], [0.5, 0.25], [1 / 4, 1 / 5]], np.float32))


@pytest.mark.parametrize("unit", ["step", "episode"])
def test_values_of_many_steps_ahead_are_those_of_each_step(unit: str) -> None:
    decay = parse({"kind": "exponential", "initial": 0.1, "decay": 0.02, "duration": 900, "unit": unit}, "x")
    log = parse({"kind": "log10", "initial": 1, "final": 0.1, "duration": 25, "unit": unit}, "x")
    for schedule in (decay, Stacked((decay, log), (2, 1))):
        ahead = Ahead(schedule, 3)
        for t in (0, 1, STEPS_AHEAD - 1, STEPS_AHEAD, 3 * STEPS_AHEAD + 7, 5):  # 5: a checkpoint is restored
            counts = {"step": np.full(3, t), "episode": np.array([t // 3, t // 2, 0])}
            assert ahead(t, counts).tolist() == schedule(counts).tolist()
            assert ahead(t, counts).dtype == np.float32
