"""Names and parameters as MLflow accepts them, and MLflow's limits."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rlexp.config import registry
from rlexp.config.schema.algos import PRIORITY_KEYS
from rlexp.system.stored_yaml import select

MAX_METRICS, MAX_PARAMS, MAX_RUNS = 1000, 100, 50_000  # per call
MAX_KEY, MAX_PARAM, MAX_TAG = 250, 6000, 8000  # characters
NO_SETTING = ("study", "output_dir", "tracking", "rerun", "checkpoint", "animation")  # they change no result


def own_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a job reads, resolved: those of its algorithm, network and environment, and its budget.

    Without what other algorithms read (networks for tables, bins for networks), nulls and empty mappings and lists. The
    artifact `config.yaml` has all of them.
    """
    found = {key: value for key, value in config.items() if key not in NO_SETTING}
    env, known = select(found, "env"), registry.ALGOS.get(str(select(found, "algo", "name")))
    if isinstance(env, dict):
        unread = {"default_steps"} if known is None or _tabular(known) else {"default_steps", "discretizer"}
        found["env"] = {key: value for key, value in env.items() if key not in unread}
    if known is not None and not registry.FAMILIES[known.family].keras:
        found.pop("network", None)
    if select(found, "algo", "replay") == "uniform":
        found["algo"] = {key: value for key, value in found["algo"].items() if key not in PRIORITY_KEYS}
    if not select(found, "network", "noisy") and "algo" in found:
        found["algo"] = {key: value for key, value in found["algo"].items() if key != "sigma0"}
    if not select(config, "budget", "episodes") and not select(config, "budget", "steps"):
        found["budget"] = {"steps": select(config, "env", "default_steps")}
    return _without_empty(found)


def _tabular(algo: registry.Algo) -> bool:
    return registry.FAMILIES[algo.family].tabular


def _without_empty(tree: Mapping[str, Any]) -> dict[str, Any]:
    pruned = {key: _without_empty(value) if isinstance(value, dict) else value for key, value in tree.items()}
    return {key: value for key, value in pruned.items() if value is not None and value not in ({}, [])}


def flat_params(config: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a nested mapping as MLflow params: keys joined by dots, lists as JSON.

    A value beyond MLflow's limit is cut and says so; all of it is in the artifact `config.yaml`.
    """
    if isinstance(config, dict) and (config or not prefix):
        for key, value in config.items():
            yield from flat_params(value, prefix + _escaped(str(key), r"[^\w\- ]") + ".")
        return
    text = json.dumps(config) if isinstance(config, dict | list) else str(config)
    if len(text) > MAX_PARAM:
        note = f"... ({len(text)} characters, all of them in config.yaml)"
        text = text[: MAX_PARAM - len(note)] + note
    yield mlflow_key(prefix.removesuffix(".")), text


def config_of_params(params: dict[str, str]) -> dict[str, Any]:
    """The nested configuration from which `flat_params` made the params; texts that look like values become values."""
    config: dict[str, Any] = {}
    for key, value in params.items():
        *parents, leaf = (re.sub(r"_x([0-9a-f]+)_", lambda m: chr(int(m[1], 16)), part) for part in key.split("."))
        node = config
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = _value(value)
    return config


def _value(text: str) -> Any:
    words = {"None": None, "True": True, "False": False}
    if text in words:
        return words[text]
    try:
        return json.loads(text)
    except ValueError:
        return text


def mlflow_key(name: str) -> str:
    """`name` as MLflow accepts it: `f(x)` becomes `f_x28_x_x29_`, and a very long name ends in its hash."""
    key = _escaped(name, r"[^\w\-. /]")
    if len(key) > MAX_KEY:
        key = f"{key[: MAX_KEY - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return key


def _escaped(name: str, illegal: str) -> str:
    return re.sub(illegal, lambda match: f"_x{ord(match[0]):x}_", name)


def chunks(items: list[Any], size: int) -> Iterable[list[Any]]:
    """`items` in lists of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))
