"""The report of one or more studies: found by their names or in MLflow, read, analysed and written.

It is one self-contained HTML page, with its figures, tables and Markdown beside it.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlexp.config import study_names
from rlexp.data import seeding
from rlexp.jobs.results import StudyData, load_study
from rlexp.report import foreign
from rlexp.report.analysis import analyse
from rlexp.report.distributions import draw_missing
from rlexp.report.document import write_document
from rlexp.report.draft import Origin, file_name
from rlexp.system import words
from rlexp.system.errors import Refusal, did_you_mean, refusal
from rlexp.system.links import LinkFound, check_folder
from rlexp.system.stored_files import folders_with, read_json, skipping
from rlexp.system.stored_schemas import SWEEP
from rlexp.system.tool import warn

LONGEST = 100  # characters of the name of a folder


def write(
    source: str | Path,
    *others: str | Path,
    to: Path | None = None,
    baseline: str | None = None,
    command: str = "",
    distributions: bool = False,
) -> Path:
    """Write the report of one or more studies; may be called at any time, also while jobs run.

    Args:
        source: `outputs/<study>`, or a CSV file of another program's results (see `foreign`).
        *others: more of them, to compare them on one page.
        to: folder of the report; default `report` in the folder of a study, `reports/<A>+<B>` beside it for several.
        baseline: contender that the others are compared with; None: compare each pair.
        command: that made the report, for the page's last section.
        distributions: draw the distributions of returns that are missing (see `distributions.draw_missing`).

    Returns:
        The path of `index.html`. `index.md`, `figures/` and `tables/` lie beside it.

    Raises:
        Refusal: if there is no job that can be read, or no such baseline. Damaged: if a CSV cannot be used.
    """
    paths = [Path(each) for each in (source, *others)]
    folders = [path for path in paths if not _is_csv(path)]
    beside = folders[0].parent if folders else Path()
    data = [load_study(folder) for folder in folders]
    usual = folders[0] / "report" if len(paths) == 1 and folders else beside / "reports" / _joined(paths)
    every = [*data, *_foreign(paths, data)]
    origin = Origin(_title(every), command, logarithmic_keys(folders))
    return _report(every, _report_folder(to, usual), origin, baseline, distributions)[0]


def make(
    sources: Sequence[str],
    *,
    output_dir: Path,
    tracking_uri: str | None,
    to: Path | None,
    command: str,
    baseline: str | None = None,
    distributions: bool = False,
) -> tuple[Path, list[str]]:
    """`write` for the command line: finds studies by their names, or reads them from MLflow.

    Args:
        sources: names of studies or their folders, in MLflow names of experiments; and CSV files.
        output_dir: the folder of the studies.
        tracking_uri: of the MLflow store to read from; None for the job folders.
        to: folder of the report; default `<output_dir>/<study>/report`, for several `<output_dir>/reports/<A>+<B>`.
        command: that made the report.
        baseline: contender that the others are compared with; None: compare each pair.
        distributions: as in `write`.

    Returns:
        The path of `index.html`, and the sentences of its headline.

    Raises:
        Refusal: if there is no such study or baseline. Damaged: if a CSV cannot be used.
    """
    output_dir = output_dir.expanduser()
    paths = [Path(source).expanduser() for source in sources]
    named = [source for source, path in zip(sources, paths, strict=True) if not _is_csv(path)]
    if doubled := [source for source in dict.fromkeys(sources) if list(sources).count(source) > 1]:
        raise refusal("study", "each study once", f"{words.names(doubled)} several times")
    several = output_dir / "reports" / _joined(paths)
    with tempfile.TemporaryDirectory(prefix="rlexp-") as fetched:
        if tracking_uri is not None:
            data = [_fetch(study, tracking_uri, Path(fetched) / str(k)) for k, study in enumerate(named)]
            usual, logarithmic = output_dir / named[0] / "report" if named else several, frozenset[str]()
        else:
            folders = [find(study, output_dir) for study in named]
            data = [load_study(folder) for folder in folders]
            usual, logarithmic = folders[0] / "report" if folders else several, logarithmic_keys(folders)
        for own in data:
            _warn(own)
        folder = _report_folder(to, usual if len(sources) == 1 else several)
        every = [*data, *_foreign(paths, data)]
        origin = Origin(_title(every), command, logarithmic, has_files=tracking_uri is None)
        return _report(every, folder, origin, baseline, distributions)


def logarithmic_keys(folders: Iterable[Path]) -> frozenset[str]:
    """The keys of configurations whose logarithm the searches of some studies have searched."""
    found = set()
    for folder in folders:
        for place in folders_with(folder, "sweep.json", "sweeps/*"):
            with skipping(warn):
                space = read_json(place / "sweep.json", SWEEP).get("search", {}).get("space", [])
                found |= {str(one.get("key")).lstrip("+") for one in space if isinstance(one, dict) and one.get("log")}
    return frozenset(found)


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _joined(paths: Sequence[Path]) -> str:
    """The name of the folder of a report on several sources."""
    joined = "+".join(file_name(path.name) for path in paths)
    if len(joined) <= LONGEST:
        return joined
    return f"{joined[:LONGEST]}-{hashlib.sha256(joined.encode()).hexdigest()[:8]}"


def _foreign(paths: Iterable[Path], data: Sequence[StudyData]) -> list[StudyData]:
    known: dict[str, Mapping[str, Any]] = {}
    for own in data:
        for job in own.jobs:
            env = dict(job.config.get("env") or {})
            known[words.as_json(study_names.env_settings(job.config))] = env | {"name": job.job["env"]}
    return [foreign.load(path, list(known.values())) for path in paths if _is_csv(path)]


def _fetch(study: str, tracking_uri: str, place: Path) -> StudyData:
    from rlexp.tracking.mlflow.fetch import fetch_study

    place.mkdir()
    problems = fetch_study(study, tracking_uri, place)
    data = load_study(place)
    data.problems.update(problems)
    return data


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


def _title(studies: Sequence[StudyData]) -> str:
    names = [study.name for study in studies]
    return f"Study {names[0]}" if len(names) == 1 else f"Studies {', '.join(names[:-1])} and {names[-1]}"


def _report(
    studies: Sequence[StudyData], folder: Path, origin: Origin, baseline: str | None, distributions: bool
) -> tuple[Path, list[str]]:
    data = _as_one(studies)
    if not data.jobs:
        problems = "; ".join(f"{name}: {why}" for name, why in data.problems.items())
        raise refusal("study", "at least one job that can be read", problems or "none")
    analysis = analyse(data, seeding.generator(0, "report"), baseline)
    if distributions:
        draw_missing([one.task for one in analysis.tasks])
    return write_document(data, analysis, folder, origin), analysis.headline


def _as_one(studies: Sequence[StudyData]) -> StudyData:
    """Several studies as one, whose jobs know their study; studies of one name are numbered."""
    names = [study.name for study in studies]
    merged = StudyData(" and ".join(names), [], {})
    for number, study in enumerate(studies, start=1):
        name = study.name if names.count(study.name) == 1 else f"{study.name} #{number}"
        merged.jobs += [replace(job, job=job.job | {"study": name}) for job in study.jobs]
        prefix = f"{name}: " if len(studies) > 1 else ""
        merged.problems |= {f"{prefix}{folder}": why for folder, why in study.problems.items()}
    return merged
