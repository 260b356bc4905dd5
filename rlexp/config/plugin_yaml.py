"""The YAML files of algorithms and networks that other packages bring with an entry point.

A package that registers `name = module:OBJECT` under `rlexp.algos` or `rlexp.networks` brings `<name>.yaml`: beside the
module, or in a folder `conf/algo/` (`conf/network/`) of its distribution. Hydra then finds it as it finds ours, and
lists of choices name it. Nothing of the package is imported for that.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from rlexp.config.paths import configured

GROUPS = {"algo": "rlexp.algos", "network": "rlexp.networks"}  # configuration group -> entry points


def names(group: str) -> list[str]:
    """Names of a group whose YAML another package brings."""
    return sorted(_found(group))


def register() -> None:
    """Let Hydra find these files in this process; what cannot be read is left out."""
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


def _found(group: str) -> dict[str, Path]:
    """Name -> file, but for names that are ours."""
    points = entry_points(group=GROUPS[group]) if group in GROUPS else []
    ours = configured(group) if points else []
    found = ((point.name, _yaml(point, group)) for point in points if point.name not in ours)
    return {name: path for name, path in found if path is not None}


def _yaml(point: EntryPoint, group: str) -> Path | None:
    """The file of an entry point, where there is one."""
    return next((path for path in _places(point, group) if path.is_file()), None)


def _places(point: EntryPoint, group: str) -> Iterator[Path]:
    package, *modules = point.module.split(".")
    try:
        spec = importlib.util.find_spec(package)  # imports nothing
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.origin is not None:
        module = Path(spec.origin).parent.joinpath(*modules)
        yield module.parent / f"{point.name}.yaml" if modules else module / f"{point.name}.yaml"
        yield module / f"{point.name}.yaml"
        yield Path(spec.origin).parent / "conf" / group / f"{point.name}.yaml"
    for file in (point.dist.files or []) if point.dist else []:
        if file.as_posix().endswith(f"conf/{group}/{point.name}.yaml"):
            yield Path(str(file.locate()))
