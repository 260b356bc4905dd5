"""Groups of a sweep's jobs that share programs: the work of `hydra/launcher=fused`.

Jobs that differ only in seeds and scalars (see `jobs/joint.py`) are trained together when the first of them is due; all
others run one after another, as with Hydra's own launcher.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.config.build import build
from rlexp.config.schema.job import Settings
from rlexp.system.errors import Refusal

if TYPE_CHECKING:
    from rlexp.jobs.place import Place


@dataclass(frozen=True)
class Share:
    """A job's part of the time of its group.

    Attributes:
        of_all: seconds of the whole group.
        jobs: number of jobs in it.
    """

    of_all: float
    jobs: int

    @property
    def seconds(self) -> float:
        """Of one job: an equal part, since one program trains them all."""
        return self.of_all / self.jobs


class Groups:
    """The groups of a sweep's jobs; a group is trained when the first of its jobs is due. Called, it runs a job.

    Attributes:
        shares: of the jobs whose group was trained, by folder.

    Args:
        configs: the composed configuration of each job; refused and finished jobs belong to no group.
        max_trials: most trials of one group.
        overrides: of each job, in the same order; empty if unknown.
    """

    def __init__(self, configs: Iterable[Any], max_trials: int, overrides: Sequence[Sequence[str]] = ()) -> None:
        from rlexp.jobs import joint
        from rlexp.jobs.preflight import resolve
        from rlexp.jobs.runner import finished

        jobs: dict[Path, Settings] = {}
        self._overrides: dict[Path, Sequence[str]] = {}
        for index, config in enumerate(configs):
            try:
                settings, _ = resolve(build(config))
            except Refusal:
                continue
            if overrides:
                self._overrides.setdefault(settings.folder, overrides[index])
            if not finished(settings):
                jobs.setdefault(settings.folder, settings)
        groups = joint.plan(jobs.values(), max_trials)
        self._groups = {job.folder: group for group in groups if len(group) > 1 for job in group}
        self._ended: dict[Path, Any] = {}
        self.shares: dict[Path, Share] = {}

    def __call__(self, settings: Settings, sweep: Path | None = None, place: Place | None = None, **more: Any) -> Any:
        """As `runner.run_job`, but train the job's whole group, unless that is done; groups are not pruned."""
        from rlexp.jobs import runner

        settings, info = runner.resolve(settings)
        group = self._groups.pop(settings.folder, None)
        if group is None:
            return runner.run_job(settings, sweep=sweep, place=place, **more)
        if settings.folder not in self._ended:
            began = time.monotonic()
            try:
                self._ended |= runner.run_together(group, info, sweep=sweep, overrides=self._overrides, place=place)
            except Refusal as refused:
                self._ended |= {job.folder: refused for job in group}
            share = Share(time.monotonic() - began, len(group))
            self.shares |= dict.fromkeys((job.folder for job in group), share)
        outcome = self._ended.pop(settings.folder)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
