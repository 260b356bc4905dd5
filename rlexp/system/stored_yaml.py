"""Reading stored configurations as plain YAML, without resolving anything.

The files that rlexp writes have no tags, anchors, aliases or interpolations, a few kilobytes and a few levels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlexp.system.text import clean

MAX_SIZE = 4 * 2**20  # bytes; a job's file has a few thousand
MAX_DEPTH = 64


def read_config(folder: str | Path) -> dict[str, Any]:
    """The `config.yaml` of a job's folder; raises ValueError with the file's name for anything but plain data."""
    path = Path(folder) / "config.yaml"
    try:
        if not path.is_file():
            raise ValueError("there is no such file" if not path.exists() else "it is not a regular file")
        if path.stat().st_size > MAX_SIZE:
            raise ValueError(f"{path.stat().st_size:,} bytes; at most {MAX_SIZE:,} are read")
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = clean(str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is not a configuration: {reason}") from error


def parse(text: str) -> dict[str, Any]:
    """The mapping in a text of plain YAML; raises ValueError for anything else."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(text, loader)
        config = yaml.load(text, loader)
    except (yaml.YAMLError, OverflowError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    if not isinstance(config, dict):
        raise ValueError(f"expected a mapping, received {type(config).__name__}")
    _check_plain(config)
    return config


def _check_events(text: str, loader: Any) -> None:
    """Raise ValueError for tags, anchors, aliases and deep nesting, before any value is built."""
    import yaml

    depth = 0
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError("YAML with anchors or aliases, which no job writes")
        if getattr(event, "tag", None) is not None:
            raise ValueError(f"YAML with the tag {event.tag}, which no job writes")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"YAML nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _check_plain(node: Any) -> None:
    """Raise ValueError for interpolations: resolving `${oc.env:NAME}` would expose the reader's secrets."""
    if isinstance(node, dict):
        for key, value in node.items():
            _check_plain(key)
            _check_plain(value)
    elif isinstance(node, list):
        for value in node:
            _check_plain(value)
    elif isinstance(node, str) and "${" in node:
        raise ValueError(f"an interpolation, {node[:80]!r}, which no job writes: only plain values are read")


def select(config: Any, *keys: str) -> Any:
    """The value under nested keys; None if a key is missing."""
    for key in keys:
        config = config.get(key) if isinstance(config, dict) else None
    return config
