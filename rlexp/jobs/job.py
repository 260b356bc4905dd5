"""A job as a user holds it: what `rlexp.run` and `rlexp.load_job` return."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.jobs.results import Curve, JobData, load_config, load_job
from rlexp.system.errors import Failure, did_you_mean, refusal
from rlexp.system.folder_lock import in_use
from rlexp.system.stored_files import check, folders_with
from rlexp.system.stored_schemas import JOB
from rlexp.system.text import clean
from rlexp.system.words import interval, number, plural

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


class Job(dict[str, Any]):
    """The results of a job: the content of its `summary.json` as a dict, with its curves, a table and pictures.

    A job that has not ended has an empty summary; one that failed has no `final/return`.

    Attributes:
        folder: the job's folder.
        curves: name of a metric -> `Curve(steps [T], values [T, N])`; also `job["curves"]`.
        data: all that was read from the folder.
    """

    def __init__(self, folder: Path, data: JobData | None = None, name: str | None = None) -> None:
        """Read a job's folder.

        Args:
            folder: the job's folder.
            data: its content, if it is read already.
            name: of the job in its study.

        Raises:
            Failure: if files of the job are damaged.
        """
        if data is None:
            try:
                data = load_job(folder)
                check(data.folder / "job.json", data.job, JOB, "algo", "env")
            except (OSError, ValueError, TypeError, KeyError) as error:
                why = str(error).splitlines()[0]
                raise Failure(f"{folder}: expected a job's files, received: {why}; rerun=true starts afresh") from error
        super().__init__(data.summary or {})
        self.folder = Path(folder)
        self.data = data
        self.curves: dict[str, Curve] = data.curves
        self["curves"] = self.curves
        self._name = name

    @property
    def name(self) -> str:
        """The name of the job: within a study what tells its jobs apart, else its label or algorithm."""
        return self._name if self._name is not None else str(self.config.get("label") or self.data.job["algo"])

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, as in `config.yaml`; empty if that cannot be read."""
        if not self.data.config:
            try:
                self.data.config = load_config(self.folder)
            except (OSError, ValueError):
                return {}
        return self.data.config

    @property
    def status(self) -> str:
        """One of `done`, `running`, `failed`, `killed`, `pruned`."""
        return str(self.get("status") or ("running" if in_use(self.folder) else "killed"))

    @property
    def seeds(self) -> list[int]:
        """The seed of each trial."""
        return [int(seed) for seed in self.data.job["seeds"]]

    @property
    def score(self) -> float:
        """The interquartile mean of the trials' final returns; NaN without any."""
        value = (self.get("final/return") or {}).get("iqm")
        return float("nan") if value is None else float(value)

    @property
    def score_in_words(self) -> str:
        """The score with its 95 % interval, as in `482 [438.3, 500]`; a dash without one."""
        match (self.get("final/return") or {}).get("ci95"):
            case [int() | float() as low, int() | float() as high]:
                return interval(self.score, low, high)
        return number(self.score)

    def to_frame(self, metrics: Collection[str] | str | None = None) -> pandas.DataFrame:
        """The records as a tidy table, one row per value.

        Args:
            metrics: names of those to take, such as `"eval/return"`; default: all.

        Returns:
            A data frame of pandas with the columns `job` (its name), `seed`, `step` (env steps of the trial), `metric`
            and `value`. Missing values have no row.

        Raises:
            Refusal: if pandas is not installed, or for an unknown metric.
        """
        from rlexp.jobs.frames import tidy

        return tidy([(self.name, self.data)], metrics)

    def plot(self) -> Figure:
        """Draw the learning curves of the trials, and their final returns.

        Returns:
            A figure of Matplotlib, not known to pyplot: a notebook shows it, `.savefig("curve.png")` writes it.
        """
        from rlexp.data import seeding
        from rlexp.jobs.plots import learning_curve_figure

        return learning_curve_figure(self._with_config(), seeding.generator(0, "report"))

    def __repr__(self) -> str:
        final = f", final return IQM {self.score_in_words}" if "final/return" in self else ""
        name = self._name or f"{self.name} on {self.data.job['env']}"
        trials = plural(len(self.seeds), "trial")
        return clean(f"<Job {name}: {self.status}, {trials}{final}; {self.folder}>", newlines=False)

    def _repr_html_(self) -> str:  # called by IPython
        from rlexp.jobs.html import job_html

        return job_html(self._with_config(), self.status, self.score_in_words)

    def _with_config(self) -> JobData:
        """The data with the configuration, if it can be read."""
        return replace(self.data, config=self.config)


def load(source: str | Path, output_dir: str | Path = "outputs") -> Job:
    """Load a job that has been run, or is running.

    Args:
        source: the job's folder, its name (`<algo>-<env>-<config_id>`), or `<study>/<name>`; the start of a name is
            enough if no other begins like it.
        output_dir: the output folder that names are looked up in.

    Returns:
        The job's results.

    Raises:
        Refusal: if there is no such job, or several. Failure: if its files are damaged.
    """
    path, output_dir = Path(source).expanduser(), Path(output_dir).expanduser()
    for folder in (path, output_dir / path):
        if folders_with(folder, "job.json"):
            return Job(folder)
    known = {f"{job.parent.name}/{job.name}": job for job in folders_with(output_dir, "job.json", "*/*")}
    wanted = str(source)
    found = [name for name in known if wanted in (name, name.partition("/")[2])]
    found = found or [name for name in known if wanted and wanted in _starts(name, len(wanted))]
    if len(found) == 1:
        return Job(known[found[0]])
    names = list(dict.fromkeys([*known, *(name.partition("/")[2] for name in known)]))
    expected = f"a job's folder or name in {output_dir}"
    if found:
        raise refusal("job", f"{expected}, of one job", repr(wanted), f"There are: {', '.join(found[:10])}")
    near = did_you_mean(wanted, names) or (f"There are: {', '.join(list(known)[:10])}" if known else "It has none.")
    raise refusal("job", expected, repr(wanted), near)


def _starts(name: str, length: int) -> tuple[str, str]:
    """The first characters of `<study>/<name>` and of `<name>`."""
    return name[:length], name.partition("/")[2][:length]
