"""Numbers and names as a reader wants them."""

from __future__ import annotations

import math

import pytest

from rlexp.system import words


@pytest.mark.parametrize(
    ("value", "text"),
    [(500.0, "500"), (498.26, "498.3"), (-76.61, "-76.6"), (0.98765, "0.988"), (0.0, "0"), (math.nan, "-"), (None, "-"),
     (math.inf, "-")],
)  # fmt: skip
def test_numbers(value: float | None, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e30, "1e+30"), (-1.2345678e15, "-1.2346e+15"), (1e7, "1e+07"), (9_999_999.0, "9999999.0"), (12.34, "12.3"),
     (1e-20, "1e-20"), (0.0, "0"), (math.nan, "-"), (-math.inf, "-"), (None, "-")],
)  # fmt: skip
def test_returns_in_columns_have_few_digits(value: float | None, text: str) -> None:
    assert words.decimal(value) == text
    assert len(text) <= 11


def test_what_rounding_errors_leave_is_zero() -> None:
    """A spread of 1e-15 among values near 10 is noise; among values near 1e-15 it is a spread."""
    assert [words.without_noise(*pair) for pair in ((9.93e-16, 10.0), (9.93e-16, 1e-15), (None, 10.0), (0.5, None))] == [
        0.0, 9.93e-16, None, 0.5,
    ]  # fmt: skip
    assert words.without_noise(0.0, 0.0) == 0.0


def test_estimated_durations() -> None:
    assert [words.about(seconds) for seconds in (0.2, 42.4, 200, 9000, math.inf)] == [
        "about 1 s", "about 42 s", "about 3 min", "about 2.5 h", "-",
    ]  # fmt: skip


def test_other_numbers() -> None:
    assert [words.signed(v) for v in (1.5, -2.0, 0.0)] == ["+1.5", "-2", "0"]
    assert words.interval(500, 498.26, 500) == "500 [498.3, 500]"
    assert words.interval(5, math.nan, math.nan) == "5 [-]"
    assert [words.p_value(p) for p in (0.0001, 0.0312, 0.5)] == ["< 0.001", "0.031", "0.50"]
    assert [words.steps(s) for s in (12, 19_000, 1_234_567, math.inf)] == ["12", "19k", "1.23M", "-"]
    assert [words.seconds(s) for s in (12.51, 150, 9000, math.nan)] == ["12.5 s", "2.5 min", "2.5 h", "-"]
    assert (words.date(1_700_000_000.0), words.date(None)) == ("2023-11-14 22:13 UTC", "-")


def test_names() -> None:
    assert [words.names(list("abcdefgh"[:n])) for n in (0, 1, 2, 3, 8)] == [
        "", "a", "a and b", "a, b and c", "a, b, c, d and 4 others",
    ]  # fmt: skip
    assert (words.plural(1, "trial"), words.plural(2, "trial")) == ("1 trial", "2 trials")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-05, "1e-05"), (0.001, "0.001"), (64, "64"), (None, "null"), (True, "true"), ([1, 2], "[1, 2]"), ({}, "{}"),
     ("mse", "mse"), ({"kind": "constant", "initial": 0.5}, "0.5"),
     ({"kind": "exponential", "initial": 0.1, "final": 0.002, "duration": 300, "decay": 0.02, "unit": "step"},
      "exponential 0.1 to 0.002 in 300 steps")],
)  # fmt: skip
def test_settings(value: object, text: str) -> None:
    assert words.setting(value) == text
