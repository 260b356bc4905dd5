"""The receipt of a job's delivery, `tracking.json`: what MLflow has received, and what was under way."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

from rlexp.data.checkpoint import write_json
from rlexp.system.stored_files import find_json
from rlexp.system.stored_schemas import TRACKING
from rlexp.system.text import mask, same_address

FILE = "tracking.json"


def new_receipt(uri: str, experiment_id: str, local_id: str | None = None) -> dict[str, Any]:
    """The receipt of a job of which nothing was delivered yet.

    Args:
        uri: tracking URI.
        experiment_id: of the study.
        local_id: by which the job's runs are found; None for a new one.
    """
    return {
        "uri": mask(uri),
        "local_id": local_id or uuid.uuid4().hex,
        "experiment_id": experiment_id,
        "run_id": None,
        "trial_runs": {},  # seed -> run id
        "lines": 0,  # delivered lines of metrics.jsonl
        "last": None,  # [step, time] of the last of them
        "sending": [],  # times of the lines after them that may have arrived
        "artifacts": {},  # file -> SHA-256 of what was delivered
        "status": None,  # with which the runs were closed
        "missing": [],  # what could not be delivered when they were closed
    }


def load_receipt(folder: Path, uri: str, experiment_id: str) -> dict[str, Any]:
    """The receipt in a job's folder; a new one for the first delivery, and for the first to another store.

    Raises:
        ValueError: if the local id is not hexadecimal.
    """
    path = folder / FILE
    stored = find_json(path, TRACKING, "local_id", "uri")
    if stored is None:
        return new_receipt(uri, experiment_id)
    local_id = stored["local_id"]
    if not isinstance(local_id, str) or not re.fullmatch(r"[0-9a-f]{1,64}", local_id):  # it becomes part of a query
        raise ValueError(f"expected a hexadecimal local_id in {path}, received {local_id!r}")
    return stored if same_address(stored["uri"], uri) else new_receipt(uri, experiment_id, local_id)


def save_receipt(folder: Path, receipt: dict[str, Any]) -> None:
    """Write a receipt, atomically."""
    write_json(folder / FILE, receipt)
