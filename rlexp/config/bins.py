"""How tables see an environment: the bins in the environment's YAML, which `algo.discretizer` may replace.

They belong to an environment, not to an algorithm: networks read none of it, and their folders do not depend on it.
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
    """Where the id is not the one of the named environment's YAML (`env.id=`), take the bins shipped for that id.

    Bins that a person has written stay.
    """
    own_id, own = _read(conf_dir() / "env" / f"{env.name}.yaml")
    if env.id != own_id and env.discretizer == own:
        env.discretizer = of_id(env.id)


def of_id(env_id: str) -> DiscretizerSettings:
    """The bins shipped for a Gymnasium id, `module:` before it or not; without dimensions where there are none."""
    bare = env_id.rpartition(":")[2]
    named = (path for path in sorted((conf_dir() / "env").glob("*.yaml")) if bare in path.read_text())  # few are parsed
    found = (bins for own_id, bins in map(_read, named) if own_id == bare and bins.dimensions)
    return next(found, DiscretizerSettings())


def replaced(own: DiscretizerSettings, by: DiscretizerSettings) -> DiscretizerSettings:
    """The environment's own bins, with what `by` gives in their place: all of it, or single keys."""
    given = {key: value for key, value in dataclasses.asdict(by).items() if value}
    return dataclasses.replace(own, **given)


def check(where: str, bins: DiscretizerSettings) -> None:
    """Raise `Refusal` for bins whose four lists do not fit each other."""
    lengths = [len(bins.dimensions), len(bins.low), len(bins.high), len(bins.num_bins)]
    if len(set(lengths)) > 1:
        raise refusal(where, "as many low, high and num_bins as dimensions", ", ".join(map(str, lengths)))
    if len(set(bins.dimensions)) < len(bins.dimensions):
        raise refusal(f"{where}.dimensions", "each dimension once", str(bins.dimensions))
    for low, high in zip(bins.low, bins.high, strict=True):
        if not low < high:
            raise refusal(where, "low < high in every dimension", f"low {low} and high {high}")


def _read(path: Path) -> tuple[str | None, DiscretizerSettings]:
    """Id and bins of an environment's YAML; neither of one that is not shipped."""
    values: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False) if path.is_file() else {}
    return values.get("id"), DiscretizerSettings(**(values.get("discretizer") or {}))
