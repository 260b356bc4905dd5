"""Signs of life: which runs have a living process, and closing those that have none.

The run of a job or a sweep that runs has its last sign of life in the tag `rlexp.heartbeat`. A run that was closed
because its process had died is KILLED, with the reason in the tag `rlexp.lost`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from rlexp.tracking.base import HEARTBEAT, SILENCE
from rlexp.tracking.mlflow.params import MAX_RUNS

HEARTBEAT_TAG, LOST = "rlexp.heartbeat", "rlexp.lost"
DIED = "its process died without reporting an end"


class Heartbeat:
    """Gives a run its signs of life."""

    def __init__(self, client: MlflowClient) -> None:
        self._client, self._due = client, -math.inf

    def beat(self, run_id: str) -> str | None:
        """Give a sign of life if one is due.

        Returns:
            "open" or "closed", the state in which the run was; None if no sign was due.
        """
        if time.monotonic() < self._due:
            return None
        self._client.set_tag(run_id, HEARTBEAT_TAG, datetime.now(UTC).isoformat(timespec="seconds"))
        is_open = self._client.get_run(run_id).info.status == "RUNNING"
        self._due = time.monotonic() + HEARTBEAT
        return "open" if is_open else "closed"


def seconds_silent(run: Run) -> float:
    """Seconds since a run's last sign of life; infinite if it never had one."""
    last = run.data.tags.get(HEARTBEAT_TAG)
    return time.time() - datetime.fromisoformat(last).timestamp() if last else math.inf


def reopen(client: MlflowClient, run_id: str) -> None:
    """Set a closed run to RUNNING, without the tags that say why it was closed."""
    tags = client.get_run(run_id).data.tags
    for name in {"rlexp.pruned", LOST} & tags.keys():
        client.delete_tag(run_id, name)
    client.update_run(run_id, status="RUNNING")


def close_silent(uri: str, study: str, living: Collection[str]) -> list[str]:
    """Close the runs of a study whose last sign of life is older than `SILENCE`, on whatever machine they ran.

    A run whose process lives, but could not reach the server for so long, is opened again by its next sign of life.

    Args:
        uri: tracking URI.
        study: name of the experiment.
        living: ids of runs whose processes are known to live.

    Returns:
        The names of the jobs and sweeps that were closed.
    """
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        return []

    def running(condition: str) -> list[Run]:
        query = f"attributes.status = 'RUNNING' AND {condition}"
        return list(client.search_runs([experiment.experiment_id], query, ViewType.ACTIVE_ONLY, MAX_RUNS))

    closed = []
    for run in (run for kind in ("job", "sweep") for run in running(f"tags.`rlexp.kind` = '{kind}'")):
        run_id, silent = run.info.run_id, seconds_silent(run)
        if run_id in living or not SILENCE < silent < math.inf:
            continue
        ended = time.time() - silent
        trials = running(f"tags.`rlexp.kind` = 'trial' AND tags.`mlflow.parentRunId` = '{run_id}'")
        client.set_tag(run_id, LOST, f"no sign of life since {run.data.tags[HEARTBEAT_TAG]}")
        for dead in (*trials, run):
            client.set_terminated(dead.info.run_id, "KILLED", int(ended * 1000))
        closed.append(str(run.data.tags.get("rlexp.job") or run.info.run_name))
    return closed
