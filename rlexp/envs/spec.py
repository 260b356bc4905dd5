"""Action and observation spaces as data: what the rest of rlexp knows of Gymnasium's spaces.

Specs can be hashed and written as JSON, so that they can be part of the key of a compiled program. They are
made in `spaces.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
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

    def best(self, outputs: np.ndarray) -> np.ndarray:
        """The actions [B] with the largest of a model's outputs [B, n]."""
        best: np.ndarray = outputs.argmax(axis=-1)
        return best

    def uniform(self, u: np.ndarray) -> np.ndarray:
        """The actions [...] that uniform numbers [..., 1] choose, each as likely as the other."""
        return (u[..., 0] * self.n).astype(self.dtype)

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """Actions [...] as the environment counts them, of the dtype of Gymnasium's own samples."""
        counted = actions.astype(np.int64, copy=False)
        return counted + self.start if self.start else counted

    def __str__(self) -> str:
        return f"Discrete({self.n})" if self.start == 0 else f"Discrete({self.n}, start={self.start})"


@dataclass(frozen=True)
class MultiDiscrete:
    """An array of numbers, each one of its own `sizes`. rlexp counts them from 0, the environment from `starts`.

    Attributes:
        sizes: how many there are of each, in C order.
        shape: of the array.
        starts: the environment's first number of each, in C order; None: 0.
        dtype: of the array, as rlexp keeps it.
        env_dtype: as the environment takes it.
    """

    sizes: tuple[int, ...]
    shape: tuple[int, ...]
    starts: tuple[int, ...] | None = None
    dtype: str = "int32"
    env_dtype: str = "int64"
    kind: ClassVar[str] = "multi_discrete"

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of what a policy's model returns for one observation: a number for each choice, those of one after those of
        the other."""
        return (sum(self.sizes),)

    def best(self, outputs: np.ndarray) -> np.ndarray:
        """The actions [B, *shape] with the largest output for each choice.  # [B, sum of sizes]"""
        parts = np.split(outputs, np.cumsum(self.sizes)[:-1], axis=-1)
        return np.stack([part.argmax(axis=-1) for part in parts], axis=-1).reshape(-1, *self.shape)

    def uniform(self, u: np.ndarray) -> np.ndarray:
        """The actions [..., *shape] that uniform numbers [..., W] choose, each as likely as the other."""
        return (u * np.array(self.sizes)).astype(self.dtype).reshape(*u.shape[:-1], *self.shape)

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """Actions [..., *shape] as the environment counts them."""
        counted = actions.astype(self.env_dtype, copy=False)
        if self.starts is None:
            return counted
        return counted + np.array(self.starts, self.env_dtype).reshape(self.shape)

    def __str__(self) -> str:
        sizes = f"[{' '.join(map(str, self.sizes))}]"
        return f"MultiDiscrete({sizes}" + (")" if self.starts is None else f", start={list(self.starts)})")


@dataclass(frozen=True)
class Box:
    """An array of numbers.

    Attributes:
        shape, dtype: of the array, as rlexp keeps it (the environment may have float64 where this is float32).
        low, high: bounds of the numbers in C order, or one bound for all of them; None: no bound.
        env_dtype: of an action as the environment takes it; None: as rlexp keeps it.
    """

    shape: tuple[int, ...]
    dtype: str
    low: Limits = None
    high: Limits = None
    env_dtype: str | None = None
    kind: ClassVar[str] = "box"

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of every number as the environment has them; the least and the largest number where there is none.
        # [*shape] each"""
        dtype = np.dtype(self.env_dtype or self.dtype)
        limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        low, high = self._every(self.low, limits.min), self._every(self.high, limits.max)
        return low.astype(dtype), high.astype(dtype)

    @property
    def bounded(self) -> bool:
        """Whether every number has two bounds."""
        return None not in (self.low or (None,)) + (self.high or (None,))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of what a policy's model returns for one observation: an action."""
        return self.shape

    def best(self, outputs: np.ndarray) -> np.ndarray:
        """A model's outputs: they are the actions.  # [B, *shape]"""
        return outputs

    def uniform(self, u: np.ndarray) -> np.ndarray:
        """Actions [..., *shape] from low to high, by uniform numbers [..., W]; each number needs two bounds."""
        low, high = (bound.astype(np.float64) for bound in self.bounds)
        shares = u.reshape(*u.shape[:-1], *self.shape).astype(np.float64)
        if np.dtype(self.dtype).kind == "f":
            return (low + shares * (high - low)).astype(self.dtype)
        return np.floor(low + shares * (high - low + 1)).astype(self.dtype)  # the highest is as likely as the lowest

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """Actions [..., *shape] as the environment takes them, within its bounds.

        Environments differ in what they do with actions beyond. Numbers that are not finite, of a policy that diverges,
        count as 0: so that its loss tells of it, and not a fault of the environment.
        """
        low, high = self.bounds
        taken = actions.astype(low.dtype, copy=False)
        if low.dtype.kind == "f":
            taken = np.where(np.isfinite(taken), taken, low.dtype.type(0))
        return np.minimum(np.maximum(taken, low), high)

    def _every(self, limits: Limits, missing: Any) -> np.ndarray:
        """One bound for each number, `missing` for those without.  # [*shape]"""
        values = np.array([missing if number is None else number for number in limits or (None,)])
        return np.broadcast_to(values.reshape(self.shape if len(values) > 1 else ()), self.shape)

    def __str__(self) -> str:
        low, high = (_bound_text(bound, sign) for bound, sign in ((self.low, "-"), (self.high, "")))
        return f"Box({low}, {high}, {self.shape}, {self.dtype})"


Spec = Discrete | MultiDiscrete | Box
SPECS: dict[str, type[Spec]] = {spec.kind: spec for spec in (Discrete, MultiDiscrete, Box)}


def title(kind: str) -> str:
    """Gymnasium's name of a kind of spec: "Box" for "box"."""
    return SPECS[kind].__name__


def to_json(spec: Spec) -> dict[str, Any]:
    """A spec as plain values; `from_json` reads them."""
    values = asdict(spec)
    if values.get("env_dtype") is None:  # as versions wrote it that knew of none
        values.pop("env_dtype", None)
    return {"kind": spec.kind, **values}


def from_json(values: Mapping[str, Any]) -> Spec:
    """The spec that `to_json` has written, also with lists for tuples; raises `ValueError` for anything else."""
    rest: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key != "kind"
    }
    try:
        spec: Spec = SPECS[values["kind"]](**rest)
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected a spec of kind {' or '.join(SPECS)}, received {dict(values)}") from error
    return spec


def _bound_text(bound: Limits, sign: str) -> str:
    texts = [f"{sign}inf" if number is None else str(number) for number in bound or (None,)]
    return texts[0] if len(texts) == 1 else f"[{' '.join(texts)}]"
