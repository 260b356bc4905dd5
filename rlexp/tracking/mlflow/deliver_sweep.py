"""Delivery of a sweep's folder to MLflow: its table and the report of its study. Its jobs deliver themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from mlflow.entities import Metric

from rlexp.data.checkpoint import write_json
from rlexp.system.links import check_folder
from rlexp.system.stored_files import read_json
from rlexp.system.stored_schemas import SWEEP
from rlexp.tracking.log import one_line
from rlexp.tracking.mlflow.alive import DIED, LOST, Heartbeat, reopen, seconds_silent
from rlexp.tracking.mlflow.deliver import STATUSES
from rlexp.tracking.mlflow.experiment import (
    check_artifact_location,
    find_or_create_experiment,
    find_or_create_sweep_run,
    open_store,
)
from rlexp.tracking.mlflow.params import mlflow_key

SWEEP_KEYS = ("id", "local_id", "name", "study", "command", "started", "status")


class SweepDelivery:
    """Delivers one sweep's folder to one MLflow store.

    Args:
        folder: the sweep's folder, `<output_dir>/<study>/sweeps/<id>`.
        uri: tracking URI.
        inside: as in `Delivery`.

    Attributes:
        run_id: of the sweep's run.
        silent: seconds since its last sign of life; infinite if it never had one.

    Raises:
        mlflow.exceptions.MlflowException: if the store cannot be reached.
    """

    def __init__(self, folder: Path, uri: str, inside: Path | None = None) -> None:
        self.folder, self.uri = folder.absolute(), uri
        sweep, output_dir = read_json(folder / "sweep.json", SWEEP, *SWEEP_KEYS), self.folder.parents[2]
        with open_store(uri, self.folder, output_dir) as self.client:
            self.experiment_id = find_or_create_experiment(self.client, uri, sweep["study"], output_dir, inside)
        with FileLock(self.folder.parents[1] / ".sweep.lock"):
            self.run_id = find_or_create_sweep_run(self.client, self.experiment_id, sweep)
        self._heartbeat = Heartbeat(self.client)
        run = self.client.get_run(self.run_id)
        check_artifact_location(run.info.artifact_uri, uri, output_dir, inside)
        self.silent = seconds_silent(run)

    def beat(self) -> None:
        """Give a sign of life if one is due, and open the run again if it was closed."""
        found = self._heartbeat.beat(self.run_id)
        if found == "closed":
            reopen(self.client, self.run_id)
        if found:
            self._write_receipt(None)

    def finish(self) -> list[str]:
        """Deliver everything and close the run; may be called again.

        Returns:
            What could not be delivered, `<what>: <why>`; empty if MLflow has everything.

        Raises:
            mlflow.exceptions.MlflowException: if the store cannot be reached.
        """
        client, run_id, folder = self.client, self.run_id, self.folder
        sweep = read_json(folder / "sweep.json", SWEEP, *SWEEP_KEYS)
        report = folder.parents[1] / "report"  # of the study

        def send_report() -> None:
            check_folder(report)
            client.log_artifacts(run_id, str(report), "report")

        send: dict[str, Callable[[], None]] = {"sweep.json": lambda: client.log_artifact(run_id, folder / "sweep.json")}
        if report.is_dir():
            send["report"] = send_report
        failures = []
        for name, deliver in send.items():
            try:
                deliver()
            except Exception as error:  # whatever it is, the rest is still to be delivered
                failures.append(f"{name}: {one_line(error)}")
        count = Counter(job["status"] for job in sweep.get("jobs", []))
        time = int(sweep["started"] * 1000)
        client.log_batch(run_id, [Metric(f"jobs/{mlflow_key(name)}", n, time, 0) for name, n in count.items()])
        if sweep["status"] == "running":
            client.set_tag(run_id, LOST, DIED)
        client.set_terminated(run_id, STATUSES.get(sweep["status"], "KILLED"))
        if not failures:
            self._write_receipt(sweep["status"])
        return failures

    def _write_receipt(self, status: str | None) -> None:
        receipt = {"uri": self.uri, "experiment_id": self.experiment_id, "run_id": self.run_id, "status": status}
        write_json(self.folder / "tracking.json", receipt)
