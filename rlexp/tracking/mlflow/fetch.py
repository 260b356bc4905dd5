"""Reading a run or a study back from MLflow, as the job folders from which it was delivered.

A server is not trusted: names, seeds and sizes are checked, and nothing is written outside the folder of the caller.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from rlexp.system import names
from rlexp.system.errors import Refusal, did_you_mean, refusal
from rlexp.system.stored_files import read_json
from rlexp.system.stored_schemas import SUMMARY
from rlexp.system.stored_yaml import read_config, select
from rlexp.tracking.addresses import resolve_uri
from rlexp.tracking.log import one_line
from rlexp.tracking.mlflow import internals, store
from rlexp.tracking.mlflow.deliver import STATUSES
from rlexp.tracking.mlflow.model import best_seed
from rlexp.tracking.mlflow.params import MAX_RUNS, config_of_params

MAX_CONFIG, MAX_SUMMARY, MAX_RECORDS, MAX_WEIGHTS = 4 * 2**20, 64 * 2**20, 2**30, 4 * 2**30  # bytes per download
MAX_ANIMATION = 2 * 2**20  # bytes
BAD_CONTENT = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)  # of what a server sends


def fetch_job(source: str, uri: str | None, folder: Path) -> Path:
    """Download what a policy needs of a run and lay it out as a job folder.

    Args:
        source: id of a job's or a trial's run; `runs:/<id>` and `runs:/<id>/<anything>` too.
        uri: tracking URI; None: MLFLOW_TRACKING_URI, else the SQLite store of ./outputs.
        folder: an empty folder, which becomes the job's. Nothing is written outside it, whatever the server says.

    Returns:
        The folder of the job, or that of the trial in it when the run is a trial's.

    Raises:
        Refusal: if there is no such run, or it is not as rlexp writes them.
    """
    run_id = source.removeprefix("runs:/").split("/")[0]
    uri = resolve_uri(uri, Path("outputs"))
    not_found = refusal(
        "source",
        "a job folder, a .keras file in one, or an MLflow run",
        source,
        f"Looked for the run in {uri}",
    )
    if not re.fullmatch(r"[0-9a-f]{32}", run_id) or _is_missing_file(uri):
        raise not_found
    if wrong := store.trouble(uri):
        raise Refusal(f"source: {wrong}")
    client = MlflowClient(tracking_uri=uri)
    try:
        return _fetch_run(client, run_id, uri, folder)
    except (MlflowException, OSError) as error:
        raise not_found from error
    except BAD_CONTENT as error:
        said = one_line(error).replace(f"{folder}/", "")
        raise refusal("source", "a run that rlexp has tracked", f"{source} ({said})", f"Looked in {uri}") from error


def _is_missing_file(uri: str) -> bool:
    return uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file()


def _fetch_run(client: MlflowClient, run_id: str, uri: str, folder: Path) -> Path:
    """Download a job's configuration, summary and the weights of one trial: the run's own, or the job's best."""
    run = client.get_run(run_id)
    tag = run.data.tags.get("rlexp.seed")
    job_run = run if tag is None else client.get_run(names.run_id(run.data.tags.get("mlflow.parentRunId")))
    _fetch_file(job_run, uri, "config.yaml", folder, MAX_CONFIG)
    _fetch_file(job_run, uri, "summary.json", folder, MAX_SUMMARY)
    seeds = _seeds(read_config(folder))
    wanted = tag
    if tag is None and (best := best_seed(read_json(folder / "summary.json", SUMMARY))) is not None:
        wanted = str(best)
    seed = names.seed(wanted, seeds) if wanted is not None else None
    trial = run if tag is not None else _trial_run(client, job_run, seed)
    target = folder / "trials" / str(seed)
    listed = client.list_artifacts(trial.info.run_id, "weights") if trial is not None else []
    for name in ("best.keras", "best.npz"):
        if trial is not None and any(file.path == f"weights/{name}" for file in listed):
            target.mkdir(parents=True, exist_ok=True)
            _fetch_file(trial, uri, f"weights/{name}", target, MAX_WEIGHTS)
    return target if tag is not None else folder


def _seeds(config: dict[str, Any]) -> range:
    first, number = select(config, "seed"), select(config, "trials")
    if any(isinstance(value, bool) or not isinstance(value, int) or value < 0 for value in (first, number)):
        raise ValueError("expected whole numbers as seed and trials in config.yaml")
    return range(first, first + number)


def _trial_run(client: MlflowClient, job_run: Run, seed: int | None) -> Run | None:
    """The newest run of one of a job's trials, if there is one."""
    experiment, job_id = str(job_run.info.experiment_id), names.run_id(job_run.info.run_id)
    trials = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{job_id}'", max_results=MAX_RUNS)
    return next((trial for trial in trials if trial.data.tags.get("rlexp.seed") == str(seed)), None)


def _fetch_file(run: Run, uri: str, name: str, folder: Path, most: int) -> None:
    """Download one artifact of a run to `<folder>/<last part of name>`; the server does not choose the path.

    Raises:
        ValueError: if it is larger than `most` bytes, or lies on another server, which would get our credentials.
    """
    place, ours = urlsplit(str(run.info.artifact_uri)), urlsplit(uri)
    web = place.scheme.lower().startswith(("http", "mlflow-artifacts"))
    if web and place.netloc not in ("", ours.netloc):
        raise ValueError(f"expected artifacts on {uri}, received {run.info.artifact_uri}")
    repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=uri)
    size = {file.path: file.file_size for file in repository.list_artifacts(os.path.dirname(name) or None)}.get(name)
    path = folder / name.rpartition("/")[2]
    if size is not None and size > most:
        raise ValueError(f"expected at most {most:,} bytes of {name}, received {size:,}")
    internals.download_file(repository, name, path)
    if path.is_symlink() or not path.is_file() or path.stat().st_size > most:
        path.unlink(missing_ok=True)
        raise ValueError(f"expected a file of at most {most:,} bytes as {name}")


def fetch_study(study: str, uri: str | None, folder: Path) -> dict[str, str]:
    """Lay a study out as job folders: everything that a report needs, from MLflow alone.

    Each job gets `config.yaml`, `job.json`, `metrics.jsonl`, `summary.json`, `evaluation.csv` and, if it has one,
    `animation.gif`. Data that a job has not delivered yet (it runs, or died) are put together from its runs: params,
    tags, status, the trials' curves.

    Args:
        study: name of the experiment.
        uri: tracking URI; None: MLFLOW_TRACKING_URI, else the SQLite store of ./outputs.
        folder: where the job folders go. Nothing is written outside it, whatever the server says.

    Returns:
        Names of the runs that are not as rlexp writes them -> the reason.

    Raises:
        Refusal: if there is no such study, or no such store.
    """
    uri = resolve_uri(uri, Path("outputs"))
    if _is_missing_file(uri):
        raise refusal("--tracking-uri", "an MLflow store", f"{uri}, which does not exist")
    if wrong := store.trouble(uri):
        raise Refusal(f"--tracking-uri: {wrong}")
    client = MlflowClient(tracking_uri=uri)
    problems: dict[str, str] = {}
    try:
        jobs, trials = _study_runs(client, study, uri)
        taken: set[str] = set()
        for name, run in jobs.items():
            own = [trial for trial in trials if trial.data.tags.get("mlflow.parentRunId") == run.info.run_id]
            place = folder / names.folder(name, taken)
            try:
                _fetch_job_files(client, uri, study, run, own, place)
            except (*BAD_CONTENT, OSError) as error:
                problems[f"run {names.shown(name)}"] = one_line(error).replace(f"{place}/", "")
                shutil.rmtree(place, ignore_errors=True)
    except MlflowException as error:
        raise refusal("--tracking-uri", "an MLflow store that answers", f"{uri}: {one_line(error)}") from error
    return problems


def _study_runs(client: MlflowClient, study: str, uri: str) -> tuple[dict[str, Run], list[Run]]:
    """The newest run of each job of a study by the job's name, and the runs of all trials."""
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        known = [e.name for e in client.search_experiments()]
        raise refusal("study", f"an experiment in {uri}", repr(study), did_you_mean(study, known))
    jobs, trials = (
        client.search_runs([experiment.experiment_id], f"tags.`rlexp.kind` = '{kind}'", max_results=MAX_RUNS)
        for kind in ("job", "trial")
    )
    newest: dict[str, Run] = {}  # a job that was started from scratch again has several runs
    for run in sorted(jobs, key=lambda run: int(run.info.start_time)):
        newest[_job_name(run)] = run
    return newest, trials


def _job_name(run: Run) -> str:
    """The name of a job's folder; earlier versions gave it to the run."""
    return str(run.data.tags.get("rlexp.job") or run.info.run_name)


def _fetch_job_files(client: MlflowClient, uri: str, study: str, run: Run, trials: list[Run], folder: Path) -> None:
    """Lay one job of a study out; raises ValueError and the like where its runs are not as rlexp writes them."""
    folder.mkdir(parents=True)
    run_id = names.run_id(run.info.run_id)
    by_seed = {names.seed(trial.data.tags.get("rlexp.seed")): trial for trial in trials}
    if len(by_seed) < len(trials):
        raise ValueError("expected one trial of each seed, received two of one")
    seeds = sorted(by_seed)
    (folder / "job.json").write_text(json.dumps(_job_of_run(study, run, seeds)))
    delivered = {file.path for file in client.list_artifacts(run_id) if not file.is_dir}
    for name, most in (
        ("config.yaml", MAX_CONFIG),
        ("metrics.jsonl", MAX_RECORDS),
        ("summary.json", MAX_SUMMARY),
        ("evaluation.csv", MAX_RECORDS),
    ):
        if name in delivered:
            _fetch_file(run, uri, name, folder, most)
    if "animation.gif" in delivered:
        with contextlib.suppress(ValueError):  # the report does without one that is too large
            _fetch_file(run, uri, "animation.gif", folder, MAX_ANIMATION)
    if "config.yaml" not in delivered:
        (folder / "config.yaml").write_text(json.dumps(config_of_params(run.data.params)))
    config = read_config(folder)
    if "trials" in config:
        for seed in seeds:
            names.seed(str(seed), _seeds(config))
    if "metrics.jsonl" not in delivered:
        _write_records(client, [by_seed[seed] for seed in seeds], folder / "metrics.jsonl")
    ended = {theirs: ours for ours, theirs in STATUSES.items()}
    if "summary.json" not in delivered and run.info.status in ended:
        status = "pruned" if "rlexp.pruned" in run.data.tags else ended[run.info.status]
        (folder / "summary.json").write_text(json.dumps({"status": status}))


def _job_of_run(study: str, run: Run, seeds: list[int]) -> dict[str, Any]:
    """The `job.json` of a job, from the tags of its run."""
    tags = run.data.tags
    return {
        "study": study,
        "name": _job_name(run),
        "algo": names.tag(tags, "rlexp.algo"),
        "env": names.tag(tags, "rlexp.env"),
        "config_id": names.tag(tags, "rlexp.config_id"),
        "group_id": names.tag(tags, "rlexp.group"),
        "seeds": seeds,
        "command": names.tag(tags, "rlexp.command"),
        "started": int(run.info.start_time) / 1000,
        "tags": {key: value for key, value in tags.items() if not key.startswith(("rlexp.", "mlflow."))},
    }


def _write_records(client: MlflowClient, trials: list[Run], path: Path) -> None:
    """Write the returns of trials as lines of `metrics.jsonl`; a report does not need their times, which are 0."""
    rows: dict[int, dict[str, list[float | None]]] = defaultdict(dict)
    for k, trial in enumerate(trials):
        for name in set(trial.data.metrics) & {"train/return", "eval/return"}:
            for point in client.get_metric_history(trial.info.run_id, name):
                rows[point.step].setdefault(name, [None] * len(trials))[k] = point.value
    records = [{"step": step, "time": 0, "metrics": metrics} for step, metrics in sorted(rows.items())]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
