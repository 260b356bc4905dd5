"""The experiment of a study and the run of a sweep, found or created; and the check of where a store puts files."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from rlexp.system import names
from rlexp.system.links import open_to_write
from rlexp.system.text import clean, mask
from rlexp.tracking import store_file
from rlexp.tracking.addresses import local_store, sync_command
from rlexp.tracking.log import SET_ASIDE
from rlexp.tracking.mlflow import store
from rlexp.tracking.mlflow.params import MAX_TAG


@contextlib.contextmanager
def open_store(uri: str, folder: Path, output_dir: Path) -> Iterator[MlflowClient]:
    """A client of an intact store; while it is open, no other process creates or replaces the store.

    Args:
        uri: tracking URI.
        folder: of the job or sweep in whose log a store that was set aside is reported.
        output_dir: the folder of the studies whose jobs may have been delivered to the store.
    """
    again = sync_command(output_dir, uri)

    def say(what: str) -> None:
        with open_to_write(folder / "tracking.log", "a") as log:
            log.write(f"{SET_ASIDE}{clean(what)} This brings back what other jobs had delivered: {again}\n")

    with store_file.lock(uri) as path:
        if path is not None:
            store.prepare(path, say)
        yield MlflowClient(tracking_uri=uri)


def find_or_create_experiment(
    client: MlflowClient, uri: str, name: str, output_dir: Path, inside: Path | None = None
) -> str:
    """The id of a study's experiment.

    Args:
        client: of the store.
        uri: tracking URI of the store.
        name: of the study.
        output_dir: the folder of the studies.
        inside: as in `check_artifact_location`.

    Raises:
        ValueError: if the name cannot be a folder's.
        RuntimeError: if the experiment was deleted, or its files would lie in a place that nobody has named.
    """
    if client.get_experiment_by_name(name) is None:
        # Without a server, MLflow's own default location depends on the current directory.
        if name in (".", "..") or "/" in name or "\\" in name:  # it becomes a folder
            raise ValueError(f"expected the name of a study in job.json or sweep.json, received {names.shown(name)}")
        location = None if uri.startswith("http") else (output_dir.absolute() / "mlartifacts" / name).as_uri()
        try:
            client.create_experiment(name, artifact_location=location)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another job was faster
                raise
    experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage == "deleted":
        raise RuntimeError(f"experiment {name!r} was deleted in MLflow: restore it or choose another study")
    check_artifact_location(str(experiment.artifact_location), uri, output_dir, inside)
    return str(experiment.experiment_id)


def find_or_create_sweep_run(client: MlflowClient, experiment_id: str, sweep: dict[str, Any]) -> str:
    """The id of a sweep's run in one study.

    Args:
        client: of the store.
        experiment_id: of the study.
        sweep: its `id`, `local_id`, `name`, `command` and `started`, as in `sweep.json`.

    Raises:
        ValueError: if the local id is not hexadecimal.
    """
    local_id = str(sweep["local_id"])
    if not re.fullmatch(r"[0-9a-f]{1,64}", local_id):  # it becomes part of a query
        raise ValueError(f"expected a hexadecimal local_id of a sweep, received {local_id!r}")
    found = client.search_runs([experiment_id], f"tags.`rlexp.local_id` = '{local_id}'", ViewType.ACTIVE_ONLY, 1)
    if found:
        return str(found[0].info.run_id)
    tags = {
        "rlexp.kind": "sweep",
        "rlexp.local_id": sweep["local_id"],
        "rlexp.sweep": sweep["id"],
        "rlexp.command": mask(sweep["command"])[:MAX_TAG],
    }
    name = f"{sweep['name']} {sweep['id']}"
    return str(client.create_run(experiment_id, int(sweep["started"] * 1000), tags, name).info.run_id)


def check_artifact_location(location: str, uri: str, output_dir: Path, inside: Path | None) -> None:
    """Reject a place for files that the reader has not named: a store may have come with somebody else's folder.

    Args:
        location: where the files of an experiment or a run go, according to the store.
        uri: tracking URI of the store.
        output_dir: the folder of the studies.
        inside: the only folder into which files may go; None if the reader has named the store.

    Raises:
        RuntimeError: if the files would go elsewhere.
    """
    if inside is None and not (local_store(uri, output_dir) and re.match(r"[a-z][a-z0-9+.-]+:", location, re.I)):
        return
    parts = urlsplit(location)
    here = parts.scheme.lower() in ("", "file") and parts.netloc in ("", "localhost")
    if here and (inside is None or Path(unquote(parts.path)).resolve().is_relative_to(inside.resolve())):
        return
    there = "not in this machine's files" if inside is None else f"outside {inside}"
    agree = "use a store outside the output folder" if inside is None else f"--tracking-uri {mask(uri)} allows it"
    raise RuntimeError(f"the store {mask(uri)} would put files into {mask(location)}, {there}: {agree}")
