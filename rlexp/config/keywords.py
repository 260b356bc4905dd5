"""Settings as Python keywords, written as overrides: `algo="ddqn", trials=10` is `algo=ddqn trials=10`.

Values are written so that Hydra reads back the same value: texts are quoted where they need it, and numbers keep every
digit. As on the command line, `${key}` in a text stands for the value of that key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from rlexp.config import arguments
from rlexp.config.command_line import GROUPS
from rlexp.system.errors import Refusal, refusal

ADDED = ("experiment", "sweep", "discretizer")  # groups that Hydra wants a plus for
NAMED = ("algo", "env", "network", "tracking")  # nodes whose `name` is a choice of a group
PLAIN = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)  # texts that need no quotes,
READ_OTHERWISE = re.compile(r"true|false|null|inf|nan", re.IGNORECASE)  # except these
SPECIAL = re.compile(r"([\\()\[\]{}:=, \t])")  # in a key of a mapping


def overrides(settings: Mapping[str, Any], several: bool = False) -> list[str]:
    """Write settings as overrides of Hydra.

    Args:
        settings: key -> value. A key is one of the command line's (`trials`, `algo.optimizer.lr`,
            `schedule@algo.epsilon`, `hydra/launcher`); `experiment`, `sweep` and `discretizer` need no plus. A mapping
            under a key that has further keys stands for those (`algo={"name": "ddqn", "gamma": 0.9}`), and
            `schedule={"algo.epsilon": "linear"}` for `schedule@algo.epsilon=linear`. Any other mapping is a value.
        several: whether a list (tuple, range, array) holds choices of a sweep. For a key that is itself a list, only a
            list of lists does.

    Returns:
        The overrides, in the order of the settings.

    Raises:
        Refusal: for a value that no YAML can hold, and for several choices where one is expected.
    """
    return [override for key, value in settings.items() for override in _overrides(key, value, several)]


def _overrides(key: str, value: Any, several: bool) -> list[str]:
    if key == "schedule":
        if not isinstance(value, Mapping):
            raise refusal(key, "a mapping", repr(value), "For example: schedule={'algo.epsilon': 'linear'}")
        return [f"schedule@{name}={_value(name, kind, several)}" for name, kind in value.items()]
    if isinstance(value, Mapping) and arguments.is_node(key):
        named = sorted(value.items(), key=lambda item: item[0] != "name")  # the choice, then what differs from it
        return [override for name, inner in named for override in _overrides(_inner(key, name, inner), inner, several)]
    bare = key.lstrip("+")
    if bare == "sweep" and not several:
        raise refusal(bare, "one job", repr(value), "rlexp.sweep runs several.")
    if not several and bare in NAMED[:3] and isinstance(value, list | tuple):
        raise refusal(bare, "one name", repr(value), f"Several jobs: rlexp.sweep({bare}={list(value)!r})")
    plus = "+" if key in ADDED else ""
    return [f"{plus}{key}={_value(bare, value, several)}"]


def _inner(key: str, name: Any, value: Any) -> str:
    """The key of an entry of a mapping: `name` chooses from the group, unless it is a module's."""
    if name == "name" and key in NAMED and not (isinstance(value, str) and ":" in value):
        return key
    return f"{key}.{name}"


def _value(key: str, value: Any, several: bool) -> str:
    """A value, or the choices of a sweep."""
    value = _plain(value)
    if several and isinstance(value, list) and not _is_one_list(key, value):
        if not value:
            raise refusal(key, "at least one choice", "none")
        return ",".join(_one(key, choice) for choice in value)
    return _one(key, value)


def _is_one_list(key: str, value: list[Any]) -> bool:
    """Whether a list is one value of a sweep's key, since it holds no lists."""
    is_list = arguments.kind_of(key).startswith("list[") or key == "tracking"
    return is_list and not any(isinstance(_plain(item), list) for item in value)


def _one(key: str, value: Any) -> str:
    if key not in GROUPS and key != "sweep":
        return written(value, key)
    if value == "":
        return ""  # which is refused with an example
    names = value if isinstance(value, list) and key in ("experiment", "tracking") else [value]
    if not all(name is None or isinstance(name, str) for name in names):
        raise refusal(key, "a name", repr(value), f"For example: {key}={GROUPS.get(key, 'dqn_ladder')!r}")
    return written(value, key)


def written(value: Any, where: str = "value") -> str:
    """A value in Hydra's syntax, which reads it back as it is.

    Args:
        value: None, a number, text, path, list or mapping of such; NumPy's scalars and arrays count as Python's.
        where: the key, for a refusal.

    Raises:
        Refusal: for any other type.
    """
    value = _plain(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{','.join(written(item, where) for item in value)}]"
    if isinstance(value, Mapping):
        entries = (f"{_mapping_key(name, where)}:{written(item, where)}" for name, item in value.items())
        return f"{{{','.join(entries)}}}"
    raise refusal(where, "None, a number, a text, a list or a mapping", f"a {type(value).__name__}: {value!r}")


def _plain(value: Any) -> Any:
    """NumPy's scalars and arrays, tuples, ranges and paths as Python's own types."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, tuple | range):
        return list(value)
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "dtype") else value


def _quoted(text: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    if PLAIN.fullmatch(text) and not READ_OTHERWISE.fullmatch(text):
        return text
    return QuotedString(text, Quote.single).with_quotes()


def _mapping_key(name: Any, where: str) -> str:
    if not isinstance(name, str) or not name or READ_OTHERWISE.fullmatch(name) or not re.match(r"[A-Za-z_]", name):
        raise Refusal(f"{where}: expected keys that are names, received {name!r}.")
    return SPECIAL.sub(r"\\\1", name)
