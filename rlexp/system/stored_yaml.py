"""The one reader of configurations that lie in folders: plain YAML, and nothing in it is resolved.

What rlexp writes has no tags, anchors, aliases or interpolations, is a few kilobytes and a few levels deep.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlexp.system.text import clean

MAX_SIZE = 4 * 2**20  # bytes; those of jobs have a few thousand
MAX_DEPTH = 64


def read_config(folder: str | Path) -> dict[str, Any]:
    """The `config.yaml` of a job's folder; raises ValueError, which names the file, for anything but plain data."""
    path = Path(folder) / "config.yaml"
    try:
        if not path.is_file():
            raise ValueError("there is no such file" if not path.exists() else "no regular file")
        if path.stat().st_size > MAX_SIZE:
            raise ValueError(f"{path.stat().st_size:,} bytes, where a job's has at most {MAX_SIZE:,}")
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        said = clean(str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is not a configuration: {said}") from error


def parse(text: str) -> dict[str, Any]:
    """A mapping from plain YAML; raises ValueError."""
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
    """Before any value is made: no tags, anchors or aliases, and a depth that no stack minds."""
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
    """No interpolation: what builds settings resolves `${oc.env:NAME}`, and would hand on the reader's secrets."""
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
    """What stands under nested keys; None where there is nothing."""
    for key in keys:
        config = config.get(key) if isinstance(config, dict) else None
    return config
