"""What people type, written as Hydra wants it: one place for the command line, Python, sweeps and searches.

Hydra takes a key that no YAML has only with a plus, and 1e4 for a number with a fraction. Here

* keys of free-form mappings (fields `dict[str, Any]` of the schema, e.g. `env.kwargs`), and keys of a group whose YAML
  is not one of ours and may leave out what the schema knows, get `++`: set, or added where they are absent. What does
  not fit the schema is refused by `settings.build`, however it was written.
* numbers that a field for whole numbers gets are written as whole ones; a fraction stays as it was typed, as a text.
* short forms are written out (see `shorthands`).
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
LARGEST_EXPONENT = 100  # a number beyond is no count of anything

_last: tuple[list[str], list[str]] = ([], [])  # arguments as rewritten and as typed


def rewrite(args: Iterable[str]) -> list[str]:
    """Arguments as Hydra wants them; all others stay as they are, also those that have been rewritten.

    Raises:
        Refusal: as `shorthands.expand`.
    """
    args = shorthands.expand(args)
    own = _own_groups(args)
    return [_rewritten(arg, own) for arg in args]


def options_first(args: list[str]) -> list[str]:
    """Arguments with Hydra's options in front, since its parser takes none behind the first key=value."""
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
    """Keep what a process' arguments were before `rewrite`."""
    global _last
    _last = (list(rewritten), list(typed))


def as_typed(args: list[str]) -> list[str]:
    """The arguments of this process as somebody typed them."""
    return _last[1] if args == _last[0] else args


def unmarked(text: str) -> str:
    """What Hydra says of arguments, without the plus signs that `rewrite` gives them."""
    return re.sub(r"(?<![\w+])\+\+(?=[A-Za-z_][\w.]*=)", "", text)


def kind_of(key: str) -> str:
    """The type of a key of the schema, as its field says it; empty for one that it does not have."""
    return _kinds().get(key, "")


def whole_numbers(schema: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for a schema in which 1e4 stands as 10000 where the schema has whole numbers; others are left alone."""
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
    """The integer that a float or a text stands for, else the value itself."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, str):
        number = _integer(value.strip())
        return value if number is None else number
    return value


def _integer(text: str) -> int | None:
    """The whole number that a text like 1e4 or 50_000 is; None where it is none."""
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
    """A value with the numbers in it written as whole ones: a number, a list, a choice or a range of them."""
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
    """Groups whose chosen YAML is not one of ours, or whose `name` is another package's."""

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
    """Whether a key is a free-form mapping, or in one."""
    parts = key.split(".")
    return any(kind_of(".".join(parts[:n])) == FREE for n in range(1, len(parts) + 1))


@functools.cache
def _kinds() -> dict[str, str]:
    """The types of all keys of all schemas of ours."""
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
