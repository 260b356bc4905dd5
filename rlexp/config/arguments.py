"""Rewrites the arguments that people type into Hydra's syntax, for the command line, Python, sweeps and searches.

Hydra accepts a key that is in no YAML only with a plus, and reads 1e4 as a float. So that neither matters:

* A key of a free-form mapping (a field `dict[str, Any]` of the schema, such as `env.kwargs`) gets `++`: set it, or add
  it. So does a key of a group whose YAML comes from elsewhere and may be incomplete. `build` checks all against the
  schema afterwards.
* A number for an integer field is written as an integer; one with a fraction stays as typed, in quotes.
* Short forms are expanded (see `shorthands`).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from rlexp.config import paths, shorthands

FREE = "dict[str, Any]"
WHOLE = ("int", "int | None", "list[int]")
ARGUMENT = re.compile(r"(?P<sign>\+{0,2})(?P<key>[A-Za-z_]\w*(?:\.\w+)*)=(?P<value>.*)", re.DOTALL)
NUMBER = re.compile(r"[+-]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*)?")
GROUPS = ("algo", "env", "network")
LARGEST_EXPONENT = 100  # beyond it a number is no count

_last: tuple[list[str], list[str]] = ([], [])  # the arguments: rewritten, typed


def rewrite(args: Iterable[str]) -> list[str]:
    """Rewrite arguments for Hydra; rewriting twice changes nothing more.

    Raises:
        Refusal: as `shorthands.expand`.
    """
    args = shorthands.expand(args)
    own = _own_groups(args)
    return [_rewritten(arg, own) for arg in args]


def options_first(args: list[str]) -> list[str]:
    """Move Hydra's options to the front: its parser accepts none after the first key=value."""
    from hydra._internal.utils import get_args_parser

    known = get_args_parser()._option_string_actions
    options: list[str] = []
    overrides: list[str] = []
    waiting = list(args)
    while waiting:
        arg = waiting.pop(0)
        action = known.get(arg.partition("=")[0]) if arg.startswith("-") else None
        (overrides if action is None else options).append(arg)
        if action is None or "=" in arg or not waiting:
            continue
        if action.nargs is None or (action.nargs == "?" and waiting[0] in (action.choices or ())):  # it takes a value
            options.append(waiting.pop(0))
    return options + overrides


def remember(rewritten: list[str], typed: list[str]) -> None:
    """Record this process' arguments before and after `rewrite`."""
    global _last
    _last = (list(rewritten), list(typed))


def as_typed(args: list[str]) -> list[str]:
    """This process' arguments as they were typed."""
    return _last[1] if args == _last[0] else args


def unmarked(text: str) -> str:
    """Remove from a message of Hydra's the plus signs that `rewrite` has added."""
    return re.sub(r"(?<![\w+])\+\+(?=[A-Za-z_][\w.]*=)", "", text)


def kind_of(key: str) -> str:
    """The annotated type of a key of the schema; empty for an unknown key."""
    return _kinds().get(key, "")


def is_node(key: str) -> bool:
    """Whether a key of the schema has further keys of its own: `algo`, `algo.optimizer`."""
    return any(known.startswith(f"{key}.") for known in _kinds())


def whole_numbers(schema: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values of integer fields, such as 1e4, to integers; leave all other values as they are."""
    found = dict(values)
    for f in dataclasses.fields(schema):
        if f.name not in found:
            continue
        value, inner = found[f.name], f.default_factory
        if isinstance(value, Mapping) and isinstance(inner, type) and dataclasses.is_dataclass(inner):
            found[f.name] = whole_numbers(inner, value)
        elif f.type in WHOLE:
            found[f.name] = [_whole(v) for v in value] if isinstance(value, list) else _whole(value)
        elif f.metadata.get("scalar") and isinstance(value, Mapping) and "duration" in value:
            found[f.name] = {**value, "duration": _whole(value["duration"])}  # a count, in a schedule
    return found


def _whole(value: Any) -> Any:
    """The integer that a float or a string denotes, else the value itself."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, str):
        number = _integer(value.strip())
        return value if number is None else number
    return value


def _integer(text: str) -> int | None:
    """The integer that a string such as 1e4 or 50_000 denotes; None if it denotes none."""
    if not NUMBER.fullmatch(text):
        return None
    number = Decimal(text.replace("_", ""))
    if number.adjusted() > LARGEST_EXPONENT or number != number.to_integral_value():
        return None
    return int(number)


def _rewritten(arg: str, own: set[str]) -> str:
    parts = ARGUMENT.fullmatch(arg)
    if parts is None:
        return arg
    sign, key, value = parts["sign"], parts["key"], parts["value"]
    group, _, rest = key.partition(".")
    if not sign and (_free(key) or (rest and group in own)):
        sign = "++"
    whole = kind_of(key) in WHOLE
    if whole or key.startswith(("hydra.sweeper.", "hydra.launcher.")):
        value = _with_whole_numbers(value, strict=whole)
    return f"{sign}{key}={value}"


def _with_whole_numbers(value: str, strict: bool) -> str:
    """Write the numbers in a value (a number, list, choice or range) as integers."""
    call = re.fullmatch(r"(choice|range|)\(?([^()]*)\)?", value.strip())
    if call is None:
        return value

    def replaced(match: re.Match[str]) -> str:
        text = match[0]
        if not NUMBER.fullmatch(text) or re.fullmatch(r"[+-]?[\d_]+", text):
            return text
        number = _integer(text)
        if number is not None:
            return str(number)
        return f"'{text}'" if strict and call[1] != "range" else text

    return re.sub(r"[^\s,\[\]()=]+", replaced, value)


def _own_groups(args: Iterable[str]) -> set[str]:
    """The groups whose chosen YAML, or whose `name`, comes from another package."""

    own = set()
    for arg in args:
        parts = ARGUMENT.fullmatch(arg)
        group, _, rest = parts["key"].partition(".") if parts else ("", "", "")
        if parts is None or group not in GROUPS or rest not in ("", "name"):
            continue
        if rest and group == "env":  # any name will do
            continue
        known = paths.configured(group)
        chosen = re.sub(r"^choice\((.*)\)$", r"\1", parts["value"])
        if any(name.strip() not in known for name in chosen.split(",")):
            own.add(group)
    return own


def _free(key: str) -> bool:
    """Whether a key is a free-form mapping or inside one."""
    parts = key.split(".")
    return any(kind_of(".".join(parts[:n])) == FREE for n in range(1, len(parts) + 1))


@functools.cache
def _kinds() -> dict[str, str]:
    """The annotated types of all keys of this package's schemas."""
    from rlexp.config import registry
    from rlexp.config.schema.job import Settings

    schemas = {Settings: "", **{entry.schema: "algo." for entry in registry.ALGOS.values()}}
    return dict(item for schema, prefix in schemas.items() for item in _fields(schema, prefix))


def _fields(schema: type, prefix: str) -> Iterator[tuple[str, str]]:
    for f in dataclasses.fields(schema):
        inner = f.default_factory
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield from _fields(inner, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", str(f.type)
