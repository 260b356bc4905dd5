"""Command lines that Hydra would accept but that are probably mistakes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rlexp.config.messages import known_keys
from rlexp.config.schema.job import Settings
from rlexp.config.shorthands import TRACKERS
from rlexp.system.errors import did_you_mean, refusal


def check_arguments(args: Iterable[str]) -> None:
    """Reject arguments that Hydra would accept, or answer with its whole usage, but that are probably mistakes.

    Raises:
        Refusal: for an unknown option, for a list or an empty value where one name is expected, and for a deleted key.
    """
    from hydra._internal.utils import get_args_parser

    options = get_args_parser()._option_string_actions
    for arg in args:
        key, sign, value = arg.partition("=")
        if arg.startswith("-") and key not in options:
            bare, known = key.lstrip("-").replace("-", "_"), [*known_keys(Settings, ""), *GROUPS]
            near = f"Did you mean {bare}{sign or '='}{value or '...'}?" if bare in known else did_you_mean(key, options)
            raise refusal(key, "key=value, or an option of Hydra's", repr(arg), near or "See: rlexp --help")
        group = key.lstrip("+")
        if sign and group in GROUPS and not arg.startswith("~"):
            if value in ("", "null"):
                raise refusal(group, "a name", value or "nothing", f"For example: {arg[: len(key)]}={GROUPS[group]}")
            if value.startswith("[") and group not in ("experiment", "debug") and not TRACKERS.fullmatch(arg):
                several = value.strip("[]").replace(" ", "")
                raise refusal(group, "one name", value, f"Several jobs: rlexp -m {group}={several}")
        if sign and not key.strip("+~"):
            raise refusal("command line", "key=value", repr(arg), "See: rlexp --help")
        if arg.startswith("~") and not re.search(r"\.(kwargs|options)\.", arg):
            raise refusal(arg[1:], "a value", "a deletion", "Every key has a value; give another one, or null.")


GROUPS = {  # configuration groups, each with an example
    "algo": "dueling_ddqn",
    "env": "cartpole",
    "network": "mlp",
    "tracking": "files",
    "experiment": "book/dqn",
    "discretizer": "cartpole",
}
