"""The YAML files of algorithms and networks that other packages bring with an entry point.

A package that registers `name = module:OBJECT` under `rlexp.algos` or `rlexp.networks` brings `<name>.yaml`: beside the
module, or in a folder `conf/algo/` (`conf/network/`) of its distribution. Hydra then finds it as it finds ours, and
lists of choices name it. Nothing of the package is imported for that.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rlexp.config.paths import configured

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUPS = {"algo": "rlexp.algos", "network": "rlexp.networks"}  # configuration group -> entry points


def names(group: str) -> list[str]:
    """Names of a group whose YAML another package brings."""
    return sorted(_found(group))


def register() -> None:
    """Let Hydra find these files in this process; what cannot be read is left out."""
    if not _any_entry_point():
        return
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for group in GROUPS:
        for name, path in _found(group).items():
            try:
                node = OmegaConf.load(path)
            except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException):
                continue
            ConfigStore.instance().store(name, node, group, provider=str(path))


def _any_entry_point() -> bool:
    """Whether an installed package has entry points of ours."""
    return _any_in(tuple(sys.path))


@functools.lru_cache(1)
def _any_in(folders: tuple[str, ...]) -> bool:
    """The same, of packages in these folders: a look at files, since `--help` does without `importlib.metadata`."""
    for folder in folders:
        try:
            with os.scandir(folder or ".") as entries:
                found = [entry.path for entry in entries if entry.name.endswith((".dist-info", ".egg-info"))]
        except OSError:
            continue
        for info in found:
            try:
                text = Path(info, "entry_points.txt").read_bytes()
            except OSError:
                continue
            if any(f"[{points}]".encode() in text for points in GROUPS.values()):
                return True
    return False


def _found(group: str) -> dict[str, Path]:
    """Name -> file, but for names that are ours."""
    if group not in GROUPS or not _any_entry_point():
        return {}
    from importlib.metadata import entry_points

    ours = configured(group)
    found = {point.name: _yaml(point, group) for point in entry_points(group=GROUPS[group]) if point.name not in ours}
    return {name: path for name, path in found.items() if path is not None}


def _yaml(point: EntryPoint, group: str) -> Path | None:
    """The file of an entry point, where there is one."""
    return next((path for path in _places(point, group) if path.is_file()), None)


def _places(point: EntryPoint, group: str) -> Iterator[Path]:
    """Where the file of an entry point may lie, the first choice first."""
    import importlib.util

    package, *modules = point.module.split(".")
    try:
        spec = importlib.util.find_spec(package)  # imports nothing
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent
        module = folder.joinpath(*modules)
        beside = (module.parent, module) if modules else (folder,)
        for place in (*beside, folder / "conf" / group):
            yield place / f"{point.name}.yaml"
    for file in (point.dist.files or []) if point.dist else []:
        if file.as_posix().endswith(f"conf/{group}/{point.name}.yaml"):
            yield Path(str(file.locate()))
