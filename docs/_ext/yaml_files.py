"""What the YAML files of conf/ say besides their values: the comments at their top and behind their keys."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlexp.config.paths import conf_dir

KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w+.@/]+):(?P<value>.*)$")
COMMENT = re.compile(r"(?:^|\s)#\s?(.*)$")


def path_of(group: str, name: str) -> Path:
    """The file of one choice of a configuration group."""
    return conf_dir() / group / f"{name}.yaml"


def header(path: Path) -> list[str]:
    """The comment lines at the top of a file, without their marks."""
    lines = []
    for line in path.read_text().splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line[1:].removeprefix(" "))
    return lines


def sentence(path: Path) -> str:
    """The first line of the header without a command that follows it, as a sentence."""
    first = header(path)[0].split("    ")[0].strip()
    return first.removesuffix(":") + ("" if first.endswith(".") else ".")


@cache
def comments(path: Path) -> dict[str, str]:
    """The comment behind each key: dotted key -> text; comment lines that follow a commented key belong to it."""
    found: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    last = ""
    for line in path.read_text().splitlines():
        key, comment = KEY.match(_without_comment(line)), COMMENT.search(line)
        if key is not None:
            indent = len(key["indent"])
            stack = [(depth, name) for depth, name in stack if depth < indent] + [(indent, key["key"])]
            last = ".".join(name for _, name in stack)
            if comment:
                found[last] = comment[1].strip()
        elif line.startswith(" ") and line.lstrip().startswith("#") and last in found:
            found[last] += " " + line.lstrip()[1:].strip()
    return found


def _without_comment(line: str) -> str:
    return COMMENT.sub("", line)


@cache
def defaults(path: Path) -> list[Any]:
    """The entries of a file's defaults list."""
    return list(OmegaConf.to_container(OmegaConf.load(path)).get("defaults", []))  # type: ignore[union-attr]


def inherited(group: str, name: str) -> list[Path]:
    """The file of a choice, then those of the same group that it builds on, nearest first."""
    path = path_of(group, name)
    parents = [entry for entry in defaults(path) if isinstance(entry, str) and path_of(group, entry).is_file()]
    return [path, *(file for parent in parents for file in inherited(group, parent))]


@cache
def choices(path: Path) -> dict[str, str]:
    """What a preset chooses: group -> name, its own choices before those of the presets that it builds on."""
    found: dict[str, str] = {}
    for entry in defaults(path):
        if isinstance(entry, str) and entry.startswith("/experiment/"):
            found = {**choices(conf_dir() / f"{entry[1:]}.yaml"), **found}
    for entry in defaults(path):
        if isinstance(entry, dict):
            found |= {key.removeprefix("override /"): value for key, value in entry.items() if "override /" in key}
    return found
