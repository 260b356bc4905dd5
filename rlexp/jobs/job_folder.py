"""A job's folder: who may write in it, what lies there from the first file to the summary, and how it is read back."""

from __future__ import annotations

import contextlib
import csv
import math
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rlexp.config import arguments
from rlexp.config.schema.job import Settings
from rlexp.jobs import provenance
from rlexp.system.errors import Diverged, Failure
from rlexp.system.git import git_output
from rlexp.system.links import open_to_write
from rlexp.system.stored_files import FILES, digest_of, digests, read_json, remove
from rlexp.system.stored_schemas import SUMMARY
from rlexp.system.text import mask, mask_tree
from rlexp.system.tool import warn

if TYPE_CHECKING:
    from rlexp.data.checkpoint import Checkpoints
    from rlexp.engines.bookkeeping import Results
    from rlexp.engines.evaluation import Scores
    from rlexp.envs.info import EnvInfo
    from rlexp.jobs.console import JobConsole
    from rlexp.jobs.results import JobData
    from rlexp.networks.flat_model import FlatModel

SCORE_NAMES = {  # evaluation.selection -> what a trial's best weights were chosen by, as summary.json calls it
    "eval": "best_eval_return",
    "last": "last_eval_return",
    "train_episode": "best_train_episode",
}
DIGESTED = ("metrics.jsonl", "evaluation.csv", "episodes.npz", "history.npz")  # what summary.json holds digests of


class Job(dict[str, Any]):
    """The summary of a job (the content of summary.json) with its folder and curves.

    Attributes:
        folder: the job's folder.
        curves: name -> `Curve(steps [T], values [T, N])`; also `job["curves"]`.
    """

    def __init__(self, folder: Path) -> None:
        from rlexp.jobs.results import load_job

        try:
            data = load_job(folder)
        except (OSError, ValueError, TypeError, KeyError) as error:
            said = str(error).splitlines()[0]
            raise Failure(f"{folder}: expected a job's files, received: {said}; rerun=true starts afresh") from error
        super().__init__(data.summary or {})
        self.folder = folder
        self.curves = data.curves
        self["curves"] = self.curves


class Training(Protocol):
    """What a job's folder is told of the training that fills it."""

    console: JobConsole
    info: EnvInfo
    model: FlatModel | None  # of one trial, for agents that have weights
    device: str
    sweep: dict[str, Any] | None  # identity of the sweep that the job belongs to
    overrides: Mapping[Path, Sequence[str]]  # of each folder's job, where they are known

    def seconds(self) -> float:
        """Wall time spent on the jobs that are trained now, earlier runs included."""
        ...


class JobRun:
    """One job of a training: its folder, from the first file to the summary."""

    def __init__(self, settings: Settings, training: Training) -> None:
        self.settings, self.training = settings, training
        self.folder = settings.folder

    def checkpoints(self) -> Checkpoints:
        """Those in the job's folder."""
        from rlexp.data.checkpoint import Checkpoints

        settings, config = self.settings, self.settings.checkpoint
        job = {"config_id": settings.config_id, "seeds": [settings.seed, settings.trials]}
        return Checkpoints(self.folder / "checkpoint", config.every, config.keep, job)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last one that the job can continue from, with its records; None where it starts afresh.

        Records that are not those of any checkpoint are kept beside, once.
        """
        records, warn = self.folder / "metrics.jsonl", self.training.console.warn
        changed: list[str] = []

        def check(state: dict[str, Any]) -> None:
            from rlexp.data.metrics import check_records

            trials, most = state["trials"], self.settings.max_steps
            try:
                number, step, position = len(trials["active"]), int(trials["t"]), int(trials["position"])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError("it is no job's") from error
            if number != self.settings.trials:
                raise ValueError(f"it holds {number} trials, not {self.settings.trials}")
            if most is not None and step > most:
                raise ValueError(f"it is of env step {step:,}, beyond the budget of {most:,}")
            try:
                check_records(records, position, trials.get("digest"))
            except ValueError as error:
                changed.append(str(error))
                raise

        if records.exists() and not records.is_file():
            raise Failure(f"{records}: expected a file, received something else; move it, or rerun=true starts afresh")
        try:
            state = self.checkpoints().load(warn, check)
        except (OSError, MemoryError) as error:
            said = getattr(error, "strerror", None) or "no memory"
            raise Failure(
                f"{self.folder / 'checkpoint'}: cannot be read now ({said}); nothing was changed, and the same command "
                "continues once it can"
            ) from error
        if changed and state is None and records.is_file():
            aside = records.with_name(f"{records.name}.damaged")
            records.replace(aside)
            warn(f"{records}: {changed[0]}; it is kept as {aside.name}")
        return state

    def prepare_folder(self) -> None:
        """Its first files; those of an earlier run where it starts afresh are removed."""
        from rlexp.data.checkpoint import remove_unfinished, write_atomically, write_json

        settings, folder = self.settings, self.folder
        remove_unfinished(folder)
        if settings.rerun:
            for name in ("checkpoint", "trials"):
                remove(folder / name)
            for name in (
                "metrics.jsonl",
                "tracking.json",
                "animation.gif",
                "evaluation.csv",
                "episodes.npz",
                "history.npz",
            ):
                remove(folder / name)
        for name in ("summary.json", "error.txt"):
            remove(folder / name)
        from omegaconf import OmegaConf

        overrides = self.training.overrides.get(folder)
        text = OmegaConf.to_yaml(OmegaConf.create(mask_tree(replace(settings, rerun=False).to_dict())))
        write_atomically(folder / "config.yaml", lambda file: file.write(text.encode()))
        write_json(
            folder / "job.json",
            {
                "study": settings.study,
                "name": settings.job_name,
                "algo": settings.algo.name,
                "env": settings.env.name,
                "config_id": settings.config_id,
                "group_id": settings.group_id,
                "seeds": settings.seeds,
                "command": command_line(),
                "sweep": self.training.sweep,
                "overrides": list(overrides) if overrides is not None else None,
                "started": time.time(),
                FILES: {"config.yaml": digest_of(text.encode())},
                "tags": {
                    **_versions(),
                    **provenance.tags(),
                    **_git(),
                    "device": self.training.device,
                    "engine": settings.engine,
                    "cpus": str(os.cpu_count()),
                    "machine": platform.platform(),
                },
            },
        )

    def finish(self, results: Results, scores: Scores, train_seconds: float, grouped: int) -> None:
        """Weights, tables, pictures and the summary; the summary last, since it says that the rest is there.

        Args:
            results, scores: of the job's trials.
            train_seconds: how long the training took.
            grouped: how many jobs shared it.
        """
        import numpy as np

        from rlexp.data import seeding
        from rlexp.data.checkpoint import write_json, write_npz
        from rlexp.jobs.plots import learning_curve
        from rlexp.jobs.results import load_job
        from rlexp.math import statistics
        from rlexp.math.two_way import summarize_final

        settings, folder, info = self.settings, self.folder, self.training.info
        model = self.training.model
        if model is not None:
            for k, seed in enumerate(settings.seeds):
                model.set_params(results.params[k])
                save_model(model.model, folder / "trials" / str(seed) / "best.keras")
        elif info.tabular:
            for k, seed in enumerate(settings.seeds):
                (folder / "trials" / str(seed)).mkdir(parents=True, exist_ok=True)
                table = results.params[k].reshape(-1, info.num_actions)  # [S, A]
                write_npz(folder / "trials" / str(seed) / "best.npz", {"q": table})
        self._write_evaluation(scores)
        episodes = results.episodes
        columns = {name: episodes[:, i] for i, name in enumerate(("trial", "step", "return", "length"))}
        write_npz(folder / "episodes.npz", columns)
        finals = scores.returns.mean(axis=1)  # [N]
        best = int(np.argmax(np.where(np.isnan(finals), -np.inf, finals)))
        if settings.animation.enabled and np.isfinite(finals[best]):
            self._animate(settings.seeds[best])
        steps = [int(s) for s in results.counts["step"]]
        diverged = [k for k, status in enumerate(results.status) if status == "diverged"]
        failed = [k for k, status in enumerate(results.status) if status == "failed"]
        value: dict[str, Any] = {}
        if results.value is not None:
            exact = statistics.summarize(results.value, seeding.generator(0, "report"))
            value = {"final/value": exact, "optimum": _finite(results.optimum)}
        score_name = SCORE_NAMES[settings.evaluation.selection]
        summary = {
            "algo": settings.algo.name,
            "env": settings.env.name,
            "env_id": settings.env.id,
            "study": settings.study,
            "config_id": settings.config_id,
            "group_id": settings.group_id,
            "seeds": settings.seeds,
            "status": "failed" if diverged or failed else "done",
            "steps": max(steps),
            "total_steps": sum(steps),
            "episodes": [int(e) for e in results.counts["episode"]],
            "updates": [int(u) for u in results.counts["update"]],
            "wall_seconds": round(self.training.seconds(), 3),
            "train_seconds": round(train_seconds, 3),
            "grouped": grouped,  # jobs that were trained together, in these seconds
            "steps_per_second": round(sum(steps) / train_seconds, 1),
            "final/return": summarize_final(finals, scores.returns),
            **value,
            "selection": settings.evaluation.selection,
            "best_seed": settings.seeds[best],
            "trials": [
                {
                    "seed": seed,
                    "status": results.status[k],
                    "note": results.notes[k],
                    "restarted_episodes": int(results.restarts[k]),
                    "steps": steps[k],
                    score_name: _finite(results.score[k]),
                    "best_step": int(results.step[k]),
                    "candidate_return": _finite(results.candidate_return[k]),
                    "final_return": _finite(finals[k]),
                }
                for k, seed in enumerate(settings.seeds)
            ],
            "observation_shape": list(info.observation_shape),
            "observation_dtype": info.observation_dtype,
            "num_actions": info.num_actions,
            "device": self.training.device,
            "engine": settings.engine,
            "finished": time.time(),
        }
        data: JobData = load_job(folder)
        data.summary = summary
        learning_curve(data, folder / "learning_curve.png", seeding.generator(0, "report"))
        weights = sorted((folder / "trials").glob("*/best.*"))
        summary[FILES] = digests([*(folder / name for name in DIGESTED), *weights])
        write_json(folder / "summary.json", summary)
        if diverged or failed:
            raise unhealthy_trials(settings, diverged, failed, results.notes, results.traces, folder)

    def _write_evaluation(self, scores: Scores) -> None:
        from rlexp.data.checkpoint import write_atomically

        table = StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["seed", "episode_seed", "return", "length"])
        for k, seed in enumerate(self.settings.seeds):
            for i, episode_seed in enumerate(scores.seeds):
                writer.writerow([seed, episode_seed, repr(float(scores.returns[k, i])), int(scores.lengths[k, i])])
        write_atomically(self.folder / "evaluation.csv", lambda file: file.write(table.getvalue().encode()))

    def _animate(self, seed: int) -> None:
        from rlexp.envs.guard import is_signal, raised
        from rlexp.jobs.animation import animate
        from rlexp.jobs.policy import policy_of

        if not self.training.info.rgb_array:
            self.training.console.say(f"no animation: {self.settings.env.id} cannot be rendered to pictures")
            return
        try:
            policy = policy_of(self.settings, seed, self.folder, allow_imports=True)  # the command has named them
            episode, path = self.settings.evaluation.final_seed, self.folder / "animation.gif"
            animate(policy, episode, path, self.settings.animation.max_steps)
        except BaseException as error:  # a picture is no reason to lose a trained job
            if is_signal(error):
                raise
            where = f"{self.settings.env.id}, trial seed {seed}, episode seed {self.settings.evaluation.final_seed}"
            self.training.console.warn(f"no animation: {where}: {raised(error)}")

    def write_status(self, status: str, error: Exception | None) -> None:
        """The files of a job that did not finish; a summary only where there is no full one already."""
        from rlexp.data.checkpoint import write_json
        from rlexp.engines.bookkeeping import Pruned

        pruned = {"pruned_at": error.step} if isinstance(error, Pruned) else {}
        if pruned:
            error = None
        if error is not None:
            text = mask("".join(traceback.format_exception(error)))
            with open_to_write(self.folder / "error.txt", "w", errors="backslashreplace") as file:
                file.write(text)
        if status == "done" or (self.folder / "summary.json").exists():
            return
        settings = self.settings
        names = {"algo": settings.algo.name, "env": settings.env.name, "config_id": settings.config_id}
        write_json(
            self.folder / "summary.json",
            {**names, "seeds": settings.seeds, "status": status, "wall_seconds": round(self.training.seconds(), 3),
             "error": "".join(traceback.format_exception_only(error)).strip().splitlines()[-1] if error else "",
             **pruned},
        )  # fmt: skip


def unhealthy_trials(
    settings: Settings, diverged: list[int], failed: list[int], notes: list[str], traces: list[str], folder: Path
) -> Diverged:
    parts: list[str] = []
    for word, which in (("diverged", diverged), ("failed", failed)):
        seeds = ", ".join(str(settings.seeds[k]) for k in which)
        of = "" if parts else f" of {settings.trials} trials"
        if which:
            parts.append(f"{len(which)}{of} {word} (seeds {seeds})")
    why = f": {notes[failed[0]]}" if failed else ""
    others = "the others finished" if len(diverged) + len(failed) < settings.trials else "none finished"
    error = Diverged(f"{', '.join(parts)}{why}; {others}: {folder}")
    for trace in dict.fromkeys(filter(None, traces)):
        error.add_note(trace.rstrip())  # error.txt shows them
    return error


def save_model(model: Any, path: Path) -> None:
    """Save what acts of a Keras model, atomically: its first output, the one with a number for each action."""
    import keras

    from rlexp.data.checkpoint import BESIDE, sync_folder

    if len(model.outputs) > 1:
        model = keras.Model(model.inputs, model.outputs[0], name=model.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(BESIDE + path.name)
    try:
        model.save(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def status_of(folder: Path) -> str | None:
    """How a job ended; None where it has not, or where its summary is damaged, which is told."""
    try:
        status: str = read_json(folder / "summary.json", SUMMARY, "status")["status"]
        return status
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        warn(f"{error}; the job's end is done again")
        return None


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def command_line() -> str:
    """What started this process."""
    args = arguments.as_typed(sys.argv[1:])
    if Path(sys.argv[0]).parent.name == "rlexp":
        return " ".join(["python -m rlexp", *args])
    return " ".join([Path(sys.argv[0]).name, *args])


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in ("rlexp", "tensorflow", "keras", "gymnasium", "numpy", "hydra-core", "mlflow"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return {f"version.{name}": text for name, text in found.items()}


def _git() -> dict[str, str]:
    """Commit and dirty flag of the repository the command was started in, if any."""
    here = Path.cwd()
    try:
        dirty = bool(git_output(here, "status", "--porcelain", "--ignore-submodules=all"))
        return {"git.commit": git_output(here, "rev-parse", "HEAD"), "git.dirty": str(dirty).lower()}
    except (OSError, subprocess.SubprocessError):
        return {}
