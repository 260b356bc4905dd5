"""Messages about unknown keys, unknown choices and values of the wrong type."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from typing import Any

from rlexp.config import arguments, hints
from rlexp.config.schema.job import Settings
from rlexp.system import packages
from rlexp.system.errors import Refusal, did_you_mean, refusal


def explain(error: Exception) -> str:
    """Translate an error of Hydra or OmegaConf about an override into one or two lines that a user can act on."""
    text = arguments.unmarked(str(error).strip())
    if hasattr(error, "override"):  # Hydra could not parse it
        received = arguments.unmarked(error.override or "") or text.splitlines()[0].partition(": ")[2]
        quote = "Quote what has blanks or special characters: 'key=\"a b\"'"
        return str(refusal("command line", "key=value", repr(received) if received else text.splitlines()[0], quote))
    unknown = re.search(r"Could not override '(?P<key>[^']+)'", text)
    if unknown and ("To append to your" in text or "No match in the defaults list" in text):
        return unknown_key(unknown["key"].split("@")[0])
    missing = re.search(r"Could not (?:find|load) '(?P<group>[\w/]+)/(?P<name>[^/']*)'", text)
    if missing and missing["group"].startswith("hydra/"):
        known = [line.strip() for line in text.partition("Available options in")[2].splitlines()[1:]]
        known = [name for name in known if re.fullmatch(r"\w+", name)]
        package = packages.HYDRA.get(missing["name"])
        near = f"{packages.line(package)} brings it." if package else did_you_mean(missing["name"], known)
        near = near or "Others come with plugins: pip install hydra-<name>-..."
        return str(refusal(missing["group"], f"one of {', '.join(known)}", repr(missing["name"]), near))
    missing = re.search(r"Could not (?:find|load) '(?P<group>\w+)/(?P<name>[^']+)'", text)
    if missing:
        return str(unknown_choice(missing["group"], missing["name"]))
    sweep = re.search(r"Ambiguous value for argument '(?P<key>[^=]+)=(?P<value>[^']+)'", text)
    if sweep:
        key, values = sweep["key"], sweep["value"]
        several = f"Several jobs: rlexp -m {key}={values}   A list: '{key}=[{values}]'"
        several = {"seed": hints.SEEDS, "tracking": f"Several trackers: 'tracking=[{values}]'"}.get(key, several)
        return str(refusal(key, "one value", values, several))
    sweep = re.search(r"Sweep parameters '(?P<key>[^=]+)=(?P<value>.+)' requires --multirun", text)
    if sweep:
        several = f"Several jobs: rlexp -m '{sweep['key']}={sweep['value']}'"
        return str(refusal(sweep["key"], "one value", sweep["value"], several))
    place = re.search(r"Additional config directory '(?P<path>[^']+)' not found", text)
    if place:
        return str(refusal("--config-dir", "a folder", repr(place["path"])))
    place = re.search(r"Cannot find primary config '(?P<name>[^']+)'", text)
    if place:
        return str(
            refusal("--config-name", "config", repr(place["name"]), "It is a preset, perhaps: +experiment=<name>")
        )
    there = re.search(r"An item is already at '(?P<key>[^']+)'", text)
    there = there or re.search(r"(?:Multiple values for )?(?P<key>\w+)(?:\. To override| appears more than once)", text)
    if there:
        return str(refusal(there["key"], "no + before it", "one", f"It has a value already: write {there['key']}=..."))
    shape = re.search(r"Error merging override \+*(?P<key>[^=]+)=(?P<value>.*)", text)
    if shape and arguments.kind_of(shape["key"]).startswith("list["):
        return str(wrong_type(shape["key"], arguments.kind_of(shape["key"]), shape["value"]))
    if shape:
        return str(refusal(shape["key"], "a mapping of keys", shape["value"], f"For example: {shape['key']}.<key>=..."))
    interpolated = re.search(r"Interpolation key '(?P<key>[^']+)' not found", text)
    if interpolated:
        return str(
            refusal(str(getattr(error, "full_key", "")), "a value", f"${{{interpolated['key']}}}, which no key has")
        )
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("object_type")]
    return "\n".join(lines[:2])


def unknown_choice(group: str, name: str) -> Refusal:
    """The refusal of an unknown name in a configuration group."""
    from rlexp.config import plugin_yaml
    from rlexp.config.paths import configured
    from rlexp.config.registry import plugin_without_yaml

    lost = plugin_without_yaml(group, name)
    if lost is not None:
        return lost
    known = sorted([*configured(group), *plugin_yaml.names(group)])
    known = [known for known in known if group != "schedule" or "/" not in known]
    hint = hints.for_choice(group, name) or did_you_mean(name, known) or hints.where_nothing_is_near(group)
    return refusal(group, f"one of {', '.join(known)}", repr(name), hint)


def unknown_key(key: str) -> str:
    """Two lines, with near matches, about a key that is in no schema or not in this algorithm's."""
    from rlexp.config.paths import configured
    from rlexp.config.registry import ALGOS

    known = set(known_keys(Settings, ""))
    known.update(*(known_keys(schema, "algo.") for schema in {entry.schema for entry in ALGOS.values()}))
    leaf = {k.rsplit(".", 1)[-1]: k for k in sorted(known, reverse=True)}
    said = f"{key}: expected a key of the configuration, received an unknown one.\n"
    if key in hints.MOVED_KEYS:
        return said + hints.MOVED_KEYS[key]
    if key in known:
        return f"{said}It belongs to other algorithms; this one's keys: rlexp algo=<name> --cfg job"
    if key in ("experiment", "discretizer", "sweep") and configured(key):
        return f"{said}It is added, with a plus: +{key}=<name>"
    if hint := hints.for_key(key):
        return said + hint
    group, _, last = key.rpartition(".")
    near = f"Did you mean {leaf[last]}?" if last in leaf and leaf[last].startswith(group) else ""
    near = near or did_you_mean(key, sorted(known)) or did_you_mean(last, leaf)
    return said + (near or "See them all: rlexp --cfg job")


def known_keys(schema: type, prefix: str) -> Iterable[str]:
    """The keys of a schema and of those nested in it, each with a prefix."""
    for f in dataclasses.fields(schema):
        yield prefix + f.name
        inner = f.default_factory if f.default_factory is not MISSING else None
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield from known_keys(inner, f"{prefix}{f.name}.")


_TYPE_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list[int]": "a list of whole numbers",
    "list[float]": "a list of numbers",
    "list[str]": "a list of texts",
    "list[Any]": "a list",
    "dict[str, Any]": "a mapping",
}


def wrong_type(where: str, kind: str, value: Any) -> Refusal:
    """The refusal of a value whose type is not the annotated one."""
    bare = kind.removesuffix(" | None")
    words = _TYPE_WORDS.get(bare, bare) + (" or null" if bare != kind else "")
    fix = hints.SEEDS if where == "seed" and isinstance(value, list) else ""
    if bare.startswith("list[") and isinstance(value, str | int | float) and value != "":
        fix = f"A list of one: '{where}=[{value}]'"
    return refusal(where, words, shown_value(value), fix)


def shown_value(value: Any) -> str:
    """A value as YAML writes it, in quotes if it is a string or a number."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if isinstance(value, list | Mapping) else repr(str(value))
