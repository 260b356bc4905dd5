"""The report of a study: found by its name or in MLflow, read, analysed and written.

It is one self-contained HTML page, with its figures, tables and Markdown beside it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from rlexp.data import seeding
from rlexp.jobs.results import StudyData, load_study
from rlexp.report.analysis import analyse
from rlexp.report.document import write_document
from rlexp.system.errors import Refusal, did_you_mean, refusal
from rlexp.system.links import LinkFound, check_folder
from rlexp.system.stored_files import folders_with
from rlexp.system.tool import warn


def write(folder: str | Path, *, to: Path | None = None, command: str = "") -> Path:
    """Write the report of a study from its job folders; may be called at any time, also while jobs run.

    Args:
        folder: `outputs/<study>`.
        to: folder of the report; default `<folder>/report`.
        command: that made the report, for the page's last section.

    Returns:
        The path of `index.html`. `index.md`, `figures/` and `tables/` lie beside it.

    Raises:
        Refusal: if there is no job that can be read.
    """
    return _report(load_study(folder), _report_folder(to, Path(folder) / "report"), command)[0]


def make(
    study: str, *, output_dir: Path, tracking_uri: str | None, to: Path | None, command: str
) -> tuple[Path, list[str]]:
    """`write` for the command line: finds the study by its name, or reads it from MLflow.

    Args:
        study: name of a study, or its folder; in MLflow the name of an experiment.
        output_dir: the folder of the studies.
        tracking_uri: of the MLflow store to read from; None for the job folders.
        to: folder of the report; default `<output_dir>/<study>/report`.
        command: that made the report.

    Returns:
        The path of `index.html`, and the sentences of its headline.

    Raises:
        Refusal: if there is no such study.
    """
    output_dir = output_dir.expanduser()
    if tracking_uri is not None:
        from rlexp.tracking.mlflow.fetch import fetch_study

        with tempfile.TemporaryDirectory(prefix="rlexp-") as fetched:
            problems = fetch_study(study, tracking_uri, Path(fetched))
            data = load_study(fetched)
            data.problems.update(problems)
        _warn(data)
        return _report(data, _report_folder(to, output_dir / study / "report"), command)
    folder = find(study, output_dir)
    data = load_study(folder)
    _warn(data)
    return _report(data, _report_folder(to, folder / "report"), command)


def _warn(data: StudyData) -> None:
    """Print on stderr what the page says about damaged files."""
    for name, why in data.problems.items():
        warn(f"{name}: {why}")
    for job in data.jobs:
        if "cannot be used" in job.no_episodes:
            warn(f"{job.folder}: {job.no_episodes}")


def _report_folder(named: Path | None, usual: Path) -> Path:
    """The folder of a report, without links in it; a folder that the user names may be reached by a link."""
    folder = named.expanduser().resolve() if named else usual
    try:
        check_folder(folder)
    except LinkFound as found:
        raise Refusal(f"report: {found}") from found
    return folder


def find(study: str, output_dir: Path) -> Path:
    """The folder of a study: a path, or a name under the output folder; raises `Refusal` if there is none."""
    named, path = output_dir / study, Path(study).expanduser()
    for folder in (named, path):
        if folders_with(folder, "job.json", "*"):
            return folder
    known = sorted({job.parent.name for job in folders_with(output_dir, "job.json", "*/*")})
    inside = sorted({job.parent.name for job in folders_with(path, "job.json", "*/*")})
    if inside:
        raise refusal("study", "one study", f"{study}, a folder of {len(inside)}",
                      f"Name one: {', '.join(inside[:10])}")  # fmt: skip
    near = did_you_mean(study, known) or (
        f"There are: {', '.join(known[:20])}" if known else "No job has run there yet."
    )
    raise refusal("study", f"a study under {output_dir} or a study's folder", repr(study), near)


def _report(data: StudyData, folder: Path, command: str) -> tuple[Path, list[str]]:
    if not data.jobs:
        problems = "; ".join(f"{name}: {why}" for name, why in data.problems.items())
        raise refusal("study", "at least one job that can be read", problems or "none")
    analysis = analyse(data, seeding.generator(0, "report"))
    return write_document(data, analysis, folder, command), analysis.headline
