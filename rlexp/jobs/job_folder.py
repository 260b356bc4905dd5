"""A job's folder, from its first files to the status of a job that did not finish."""

from __future__ import annotations

import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.config.schema.job import Settings
from rlexp.jobs import origin
from rlexp.jobs.context import Context
from rlexp.system.errors import Failure
from rlexp.system.links import open_to_write
from rlexp.system.stored_files import FILES, digest_of, read_json, remove
from rlexp.system.stored_schemas import SUMMARY
from rlexp.system.text import mask, mask_tree
from rlexp.system.tool import warn

if TYPE_CHECKING:
    from rlexp.data.checkpoint import Checkpoints

RERUN_REMOVES = (  # what `rerun=true` starts without
    "checkpoint",
    "trials",
    "metrics.jsonl",
    "tracking.json",
    "animation.gif",
    "distribution.gif",
    "evaluation.csv",
    "episodes.npz",
    "history.npz",
)


class JobRun:
    """One job of a training and its folder.

    Args:
        settings: of the job.
        context: what it shares with the jobs that are trained together with it.
    """

    def __init__(self, settings: Settings, context: Context) -> None:
        self.settings, self.context = settings, context
        self.folder = settings.folder

    def checkpoints(self) -> Checkpoints:
        """Those in the job's folder."""
        from rlexp.data.checkpoint import Checkpoints

        settings, config = self.settings, self.settings.checkpoint
        job = {"config_id": settings.config_id, "seeds": [settings.seed, settings.trials]}
        return Checkpoints(self.folder / "checkpoint", config.every, config.keep, job)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint that the job can continue from, with its records; None if it starts afresh.

        Records that belong to no checkpoint are kept beside, once.
        """
        records, warn = self.folder / "metrics.jsonl", self.context.console.warn
        changed: list[str] = []
        if records.exists() and not records.is_file():
            raise Failure(f"{records}: expected a file, received something else; move it, or rerun=true starts afresh")
        try:
            state = self.checkpoints().load(warn, lambda state: self._check_state(state, records, changed))
        except (OSError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or "no memory"
            raise Failure(
                f"{self.folder / 'checkpoint'}: cannot be read now ({reason}); nothing was changed, and the same "
                "command continues once it can"
            ) from error
        if changed and state is None and records.is_file():
            aside = records.with_name(f"{records.name}.damaged")
            records.replace(aside)
            warn(f"{records}: {changed[0]}; it is kept as {aside.name}")
        return state

    def _check_state(self, state: dict[str, Any], records: Path, changed: list[str]) -> None:
        """Raise `ValueError` for a checkpoint that the job cannot continue from.

        Args:
            state: of the checkpoint.
            records: the job's records.
            changed: gets a sentence for records that are not those of the checkpoint.
        """
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

    def prepare_folder(self) -> None:
        """Write the first files; remove those of an earlier run if the job starts afresh."""
        from omegaconf import OmegaConf

        from rlexp.data.checkpoint import remove_unfinished, write_atomically, write_json

        settings, folder = self.settings, self.folder
        remove_unfinished(folder)
        for name in (*(RERUN_REMOVES if settings.rerun else ()), "summary.json", "error.txt"):
            remove(folder / name)
        text = OmegaConf.to_yaml(OmegaConf.create(mask_tree(replace(settings, rerun=False).to_dict())))
        write_atomically(folder / "config.yaml", lambda file: file.write(text.encode()))
        write_json(folder / "job.json", {**self._description(), FILES: {"config.yaml": digest_of(text.encode())}})

    def _description(self) -> dict[str, Any]:
        """The content of job.json, but for the digests of files."""
        settings, overrides = self.settings, self.context.overrides.get(self.folder)
        return {
            "study": settings.study,
            "name": settings.job_name,
            "algo": settings.algo.name,
            "env": settings.env.name,
            "config_id": settings.config_id,
            "group_id": settings.group_id,
            "seeds": settings.seeds,
            "command": origin.command_line(),
            "sweep": self.context.sweep,
            "overrides": list(overrides) if overrides is not None else None,
            "started": time.time(),
            "tags": origin.tags(self.context.device, settings.engine),
        }

    def write_status(self, status: str, error: Exception | None) -> None:
        """Write the files of a job that did not finish; a summary only if there is no complete one.

        Args:
            status: "failed", "killed" or "pruned"; "done" writes nothing.
            error: what went wrong, if anything.
        """
        from rlexp.data.checkpoint import write_json
        from rlexp.engines.services import Pruned

        pruned = {"pruned_at": error.step} if isinstance(error, Pruned) else {}
        if pruned:
            error = None
        if error is not None:
            text = mask("".join(traceback.format_exception(error)))
            with open_to_write(self.folder / "error.txt", "w", errors="backslashreplace") as file:
                file.write(text)
        if status == "done" or (self.folder / "summary.json").exists():
            return
        settings, reason = self.settings, ""
        if error is not None:
            reason = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
        summary = {
            "algo": settings.algo.name,
            "env": settings.env.name,
            "config_id": settings.config_id,
            "seeds": settings.seeds,
            "status": status,
            "wall_seconds": round(self.context.clock.seconds(), 3),
            "error": reason,
        }
        write_json(self.folder / "summary.json", {**summary, **pruned})


def status_of(folder: Path) -> str | None:
    """How a job ended; None if it has not, or with a warning if its summary is damaged."""
    try:
        status: str = read_json(folder / "summary.json", SUMMARY, "status")["status"]
        return status
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        warn(f"{error}; the job's end is done again")
        return None
