"""Delivery of a job's folder to MLflow: the only module that imports mlflow; a training process never does.

    study -> experiment
    sweep -> run: its table, its report; the runs of its jobs are nested in it
    job   -> run: configuration as params, tags, aggregates over trials, artifacts, best weights as a model
    trial -> nested run `trial <seed>`: the same params and its seed, raw curves, its best weights

Everything can be interrupted at any moment and repeated. Runs are found again by their tag `rlexp.local_id`.
Lines of `metrics.jsonl` are counted in `tracking.json`. MLflow keeps one copy of a point with the same run,
name, step, value and time, so lines that were under way at an interruption are sent again with the times they
had, which `tracking.json` holds before they are sent.

Runs of jobs and sweeps that run have a sign of life in their tag `rlexp.heartbeat`. Those that were closed for somebody
who died without a word are KILLED and have the reason in their tag `rlexp.lost`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import re
import shutil
import tempfile
import time
import uuid
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from filelock import FileLock

from rlexp.data.checkpoint import write_json
from rlexp.math.statistics import iqm
from rlexp.system import names
from rlexp.system.archives import read_json as read_member
from rlexp.system.errors import Refusal, did_you_mean, refusal
from rlexp.system.links import check_folder, open_to_write, owned
from rlexp.system.stored_files import MAX_RECORDS as MAX_LINES
from rlexp.system.stored_files import check_file, check_later, find_json, read_bytes, read_json, read_record, seal
from rlexp.system.stored_schemas import JOB, SUMMARY, SWEEP, TRACKING
from rlexp.system.stored_yaml import read_config, select
from rlexp.system.text import clean, mask, mask_tree, same_address
from rlexp.tracking import store
from rlexp.tracking.base import HEARTBEAT, SET_ASIDE, SILENCE, local_store, one_line, resolve_uri, sync_command

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # 7 block for 4 minutes; rlexp.sync repeats
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")  # a model's requirements are stated below

from mlflow import MlflowClient, pyfunc
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.types.schema import Schema, TensorSpec

DELIVERED_KEYS = ("study", "name", "algo", "env", "config_id", "group_id", "seeds", "command", "started", "tags")
SWEEP_KEYS = ("id", "local_id", "name", "study", "command", "started", "status")
STATUSES = {"done": "FINISHED", "failed": "FAILED", "pruned": "KILLED", "killed": "KILLED"}
TRIAL_STATUSES = {"done": "FINISHED", "diverged": "FAILED", "failed": "FAILED"}  # of trials whose job was scored
JOB_ARTIFACTS = (
    "config.yaml",
    "learning_curve.png",
    "animation.gif",
    "animation.mp4",
    "evaluation.csv",
    "history.npz",
    "error.txt",
    "metrics.jsonl",
)
MODEL_NAME = "best"
LOST = "rlexp.lost"  # tag of a run that was closed for its process: why
DIED = "its process died without a word"
AGGREGATES: dict[str, Callable[[Any], Any]] = {"mean": np.mean, "iqm": iqm, "min": np.min, "max": np.max}
LINES_AT_ONCE = 200  # lines of metrics.jsonl between two writes of tracking.json
MAX_METRICS, MAX_PARAMS, MAX_RUNS = 1000, 100, 50_000  # MLflow's limits for one call
MAX_KEY, MAX_PARAM, MAX_TAG = 250, 6000, 8000  # MLflow's limits, in characters


class Delivery:
    """Delivers one job's folder to one MLflow store.

    Args:
        folder: the job's folder, `<output_dir>/<study>/<job>`.
        uri: tracking URI.
        running: the job runs, so runs that were closed are opened again, and are given signs of life.
        inside: the folder outside of which nothing may be written, where nobody but the folder has named the store.

    Attributes:
        changed: whether anything was sent.
        silent: seconds since the job's run had its last sign of life; infinite where it never had one.
        sent_files: artifacts and models sent by this object.

    Raises:
        mlflow.exceptions.MlflowException: if the store cannot be reached.
        RuntimeError: if the experiment or a run was deleted in MLflow.
    """

    def __init__(self, folder: Path, uri: str, running: bool = False, inside: Path | None = None) -> None:
        self.folder, self.uri, self._inside = folder.absolute(), uri, inside
        self.job = read_json(folder / "job.json", JOB, *DELIVERED_KEYS)
        self.changed = False
        self.sent_files: list[str] = []
        with _opened(uri, self.folder, self.folder.parents[1]) as self.client:
            self.experiment_id = _find_or_create_experiment(
                self.client, uri, self.job["study"], folder.parent.parent, inside
            )
        self.state = self._load_state()
        found = self._find_or_create_runs()
        job_run = found.get(self.state["local_id"])
        self.silent = _silent(job_run) if job_run is not None else math.inf
        self._pulse = _Pulse(self.client)
        if running:
            self._open([run.info.run_id for run in found.values() if run.info.status != "RUNNING"])
            self.beat()

    def _open(self, run_ids: list[str]) -> None:
        """Runs that were closed run again."""
        if self.state["status"] is not None:
            self.state["status"] = None
            self._save_state()
        for run_id in run_ids:
            _reopen(self.client, run_id)

    def beat(self) -> None:
        """Give a sign of life, where one is due; runs that were closed for want of it are opened again."""
        if self._pulse.beat(self.state["run_id"]) == "closed":
            self._open(self._run_ids())

    # State: what is delivered, in tracking.json.

    def _new_state(self, local_id: str) -> dict[str, Any]:
        return {
            "uri": mask(self.uri),
            "local_id": local_id,
            "experiment_id": self.experiment_id,
            "run_id": None,
            "trial_runs": {},  # seed -> run id
            "lines": 0,  # delivered lines of metrics.jsonl
            "last": None,  # [step, time] of the last of them
            "sending": [],  # times of the lines after them that may have arrived
            "artifacts": {},  # file -> SHA-256 of what was delivered
            "status": None,  # that the runs were closed with
            "missing": [],  # what could not be delivered when they were closed
        }

    def _load_state(self) -> dict[str, Any]:
        path = self.folder / "tracking.json"
        stored = find_json(path, TRACKING, "local_id", "uri")
        if stored is None:
            return self._new_state(uuid.uuid4().hex)
        local_id = stored["local_id"]
        if not isinstance(local_id, str) or not re.fullmatch(r"[0-9a-f]{1,64}", local_id):  # it goes into a query
            raise ValueError(f"expected a hexadecimal local_id in {path}, received {local_id!r}")
        return stored if same_address(stored["uri"], self.uri) else self._new_state(local_id)

    def _save_state(self) -> None:
        path = self.folder / "tracking.json"
        beside = path.with_suffix(".json.new")
        with open_to_write(beside, "w") as file:
            json.dump(seal(self.state), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)

    # Runs.

    def _find_or_create_runs(self) -> dict[str, Run]:
        """Make what is missing; those that were there, as they were, by their local ids."""
        local_id = self.state["local_id"]
        found = self.client.search_runs(
            [self.experiment_id], f"tags.`rlexp.local_id` LIKE '{local_id}%'", ViewType.ALL, MAX_RUNS
        )
        runs = {run.data.tags["rlexp.local_id"]: run for run in found}
        if any(run.info.lifecycle_stage == "deleted" for run in found):
            raise RuntimeError("a run of it was deleted in MLflow: remove tracking.json to deliver it as new")
        for run in found:
            _check_place(run.info.artifact_uri, self.uri, self.folder.parents[1], self._inside)
        if local_id not in runs:  # a new job, or a new store
            self.state = self._new_state(local_id)
            self._save_state()

        job, params = self.job, self._params()
        tags = {
            **job["tags"],
            "rlexp.command": job["command"],
            "rlexp.algo": job["algo"],
            "rlexp.env": job["env"],
            "rlexp.config_id": job["config_id"],
            "rlexp.group": job["group_id"],
        }
        job_tags = {**tags, "rlexp.kind": "job", "rlexp.local_id": local_id}
        if job.get("sweep"):
            with FileLock(self.folder.parent / ".sweep.lock"):  # its jobs may all be first
                sweep_run = _find_or_create_sweep_run(self.client, self.experiment_id, job["sweep"])
            job_tags["mlflow.parentRunId"] = sweep_run
        run_id = self._find_or_create_run(runs.get(local_id), job["name"], job_tags, params)
        tags |= {"rlexp.kind": "trial", "mlflow.parentRunId": run_id}
        trial_runs = {}
        for seed in job["seeds"]:
            trial_id = f"{local_id}/{seed}"
            trial_tags = {**tags, "rlexp.seed": str(seed), "rlexp.local_id": trial_id}
            trial_params = {**params, "seed": str(seed)}  # MLflow does not inherit params
            trial_runs[str(seed)] = self._find_or_create_run(
                runs.get(trial_id), f"trial {seed}", trial_tags, trial_params
            )
        self.state |= {"run_id": run_id, "trial_runs": trial_runs}
        self._save_state()
        return runs

    def _find_or_create_run(self, run: Run | None, name: str, tags: dict[str, str], params: dict[str, str]) -> str:
        tags = {mlflow_key(key): mask(str(value))[:MAX_TAG] for key, value in tags.items()}
        if run is None:
            run = self.client.create_run(self.experiment_id, int(self.job["started"] * 1000), tags, name)
        run_id = str(run.info.run_id)
        new_tags = [RunTag(key, value) for key, value in tags.items() if run.data.tags.get(key) != value]
        # MLflow refuses to change a param; the first start's values stay.
        new_params = [Param(key, value) for key, value in params.items() if key not in run.data.params]
        for chunk in _chunks(new_tags, MAX_PARAMS):
            self.client.log_batch(run_id, tags=chunk)
        for chunk in _chunks(new_params, MAX_PARAMS):
            self.client.log_batch(run_id, params=chunk)
        return run_id

    def _params(self) -> dict[str, str]:
        return dict(flat_params(mask_tree(read_config(self.folder))))

    def _run_ids(self) -> list[str]:
        return [self.state["run_id"], *self.state["trial_runs"].values()]

    # Metrics.

    def send(self) -> int:
        """Send the complete lines of `metrics.jsonl` that were not sent before; returns how many."""
        path = self.folder / "metrics.jsonl"
        data = read_bytes(path, MAX_LINES) if path.exists() else b""
        check_file(path, data, find_json(self.folder / "summary.json", SUMMARY, "status"))
        lines = data.split(b"\n")[:-1]
        first = self.state["lines"]
        for chunk in _chunks(list(enumerate(lines, start=1))[first:], LINES_AT_ONCE):
            self._send_lines(path, chunk)
        return max(len(lines) - first, 0)

    def _send_lines(self, path: Path, lines: list[tuple[int, bytes]]) -> None:
        records = [read_record(path, number, line, len(self.job["seeds"])) for number, line in lines]
        times = self.state["sending"]
        times += [record["time"] for record in records[len(times) :]]
        self._save_state()
        metrics: dict[str, list[Metric]] = defaultdict(list)
        last = self.state["last"]
        for record, seconds in zip(records, times, strict=False):
            self._add_metrics(metrics, record, seconds, last)
            last = [record["step"], seconds]
        self._log_metrics(metrics)
        num_sent = self.state["lines"] + len(records)
        self.state |= {"lines": num_sent, "last": last, "sending": times[len(records) :]}
        self._save_state()

    def _add_metrics(
        self,
        metrics: dict[str, list[Metric]],
        record: dict[str, Any],
        seconds: float,
        last: list[float] | None,
    ) -> None:
        job_run, *trial_runs = self._run_ids()
        step, timestamp = record["step"], int(seconds * 1000)
        for name, values in record["metrics"].items():
            name = mlflow_key(name)
            for run_id, value in zip(trial_runs, values, strict=True):
                if value is not None:
                    metrics[run_id].append(Metric(name, float(value), timestamp, step))
            present = [value for value in values if value is not None]
            if present and name != "final/return":  # the job's final/return is the summary's
                for aggregate, function in AGGREGATES.items():
                    value = float(function(present))
                    metrics[job_run].append(Metric(f"{name}/{aggregate}", value, timestamp, step))
        # No rate over a pause: the last record of a start that was killed is older than this start.
        paused = last is None or last[1] < self.job["started"] <= seconds
        if last is not None and not paused and step > last[0] and seconds > last[1]:
            rate = (step - last[0]) * len(trial_runs) / (seconds - last[1])
            metrics[job_run].append(Metric("time/steps_per_second", rate, timestamp, step))

    def _log_metrics(self, metrics: dict[str, list[Metric]]) -> None:
        for run_id, values in metrics.items():
            for chunk in _chunks(values, MAX_METRICS):
                self.client.log_batch(run_id, metrics=chunk)
                self.changed = True

    # The end.

    def finish(self, status: str) -> list[str]:
        """Deliver everything but the curves and close the runs; may be called again.

        Args:
            status: "done", "failed", "killed" or "pruned".

        Returns:
            What could not be delivered, `<what>: <why>`; empty if MLflow has everything.

        Raises:
            mlflow.exceptions.MlflowException: if the runs could not be closed.
        """
        path = self.folder / "summary.json"
        summary = find_json(path, SUMMARY, "status") or {}
        check_later(self.folder / "evaluation.csv", summary)
        job_run, failures = self.state["run_id"], []
        self.client.get_run(job_run)  # a server that is away says so here, once

        def send_once(what: str, file: Path, send: Callable[..., object], *args: object) -> None:
            if file.is_dir():
                failures.append(f"{what}: expected a file, received a folder")
                return
            digest = _sha256(file) if file.is_file() and owned(file, self.folder) else None
            if digest in (None, self.state["artifacts"].get(what)):
                return
            try:
                send(*args)
            except Exception as error:  # whatever it is, the rest is still to be delivered
                failures.append(f"{what}: {one_line(error)}")
                return
            self.changed = True
            self.sent_files.append(what)
            self.state["artifacts"][what] = digest
            self._save_state()

        send_once(path.name, path, self._send_summary, path, summary)
        for file in (self.folder / name for name in JOB_ARTIFACTS):
            send_once(file.name, file, self.client.log_artifact, job_run, file)
        for seed, run_id in self.state["trial_runs"].items():
            for file in (self._weights(seed), self._weights(seed).with_name("best.npz")):
                send_once(f"trials/{seed}/{file.name}", file, self.client.log_artifact, run_id, file, "weights")
        if (seed := _best_seed(summary)) is not None:
            file = self._weights(seed)
            send_once(f"model {MODEL_NAME}", file, self._log_model, file, seed, summary)
        if self.state.get("missing", []) != failures:  # before the runs are closed, which says that all is over
            self.state["missing"] = failures
            self._save_state()
        self._close_runs(status, summary)
        return failures

    def _weights(self, seed: int | str) -> Path:
        return self.folder / "trials" / str(seed) / "best.keras"

    def _send_summary(self, path: Path, summary: dict[str, Any]) -> None:
        final = summary.get("final/return", {})
        values = {f"final/return/{name}": final.get(name) for name in ("mean", "std", "iqm", "min", "max")}
        if final:  # over how many trials these are
            values["final/return/trials"] = sum(value is not None for value in final.get("per_trial", []))
        values["time/wall_seconds"] = summary.get("wall_seconds")
        values["time/grouped"] = summary.get("grouped")
        step, seconds = self._end()
        metrics = [
            Metric(name, float(value), int(seconds * 1000), step) for name, value in values.items() if value is not None
        ]
        self._log_metrics({self.state["run_id"]: metrics})
        self.client.log_artifact(self.state["run_id"], path)

    def _end(self) -> tuple[int, float]:
        """Step and time of the last record: the same whenever this is delivered."""
        step, seconds = self.state["last"] or (0, self.job["started"])
        return int(step), float(seconds)

    def _close_runs(self, status: str, summary: dict[str, Any]) -> None:
        if self.state["status"] == status and not self.changed:
            return
        trials = summary.get("trials", [])
        ended = {str(trial["seed"]): TRIAL_STATUSES.get(trial.get("status")) for trial in trials}
        end = int(self._end()[1] * 1000)
        for seed, run_id in self.state["trial_runs"].items():
            self.client.set_terminated(run_id, ended.get(seed) or STATUSES[status], end)
        if summary.get("error"):
            self.client.set_tag(self.state["run_id"], "rlexp.error", mask(str(summary["error"]))[:MAX_TAG])
        if status == "pruned":
            self.client.set_tag(self.state["run_id"], "rlexp.pruned", str(summary["pruned_at"]))
        restarted = sum(trial.get("restarted_episodes", 0) for trial in trials)
        if restarted:
            self.client.set_tag(self.state["run_id"], "rlexp.env_not_deterministic", f"{restarted} episodes restarted")
        if not summary:
            self.client.set_tag(self.state["run_id"], LOST, DIED)
        self.client.set_terminated(self.state["run_id"], STATUSES[status], end)
        self.state["status"] = status
        self._save_state()
        self.changed = True

    # The model.

    def _log_model(self, weights: Path, seed: int, summary: dict[str, Any]) -> None:
        signature = model_signature(weights, summary)
        run_id = self.state["run_id"]
        models = self.client.search_logged_models(
            [self.experiment_id], f"source_run_id = '{run_id}' AND name = '{MODEL_NAME}'"
        )
        tags = {"rlexp.seed": str(seed), "rlexp.weights": _sha256(weights)}
        same = [model for model in models if model.tags.items() >= tags.items()]  # an earlier attempt
        if any(model.status == LoggedModelStatus.READY for model in same):
            return
        create = self.client.create_logged_model
        logged = same[0] if same else create(self.experiment_id, MODEL_NAME, run_id, tags=tags)
        model_id = logged.model_id
        model = Model(logged.artifact_location, run_id, model_uuid=model_id, model_id=model_id)
        with tempfile.TemporaryDirectory() as folder:
            save_keras_model(weights, Path(folder) / "model", model, signature)
            self.client.log_model_artifacts(model_id, str(Path(folder) / "model"))
        outputs = self.client.get_run(run_id).outputs
        if model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
            self.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=self._end()[0])])
        self.client.finalize_logged_model(model_id, LoggedModelStatus.READY)


class SweepDelivery:
    """Delivers what a sweep leaves, but for its jobs, which are delivered each for itself.

    Args:
        folder: the sweep's folder, `<output_dir>/<study>/sweeps/<id>`.
        uri: tracking URI.
        inside: as of `Delivery`.

    Raises:
        mlflow.exceptions.MlflowException: if the store cannot be reached.
    """

    def __init__(self, folder: Path, uri: str, inside: Path | None = None) -> None:
        self.folder, self.uri = folder.absolute(), uri
        sweep = read_json(folder / "sweep.json", SWEEP, *SWEEP_KEYS)
        with _opened(uri, self.folder, self.folder.parents[2]) as self.client:
            experiment_id = _find_or_create_experiment(self.client, uri, sweep["study"], self.folder.parents[2], inside)
        with FileLock(self.folder.parents[1] / ".sweep.lock"):
            self.run_id = _find_or_create_sweep_run(self.client, experiment_id, sweep)
        self._pulse = _Pulse(self.client)
        run = self.client.get_run(self.run_id)
        _check_place(run.info.artifact_uri, uri, self.folder.parents[2], inside)
        self.silent = _silent(run)

    def beat(self) -> None:
        """Give a sign of life, where one is due; a run that was closed is opened again."""
        said = self._pulse.beat(self.run_id)
        if said == "closed":
            _reopen(self.client, self.run_id)
        if said:
            self._remember(None)

    def finish(self) -> list[str]:
        """Deliver everything and close the run; may be called again.

        Returns:
            What could not be delivered, `<what>: <why>`; empty if MLflow has everything.

        Raises:
            mlflow.exceptions.MlflowException: if the store cannot be reached.
        """
        client, run_id, folder = self.client, self.run_id, self.folder
        sweep = read_json(folder / "sweep.json", SWEEP, *SWEEP_KEYS)
        failures = []
        report = folder.parents[1] / "report"  # of the study
        send: dict[str, Callable[[], None]] = {"sweep.json": lambda: client.log_artifact(run_id, folder / "sweep.json")}
        if report.is_dir():

            def send_report() -> None:
                check_folder(report)
                client.log_artifacts(run_id, str(report), "report")

            send["report"] = send_report
        for name, deliver in send.items():
            try:
                deliver()
            except Exception as error:  # whatever it is, the rest is still to be delivered
                failures.append(f"{name}: {one_line(error)}")
        count = Counter(job["status"] for job in sweep.get("jobs", []))
        now = int(sweep["started"] * 1000)
        client.log_batch(run_id, [Metric(f"jobs/{mlflow_key(name)}", number, now, 0) for name, number in count.items()])
        if sweep["status"] == "running":
            client.set_tag(run_id, LOST, DIED)
        client.set_terminated(run_id, STATUSES.get(sweep["status"], "KILLED"))
        if not failures:
            self._remember(sweep["status"])
        return failures

    def _remember(self, status: str | None) -> None:
        write_json(self.folder / "tracking.json", {"uri": self.uri, "run_id": self.run_id, "status": status})


class _Pulse:
    """Signs of life of a run."""

    def __init__(self, client: MlflowClient) -> None:
        self._client, self._due = client, -math.inf

    def beat(self, run_id: str) -> str | None:
        """Give one where it is due; "open" or "closed", as the run was, or None where it was not due."""
        if time.monotonic() < self._due:
            return None
        self._client.set_tag(run_id, "rlexp.heartbeat", datetime.now(UTC).isoformat(timespec="seconds"))
        open_ = self._client.get_run(run_id).info.status == "RUNNING"
        self._due = time.monotonic() + HEARTBEAT
        return "open" if open_ else "closed"


def _silent(run: Run) -> float:
    """Seconds since a run's last sign of life; infinite where it never had one."""
    said = run.data.tags.get("rlexp.heartbeat")
    return time.time() - datetime.fromisoformat(said).timestamp() if said else math.inf


def _reopen(client: MlflowClient, run_id: str) -> None:
    tags = client.get_run(run_id).data.tags
    for name in {"rlexp.pruned", LOST} & tags.keys():
        client.delete_tag(run_id, name)
    client.update_run(run_id, status="RUNNING")


def close_silent(uri: str, study: str, living: Collection[str]) -> list[str]:
    """Close the runs of a study that have had signs of life but none for `SILENCE`, on whatever machine they ran.

    One that is closed while it lives, since its server was away for so long, is opened again by its next sign of life.

    Args:
        uri: tracking URI.
        study: name of the experiment.
        living: ids of runs whose processes are known to live.

    Returns:
        The names of the jobs and sweeps.
    """
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        return []

    def running(condition: str) -> list[Run]:
        where = f"attributes.status = 'RUNNING' AND {condition}"
        return list(client.search_runs([experiment.experiment_id], where, ViewType.ACTIVE_ONLY, MAX_RUNS))

    closed = []
    for run in (run for kind in ("job", "sweep") for run in running(f"tags.`rlexp.kind` = '{kind}'")):
        run_id, silent = run.info.run_id, _silent(run)
        if run_id in living or not SILENCE < silent < math.inf:
            continue
        ended = time.time() - silent
        trials = running(f"tags.`rlexp.kind` = 'trial' AND tags.`mlflow.parentRunId` = '{run_id}'")
        client.set_tag(run_id, LOST, f"no sign of life since {run.data.tags['rlexp.heartbeat']}")
        for dead in (*trials, run):
            client.set_terminated(dead.info.run_id, "KILLED", int(ended * 1000))
        closed.append(str(run.info.run_name))
    return closed


def _check_place(location: str, uri: str, output_dir: Path, inside: Path | None) -> None:
    """A store in the output folder may have come with it: it does not choose where files are sent.

    Args:
        location: where an experiment's or a run's files go, as the store has it.
        uri: of the store.
        output_dir: the folder of the studies.
        inside: as of `Delivery`.
    """
    if inside is None and not (local_store(uri, output_dir) and re.match(r"[a-z][a-z0-9+.-]+:", location, re.I)):
        return
    parts = urlsplit(location)
    here = parts.scheme.lower() in ("", "file") and parts.netloc in ("", "localhost")
    if here and (inside is None or Path(unquote(parts.path)).resolve().is_relative_to(inside.resolve())):
        return
    there = "elsewhere than in this machine's files" if inside is None else f"outside of {inside}"
    agree = "use a store outside of the output folder" if inside is None else f"--tracking-uri {mask(uri)} allows it"
    raise RuntimeError(f"the store {mask(uri)} would put files into {mask(location)}, {there}: {agree}")


def _find_or_create_experiment(
    client: MlflowClient, uri: str, name: str, output_dir: Path, inside: Path | None = None
) -> str:
    if client.get_experiment_by_name(name) is None:
        # MLflow's own default for a store without a server depends on the current directory.
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
    _check_place(str(experiment.artifact_location), uri, output_dir, inside)
    return str(experiment.experiment_id)


def _find_or_create_sweep_run(client: MlflowClient, experiment_id: str, sweep: dict[str, Any]) -> str:
    """The run of a sweep in one study."""
    local_id = str(sweep["local_id"])
    if not re.fullmatch(r"[0-9a-f]{1,64}", local_id):  # it goes into a query
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


def save_keras_model(weights: Path, path: Path, model: Model, signature: ModelSignature) -> None:
    """Write what `mlflow.keras.save_model` writes, from a `.keras` file and without importing Keras (9 s).

    Args:
        weights: a `.keras` file.
        path: folder to make.
        model: MLflow's description of the model, completed here.
        signature: shapes and types of its input and output.
    """
    version = read_member(weights, "metadata.json")["keras_version"]
    backend = {"keras_version": version, "keras_backend": "tensorflow"}
    model.add_flavor("keras", data="data", save_exported_model=False, **backend)
    packages = ("keras", "tensorflow", "numpy")
    requirements = [f"{package}=={importlib.metadata.version(package)}" for package in packages]
    with tempfile.TemporaryDirectory() as folder:
        renamed = shutil.copy(weights, Path(folder) / "model.keras")
        with warnings.catch_warnings():  # MLflow would like an example of an input
            warnings.simplefilter("ignore")
            pyfunc.save_model(
                path,
                loader_module="mlflow.keras",
                data_path=renamed,
                mlflow_model=model,
                signature=signature,
                pip_requirements=requirements,
            )
    del model.flavors["python_function"]["data"]  # mlflow.keras finds its data by the other flavor
    model.save(path / "MLmodel")


def model_signature(weights: Path, summary: dict[str, Any]) -> ModelSignature:
    """The signature of a saved Keras model with one input: that of its input layer, else of the observations.

    Args:
        weights: a `.keras` file.
        summary: the job's `summary.json`; `observation_shape` and `observation_dtype` stand in where the
            model has no input layer; `num_actions`, if present, is the number of outputs.

    Raises:
        ValueError: if the shape of the input is not known.
    """
    config = read_member(weights, "config.json")["config"]
    layers = [layer["config"] for layer in config.get("layers", []) if layer["class_name"] == "InputLayer"]
    if len(layers) == 1:
        shape, dtype = layers[0]["batch_shape"][1:], layers[0]["dtype"]
    elif not layers and "observation_shape" in summary:
        shape, dtype = summary["observation_shape"], summary["observation_dtype"]
    else:
        raise ValueError(f"the input shape is not known: {len(layers)} input layers in {weights.name}")
    inputs = Schema([TensorSpec(np.dtype(dtype), (-1, *(size or -1 for size in shape)))])
    if "num_actions" not in summary:
        return ModelSignature(inputs)
    return ModelSignature(inputs, Schema([TensorSpec(np.dtype("float32"), (-1, summary["num_actions"]))]))


def _best_seed(summary: dict[str, Any]) -> int | None:
    trials = [trial for trial in summary.get("trials", []) if trial.get("final_return") is not None]
    return max(trials, key=lambda trial: trial["final_return"])["seed"] if trials else None


def flat_params(config: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a nested mapping as MLflow params: keys joined by dots, lists as JSON.

    A value beyond MLflow's limit is cut and says so; all of it is in the artifact `config.yaml`.
    """
    if isinstance(config, dict) and (config or not prefix):
        for key, value in config.items():
            yield from flat_params(value, prefix + _legal(str(key), r"[^\w\- ]") + ".")
        return
    text = json.dumps(config) if isinstance(config, dict | list) else str(config)
    if len(text) > MAX_PARAM:
        note = f"... ({len(text)} characters, all of them in config.yaml)"
        text = text[: MAX_PARAM - len(note)] + note
    yield mlflow_key(prefix.removesuffix(".")), text


def mlflow_key(name: str) -> str:
    """`name` as MLflow accepts it: `f(x)` becomes `f_x28_x_x29_`, and a very long name ends in its hash."""
    key = _legal(name, r"[^\w\-. /]")
    if len(key) > MAX_KEY:
        key = f"{key[: MAX_KEY - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return key


def _legal(name: str, illegal: str) -> str:
    return re.sub(illegal, lambda match: f"_x{ord(match[0]):x}_", name)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@contextlib.contextmanager
def _opened(uri: str, folder: Path, output_dir: Path) -> Iterator[MlflowClient]:
    """A client of a store that is whole, while no other process makes it or sets it right.

    Args:
        uri: tracking URI.
        folder: a job's or a sweep's, whose log is told what was set aside.
        output_dir: whose jobs may have been delivered to it.
    """
    again = sync_command(output_dir, uri)

    def say(what: str) -> None:
        with open_to_write(folder / "tracking.log", "a") as log:
            log.write(f"{SET_ASIDE}{clean(what)} What other jobs had delivered comes back with: {again}\n")

    with store.lock(uri) as path:
        if path is not None:
            store.prepare(path, say)
        yield MlflowClient(tracking_uri=uri)


def _chunks(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


MAX_CONFIG, MAX_RECORDS, MAX_WEIGHTS = 4 * 2**20, 2**30, 4 * 2**30  # bytes of what is downloaded of a run


def fetch_job(source: str, uri: str | None, folder: Path) -> Path:
    """Download what a policy needs of a run and lay it out as a job folder.

    Args:
        source: id of a job's or a trial's run; `runs:/<id>` and `runs:/<id>/<anything>` too.
        uri: tracking URI; None: MLFLOW_TRACKING_URI, else the SQLite store of ./outputs.
        folder: an empty folder, which becomes the job's. Nothing is written outside of it, whatever the server says.

    Returns:
        The folder of the job, or that of the trial in it when the run is a trial's.

    Raises:
        Refusal: where there is no such run, or it is not as rlexp's are.
    """
    run_id = source.removeprefix("runs:/").split("/")[0]
    uri = resolve_uri(uri, Path("outputs"))
    nothing = refusal(
        "source",
        "a job folder, a .keras file in one, or an MLflow run",
        source,
        f"Looked for the run in {uri}",
    )
    if not re.fullmatch(r"[0-9a-f]{32}", run_id) or (
        uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file()
    ):
        raise nothing
    if wrong := store.trouble(uri):
        raise Refusal(f"source: {wrong}")
    client = MlflowClient(tracking_uri=uri)
    try:
        run = client.get_run(run_id)
        tag = run.data.tags.get("rlexp.seed")
        job_run = run if tag is None else client.get_run(names.run_id(run.data.tags.get("mlflow.parentRunId")))
        _fetch_file(job_run, uri, "config.yaml", folder, MAX_CONFIG)
        _fetch_file(job_run, uri, "summary.json", folder, MAX_CONFIG * 16)
        seeds = _seeds(read_config(folder))
        best = None if tag is not None else _best_seed(read_json(folder / "summary.json", SUMMARY))
        seed = names.seed(tag if tag is not None else str(best), seeds) if tag is not None or best is not None else None
        trial = run if tag is not None else _trial_run(client, job_run, seed)
        target = folder / "trials" / str(seed)
        listed = client.list_artifacts(trial.info.run_id, "weights") if trial is not None else []
        for name in ("best.keras", "best.npz"):
            if trial is not None and any(file.path == f"weights/{name}" for file in listed):
                target.mkdir(parents=True, exist_ok=True)
                _fetch_file(trial, uri, f"weights/{name}", target, MAX_WEIGHTS)
    except (MlflowException, OSError) as error:
        raise nothing from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        said = one_line(error).replace(f"{folder}/", "")
        raise refusal("source", "a run that rlexp has tracked", f"{source} ({said})", f"Looked in {uri}") from error
    return target if tag is not None else folder


def _seeds(config: dict[str, Any]) -> range:
    first, number = select(config, "seed"), select(config, "trials")
    if any(isinstance(value, bool) or not isinstance(value, int) or value < 0 for value in (first, number)):
        raise ValueError("expected whole numbers as seed and trials in config.yaml")
    return range(first, first + number)


def _trial_run(client: MlflowClient, job_run: Run, seed: int | None) -> Run | None:
    """The run of one of a job's trials, the newest, if there is one."""
    experiment, job_id = str(job_run.info.experiment_id), names.run_id(job_run.info.run_id)
    trials = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{job_id}'", max_results=MAX_RUNS)
    return next((trial for trial in trials if trial.data.tags.get("rlexp.seed") == str(seed)), None)


def _fetch_file(run: Run, uri: str, name: str, folder: Path, most: int) -> None:
    """Download one artifact of a run to `<folder>/<last part of its name>`, which no server has chosen.

    Raises:
        ValueError: where it is larger than `most` bytes, or lies on another server, which would get our credentials.
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
    repository._download_file(name, str(path))
    if path.is_symlink() or not path.is_file() or path.stat().st_size > most:
        path.unlink(missing_ok=True)
        raise ValueError(f"expected a file of at most {most:,} bytes as {name}")


def fetch_study(study: str, uri: str | None, folder: Path) -> dict[str, str]:
    """Lay a study out as its job folders: what a report needs, from MLflow alone.

    Of each job: `config.yaml`, `job.json`, `metrics.jsonl`, `summary.json`, `evaluation.csv`. What a job has not
    delivered as a file yet (it runs, or died) is put together from its runs: params, tags, status, the trials' curves.

    Args:
        study: name of the experiment.
        uri: tracking URI; None: MLFLOW_TRACKING_URI, else the SQLite store of ./outputs.
        folder: where the job folders go. Nothing is written outside of it, whatever the server says.

    Returns:
        Names of runs that are not as rlexp's are, and why.

    Raises:
        Refusal: where there is no such study, or no such store.
    """
    uri = resolve_uri(uri, Path("outputs"))
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise refusal("--tracking-uri", "an MLflow store", f"{uri}, which does not exist")
    if wrong := store.trouble(uri):
        raise Refusal(f"--tracking-uri: {wrong}")
    client = MlflowClient(tracking_uri=uri)
    problems: dict[str, str] = {}
    try:
        experiment = client.get_experiment_by_name(study)
        if experiment is None:
            known = [e.name for e in client.search_experiments()]
            raise refusal("study", f"an experiment in {uri}", repr(study), did_you_mean(study, known))
        jobs, trials = (
            client.search_runs([experiment.experiment_id], f"tags.`rlexp.kind` = '{kind}'", max_results=MAX_RUNS)
            for kind in ("job", "trial")
        )
        newest: dict[str, Run] = {}  # a job that was started afresh has several runs
        for run in sorted(jobs, key=lambda run: int(run.info.start_time)):
            newest[str(run.info.run_name)] = run
        taken: set[str] = set()
        for name, run in newest.items():
            own = [t for t in trials if t.data.tags.get("mlflow.parentRunId") == run.info.run_id]
            place = folder / names.folder(name, taken)
            try:
                _fetch_job_files(client, uri, study, run, own, place)
            except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError, OverflowError) as error:
                problems[f"run {names.shown(name)}"] = one_line(error).replace(f"{place}/", "")
                shutil.rmtree(place, ignore_errors=True)
    except MlflowException as error:
        raise refusal("--tracking-uri", "an MLflow store that answers", f"{uri}: {one_line(error)}") from error
    return problems


def _fetch_job_files(client: MlflowClient, uri: str, study: str, run: Run, trials: list[Run], folder: Path) -> None:
    folder.mkdir(parents=True)
    tags, run_id = run.data.tags, names.run_id(run.info.run_id)
    by_seed = {names.seed(trial.data.tags.get("rlexp.seed")): trial for trial in trials}
    if len(by_seed) < len(trials):
        raise ValueError("expected one trial of each seed, received two of one")
    seeds, trials = sorted(by_seed), [by_seed[seed] for seed in sorted(by_seed)]
    job = {
        "study": study,
        "name": str(run.info.run_name),
        "algo": names.tag(tags, "rlexp.algo"),
        "env": names.tag(tags, "rlexp.env"),
        "config_id": names.tag(tags, "rlexp.config_id"),
        "group_id": names.tag(tags, "rlexp.group"),
        "seeds": seeds,
        "command": names.tag(tags, "rlexp.command"),
        "started": int(run.info.start_time) / 1000,
        "tags": {key: value for key, value in tags.items() if not key.startswith(("rlexp.", "mlflow."))},
    }
    (folder / "job.json").write_text(json.dumps(job))
    delivered = {file.path for file in client.list_artifacts(run_id) if not file.is_dir}
    for name, most in (
        ("config.yaml", MAX_CONFIG),
        ("metrics.jsonl", MAX_RECORDS),
        ("summary.json", MAX_CONFIG * 16),
        ("evaluation.csv", MAX_RECORDS),
    ):
        if name in delivered:
            _fetch_file(run, uri, name, folder, most)
    if "config.yaml" not in delivered:
        (folder / "config.yaml").write_text(json.dumps(config_of_params(run.data.params)))
    config = read_config(folder)
    if "trials" in config:
        for seed in seeds:
            names.seed(str(seed), _seeds(config))
    if "metrics.jsonl" not in delivered:
        _write_records(client, trials, folder / "metrics.jsonl")
    ended = {mlflow: ours for ours, mlflow in STATUSES.items()}
    if "summary.json" not in delivered and run.info.status in ended:
        status = "pruned" if "rlexp.pruned" in tags else ended[run.info.status]
        (folder / "summary.json").write_text(json.dumps({"status": status}))


def _write_records(client: MlflowClient, trials: list[Run], path: Path) -> None:
    """The returns of trials as lines of `metrics.jsonl`."""
    rows: dict[int, dict[str, list[float | None]]] = defaultdict(dict)
    for k, trial in enumerate(trials):
        for name in set(trial.data.metrics) & {"train/return", "eval/return"}:
            for point in client.get_metric_history(trial.info.run_id, name):
                rows[point.step].setdefault(name, [None] * len(trials))[k] = point.value
    records = [{"step": step, "time": 0, "metrics": metrics} for step, metrics in sorted(rows.items())]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def config_of_params(params: dict[str, str]) -> dict[str, Any]:
    """The nested configuration that `flat_params` made params of; texts that look like values become values."""
    config: dict[str, Any] = {}
    for key, value in params.items():
        *parents, leaf = (re.sub(r"_x([0-9a-f]+)_", lambda m: chr(int(m[1], 16)), part) for part in key.split("."))
        node = config
        for parent in parents:
            node = node.setdefault(parent, {})
        try:
            node[leaf] = {"None": None, "True": True, "False": False}.get(value, ...)
            if node[leaf] is ...:
                node[leaf] = json.loads(value)
        except ValueError:
            node[leaf] = value
    return config
