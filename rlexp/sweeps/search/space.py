"""The space of a search, in Hydra's override grammar.

algo.gamma=0.98,0.99,0.995                            one of these (also choice(...))
algo.n_step=range(1,11)                               1, 2, ..., 10
algo.epsilon.final=interval(0.01,0.1)                 any number between
algo.optimizer.lr=tag(log,interval(1e-4,1e-2))        ... with a uniform logarithm
algo.epsilon.duration=int(interval(1000,20000))       any whole number between, ends included
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from rlexp.system.errors import refusal

Value = str | int | float
SEARCHABLE = ("algo", "network", "discretizer", "schedule", "env.")  # keys whose values make agents better or worse


@dataclass(frozen=True)
class Dimension:
    """One key of a search and its possible values.

    Attributes:
        key: as in an override, with its `+` if it has one.
        choices: texts to choose from; empty for numbers.
        low, high: the smallest and the largest number, both included; `int` for whole numbers.
        step: between possible numbers; None: any number between.
        log: whether the logarithm is searched.
    """

    key: str
    choices: tuple[str, ...] = ()
    low: int | float = 0
    high: int | float = 0
    step: int | float | None = None
    log: bool = False

    def override(self, value: Value) -> str:
        """The override that sets this key."""
        return f"{self.key}={value}"

    def example(self, number: int) -> Value:
        """A value to check beforehand: a choice, or one end of the range."""
        if self.choices:
            return self.choices[number % len(self.choices)]
        return self.high if number % 2 else self.low

    @property
    def num_examples(self) -> int:
        """Number of different examples."""
        return len(self.choices) or 2


def split(overrides: Iterable[Override]) -> tuple[list[str], list[Dimension]]:
    """Split overrides into fixed ones and dimensions; of several overrides of one key the last counts.

    Returns:
        Fixed overrides, and dimensions; both in the order in which their keys first appear.

    Raises:
        Refusal: for a key that cannot be searched, or if there is no dimension.
    """
    found: dict[str, str | Dimension] = {}
    for override in overrides:
        key = override.get_key_element()
        if override.is_sweep_override():
            found[key] = _dimension(key, override)
        else:
            found[key] = override.input_line if override.is_delete() and override.input_line else _fixed(key, override)
    dimensions = [d for d in found.values() if isinstance(d, Dimension)]
    if not dimensions:
        raise refusal(
            "a search", "keys with several values", "none",
            "For example 'algo.optimizer.lr=tag(log,interval(1e-4,1e-2))' algo.gamma=0.98,0.99,0.995",
        )  # fmt: skip
    return [text for text in found.values() if isinstance(text, str)], dimensions


def _fixed(key: str, override: Override) -> str:
    return f"{key}={override.get_value_element_as_str()}"


def _dimension(key: str, override: Override) -> Dimension:
    name = key.lstrip("+")
    if not name.startswith(SEARCHABLE):
        raise refusal(
            name, "a key of algo, network, discretizer or env (but not env itself) to search", f"{override.input_line}",
            "Give it one value, or compare its values in a sweep: leave out hydra/sweeper=optuna.",
        )  # fmt: skip
    values = override.value()
    log = False
    if isinstance(values, IntervalSweep | RangeSweep | ChoiceSweep):
        unknown = values.tags - ({"log"} if not isinstance(values, ChoiceSweep) else set())
        if unknown:
            text = "the tag log of numbers" if not isinstance(values, ChoiceSweep) else "no tag on a choice"
            raise refusal(name, text, ", ".join(sorted(unknown)))
        if getattr(values, "shuffle", False):
            raise refusal(name, "values in any order", "shuffle(...)", "A search has no order: leave it out.")
        log = "log" in values.tags
    if isinstance(values, IntervalSweep):
        dimension = Dimension(key, low=values.start or 0, high=values.end or 0, log=log)
        return _checked(name, dimension, override)
    if isinstance(values, RangeSweep):
        numbers = [n if isinstance(n, int) else float(n) for n in values.range()]
        if not numbers:
            raise refusal(name, "a range with numbers in it", str(override.input_line))
        if log and values.step != 1:
            raise refusal(name, "no step with tag(log, ...)", f"a step of {values.step}")
        step = None if log and isinstance(values.step, int) else values.step
        low, high = min(numbers), max(numbers)
        return _checked(name, Dimension(key, low=low, high=high, step=step and abs(step), log=log), override)
    choices = tuple(dict.fromkeys(override.sweep_string_iterator()))
    if len(choices) < 2:
        raise refusal(name, "two values or more to choose from", str(override.input_line))
    return Dimension(key, choices)


def _checked(name: str, dimension: Dimension, override: Override) -> Dimension:
    if not dimension.low < dimension.high:
        raise refusal(name, "a lower end below the upper one", str(override.input_line))
    if dimension.log and dimension.low <= 0:
        raise refusal(name, "numbers above 0 with tag(log, ...)", str(override.input_line))
    return dimension
