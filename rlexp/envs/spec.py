"""Action and observation spaces as data: what the rest of rlexp knows of Gymnasium's spaces.

Specs can be hashed and written as JSON, so that they can be part of the key of a compiled program. They are
made in `spaces.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

Limits = tuple[float | None, ...] | None


@dataclass(frozen=True)
class Discrete:
    """One of `n` numbers. rlexp counts them from 0, the environment from `start`.

    Attributes:
        n: how many there are.
        start: the environment's first number.
        dtype: of arrays that hold such numbers.
    """

    n: int
    start: int = 0
    dtype: str = "int32"
    kind: ClassVar[str] = "discrete"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one number."""
        return ()

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of what a policy's model returns for one observation: a number for each action."""
        return (self.n,)

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """Actions [...] as the environment counts them, of the dtype of Gymnasium's own samples."""
        counted = actions.astype(np.int64, copy=False)
        return counted + self.start if self.start else counted

    def __str__(self) -> str:
        return f"Discrete({self.n})" if self.start == 0 else f"Discrete({self.n}, start={self.start})"


@dataclass(frozen=True)
class Box:
    """An array of numbers.

    Attributes:
        shape, dtype: of the array, as rlexp keeps it (the environment may have float64 where this is float32).
        low, high: bounds of the numbers in C order, or one bound for all of them; None: no bound.
    """

    shape: tuple[int, ...]
    dtype: str
    low: Limits = None
    high: Limits = None
    kind: ClassVar[str] = "box"

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of what a policy's model returns for one observation: an action."""
        return self.shape

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """Actions [..., *shape] as the environment takes them."""
        return actions.astype(self.dtype, copy=False)

    def __str__(self) -> str:
        low, high = (_bound_text(bound, sign) for bound, sign in ((self.low, "-"), (self.high, "")))
        return f"Box({low}, {high}, {self.shape}, {self.dtype})"


Spec = Discrete | Box


def to_json(spec: Spec) -> dict[str, Any]:
    """A spec as plain values; `from_json` reads them."""
    return {"kind": spec.kind, **asdict(spec)}


def from_json(values: Mapping[str, Any]) -> Spec:
    """The spec that `to_json` has written, also with lists for tuples; raises `ValueError` for anything else."""
    rest = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key != "kind"}
    try:
        spec: Spec = {"discrete": Discrete, "box": Box}[values["kind"]](**rest)
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected a spec of kind discrete or box, received {dict(values)}") from error
    return spec


def _bound_text(bound: Limits, sign: str) -> str:
    texts = [f"{sign}inf" if number is None else str(number) for number in bound or (None,)]
    return texts[0] if len(texts) == 1 else f"[{' '.join(texts)}]"
