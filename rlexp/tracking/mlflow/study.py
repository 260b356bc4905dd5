"""What a job changes in MLflow beside its own runs: the names of its study's other runs, and the study's views."""

from __future__ import annotations

import contextlib
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import ViewType

from rlexp.data.checkpoint import write_json
from rlexp.system.links import open_to_write
from rlexp.system.stored_files import Damaged, find_json, read_json
from rlexp.system.stored_schemas import TEXT, TRACKING, Schema, mapping_of
from rlexp.system.text import mask, same_address
from rlexp.tracking.mlflow import study_jobs, views
from rlexp.tracking.mlflow.params import MAX_RUNS

FILE, LOCK = ".mlflow_names.json", ".mlflow_names.lock"  # in the study's folder
GIVEN = Schema(uri=TEXT, experiment_id=TEXT, names=mapping_of(TEXT))
PATIENCE = 20.0  # seconds to wait for another job that renames runs of the study


def refresh(client: MlflowClient, uri: str, experiment_id: str, study: Path, own: dict[str, str]) -> None:
    """Rename the study's runs whose names have changed, because a job shows what differs, and update its views.

    Which name a run has is kept in the study's folder, so that only those are looked for that change. Runs without a
    folder here keep their names.

    Args:
        client: of the store.
        uri: tracking URI of the store.
        experiment_id: of the study.
        study: folder of the study.
        own: the caller's job: name of its folder -> the name that its run has; empty if its runs are named otherwise.

    Raises:
        Exception: if the store cannot be reached, or a file cannot be written; the next job tries again.
    """
    path = study / FILE
    open_to_write(study / LOCK, "a").close()  # no link
    with FileLock(study / LOCK, timeout=PATIENCE):
        names = study_jobs.names(study)
        known = _given_names(path, uri, experiment_id)
        given = {**known, **own}
        try:
            for folder, name in names.items():
                before = given.get(folder)
                if before != name and _rename(client, uri, experiment_id, study / folder, before, name):
                    given[folder] = name
        finally:
            given = {folder: name for folder, name in given.items() if folder in names}
            if given != known:
                write_json(path, {"uri": mask(uri), "experiment_id": experiment_id, "names": given})
        views.update(client, experiment_id, list(study_jobs.configs(study).values()))


def studies(uri: str) -> dict[str, str]:
    """The studies of a store by their names -> ids of their experiments."""
    found = MlflowClient(tracking_uri=uri).search_experiments(ViewType.ACTIVE_ONLY)
    return {str(e.name): str(e.experiment_id) for e in found if str(e.experiment_id) != "0"}  # 0: MLflow's own


def make_views(uri: str, experiment_id: str, study: Path) -> None:
    """Make the views of a study from the jobs in its folder."""
    views.update(MlflowClient(tracking_uri=uri), experiment_id, list(study_jobs.configs(study).values()))


def _given_names(path: Path, uri: str, experiment_id: str) -> dict[str, str]:
    """The names of runs in a store that are known; none if the file is about another store, or damaged."""
    with contextlib.suppress(Damaged):
        found = find_json(path, GIVEN, *GIVEN)
        if found is not None and same_address(found["uri"], uri) and found["experiment_id"] == experiment_id:
            return dict(found["names"])
    return {}


def _rename(client: MlflowClient, uri: str, experiment_id: str, folder: Path, before: str | None, name: str) -> bool:
    """Give a job's run and its trials' their names; returns False for a job that has no run in this store.

    Runs that have another name than rlexp gave them `before` were renamed by a user, and stay. None: it is not known.
    """
    try:
        receipt = read_json(folder / "tracking.json", TRACKING, "uri", "local_id", "experiment_id", "run_id")
    except (OSError, ValueError):
        return False
    local_id = receipt["local_id"]
    here = same_address(receipt["uri"], uri) and receipt["experiment_id"] == experiment_id
    if not here or receipt["run_id"] is None or not local_id.isalnum():  # it becomes part of a query
        return False
    query = f"tags.`rlexp.local_id` LIKE '{local_id}%'"
    for run in client.search_runs([experiment_id], query, ViewType.ACTIVE_ONLY, MAX_RUNS):
        seed = run.data.tags.get("rlexp.seed")
        given, wanted = (n if seed is None or n is None else study_jobs.trial_name(n, seed) for n in (before, name))
        if "rlexp.job" not in run.data.tags:  # of an earlier version: `fetch` finds a job by it
            client.set_tag(run.info.run_id, "rlexp.job", folder.name)
        if run.info.run_name != wanted and given in (None, run.info.run_name):
            client.update_run(run.info.run_id, name=wanted)
    return True
