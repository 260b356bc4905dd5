"""Values merged into a schema, with an error that names the key."""

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
    """Merge values into a dataclass schema; a wrong type or an unknown key is a Refusal."""
    _check_switches(schema, values, where)
    values = arguments.whole_numbers(schema, values)
    try:
        defaults = OmegaConf.structured(schema)
        _forget_schedules(defaults, schema, values)
        merged = OmegaConf.merge(defaults, dict(values))
        return OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        raise Refusal(unknown_key(".".join(filter(None, [where, str(error.full_key)])))) from error
    except OmegaConfBaseException as error:
        find_wrong_type(schema, values, where)
        raise Refusal(explain(error)) from error


def _forget_schedules(defaults: DictConfig, schema: type, values: Mapping[str, Any]) -> None:
    """A schedule that is given takes the place of the default one, whose further keys mean nothing to it."""
    for f in dataclasses.fields(schema):
        value, inner = values.get(f.name), f.default_factory
        if isinstance(inner, type) and dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
            _forget_schedules(defaults[f.name], inner, value)
        elif f.name in values and f.metadata.get("scalar"):
            defaults[f.name] = None


def _check_switches(schema: type, values: Mapping[str, Any], where: str) -> None:
    """OmegaConf takes any whole number for true."""
    for f in dataclasses.fields(schema):
        value = values.get(f.name)
        if isinstance(value, int | float) and not isinstance(value, bool) and f.type == "bool" and value not in (0, 1):
            raise wrong_type(".".join(filter(None, [where, f.name])), f.type, value)
        if isinstance(f.default_factory, type) and dataclasses.is_dataclass(f.default_factory):
            _check_switches(f.default_factory, value if isinstance(value, Mapping) else {}, f"{where}{f.name}.")


def find_wrong_type(schema: type, values: Mapping[str, Any], where: str) -> None:
    """Refuse the first value that its field cannot hold; a list's wrong element is named by its index."""
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
