"""A job's configuration as TensorBoard's HParams page shows it. The package `tensorboard` defines its format."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from rlexp.config.study_names import flat
from rlexp.system.packages import PACKAGES, line
from rlexp.system.text import mask_tree, printable
from rlexp.system.words import setting

LONGEST = 200  # characters of a value
LARGEST = 1e300  # of a number; larger integers are no floats, as which the page has them
MISSING = f"its page and the hyper-parameters need a package: {line(PACKAGES['tensorboard'])}"


def available() -> bool:
    """Whether the package `tensorboard` is installed."""
    return importlib.util.find_spec("tensorboard") is not None


def values(config: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters of a job: numbers, truth values and texts, by their keys joined with dots.

    Args:
        config: as in `config.yaml`.
    """
    algo, env = config.get("algo") or {}, config.get("env") or {}
    found = {"algo": algo.get("name"), "env": env.get("name"), **flat(config)}
    found |= {key: config.get(key) for key in ("trials", "seed")}
    return {
        printable(str(key), newlines=False): _shown(value)
        for key, value in mask_tree(found).items()
        if value not in (None, [], {})
    }


def _shown(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, int | float) and abs(value) < LARGEST):
        return value
    text = printable(value if isinstance(value, str) else setting(value), newlines=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def session_start(config: Mapping[str, Any], started: float) -> Any:
    """The summary that begins a session of the HParams page, which is called like its run.

    Args:
        config: of the job, as in `config.yaml`.
        started: seconds since 1970.
    """
    from tensorboard.plugins.hparams import summary

    return summary.session_start_pb(values(config), start_time_secs=started)


def session_end(status: str, ended: float) -> Any:
    """The summary that ends a session: how the job ended, and when, in seconds since 1970."""
    from tensorboard.plugins.hparams import api_pb2, summary

    statuses = {"done": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}
    return summary.session_end_pb(statuses.get(status, api_pb2.STATUS_UNKNOWN), end_time_secs=ended)
