"""Damage to files of jobs, for scripts/attack.py: one random damage of a given kind."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

KINDS = ("truncated", "flipped", "random", "empty", "another", "a folder", "a link", "a pipe", "keys")
UNSEALED = ", and no digest"  # marks a description of damage that a digest cannot detect


def damage(path: Path, kind: str, generator: np.random.Generator, others: Sequence[Path]) -> str:
    """Damage a file; returns a description of the damage."""
    data = path.read_bytes()
    other = others[int(generator.integers(len(others)))]
    if kind == "truncated":
        path.write_bytes(data[: int(generator.integers(len(data) + 1))])
    elif kind == "flipped":
        flipped = bytearray(data or b"\0")
        for place in generator.integers(len(flipped), size=int(generator.integers(1, 4))):
            flipped[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(flipped)
    elif kind == "random":
        path.write_bytes(generator.bytes(int(generator.integers(1, 5000))))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "another":
        path.write_bytes(other.read_bytes())
        return f"another: {other.name}"
    elif kind == "keys":
        return _damage_keys(path, data, generator)
    else:
        path.unlink()
        if kind == "a folder":
            path.mkdir()
            if generator.random() < 0.5:
                (path / "inside").write_text("text")
        elif kind == "a pipe":
            os.mkfifo(path)
        else:
            targets = (Path("/nonexistent/file"), Path("/dev/zero"), other, path.parent, path)
            target = targets[int(generator.integers(len(targets)))]
            path.symlink_to(target)
            return f"a link to {target.name}"
    return kind


def _damage_keys(path: Path, data: bytes, generator: np.random.Generator) -> str:
    """Drop or replace a value in a JSON, JSON lines, YAML or CSV file; other files are truncated."""
    try:
        if path.suffix == ".jsonl":
            lines = data.splitlines()
            number = int(generator.integers(len(lines)))
            value = json.loads(lines[number])
            description = _change(value, generator)
            lines[number] = _dumped(value).encode()
            path.write_bytes(b"\n".join(lines) + b"\n")
            return f"line {number + 1}: {description}"
        if path.suffix == ".csv":
            rows = [line.split(",") for line in data.decode().splitlines()]
            row = rows[int(generator.integers(len(rows)))]
            row[int(generator.integers(len(row)))] = description = str(_odd_value(generator))[:40]
            path.write_text("".join(",".join(row) + "\n" for row in rows))
            return f"a cell: {description}"
        value = yaml.safe_load(data) if path.suffix == ".yaml" else json.loads(data)
        description = _change(value, generator)
        if path.suffix == ".json" and generator.random() < 0.7 and value.pop("digest", None):
            description += UNSEALED  # like a file of an older version
        path.write_text(_dumped(value))  # JSON is valid YAML
        return description
    except (ValueError, yaml.YAMLError, AttributeError, IndexError):  # not a file of such a format
        path.write_bytes(data[: len(data) // 2])
        return "cut in half"


def _change(value: Any, generator: np.random.Generator) -> str:
    """Drop or replace the value at a random place of a nested value; returns a description."""
    places: list[tuple[Any, Any, str]] = []

    def walk(node: Any, name: str) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, item in items:
            places.append((node, key, f"{name}.{key}"))
            walk(item, f"{name}.{key}")

    walk(value, "")
    node, key, name = places[int(generator.integers(len(places)))]
    if generator.random() < 0.3:
        del node[key]
        return f"without {name}"
    node[key] = odd = _odd_value(generator)
    return f"{name} = {f'a {type(odd).__name__}' if isinstance(odd, list | dict) else str(odd)[:30]}"


def _odd_value(generator: np.random.Generator) -> Any:
    nested: Any = []
    for _ in range(int(generator.choice([50, 900, 100_000]))):
        nested = [nested]
    values: tuple[Any, ...] = (
        None, "text", "", [], {}, [1, 2], {"a": 1}, -1, 10**30, 1e308, float("nan"), float("inf"), True, 2**63, [None],
        [[]], "\x1b[31m", "../../x", "x" * 5000, nested,
    )  # fmt: skip
    return values[int(generator.integers(len(values)))]


def _dumped(value: Any) -> str:
    """Like `json.dumps`, for any depth of lists."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_dumped(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        depth = 0
        while isinstance(value, list) and len(value) == 1:
            depth, value = depth + 1, value[0]
        inner = ", ".join(map(_dumped, value)) if isinstance(value, list) else _dumped(value)
        depth += isinstance(value, list)
        return "[" * depth + inner + "]" * depth
    return json.dumps(value)
