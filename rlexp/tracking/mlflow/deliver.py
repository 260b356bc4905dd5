"""Delivery of a job's folder to MLflow.

    study -> experiment
    sweep -> run: its table, its report; the runs of its jobs are nested in it
    job   -> run: configuration as params, tags, aggregates over trials, artifacts, best weights as a model
    trial -> nested run `<job> seed <seed>`: the same params and its seed, raw curves, its best weights

A delivery can be interrupted at any moment and repeated. Runs are found again by their tag `rlexp.local_id`. Lines of
`metrics.jsonl` are counted in `tracking.json`. MLflow keeps one copy of a point with the same run, name, step, value
and time, so lines that were under way at an interruption are sent again with the times they had, which `tracking.json`
holds before they are sent.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow.entities import Metric, Param, Run, RunTag, ViewType

from rlexp.config import commands
from rlexp.system.links import owned
from rlexp.system.stored_files import MAX_RECORDS as MAX_LINES
from rlexp.system.stored_files import check_file, check_later, find_json, read_bytes, read_json, read_record
from rlexp.system.stored_schemas import JOB, SUMMARY
from rlexp.system.stored_yaml import read_config
from rlexp.system.text import mask, mask_tree
from rlexp.tracking.log import STUDY_NOTE, add_note, one_line
from rlexp.tracking.mlflow import curves, study, study_jobs
from rlexp.tracking.mlflow.alive import DIED, LOST, Heartbeat, reopen, seconds_silent
from rlexp.tracking.mlflow.description import changed_tags, description, interval
from rlexp.tracking.mlflow.experiment import (
    check_artifact_location,
    find_or_create_experiment,
    find_or_create_sweep_run,
    open_store,
)
from rlexp.tracking.mlflow.model import best_seed, log_model, model_name, sha256
from rlexp.tracking.mlflow.params import (
    MAX_METRICS,
    MAX_PARAMS,
    MAX_RUNS,
    MAX_TAG,
    chunks,
    flat_params,
    mlflow_key,
    own_settings,
)
from rlexp.tracking.mlflow.receipt import load_receipt, new_receipt, save_receipt

DELIVERED_KEYS = ("study", "name", "algo", "env", "config_id", "group_id", "seeds", "command", "started", "tags")
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
USER = "mlflow.user"
LINES_AT_ONCE = 200  # lines of metrics.jsonl between two writes of tracking.json


class Delivery:
    """Delivers one job's folder to one MLflow store.

    Args:
        folder: the job's folder, `<output_dir>/<study>/<job>`.
        uri: tracking URI.
        running: whether the job runs: then runs that were closed are opened again, and get signs of life.
        inside: the only folder into which files may be written; None if the reader has named the store.

    Attributes:
        receipt: what MLflow has received, as in `tracking.json`.
        changed: whether anything was sent.
        silent: seconds since the last sign of life of the job's run; infinite if it never had one.
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
        self._name = self._find_name()
        with open_store(uri, self.folder, self.folder.parents[1]) as self.client:
            self.experiment_id = find_or_create_experiment(
                self.client, uri, self.job["study"], folder.parent.parent, inside
            )
        self.receipt = load_receipt(self.folder, uri, self.experiment_id)
        found = self._find_runs()
        self._find_or_create_runs(found)
        job_run = found.get(self.receipt["local_id"])
        self.silent = seconds_silent(job_run) if job_run is not None else math.inf
        self._heartbeat = Heartbeat(self.client)
        config = self.folder / "config.yaml"  # now, so that others can read a job that runs
        self._send_once(config.name, config, self.client.log_artifact, self.receipt["run_id"], config)
        self._refresh_study(created=not found)
        if running:
            self._reopen([run.info.run_id for run in found.values() if run.info.status != "RUNNING"])
            self.beat()

    def beat(self) -> None:
        """Give a sign of life if one is due, and open the runs again if they were closed for lack of one."""
        if self._heartbeat.beat(self.receipt["run_id"]) == "closed":
            self._reopen(self._run_ids())

    def _reopen(self, run_ids: list[str]) -> None:
        if self.receipt["status"] is not None:
            self.receipt["status"] = None
            self._save()
        for run_id in run_ids:
            reopen(self.client, run_id)

    def _save(self) -> None:
        save_receipt(self.folder, self.receipt)

    def _find_name(self) -> str:
        """The job's name in its study; the folder's if other jobs' files keep it from being found."""
        try:
            names = study_jobs.names(self.folder.parent)
        except Exception as error:  # of configurations that no job writes
            add_note(self.folder, f"{STUDY_NOTE}{one_line(error)}")
            names = {}
        return names.get(self.folder.name, str(self.job["name"])[: study_jobs.MAX_NAME])

    def _refresh_study(self, created: bool) -> None:
        """Update names and views of the study; a failure is noted in the job's log and concerns nothing else."""
        own = {self.folder.name: self._name} if created else {}
        try:
            study.refresh(self.client, self.uri, self.experiment_id, self.folder.parent, own)
        except Exception as error:
            add_note(self.folder, f"{STUDY_NOTE}{one_line(error)}")

    # Runs.

    def _find_runs(self) -> dict[str, Run]:
        """The runs of the job and its trials that are in the store, by their local ids."""
        local_id = self.receipt["local_id"]
        found = self.client.search_runs(
            [self.experiment_id], f"tags.`rlexp.local_id` LIKE '{local_id}%'", ViewType.ALL, MAX_RUNS
        )
        if any(run.info.lifecycle_stage == "deleted" for run in found):
            raise RuntimeError("a run of it was deleted in MLflow: remove tracking.json to deliver it as new")
        for run in found:
            check_artifact_location(run.info.artifact_uri, self.uri, self.folder.parents[1], self._inside)
        return {run.data.tags["rlexp.local_id"]: run for run in found}

    def _find_or_create_runs(self, found: dict[str, Run]) -> None:
        """Create the runs that are missing, and note the ids of all."""
        local_id = self.receipt["local_id"]
        if local_id not in found:  # a new job, or a new store
            self.receipt = new_receipt(self.uri, self.experiment_id, local_id)
            self._save()
        tags, params = self._tags(), dict(flat_params(own_settings(mask_tree(read_config(self.folder)))))
        job_tags = {**tags, "rlexp.kind": "job", "rlexp.local_id": local_id}
        if self.job.get("sweep"):
            with FileLock(self.folder.parent / ".sweep.lock"):  # each of its jobs may be the first
                sweep_run = find_or_create_sweep_run(self.client, self.experiment_id, self.job["sweep"])
            job_tags["mlflow.parentRunId"] = sweep_run
        started = int(self.job["started"] * 1000)
        run_id = self._find_or_create_run(found.get(local_id), self._name, job_tags, params, started)
        tags |= {"rlexp.kind": "trial", "mlflow.parentRunId": run_id}
        trial_runs = {}
        for number, seed in enumerate(reversed(self.job["seeds"])):  # MLflow lists the run that started last first
            trial_id = f"{local_id}/{seed}"
            trial_tags = {**tags, "rlexp.seed": str(seed), "rlexp.local_id": trial_id}
            trial_params = {**params, "seed": str(seed)}  # MLflow does not inherit params
            name = study_jobs.trial_name(self._name, seed)
            trial_runs[str(seed)] = self._find_or_create_run(
                found.get(trial_id), name, trial_tags, trial_params, started + 1 + number
            )
        self.receipt |= {"run_id": run_id, "trial_runs": dict(reversed(trial_runs.items()))}
        self._save()

    def _find_or_create_run(
        self, run: Run | None, name: str, tags: dict[str, str], params: dict[str, str], started: int
    ) -> str:
        """The id of a run, with all tags and params; `name` and `started`, in milliseconds, are for a new one."""
        tags = {mlflow_key(key): mask(str(value))[:MAX_TAG] for key, value in tags.items()}
        if run is None:
            run = self.client.create_run(self.experiment_id, started, tags, name)
        run_id = str(run.info.run_id)
        old = run.data.tags
        new_tags = [
            RunTag(key, value)
            for key, value in tags.items()
            if old.get(key) != value and not (key == USER and key in old)
        ]
        # MLflow does not let a param change; the values of the first start stay.
        new_params = [Param(key, value) for key, value in params.items() if key not in run.data.params]
        for chunk in chunks(new_tags, MAX_PARAMS):
            self.client.log_batch(run_id, tags=chunk)
        for chunk in chunks(new_params, MAX_PARAMS):
            self.client.log_batch(run_id, params=chunk)
        return run_id

    def _tags(self) -> dict[str, str]:
        """The tags that the runs of a job and of its trials share."""
        job = self.job
        return {
            **job["tags"],
            **_source(self.folder, job["tags"]),
            "rlexp.job": job["name"],
            "rlexp.command": self._command(),
            "rlexp.algo": job["algo"],
            "rlexp.env": job["env"],
            "rlexp.config_id": job["config_id"],
            "rlexp.group": job["group_id"],
        }

    def _command(self) -> str:
        """The command that trains the job alone; where its overrides are not known, the one that started it."""
        return commands.of_job(self.job) or str(self.job["command"])

    def _run_ids(self) -> list[str]:
        return [self.receipt["run_id"], *self.receipt["trial_runs"].values()]

    # Metrics.

    def send(self) -> int:
        """Send the complete lines of `metrics.jsonl` that were not sent before; returns how many."""
        path = self.folder / "metrics.jsonl"
        data = read_bytes(path, MAX_LINES) if path.exists() else b""
        check_file(path, data, find_json(self.folder / "summary.json", SUMMARY, "status"))
        lines = data.split(b"\n")[:-1]
        first = self.receipt["lines"]
        for chunk in chunks(list(enumerate(lines, start=1))[first:], LINES_AT_ONCE):
            self._send_lines(path, chunk)
        return max(len(lines) - first, 0)

    def _send_lines(self, path: Path, lines: list[tuple[int, bytes]]) -> None:
        records = [read_record(path, number, line, len(self.job["seeds"])) for number, line in lines]
        times = self.receipt["sending"]
        times += [record["time"] for record in records[len(times) :]]
        self._save()
        self._log_metrics(curves.points(records, times, self.receipt["last"], self.job["started"], self._run_ids()))
        num_sent = self.receipt["lines"] + len(records)
        last = [records[-1]["step"], times[len(records) - 1]]
        self.receipt |= {"lines": num_sent, "last": last, "sending": times[len(records) :]}
        self._save()

    def _log_metrics(self, metrics: dict[str, list[Metric]]) -> None:
        for run_id, values in metrics.items():
            for chunk in chunks(values, MAX_METRICS):
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
        summary = find_json(self.folder / "summary.json", SUMMARY, "status") or {}
        check_later(self.folder / "evaluation.csv", summary)
        run = self.client.get_run(self.receipt["run_id"])  # raises once for a server that cannot be reached
        self._refresh_study(created=False)
        self._describe(run, summary)
        failures = self._send_files(summary)
        if self.receipt.get("missing", []) != failures:  # before the runs are closed, which marks the end
            self.receipt["missing"] = failures
            self._save()
        self._close_runs(status, summary)
        return failures

    def _describe(self, run: Run, summary: dict[str, Any]) -> None:
        """Write the description of the job's run, unless a user has written one."""
        run_id = str(run.info.run_id)
        text = description(self.folder, run_id, mask(self._command()), summary)
        tags = [RunTag(key, value) for key, value in changed_tags(run.data.tags, text).items()]
        if tags:
            self.client.log_batch(run_id, tags=tags)

    def _send_files(self, summary: dict[str, Any]) -> list[str]:
        """Send the files that are new or have changed; returns what could not be sent, and why."""
        failures: list[str] = []

        def send_once(what: str, file: Path, send: Callable[..., object], *args: object) -> None:
            if failure := self._send_once(what, file, send, *args):
                failures.append(failure)

        job_run, path = self.receipt["run_id"], self.folder / "summary.json"
        send_once(path.name, path, self._send_summary, path, summary)
        for file in (self.folder / name for name in JOB_ARTIFACTS):
            send_once(file.name, file, self.client.log_artifact, job_run, file)
        for seed, run_id in self.receipt["trial_runs"].items():
            for file in (self._weights(seed), self._weights(seed).with_name("best.npz")):
                send_once(f"trials/{seed}/{file.name}", file, self.client.log_artifact, run_id, file, "weights")
        if (best := best_seed(summary)) is not None:
            file, step = self._weights(best), self._end()[0]
            name = model_name(self.job["algo"], self.job["env"], summary)
            send_once(
                "model best", file, log_model, self.client, self.experiment_id, job_run, file, best, step, summary, name
            )
        return failures

    def _send_once(self, what: str, file: Path, send: Callable[..., object], *args: object) -> str | None:
        """Send a file unless MLflow has it already; returns why it could not be sent."""
        if file.is_dir():
            return f"{what}: expected a file, received a folder"
        digest = sha256(file) if file.is_file() and owned(file, self.folder) else None
        if digest in (None, self.receipt["artifacts"].get(what)):
            return None
        try:
            send(*args)
        except Exception as error:  # whatever it is, the rest is still to be delivered
            return f"{what}: {one_line(error)}"
        self.changed = True
        self.sent_files.append(what)
        self.receipt["artifacts"][what] = digest
        self._save()
        return None

    def _weights(self, seed: int | str) -> Path:
        return self.folder / "trials" / str(seed) / "best.keras"

    def _send_summary(self, path: Path, summary: dict[str, Any]) -> None:
        final = summary.get("final/return", {})
        values = {f"final/return/{name}": final.get(name) for name in ("iqm", "min", "max")}
        values["final/return/low"], values["final/return/high"] = interval(summary)
        if final:  # how many trials these are over
            values["final/return/trials"] = sum(value is not None for value in final.get("per_trial", []))
        if summary.get("wall_seconds") is not None:
            values["time/minutes"] = summary["wall_seconds"] / 60
        values["time/grouped"] = summary.get("grouped")
        step, seconds = self._end()
        metrics = [
            Metric(name, float(value), int(seconds * 1000), step) for name, value in values.items() if value is not None
        ]
        self._log_metrics({self.receipt["run_id"]: metrics})
        self.client.log_artifact(self.receipt["run_id"], path)

    def _end(self) -> tuple[int, float]:
        """Step and time of the last record: the same whenever this is delivered."""
        step, seconds = self.receipt["last"] or (0, self.job["started"])
        return int(step), float(seconds)

    def _close_runs(self, status: str, summary: dict[str, Any]) -> None:
        if self.receipt["status"] == status and not self.changed:
            return
        job_run, end = self.receipt["run_id"], int(self._end()[1] * 1000)
        trials = summary.get("trials", [])
        ended = {str(trial["seed"]): TRIAL_STATUSES.get(trial.get("status")) for trial in trials}
        for seed, run_id in self.receipt["trial_runs"].items():
            self.client.set_terminated(run_id, ended.get(seed) or STATUSES[status], end)
        for tag, value in _end_tags(status, summary).items():
            self.client.set_tag(job_run, tag, value)
        self.client.set_terminated(job_run, STATUSES[status], end)
        self.receipt["status"] = status
        self._save()
        self.changed = True


def _source(folder: Path, tags: dict[str, str]) -> dict[str, str]:
    """MLflow's tags about the user and the source of a run."""
    found = {"mlflow.source.type": "LOCAL", "mlflow.source.name": f"rlexp {tags.get('version.rlexp', '')}".strip()}
    if "git.commit" in tags:
        found["mlflow.source.git.commit"] = tags["git.commit"]
    with contextlib.suppress(OSError, KeyError, NotImplementedError):  # a user without a name
        found[USER] = (folder / "job.json").owner()  # who ran the job, whoever delivers it
    return found


def _end_tags(status: str, summary: dict[str, Any]) -> dict[str, str]:
    """The tags of a job's run that say how the job ended."""
    tags = {}
    if summary.get("error"):
        tags["rlexp.error"] = mask(str(summary["error"]))[:MAX_TAG]
    if status == "pruned":
        tags["rlexp.pruned"] = str(summary["pruned_at"])
    if restarted := sum(trial.get("restarted_episodes", 0) for trial in summary.get("trials", [])):
        tags["rlexp.env_not_deterministic"] = f"{restarted} episodes restarted"
    if not summary:
        tags[LOST] = DIED
    return tags
