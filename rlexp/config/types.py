"""Merging of values into a schema; errors name the key."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from rlexp.config import arguments
from rlexp.config.messages import explain, shown_value, unknown_key, wrong_type
from rlexp.system.errors import Refusal, refusal


def typed(schema: type, values: Mapping[str, Any], where: str) -> Any:
    """An instance of a dataclass schema with the given values.

    Args:
        schema: the dataclass.
        values: key -> value; missing keys take the schema's defaults.
        where: the key of the mapping itself, for messages; "" at the root.

    Raises:
        Refusal: for an unknown key or a value of the wrong type.
    """
    _check_booleans(schema, values, where)
    values = arguments.whole_numbers(schema, values)
    try:
        defaults = OmegaConf.structured(schema)
        _drop_default_schedules(defaults, schema, values)
        merged = OmegaConf.merge(defaults, dict(values))
        return OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        raise Refusal(unknown_key(".".join(filter(None, [where, str(error.full_key)])))) from error
    except OmegaConfBaseException as error:
        find_wrong_type(schema, values, where)
        raise Refusal(explain(error)) from error


def _drop_default_schedules(defaults: DictConfig, schema: type, values: Mapping[str, Any]) -> None:
    """Drop each default schedule that `values` replaces, so that its keys do not mix with those of the new one."""
    for f in dataclasses.fields(schema):
        value, inner = values.get(f.name), f.default_factory
        if isinstance(inner, type) and dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
            _drop_default_schedules(defaults[f.name], inner, value)
        elif f.name in values and f.metadata.get("scalar"):
            defaults[f.name] = None


def _check_booleans(schema: type, values: Mapping[str, Any], where: str) -> None:
    """Refuse numbers other than 0 and 1 for a boolean; OmegaConf would take any number for true."""
    for f in dataclasses.fields(schema):
        value = values.get(f.name)
        if isinstance(value, int | float) and not isinstance(value, bool) and f.type == "bool" and value not in (0, 1):
            raise wrong_type(".".join(filter(None, [where, f.name])), f.type, value)
        if isinstance(f.default_factory, type) and dataclasses.is_dataclass(f.default_factory):
            _check_booleans(f.default_factory, value if isinstance(value, Mapping) else {}, f"{where}{f.name}.")


def find_wrong_type(schema: type, values: Mapping[str, Any], where: str) -> None:
    """Raise a `Refusal` for the first value of the wrong type; names the index of a wrong list element."""
    for f in dataclasses.fields(schema):
        name = ".".join(filter(None, [where, f.name]))
        if f.name not in values:
            continue
        value, inner = values[f.name], f.default_factory
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            if not isinstance(value, Mapping):
                raise refusal(name, "a mapping of keys", shown_value(value), f"For example: {name}.<key>=...")
            find_wrong_type(inner, value, name)
            continue
        try:
            OmegaConf.merge(OmegaConf.structured(schema), {f.name: value})
        except OmegaConfBaseException as error:
            kind = str(f.type)
            index = re.search(r"\[(\d+)\]", str(error.full_key or ""))
            if index and isinstance(value, list):
                item = kind.removeprefix("list[").removesuffix("]")
                raise wrong_type(f"{name}[{index[1]}]", item, value[int(index[1])]) from error
            raise wrong_type(name, kind, value) from error
