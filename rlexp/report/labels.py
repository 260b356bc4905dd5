"""The names of environments and contenders in a report: as short as tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rlexp.report.contenders import MISSING, Contender, Task
from rlexp.system import words
from rlexp.system.words import setting

LONGEST_LABEL = 56  # characters


def varied(contenders: Iterable[Contender]) -> dict[str, list[Any]]:
    """The configuration keys whose values differ.

    Returns:
        Key -> one value per contender, `MISSING` for one without this key. Where all values are schedules of one kind,
        the keys are those of their parts.
    """
    configs = [c.config for c in contenders]
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


def name_tasks(found: list[tuple[Task, dict[str, Any]]]) -> None:
    """Add to the names of environments that share one what differs between them."""
    for name, number in Counter(task.name for task, _ in found).items():
        same = [(task, env) for task, env in found if task.name == name]
        if number > 1:
            differing = [key for key in same[0][1] if len({words.as_json(env[key]) for _, env in same}) > 1]
            for task, env in same:
                task.name = f"{name} {', '.join(f'{key}={setting(env[key])}' for key in differing)}"


def label_contenders(every: list[Task]) -> None:
    """Label each contender with its name, and with what differs from others of this name on the same environment."""
    for name in {c.name for task in every for c in task.contenders}:
        fields = [[c for c in task.contenders if c.name == name] for task in every]
        keys = list(dict.fromkeys(key for same in fields for key in varied(same)))
        names = short_keys(keys)
        scheduled = {key: words.schedules([c.config.get(key) for same in fields for c in same]) for key in keys}
        for same in fields:
            labels = [" ".join([name, *(_shown(c, key, names, scheduled[key]) for key in keys)]) for c in same]
            if max(map(len, labels), default=0) > LONGEST_LABEL:
                labels = [f"{name} #{i + 1}" for i in range(len(same))]
            repeated = {label for label, number in Counter(labels).items() if number > 1}
            for c, label in zip(same, labels, strict=True):  # repeated for jobs of other versions of this package
                c.label = f"{label} ({c.jobs[0].job['config_id']})" if label in repeated else label


def _shown(contender: Contender, key: str, names: Mapping[str, str], scheduled: Mapping[str, str] | None) -> str:
    value = contender.config.get(key, MISSING)
    if scheduled is not None:
        return f"{names[key].rpartition('.')[2]} {scheduled[words.as_json(value)]}"
    if value is MISSING and key.rsplit(".", 1)[0] in contender.config:  # a part of a schedule
        value = contender.config[key.rsplit(".", 1)[0]].get(key.rsplit(".", 1)[1], MISSING)
    return f"{names[key]}={setting(value)}"
