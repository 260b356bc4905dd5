"""The outcome of one job: its status and score, written where its sweep looks for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rlexp.system.stored_files import Damaged, find_json
from rlexp.system.stored_schemas import OUTCOME
from rlexp.system.tool import warn

FILE = "outcome.json"
IN_PROCESS = ("basic", "fused")  # launchers that run jobs one after another in the sweep's process
EXIT_STATUS = {"done": 0, "failed": 1, "lost": 1, "refused": 2, "killed": 130, "pruned": 0}


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: "done", "failed", "refused", "killed" (by a signal), "pruned" (ended early by a search), or "lost" (its
            process died without an outcome).
        score: IQM over the trials of the final returns; None without final returns.
        folder: the job's folder; None if it has none.
        error: one line: what went wrong, or when the job was pruned.
        seconds: wall time of this attempt; close to zero for a job that was done before. Of jobs that were trained
            together, each has an equal share.
        grouped: number of jobs that were trained together.
        ran: whether anything was left to run; false for a job that was done before.
    """

    status: str
    score: float | None = None
    folder: str | None = None
    error: str = ""
    seconds: float = 0.0
    grouped: int = 1
    ran: bool = True

    def write(self, folder: Path) -> None:
        """Write the outcome to a folder, atomically."""
        from rlexp.data.checkpoint import write_json

        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Outcome | None:
        """Read the outcome in a folder; None if there is none or it is damaged: the job then runs again."""
        path = folder / FILE
        try:
            found = find_json(path, OUTCOME, "status")
        except Damaged as error:
            warn(str(error))
            return None
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in found.items() if key in known}) if found else None
