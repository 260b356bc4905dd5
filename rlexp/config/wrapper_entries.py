"""Check of the entries of `env.wrappers`, without Gymnasium; `rlexp/envs/wrappers.py` applies them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlexp.system.errors import refusal

EXAMPLE = "For example env.wrappers='[FlattenObservation, {name: RescaleObservation, min_obs: 0, max_obs: 1}]'"


def parse(entries: Sequence[Any]) -> list[dict[str, Any]]:
    """The entries of `env.wrappers` as mappings of name and arguments; raises `Refusal` for anything else."""
    parsed = []
    for i, entry in enumerate(entries):
        where = f"env.wrappers[{i}]"
        given = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
            raise refusal(where, "a class path, or a mapping of name and arguments", repr(entry), EXAMPLE)
        name = given.get("name")
        if not isinstance(name, str):
            raise refusal(where, "a mapping with a name, the class path", repr(entry), EXAMPLE)
        path = name.replace(":", ".", 1)
        if not all(part.isidentifier() for part in path.split(".")):
            raise refusal(where, "a class path, as module.Class", repr(name), EXAMPLE)
        parsed.append({**given, "name": path})
    return parsed
