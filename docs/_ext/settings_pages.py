"""The page of every configuration key, from the schema and the YAML's comments."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import MISSING
from typing import Any, NamedTuple

import yaml_files
from markdown import code, page, shown, table

from rlexp.config import paths, registry
from rlexp.config.schema.job import Settings


class Key(NamedTuple):
    """One configuration key."""

    name: str  # dotted
    default: Any
    metadata: Any  # of its field: help, low, high, above, choices, scalar


SAME = 0.6  # share of common words from which two lines say the same
HEAD = ("key", "default", "meaning", "values")


def keys(schema: type, prefix: str = "") -> Iterator[Key]:
    """The keys of a schema and of those nested in it, without the nodes that hold them."""
    instance = schema()
    for field in dataclasses.fields(schema):
        inner = field.default_factory if field.default_factory is not MISSING else None
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield from keys(inner, f"{prefix}{field.name}.")
        else:
            yield Key(prefix + field.name, getattr(instance, field.name), field.metadata)


def rows(found: list[Key], comments: dict[str, str], strip: str = "") -> list[list[str]]:
    """A row of `HEAD` for each key; comments are found by the key without its first part `strip`."""
    return [
        [
            f"`{key.name}`",
            shown(key.default),
            _meaning(key.metadata["help"], comments.get(key.name.removeprefix(strip), ""), key.metadata["choices"]),
            _values(key.metadata),
        ]
        for key in found
    ]


def _meaning(said: str, comment: str, choices: tuple[str, ...]) -> str:
    """The schema's line and the YAML's comment; where they say nearly the same, the longer one."""
    mine, other = (set(re.findall(r"\w+", text.casefold())) for text in (said, comment))
    if other <= mine | set(choices):
        return plain(said)
    if len(mine & other) >= SAME * min(len(mine), len(other)):
        return plain(max(said, comment, key=len))
    return f"{plain(said)} ({plain(comment)})"


def plain(text: str) -> str:
    """Text whose signs are no Markdown."""
    return re.sub(r"([*_<\[`])", r"\\\1", text)


def _values(metadata: Any) -> str:
    """Choices or range, and whether it may be a schedule."""
    low, high, above = metadata["low"], metadata["high"], metadata["above"]
    said = " or ".join(f"`{choice}`" for choice in metadata["choices"])
    if above is not None:
        said = f"more than {above:,}" + (f", at most {high:,}" if high is not None else "")
    elif low is not None:
        said = f"{low:,} to {high:,}" if high is not None else f"{low:,} or more"
    elif high is not None:
        said = f"at most {high:,}"
    return said + (("; " if said else "") + "may be a schedule" if metadata["scalar"] else "")


def algo_comments(name: str) -> dict[str, str]:
    """The comments of an algorithm's YAML and of those that it builds on; the nearest counts."""
    found: dict[str, str] = {}
    for path in yaml_files.inherited("algo", name):
        found = {**yaml_files.comments(path), **found}
    return found


def _common() -> str:
    """Keys of all jobs but those of the algorithm."""
    root = yaml_files.comments(paths.conf_dir() / "config.yaml")
    for group, choice in (("env", "cartpole"), ("network", "mlp"), ("tracking", "mlflow")):
        own = yaml_files.comments(yaml_files.path_of(group, choice))
        root |= {f"{group}.{key}": text for key, text in own.items() if f"{group}.{key}" not in root}
    groups: dict[str, list[Key]] = {}
    for key in keys(Settings):
        first = key.name.partition(".")[0] if "." in key.name else ""
        if first != "algo":
            groups.setdefault(first, []).append(key)
    order = sorted(groups, key=lambda name: name != "")  # keys of the job itself first
    blocks = []
    for name in order:
        blocks += [f"## {name or 'The job'}", table(HEAD, rows(groups[name], root))]
    return page(*blocks)


def _algorithms() -> str:
    """Keys of algorithms, each once, with the algorithms that have it."""
    owners: dict[str, list[str]] = {}
    first: dict[str, tuple[Key, str]] = {}
    for algo, entry in registry.ALGOS.items():
        for key in keys(entry.schema, "algo."):
            owners.setdefault(key.name, []).append(algo)
            first.setdefault(key.name, (key, algo))
    lines = []
    for name, (key, algo) in first.items():
        (row,) = rows([key], algo_comments(algo), "algo.")
        links = ", ".join(f"[{owner}](algorithms/{owner}.md)" for owner in owners[name])
        lines.append([row[0], row[2], row[3], "all" if len(owners[name]) == len(registry.ALGOS) else links])
    return table(("key", "meaning", "values", "algorithms"), lines)


def _of_hydra() -> str:
    """Sweepers and launchers, whose schema is their YAML."""
    blocks = []
    for group in ("hydra/sweeper", "hydra/launcher"):
        for name in paths.configured(group):
            path = yaml_files.path_of(group, name)
            said = yaml_files.comments(path)
            own = [[f"`{group.replace('/', '.')}.{key}`", plain(text)] for key, text in said.items()]
            blocks += [
                f"### `{group}={name}`",
                code("\n".join(yaml_files.header(path))),
                table(("key", "meaning"), own),
            ]
    return page(*blocks)


def configuration() -> str:
    """The page."""
    return page(
        "# Configuration keys",
        "Written from the schema (`rlexp/config/schema/`) and the comments of `conf/`: where they differ, the comment "
        "stands in brackets. `rlexp --cfg job` prints every key with the value that it has in a job, and "
        "`rlexp algo=ppo --cfg job` those of another algorithm. The defaults of `env`, `network` and `tracking` are "
        "those of `env=cartpole`, `network=mlp` and `tracking=mlflow`.",
        _common(),
        "## algo",
        "Each algorithm has its own keys, with defaults of its own: they stand on its page.",
        _algorithms(),
        "## Sweepers and launchers",
        _of_hydra(),
    )
