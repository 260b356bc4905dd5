"""Bins of Box observations for tables: those of the environment's YAML, which `algo.discretizer` may replace.

Bins belong to the environment, not to an algorithm. Networks ignore them, and a network's `config_id` does not depend
on them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlexp.config.paths import conf_dir
from rlexp.config.schema.env import DiscretizerSettings, EnvSettings
from rlexp.system.errors import refusal


def follow_id(env: EnvSettings) -> None:
    """If `env.id=` names another environment than the YAML, take the bins shipped for that id.

    Bins that the user has written stay.
    """
    own_id, own = _read(conf_dir() / "env" / f"{env.name}.yaml")
    if env.id != own_id and env.discretizer == own:
        env.discretizer = of_id(env.id)


def of_id(env_id: str) -> DiscretizerSettings:
    """The bins shipped for a Gymnasium id, with or without `module:`; without dimensions if there are none."""
    bare = env_id.rpartition(":")[2]
    # The search in the text spares parsing most of the files.
    named = (path for path in sorted((conf_dir() / "env").glob("*.yaml")) if bare in path.read_text())
    found = (bins for own_id, bins in map(_read, named) if own_id == bare and bins.dimensions)
    return next(found, DiscretizerSettings())


def replaced(own: DiscretizerSettings, by: DiscretizerSettings) -> DiscretizerSettings:
    """The environment's own bins, with the keys that `by` sets in place of theirs."""
    given = {key: value for key, value in dataclasses.asdict(by).items() if value}
    return dataclasses.replace(own, **given)


def check(where: str, bins: DiscretizerSettings) -> None:
    """Raise `Refusal` unless the four lists are of one length, dimensions are distinct, and low < high."""
    lengths = [len(bins.dimensions), len(bins.low), len(bins.high), len(bins.num_bins)]
    if len(set(lengths)) > 1:
        raise refusal(where, "as many low, high and num_bins as dimensions", ", ".join(map(str, lengths)))
    if len(set(bins.dimensions)) < len(bins.dimensions):
        raise refusal(f"{where}.dimensions", "each dimension once", str(bins.dimensions))
    for low, high in zip(bins.low, bins.high, strict=True):
        if not low < high:
            raise refusal(where, "low < high in every dimension", f"low {low} and high {high}")


def _read(path: Path) -> tuple[str | None, DiscretizerSettings]:
    """The id and the bins in an environment's YAML; None and no bins if there is no such file."""
    values: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False) if path.is_file() else {}
    return values.get("id"), DiscretizerSettings(**(values.get("discretizer") or {}))
