"""A study as a user holds it: what `rlexp.sweep` and `rlexp.load_study` return."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlexp.config import study_names
from rlexp.jobs.job import Job
from rlexp.jobs.results import JobData, StudyData, load_study
from rlexp.math.statistics import iqm
from rlexp.report import study
from rlexp.report.contenders import final_returns
from rlexp.system import words
from rlexp.system.errors import did_you_mean, refusal
from rlexp.system.text import clean

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


class Study:
    """The results of a study's jobs: by environment, and there sorted by score, the best first.

    Iteration yields the jobs. `study["ddqn"]` is the job of this name, of this folder's name, or the only one of this
    algorithm or label; `study[0]` is the first.

    The score of a job is the interquartile mean of its trials' final returns. As in reports, a trial without one (it
    diverged) counts as the worst trial of all on this environment.

    Attributes:
        name: of the study.
        folder: the study's folder.
        jobs: the jobs; each has its `name`, as in `rlexp ls`, MLflow and reports.
        problems: name of a folder -> why the job in it could not be read.
    """

    def __init__(self, data: StudyData, folder: Path, only: Collection[Path] | None = None) -> None:
        """Sort the jobs of a study.

        Args:
            data: the study.
            folder: the study's folder.
            only: folders of the jobs to hold; None for all. Names are those in the whole study.
        """
        self.name, self.folder, self.problems = data.name, folder, dict(data.problems)
        held = None if only is None else {path.resolve() for path in only}
        found = [
            (env, job)
            for env, job in zip(_env_names(data.jobs), _named(data.jobs), strict=True)
            if held is None or job.folder.resolve() in held
        ]
        scores = _scores(found)
        order = sorted(range(len(found)), key=lambda k: (found[k][0], *_rank(scores[k]), found[k][1].name))
        self.jobs: list[Job] = [found[k][1] for k in order]
        self._envs = [found[k][0] for k in order]
        self._scores = [scores[k] for k in order]

    def __len__(self) -> int:
        return len(self.jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self.jobs)

    def __getitem__(self, key: str | int) -> Job:
        if isinstance(key, int):
            return self.jobs[key]
        for names in (lambda job: {job.name, job.folder.name}, lambda job: {_label(job), job.data.job["algo"]}):
            found = [job for job in self.jobs if key in names(job)]
            if len(found) == 1:
                return found[0]
            if found:
                several = ", ".join(job.name for job in found[:10])
                raise refusal("study", "the name of one job", repr(key), f"There are: {several}")
        near = did_you_mean(key, self.names) or f"There are: {', '.join(self.names[:10])}"
        raise refusal("study", "the name of a job", repr(key), near)

    @property
    def names(self) -> list[str]:
        """The names of the jobs, in their order."""
        return [job.name for job in self.jobs]

    def best(self, env: str | None = None) -> Job:
        """The job with the highest score.

        Args:
            env: name of the environment; needed only where the jobs have several.

        Returns:
            The job; of several that are equally good, the first by name. `report()` says which differences are
            significant.

        Raises:
            Refusal: if no job has a score, or the environment is not said or unknown.
        """
        known = list(dict.fromkeys(self._envs))
        if env is None and len(known) > 1:
            raise refusal("env", "one of the environments", "none", f"For example: study.best({known[0]!r})")
        if env is not None and env not in known:
            raise refusal("env", f"one of {', '.join(known)}", repr(env), did_you_mean(env, known))
        for name, job, score in zip(self._envs, self.jobs, self._scores, strict=True):
            if env in (None, name) and np.isfinite(score):
                return job
        raise refusal("study", "a finished job with a score", f"{self.name}, which has none")

    def to_frame(self, metrics: Collection[str] | str | None = None) -> pandas.DataFrame:
        """The records of all jobs as a tidy table, one row per value.

        Args:
            metrics: names of those to take, such as `"eval/return"`; default: all.

        Returns:
            A data frame of pandas with the columns `job` (its name), `seed`, `step` (env steps of the trial), `metric`
            and `value`. Missing values have no row.

        Raises:
            Refusal: if pandas is not installed, or for an unknown metric.
        """
        from rlexp.jobs.frames import tidy

        return tidy([(job.name, job.data) for job in self.jobs], metrics)

    def plot(self) -> Figure:
        """Draw the learning curves: one panel per environment, the IQM of each configuration with its 95 % band.

        Jobs that differ only in their seeds are one configuration.

        Returns:
            A figure of Matplotlib, not known to pyplot: a notebook shows it, `.savefig("curves.png")` writes it.

        Raises:
            Refusal: if there is no job.
        """
        from rlexp.report.study_figure import study_figure

        if not self.jobs:
            raise refusal("study", "at least one job", "none")
        return study_figure([job.data for job in self.jobs])

    def verdict(self) -> str:
        """Say which algorithm is better, and whether that is significant: the first sentences of a report.

        Returns:
            One or more sentences on the held jobs, by the tests of the report, which are corrected for all pairs.

        Raises:
            Refusal: if there is no job.
        """
        from rlexp.data import seeding
        from rlexp.report.analysis import analyse

        if not self.jobs:
            raise refusal("study", "at least one job", "none")
        data = StudyData(self.name, [job.data for job in self.jobs], self.problems)
        return " ".join(analyse(data, seeding.generator(0, "report")).headline)

    def report(self, baseline: str | None = None) -> Path:
        """Write the report of the whole study: figures, tables, and which algorithm is significantly better.

        Args:
            baseline: job with which the others are compared, by its name or algorithm; None: compare each pair.

        Returns:
            The path of its page, `index.html`; `index.md`, `figures/` and `tables/` lie beside it.

        Raises:
            Refusal: if there is no job that can be read, or no such baseline.
        """
        return study.write(self.folder, baseline=baseline)

    def __repr__(self) -> str:
        best = next((job for job, score in zip(self.jobs, self._scores, strict=True) if np.isfinite(score)), None)
        several = len(set(self._envs)) > 1
        told = f", best {best.name} with IQM {best.score_in_words}" if best is not None and not several else ""
        told = f" on {', '.join(dict.fromkeys(self._envs))}" if several else told
        return clean(f"<Study {self.name}: {words.plural(len(self.jobs), 'job')}{told}; {self.folder}>", newlines=False)

    def _repr_html_(self) -> str:  # called by IPython
        from rlexp.report.study_figure import study_html

        return study_html(self.name, self.folder, self.jobs, self.problems)


def load(name: str | Path, output_dir: str | Path = "outputs", only: Collection[Path] | None = None) -> Study:
    """Load the jobs of a study.

    Args:
        name: of the study, or its folder.
        output_dir: the output folder that names are looked up in.
        only: folders of the jobs to hold; None for all.

    Returns:
        The study; a job that cannot be read is named in `problems`.

    Raises:
        Refusal: if there is no such study.
    """
    try:
        folder = study.find(str(name), Path(output_dir).expanduser())
    except OSError as error:  # a name that is too long
        raise refusal("study", "a study's name or folder", repr(str(name)), f"{error.strerror}.") from error
    return Study(load_study(folder), folder, only)


def _named(jobs: Iterable[JobData]) -> list[Job]:
    """The jobs of a study with their names, and with their identities where names repeat (versions of rlexp differ)."""
    jobs = list(jobs)
    names = study_names.job_names([job.config for job in jobs])
    repeated = {name for name, number in Counter(names).items() if number > 1}
    return [
        Job(job.folder, job, f"{name} ({job.job['config_id']})" if name in repeated else name)
        for name, job in zip(names, jobs, strict=True)
    ]


def _env_names(jobs: Iterable[JobData]) -> list[str]:
    """The name of each job's environment."""
    settings = [study_names.env_settings(job.config) for job in jobs]
    distinct = {words.as_json(env): env for env in settings}
    names = dict(zip(distinct, study_names.env_names(list(distinct.values())), strict=True))
    return [names[words.as_json(env)] for env in settings]


def _scores(jobs: list[tuple[str, Job]]) -> list[float]:
    """The score of each job, given with its environment; NaN for a job without final returns."""
    finals = [final_returns(job.data) for _, job in jobs]
    worst: dict[str, float] = {}
    for (env, _), final in zip(jobs, finals, strict=True):
        if final is not None and np.isfinite(final).any():
            worst[env] = min(worst.get(env, np.inf), float(np.nanmin(final)))

    def score(env: str, final: np.ndarray | None) -> float:
        if final is None or not np.isfinite(final).any():
            return np.nan
        return float(iqm(np.where(np.isfinite(final), final, worst[env])))

    return [score(env, final) for (env, _), final in zip(jobs, finals, strict=True)]


def _rank(score: float) -> tuple[bool, float]:
    return (False, -score) if np.isfinite(score) else (True, 0.0)


def _label(job: Job) -> Any:
    return job.config.get("label")
