"""Delivery of a finished job by the command that trained it, if that did not live to see the job delivered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlexp.config.schema.job import Settings
from rlexp.system.folder_lock import in_use, lock_holder
from rlexp.system.stored_files import read_json
from rlexp.system.stored_schemas import TRACKING
from rlexp.system.text import mask, same_address
from rlexp.tracking.addresses import resolve_uri, sync_command
from rlexp.tracking.base import open_tracker
from rlexp.tracking.folders import asked_uri, place
from rlexp.tracking.store_file import store_path
from rlexp.tracking.tensorboard import deliver as event_files
from rlexp.tracking.tensorboard import tracker


def is_delivered(folder: Path, uri: str) -> bool:
    """Whether the store at `uri` has everything of a finished job, according to the receipt in the job's folder."""
    try:
        receipt = read_json(folder / "tracking.json", TRACKING, "uri", "status")
        closed = same_address(receipt["uri"], uri) and receipt["status"] is not None and not receipt.get("missing")
    except (OSError, ValueError):
        return False
    path = store_path(uri)
    return closed and (path is None or path.is_file())


def deliver(settings: Settings, say: Callable[[str], None]) -> None:
    """Deliver what is missing of a finished job, and wait for it as at the end of a job.

    Args:
        settings: of the job, with its engine chosen.
        say: called with the outcome; not called if nothing was missing.
    """
    if "mlflow" in settings.tracking.names:
        _deliver_to_mlflow(settings, say)
    if "tensorboard" in settings.tracking.names and not event_files.is_delivered(settings.folder):
        say(tracker.deliver_late(settings.folder).message)


def _deliver_to_mlflow(settings: Settings, say: Callable[[str], None]) -> None:
    folder, tracking = settings.folder, settings.tracking
    output_dir = settings.output_folder
    uri = resolve_uri(tracking.uri, output_dir)
    if is_delivered(folder, uri):
        return
    if in_use(folder):
        say(f"MLflow receives it from another process ({lock_holder(folder)})")
        return
    own = _own_uri(folder)
    if own is None or not same_address(own, uri):
        again = sync_command(folder, uri, output_dir)
        say(f"MLflow has not received all of it at {mask(uri)}; this delivers it:\n  {again}")
        return
    say("MLflow has not received all of it: delivering ...")
    mlflow = open_tracker(["mlflow"], tracking.uri, [folder], output_dir)
    mlflow.start()
    mlflow.end(folder, "done")
    say(mlflow.close(tracking.timeout, say)[folder].message)


def _own_uri(folder: Path) -> str | None:
    """The tracking URI that a job's folder names; None if it cannot be read."""
    try:
        return asked_uri(folder) or resolve_uri(None, place(folder)[0])
    except (OSError, ValueError, KeyError, TypeError):
        return None
