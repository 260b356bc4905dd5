"""The fields of a transition: what rings, rollout buffers and compiled programs keep of one step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Column(Protocol):
    """The shape and dtype of one entry; the specs of `rlexp.envs` are such columns."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one entry."""
        ...

    @property
    def dtype(self) -> str:
        """Of one entry, by its NumPy name."""
        ...


@dataclass(frozen=True)
class Numbers:
    """A column of entries that are one number each, or arrays of one shape."""

    dtype: str
    shape: tuple[int, ...] = ()


OUTCOME: dict[str, Column] = {"r_t": Numbers("float32"), "terminated": Numbers("bool"), "truncated": Numbers("bool")}
SCALARS = ("a_tm1", *OUTCOME)  # one number each, where the action is one
FIELDS = ("o_tm1", *SCALARS, "o_t")


def num_bytes(column: Column) -> int:
    """Memory of one entry."""
    return math.prod(column.shape) * np.dtype(column.dtype).itemsize
