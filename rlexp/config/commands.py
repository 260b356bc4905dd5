"""The command that runs a job again, from the overrides that it was composed from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from rlexp.config.shorthands import as_written
from rlexp.system.text import clean


def of_job(job: Mapping[str, Any]) -> str | None:
    """The command of one job alone, also if a sweep has run it; None if its overrides are not known.

    Args:
        job: its `job.json`.
    """
    overrides = job.get("overrides")
    if overrides is None:
        return None
    if any(override.lstrip("+").startswith("sweep=") for override in overrides):
        overrides = [*overrides, "hydra.mode=RUN"]  # without it, a named sweep would start again
    written = (clean(as_written(override), newlines=False) for override in overrides)
    return " ".join(["rlexp", *map(shlex.quote, written)])
