"""Whether our results agree with a figure that the notebook prints."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlexp.book.printed_figures import Statistical


class Verdict(NamedTuple):
    """The verdict on one figure."""

    text: str
    good: bool | None  # whether ours agree; None if there is nothing to compare
    literal: bool | None = None  # whether the notebook's loop, run literally, gives its figure; None if it was not run


def verdict(row: Statistical, ours: np.ndarray, literal: np.ndarray | None = None) -> Verdict:
    """Compare our results with the notebook's figure; a reason for a difference is named only if literal runs show it.

    Args:
        row: with the notebook's figure.
        ours: one value per trial, NaN for none.  # [N]
        literal: one value per seed of the notebook's loop, run literally; None if it was not run.  # [M]
    """
    if row.figure is None:
        return Verdict("the notebook prints no figure", None)
    good = _spans(ours, row.figure)
    text = f"within the spread of our {row.values}" if good else f"outside all our {row.values}"
    if literal is None:
        unknown = ". The reason is not known: the notebook shows one seed, and its loop is not run literally here"
        return Verdict(text if good else text + unknown, good)
    gives = _spans(literal, row.figure)
    if gives and good:
        text += ", and of literal runs"
    elif gives and _overlap(ours, literal):
        text += ". Literal runs give the figure, and ours overlap with them: no difference is certain"
    elif gives:
        text += ". Literal runs give the figure, and none of ours lies among them: the reason is what ours does "
        text += "differently (below)"
    else:
        text += (
            f". None of {len(literal)} literal runs of the printed code gives the printed figure: they gave "
            f"{_digits(literal.min())} to {_digits(literal.max())}" + ("" if good else "; the reason is not known")
        )
    return Verdict(text, good, gives)


def _spans(values: np.ndarray, figure: float) -> bool:
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() <= figure <= values.max())


def _overlap(ours: np.ndarray, literal: np.ndarray) -> bool:
    """Whether the ranges of our values and of literal runs overlap; True if ours have no values."""
    ours = ours[np.isfinite(ours)]
    return not len(ours) or bool(ours.min() <= literal.max() and literal.min() <= ours.max())


def spread(values: np.ndarray, kind: str) -> str:
    """Values of trials or seeds as the text of a cell.

    Args:
        values: NaN for none.  # [N]
        kind: "trials" for mean and standard deviation; "maxima" or "minima" for the median.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return f"0 of {len(values)}"
    low, high, mean, std, median = map(_digits, (f(finite) for f in (np.min, np.max, np.mean, np.std, np.median)))
    middle = f"mean {mean}, std {std}" if kind == "trials" else f"median {median}"
    number = "" if len(finite) == len(values) else f", {len(finite)} of {len(values)}"
    return f"{middle}, {low} to {high}{number}"


def _digits(value: float) -> str:
    """Five digits, and all digits before the decimal point."""
    return f"{value:.5g}" if abs(value) < 1e5 else f"{value:.0f}"
