"""A finished job as `rlexp.run` returns it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlexp.system.errors import Failure


class Job(dict[str, Any]):
    """The summary of a job (the content of summary.json) with its folder and curves.

    Attributes:
        folder: the job's folder.
        curves: name -> `Curve(steps [T], values [T, N])`; also `job["curves"]`.
    """

    def __init__(self, folder: Path) -> None:
        from rlexp.jobs.results import load_job

        try:
            data = load_job(folder)
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise Failure(f"{folder}: expected a job's files, received: {reason}; rerun=true starts afresh") from error
        super().__init__(data.summary or {})
        self.folder = folder
        self.curves = data.curves
        self["curves"] = self.curves
