"""Which algorithms take an environment, and which presets there are for it; nothing is composed or trained for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import Any

from rlexp.config import bins, registry
from rlexp.config.images import is_picture
from rlexp.config.paths import conf_dir, configured
from rlexp.config.schema.algos import TabularSettings
from rlexp.config.schema.job import Settings
from rlexp.config.schema.network import NetworkSettings
from rlexp.envs.info import EnvInfo
from rlexp.jobs import preflight
from rlexp.system.errors import Refusal
from rlexp.system.stored_yaml import parse

PICTURES = ("cnn", "minatar")  # networks for pictures, large ones and small ones


@dataclass(frozen=True)
class Suitability:
    """Whether an algorithm takes an environment.

    Attributes:
        algo: its name.
        more: what the command needs besides algorithm and environment, else empty.
        refused: why it does not take it; empty if it does.
    """

    algo: str
    more: str = ""
    refused: str = ""


@dataclass(frozen=True)
class Preset:
    """A preset of conf/experiment.

    Attributes:
        name: `+experiment=<name>`.
        algo, env: that it chooses; no environment if it is for any.
    """

    name: str
    algo: str
    env: str


def suitability(settings: Settings, plain: EnvInfo, tabular: EnvInfo) -> list[Suitability]:
    """Ask each registered algorithm whether it takes an environment.

    Args:
        settings: of any job in this environment.
        plain, tabular: the environment, as algorithms without and with tables see it.
    """
    networks = [("", settings.network)]
    if is_picture(plain.observation_shape):
        networks = [(f"network={name}", _network(name)) for name in PICTURES]
    names = dict.fromkeys([*registry.ALGOS, *(point.name for point in entry_points(group="rlexp.algos"))])
    return [_asked(name, settings, networks, plain, tabular) for name in names]


def _asked(
    name: str, settings: Settings, networks: list[tuple[str, NetworkSettings]], plain: EnvInfo, tabular: EnvInfo
) -> Suitability:
    """The answer of one algorithm, with the first network that suits it."""
    why = ""
    for more, network in networks:
        try:
            family = registry.family(name)
            algo = registry.algo(name).schema(name=name)
            if isinstance(algo, TabularSettings):
                algo.discretizer = bins.replaced(settings.env.discretizer, algo.discretizer)
            chosen = replace(settings, algo=algo, network=network)
            preflight.check(chosen, tabular if family.tabular else plain)
            return Suitability(name, more if family.keras else "")
        except Refusal as refused:
            why = why or str(refused).splitlines()[0]
    return Suitability(name, refused=why)


def _network(name: str) -> NetworkSettings:
    """The settings of a network of conf/network."""
    content = parse((conf_dir() / "network" / f"{name}.yaml").read_text())
    return NetworkSettings(**{key: value for key, value in content.items() if key != "defaults"})


def presets() -> list[Preset]:
    """The presets in conf/experiment, sorted by name."""
    return [Preset(name, *_choices(name)) for name in configured("experiment")]


def _choices(name: str) -> tuple[str, str]:
    """The algorithm and the environment of a preset, which may build upon another one."""
    algo, env = "", ""
    content = parse((conf_dir() / "experiment" / f"{name}.yaml").read_text())
    entries: list[Any] = content.get("defaults") or []
    for entry in entries:
        if isinstance(entry, str) and entry.startswith("/experiment/"):
            algo, env = _choices(entry.removeprefix("/experiment/"))
        elif isinstance(entry, Mapping):
            algo = entry.get("override /algo", algo)
            env = entry.get("override /env", env)
    return algo, env
