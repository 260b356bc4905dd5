"""The names of the jobs of a study: as short as tells them apart, `dqn lr=0.0001 on acrobot`.

The report, MLflow, the tables of commands and the console name jobs by these functions, so that one name finds a job
everywhere. A name holds the algorithm (or the job's `label`), what differs from other jobs of this algorithm, the
environment if the study has several, and the seeds if nothing else differs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlexp.config.schema.algos import PRIORITY_KEYS
from rlexp.config.schema.job import MOVES_NO_CURVE
from rlexp.system import words
from rlexp.system.words import setting

LONGEST = 56  # characters of a name, without environment and seeds
MISSING = "-"  # a key that a configuration does not have
ENV_KEYS = (  # of env: what tells environments apart, or describes one
    "name",
    "id",
    "kwargs",
    "max_episode_steps",
    "preprocessing",
    "imports",
    "default_steps",
)


def job_names(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The name of each job of a study.

    Args:
        configs: the configuration of each job, as in its `config.yaml`.

    Returns:
        One name per job, in their order. Jobs share a name only if their configurations are equal.
    """
    found = [(algorithm_name(config), env_settings(config), flat(config)) for config in configs]
    names = [""] * len(configs)
    envs = list(dict.fromkeys(words.as_json(env) for _, env, _ in found))
    by_env = {env: [k for k, (_, e, _) in enumerate(found) if words.as_json(e) == env] for env in envs}
    distinct = {env: list({words.as_json(found[k][::2]): k for k in jobs}.values()) for env, jobs in by_env.items()}
    labels = contender_names([[(found[k][0], found[k][2]) for k in jobs] for jobs in distinct.values()])
    places = env_names([found[jobs[0]][1] for jobs in by_env.values()])
    for (env, first), names_of_it, place in zip(distinct.items(), labels, places, strict=True):
        label = dict(zip([words.as_json(found[k][::2]) for k in first], names_of_it, strict=True))
        for k in by_env[env]:
            names[k] = label[words.as_json(found[k][::2])] + (f" on {place}" if len(envs) > 1 else "")
    repeated = {name for name, number in Counter(names).items() if number > 1}
    return [f"{n} {_seeds(config)}" if n in repeated else n for n, config in zip(names, configs, strict=True)]


def algorithm_name(config: Mapping[str, Any]) -> str:
    """The `label` of a configuration, by default its algorithm."""
    return str(config.get("label") or (config.get("algo") or {}).get("name", "job"))


def env_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that tell environments apart, and the environment's name."""
    env = config.get("env") or {}
    return {
        "name": env.get("name"),
        "id": env.get("id", env.get("name")),
        "kwargs": env.get("kwargs") or {},
        "max_episode_steps": env.get("max_episode_steps"),
        "preprocessing": env.get("preprocessing"),
    }


def env_names(envs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The name of each environment, with what differs where several share a name.

    Args:
        envs: the `env_settings` of each.
    """
    names = [str(env["name"]) for env in envs]
    found = list(names)
    for name, number in Counter(names).items():
        same = [k for k, other in enumerate(names) if other == name]
        if number > 1:
            settings = varied([_unfolded(envs[k]) for k in same])
            short = short_keys(settings)
            for place, k in enumerate(same):
                told = (f"{short[key]}={setting(values[place])}" for key, values in settings.items())
                found[k] = f"{name} {', '.join(told)}"
    return found


def _unfolded(env: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an environment with its arguments beside them."""
    own = {key: value for key, value in env.items() if key != "kwargs"}
    return {**own, **{f"kwargs.{key}": value for key, value in env["kwargs"].items()}}


def contender_names(fields: Sequence[Sequence[tuple[str, Mapping[str, Any]]]]) -> list[list[str]]:
    """The name of each contender: that of its algorithm, and what differs from others of this name beside it.

    Args:
        fields: the contenders of each environment: name of the algorithm, `flat` configuration.

    Returns:
        Names in the same order. They can repeat, where versions of this package differ and nothing else.
    """
    labels: dict[tuple[int, int], str] = {}
    for name in dict.fromkeys(name for field in fields for name, _ in field):
        of_name = [[(k, config) for k, (other, config) in enumerate(field) if other == name] for field in fields]
        keys = list(dict.fromkeys(key for same in of_name for key in varied([config for _, config in same])))
        names = short_keys(keys)
        every = [config for same in of_name for _, config in same]
        scheduled = {key: words.schedules([config.get(key) for config in every]) for key in keys}
        for place, same in enumerate(of_name):
            told = [
                " ".join([name, *(_shown(config, key, names, scheduled[key]) for key in keys)]) for _, config in same
            ]
            if max(map(len, told), default=0) > LONGEST:
                told = [f"{name} #{i + 1}" for i in range(len(same))]
            labels |= {(place, k): label for (k, _), label in zip(same, told, strict=True)}
    return [[labels[place, k] for k in range(len(field))] for place, field in enumerate(fields)]


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that can move a curve on its environment, with keys joined by dots."""
    found: dict[str, Any] = {}

    def walk(node: Mapping[str, Any], prefix: str) -> None:
        for key, value in node.items():
            if isinstance(value, Mapping) and value and "kind" not in value:
                walk(value, f"{prefix}{key}.")
            else:
                found[f"{prefix}{key}"] = value

    walk({key: value for key, value in config.items() if key not in MOVES_NO_CURVE}, "")
    if found.get("budget.episodes") is None and found.get("budget.steps") is None:
        found["budget.steps"] = found.get("env.default_steps")
    unread = {f"algo.{key}" for key in PRIORITY_KEYS} if found.get("algo.replay") == "uniform" else set()
    if not found.get("network.noisy"):
        unread.add("algo.sigma0")
    return {
        key: value
        for key, value in found.items()
        if key != "algo.name" and key not in unread and not (key.startswith("env.") and key.split(".")[1] in ENV_KEYS)
    }


def varied(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The configuration keys whose values differ.

    Args:
        configs: `flat` configurations.

    Returns:
        Key -> one value per configuration, `MISSING` for one without this key. Where all values are schedules of one
        kind, the keys are those of their parts.
    """
    keys = dict.fromkeys(key for config in configs for key in config)
    found: dict[str, list[Any]] = {}
    for key in keys:
        values = [config.get(key, MISSING) for config in configs]
        if len({words.as_json(v) for v in values}) == 1:
            continue
        mappings = [v for v in values if isinstance(v, Mapping)]
        alike = {(m.get("kind"), *sorted(m)) for m in mappings}
        if len(mappings) == len(values) and len(alike) == 1:  # schedules of one kind
            for part in mappings[0]:
                column = [m[part] for m in mappings]
                if len({words.as_json(v) for v in column}) > 1:
                    found[f"{key}.{part}"] = column
        else:
            found[key] = values
    return found


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Keys -> their last parts, or more of them where several keys end in the same part."""
    keys = list(keys)
    leaves = Counter(key.rsplit(".", 1)[-1] for key in keys)
    return {key: leaf if leaves[leaf := key.rsplit(".", 1)[-1]] == 1 else key.removeprefix("algo.") for key in keys}


def _shown(config: Mapping[str, Any], key: str, names: Mapping[str, str], scheduled: Mapping[str, str] | None) -> str:
    value = config.get(key, MISSING)
    if scheduled is not None:
        return f"{names[key].rpartition('.')[2]} {scheduled[words.as_json(value)]}"
    if value is MISSING and key.rsplit(".", 1)[0] in config:  # a part of a schedule
        value = config[key.rsplit(".", 1)[0]].get(key.rsplit(".", 1)[1], MISSING)
    return f"{names[key]}={setting(value)}"


def _seeds(config: Mapping[str, Any]) -> str:
    first, trials = int(config.get("seed", 0)), int(config.get("trials", 1))
    return f"seed {first}" if trials == 1 else f"seeds {first}-{first + trials - 1}"
