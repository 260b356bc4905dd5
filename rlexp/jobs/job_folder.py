"""A job's folder: who may write in it, what lies there from the first file to the summary, and how it is read back."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import math
import os
import platform
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.config import arguments
from rlexp.config.settings import Refusal, Settings, refusal
from rlexp.jobs import provenance
from rlexp.system.links import LinkFound, check_folder, open_to_write
from rlexp.system.stored_files import FILES, OWNER, SUMMARY, digest_of, digests, read_json, remove, remove_folder
from rlexp.system.text import mask, mask_tree
from rlexp.system.tool import WRONG_PATH, shortened, warn

if TYPE_CHECKING:
    from rlexp.data.checkpoint import Checkpoints
    from rlexp.engines.bookkeeping import Results
    from rlexp.engines.evaluation import Scores
    from rlexp.jobs.results import JobData
    from rlexp.jobs.runner import _Training

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)
SCORE_NAMES = {  # evaluation.selection -> what a trial's best weights were chosen by, as summary.json calls it
    "eval": "best_eval_return",
    "last": "last_eval_return",
    "train_episode": "best_train_episode",
}
DIGESTED = ("metrics.jsonl", "evaluation.csv", "episodes.npz", "history.npz")  # what summary.json holds digests of
PROBED = 0.5  # seconds that a start waits for a folder's lock, which `in_use` holds for an instant


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


class JobRun:
    """One job of a training: its folder, from the first file to the summary."""

    def __init__(self, settings: Settings, training: _Training) -> None:
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
            raise _unwell(settings, diverged, failed, results.notes, results.traces, folder)

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
        from rlexp.cli.play import animate
        from rlexp.envs.guard import is_signal, raised
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

    def leave_word(self, status: str, error: Exception | None) -> None:
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


class Failure(RuntimeError):
    """What ends a job in one sentence."""


def _disk_failure(error: OSError, folder: Path) -> Failure:
    """A full or read-only disk: what is there is whole, and the same command goes on from it."""
    where = error.filename or folder
    return Failure(
        f"{where}: cannot be written ({error.strerror}); what was written before is whole, and the same command "
        "continues once there is room"
    )


def in_a_sentence(error: Exception | None, folder: Path) -> Exception | None:
    return _disk_failure(error, folder) if isinstance(error, OSError) and error.errno in DISK_ERRORS else error


@contextlib.contextmanager
def disk_sentences(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise _disk_failure(error, folder) from error


class Diverged(Failure):
    """Some trials of a job diverged, or failed for their environment's sake; everything of the others is there."""


def _unwell(
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


@contextlib.contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    """Around what makes a job's folder: one that cannot be made was named wrongly."""
    try:
        yield
    except OSError as error:
        if error.errno not in WRONG_PATH:
            raise
        raise refusal("output_dir", "a folder in which this user can make others", f"{shortened(folder)} "
                      f"({error.strerror})") from error  # fmt: skip


@contextlib.contextmanager
def folder_lock(
    folder: Path,
    where: str = "output_dir",
    expected: str = "a job folder that no other process uses",
    hint: str = "Wait for it, or run another configuration, seed or output_dir.",
) -> Iterator[None]:
    """One process per folder of a job or a sweep; raises `Refusal` in these words where another is at work."""
    from filelock import FileLock, Timeout

    owner = folder / "owner.json"
    try:
        check_folder(folder)
    except LinkFound as found:
        raise Refusal(f"{where}: {found}") from found
    with disk_sentences(folder), _refusing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_folder(folder / ".lock")
        remove_folder(owner)
    with disk_sentences(folder):
        lock = FileLock(folder / ".lock", timeout=PROBED)
        try:
            lock.acquire()
        except Timeout as error:
            raise refusal(where, expected, f"{folder}, where {who_works(folder)}", hint) from error
    try:
        with disk_sentences(folder), open_to_write(owner, "w") as file:
            file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield
    finally:
        with contextlib.suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


def in_use(folder: Path) -> bool:
    """Whether a process of this machine works in a job's or a sweep's folder: the system frees the lock of a dead one.

    It is not to be seen from other machines on every network file system: see `owner_elsewhere`.
    """
    from filelock import FileLock, Timeout

    try:
        if (folder / ".lock").is_symlink() or not (folder / ".lock").is_file():
            return False
        with FileLock(folder / ".lock", timeout=0):  # for less than PROBED, so that no start is refused for it
            return False
    except Timeout:
        return True
    except OSError:  # a folder of somebody else's, which cannot be written
        return False


def who_works(folder: Path) -> str:
    """The process whose lock a job's folder has, as far as it is known."""
    try:
        first = read_json(folder / "owner.json", OWNER, "pid", "host")
        return f"process {first['pid']} on {first['host']} is at work"
    except (OSError, ValueError):  # it is just starting
        return "one is at work"


def owner_elsewhere(folder: Path) -> bool:
    """Whether the process that last worked on a job was of another machine, and did not say that it left."""
    try:
        return bool(read_json(folder / "owner.json", OWNER, "host")["host"] != socket.gethostname())
    except (OSError, ValueError):
        return False


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
        dirty = bool(_ask_git(here, "status", "--porcelain", "--ignore-submodules=all"))
        return {"git.commit": _ask_git(here, "rev-parse", "HEAD"), "git.dirty": str(dirty).lower()}
    except (OSError, subprocess.SubprocessError):
        return {}


_NO_PROGRAMS = (  # settings of a repository that git would run something for
    "core.fsmonitor=false",
    f"core.hooksPath={os.devnull}",
    "core.untrackedCache=false",
    "core.pager=cat",
    "core.sshCommand=false",
    "diff.external=",
    "submodule.recurse=false",
    "status.submoduleSummary=false",
    "safe.bareRepository=explicit",
    "protocol.allow=never",
)


def _ask_git(folder: Path, *args: str) -> str:
    """What git says of the repository that a folder is in; nothing that the repository's own settings name is run.

    Raises:
        OSError, subprocess.SubprocessError: where there is no git, no repository or no answer.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
    }

    def git(settings: list[str], *args: str, fine: tuple[int, ...] = (0,)) -> str:
        command = ["git", *(word for setting in settings for word in ("-c", setting)), *args]
        done = subprocess.run(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5
        )
        if done.returncode not in fine:
            raise subprocess.CalledProcessError(done.returncode, command)
        return done.stdout.strip()

    settings = list(_NO_PROGRAMS)
    # A filter's name is the repository's choice. Those of the user's own settings, such as Git LFS, stay.
    filters = git(settings, "config", "--show-scope", "--name-only", "--get-regexp", r"^filter\.", fine=(0, 1))
    for line in filters.splitlines():
        scope, _, name = line.partition("\t")
        if scope not in ("global", "system"):
            if "=" in name:  # which `-c` would not switch off
                raise subprocess.SubprocessError(f"a filter named {name!r}")
            driver = name.rpartition(".")[0]
            settings += [f"{driver}.clean=", f"{driver}.smudge=", f"{driver}.process=", f"{driver}.required=false"]
    return git(settings, *args)
