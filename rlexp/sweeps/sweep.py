"""A sweep: the jobs of one `-m` command, and the folder of their outcomes.

    <output_dir>/<study>/sweeps/<id>/
        sweep.json               the plan and, at the end, the outcomes
        jobs/<index>/            Hydra's folder of a job, with its outcome.json
        tracking.json            what MLflow has received of the sweep's own run

The id is a hash of the jobs. The same sweep, started again, finds its folder and its MLflow run, and so do its jobs;
different sweeps never share a folder, even if they start in the same second.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlexp.config.schema.job import Settings
from rlexp.config.shorthands import shown
from rlexp.jobs.names import planned_names, stored_configs
from rlexp.sweeps.outcome import EXIT_STATUS, Outcome
from rlexp.sweeps.progress import announce
from rlexp.system.stored_files import Damaged, read_json, remove, set_aside
from rlexp.system.stored_schemas import SWEEP
from rlexp.system.tool import warn
from rlexp.tracking.folders import find_jobs


class Ended(Exception):
    """A sweep has ended and not every job is done; `status` is the exit status of the process, `folder` the sweep's."""

    def __init__(self, status: int, folder: Path) -> None:
        super().__init__(f"exit status {status}")
        self.status, self.folder = status, folder


@dataclass(frozen=True)
class Planned:
    """A job of a sweep, before it runs.

    Attributes:
        overrides: of its configuration.
        settings: the checked configuration; None if it is refused.
        refused: why it is refused; else empty.
    """

    overrides: list[str]
    settings: Settings | None
    refused: str = ""

    @property
    def key(self) -> str:
        """Identity of the job, whatever its place in the sweep."""
        if self.settings is None:
            return " ".join(sorted(self.overrides))
        return f"{self.settings.study}/{self.settings.config_id}"


class Sweep:
    """Plan and outcomes of one sweep.

    Args:
        jobs: the plan; at least one job is not refused.
        name: of the sweep, besides its id.
        command: the command that started it.
        identity: text whose hash is the id; default: the identities of the jobs.
        about: further content of `sweep.json`.

    Attributes:
        folder: absolute path of its folder.
    """

    def __init__(
        self,
        jobs: Sequence[Planned],
        name: str,
        command: str,
        identity: str | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.jobs, self.name, self._command, self._about = list(jobs), name, command, about or {}
        first = next(job.settings for job in jobs if job.settings is not None)
        self.tracking, self.study = first.tracking, first.study
        self.output_dir = first.output_folder
        text = identity or json.dumps(sorted(job.key for job in jobs))
        self.id = hashlib.sha256(text.encode()).hexdigest()[:8]
        self.folder = self.output_dir / self.study / "sweeps" / self.id
        self._began = time.monotonic()
        self._stored: list[dict[str, Any]] | None = None  # configurations of the study's other jobs

    @property
    def total(self) -> int:
        """Number of jobs, those that are not planned yet included."""
        return len(self.jobs)

    @property
    def names(self) -> list[str]:
        """Name of each job within its study; of a job without a configuration, the overrides that others lack."""
        found = labels([job.overrides for job in self.jobs])
        known = {i: config for i in range(len(self.jobs)) if (config := self._config(i)) is not None}
        names = planned_names(list(known.values()), self._others())
        for i, name in zip(known, names, strict=True):
            found[i] = name
        return found

    def _config(self, index: int) -> dict[str, Any] | None:
        """The configuration of a job; None if it was refused."""
        settings = self.jobs[index].settings
        return settings.to_dict() if settings is not None else None

    def _others(self) -> list[dict[str, Any]]:
        """The configurations of the jobs that the study had when the sweep started."""
        if self._stored is None:
            folders = find_jobs(self.output_dir / self.study)
            self._stored = list(stored_configs(folders).values())
        return self._stored

    def announce(self, indices: Iterable[int]) -> None:
        """Write the places of jobs that are about to start, for their consoles."""
        names = self.names
        for index in indices:
            with contextlib.suppress(OSError):  # of a full disk, which the job will name
                announce(self.job_folder(index), index + 1, self.total, names[index])

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the sweep's lock; raises `Refusal` if another process runs the sweep."""
        from rlexp.system.folder_lock import folder_lock

        with folder_lock(self.folder, "-m", "a sweep that no other process runs", "Wait for it."):
            yield

    def begin(self) -> None:
        """Write the plan and delete the outcomes of an earlier start; its jobs find their own folders again."""
        from rlexp.data.checkpoint import write_json

        path, local_id = self.folder / "sweep.json", uuid.uuid4().hex
        try:
            local_id = read_json(path, SWEEP, "local_id")["local_id"]
        except FileNotFoundError:
            self.folder.mkdir(parents=True, exist_ok=True)
        except Damaged as error:
            set_aside(error, warn)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._forget()
        self._plan: dict[str, Any] = {
            "id": self.id,
            "local_id": local_id,
            "name": self.name,
            "study": self.study,
            "command": self._command,
            "started": time.time(),
            "tracking_uri": self.tracking.uri,
            "status": "running",
            "total": self.total,
            **self._about,
        }
        write_json(path, self._plan)
        for index, job in enumerate(self.jobs):
            if job.settings is None:
                Outcome("refused", error=job.refused.splitlines()[0]).write(self.job_folder(index))

    def _forget(self) -> None:
        """Delete the outcomes of an earlier start."""
        remove(self.folder / "jobs")

    def job_folder(self, index: int) -> Path:
        """Hydra's folder of a job, which holds its outcome."""
        return self.folder / "jobs" / str(index)

    def outcomes(self) -> list[Outcome | None]:
        """Outcome of each job; None for jobs that have not ended."""
        return [Outcome.read(self.job_folder(index)) for index in range(len(self.jobs))]

    def note(self, key: str, value: Any) -> None:
        """Add to the `sweep.json` that is written at the end."""
        self._plan[key] = value

    def pending(self) -> list[int]:
        """Indices of the jobs that have no outcome."""
        return [index for index, outcome in enumerate(self.outcomes()) if outcome is None]

    def lose(self, index: int, why: str, folder: str | None = None) -> None:
        """Give up a job whose process died each time; `folder`: the job's, if known."""
        Outcome("lost", folder=folder, error=why).write(self.job_folder(index))

    def end(self, killed: bool = False) -> str:
        """Write the outcomes; returns the sweep's status: "done" (each job is done or pruned), "failed" or "killed"."""
        from rlexp.data.checkpoint import write_json

        outcomes = self.outcomes()
        good = all(outcome is not None and outcome.status in ("done", "pruned") for outcome in outcomes)
        status = "killed" if killed else "done" if good else "failed"
        jobs = [
            {"overrides": job.overrides, "label": label, **(vars(outcome) if outcome else {"status": "not run"})}
            for job, label, outcome in zip(self.jobs, self.names, outcomes, strict=True)
        ]
        seconds = round(time.monotonic() - self._began, 3)
        write_json(self.folder / "sweep.json", {**self._plan, "status": status, "wall_seconds": seconds, "jobs": jobs})
        return status

    def exit_status(self) -> int:
        """Exit status of the process: 1 if a job failed, else 2 if one was refused, else 0."""
        statuses = {EXIT_STATUS[outcome.status] for outcome in self.outcomes() if outcome is not None}
        return 1 if 1 in statuses else max(statuses, default=0)


def labels(overrides: Sequence[Sequence[str]]) -> list[str]:
    """Label of each job of a sweep: the overrides that not all of its jobs share."""
    overrides = [[o.removeprefix("++") for o in job] for job in overrides]
    shared = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set()
    return [" ".join(shown(o) for o in job if o not in shared) or "(as it is)" for job in overrides]
