"""From a composed configuration to `Settings`: typed, within its ranges, without contradictions.

The values and defaults that users read are in `conf/*.yaml`; `rlexp/config/schema/` declares what may be written there.
Nothing in this folder imports TensorFlow, MLflow or Gymnasium.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlexp.config import schedules
from rlexp.config.checks import check_contradictions, check_names, check_ranges
from rlexp.config.messages import explain
from rlexp.config.paths import conf_dir
from rlexp.config.schema.algos import TabularSettings
from rlexp.config.schema.env import DiscretizerSettings, EnvSettings
from rlexp.config.schema.job import Settings
from rlexp.config.types import typed
from rlexp.system.errors import Refusal, refusal


def build(config: DictConfig | Mapping[str, Any]) -> Settings:
    """Check a composed configuration and turn it into `Settings`.

    Args:
        config: the composed mapping; a `hydra` node in it is ignored.

    Raises:
        Refusal: at the first unknown key, wrong type, value out of range, or contradiction.
    """
    from rlexp.config import bins, registry, wrapper_entries

    if not isinstance(config, DictConfig):
        config = OmegaConf.create(dict(config))
    try:
        raw = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise Refusal(explain(error)) from error
    assert isinstance(raw, dict)
    raw.pop("hydra", None)
    algo = raw.get("algo")
    if not isinstance(algo, dict) or "name" not in algo:
        raise refusal("algo", "a mapping with a name, as in conf/algo/", repr(algo), "For example: algo=dueling_ddqn")
    schema = registry.algo(str(algo["name"])).schema
    settings = typed(Settings, {**{str(key): value for key, value in raw.items()}, "algo": {}}, "")
    try:
        settings.algo = typed(schema, _without_bins(schema, algo), "algo")
    except Refusal as refused:
        raise registry.of_another_yaml(str(algo["name"]), refused) from refused
    settings.env.wrappers = wrapper_entries.parse(settings.env.wrappers)
    if settings.network.noisy and getattr(settings.algo, "epsilon", 0.0) is None:
        settings.algo.epsilon = 0.0  # noise explores instead
    bins.follow_id(settings.env)
    _rename_env(settings.env)
    _resolve_shares(settings.algo, "algo", settings)
    check_ranges(settings, "")
    if isinstance(settings.algo, TabularSettings):
        settings.algo.discretizer = bins.replaced(settings.env.discretizer, settings.algo.discretizer)
    check_names(settings)
    check_contradictions(settings)
    return settings


def _without_bins(schema: type, algo: Mapping[str, Any]) -> Mapping[str, Any]:
    """An algorithm's values, without bins if it reads none: a sweep may mix tables with other algorithms."""
    if "discretizer" not in algo or "discretizer" in (f.name for f in dataclasses.fields(schema)):
        return algo
    typed(DiscretizerSettings, algo["discretizer"] or {}, "algo.discretizer")  # refuses misspelt keys
    return {key: value for key, value in algo.items() if key != "discretizer"}


def _resolve_shares(node: Any, prefix: str, settings: Settings) -> None:
    """Convert schedules in shares of the budget to the unit that the budget counts.

    A constant schedule loses the keys that it does not read: they are there for the schedules that may replace it.
    """
    for f in dataclasses.fields(node):
        value, where = getattr(node, f.name), f"{prefix}.{f.name}"
        if dataclasses.is_dataclass(value):
            _resolve_shares(value, where, settings)
        elif f.metadata.get("scalar") and isinstance(value, Mapping):
            try:
                setattr(node, f.name, _resolved(value, where, settings))
            except ValueError as error:
                raise Refusal(str(error)) from error


def _resolved(schedule: Mapping[str, Any], where: str, settings: Settings) -> Mapping[str, Any]:
    if schedule.get("unit") == schedules.BUDGET:
        episodes = settings.budget.episodes
        unit, count = ("episode", episodes) if episodes is not None else ("step", settings.max_steps or 1)
        return schedules.of_budget(schedule, where, unit, max(count, 1))
    if schedule.get("kind") != "constant":
        return schedule
    constant = schedules.parse(schedule, where)
    assert isinstance(constant, schedules.Schedule)
    return constant.to_dict()


def _rename_env(env: EnvSettings) -> None:
    """If `env.id=` replaces the id of a named environment, derive the name from the new id."""
    shipped = conf_dir() / "env" / f"{env.name}.yaml"
    if shipped.is_file() and OmegaConf.select(OmegaConf.load(shipped), "id") != env.id:
        env.name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", env.id).strip("-.+_") or "env"
