"""What became of one job: its status and score, kept where the sweep that it belongs to looks for it."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rlexp.config import registry
from rlexp.config.build import build
from rlexp.config.schema.job import Settings
from rlexp.system import supervisor
from rlexp.system.errors import Failure, Refusal
from rlexp.system.stored_files import Damaged, find_json
from rlexp.system.stored_schemas import OUTCOME
from rlexp.system.text import clean
from rlexp.system.tool import warn

FILE = "outcome.json"
IN_PROCESS = ("basic", "fused")  # launchers that run one job after another in the process of the sweep
EXIT_STATUS = {"done": 0, "failed": 1, "lost": 1, "refused": 2, "killed": 130, "pruned": 0}


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: "done", "failed", "refused", "killed" (a signal), "pruned" (a search's candidate that ended early), or
            "lost" (its process died and left nothing).
        score: IQM over the trials of the final returns, where there are any.
        folder: the job's folder, where it has one.
        error: one line on what went wrong, or on when it was pruned.
        seconds: wall time of this attempt; a job that had been done before takes next to none.
    """

    status: str
    score: float | None = None
    folder: str | None = None
    error: str = ""
    seconds: float = 0.0

    def write(self, folder: Path) -> None:
        """Leave it in a folder, whole or not at all."""
        from rlexp.data.checkpoint import write_json

        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Outcome | None:
        """The one that lies in a folder; None where there is none, or one that says nothing: the job runs again."""
        path = folder / FILE
        try:
            found = find_json(path, OUTCOME, "status")
        except Damaged as error:
            warn(str(error))
            return None
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in found.items() if key in known}) if found else None


def attempt(config: Any, run_job: Callable[..., Any] | None = None, settings: Settings | None = None) -> Outcome:
    """Run the job that Hydra has composed; what goes wrong is told on stderr and returned, not raised.

    A sweep's job leaves its outcome in its place in the sweep's folder.

    Args:
        config: the composed configuration.
        run_job: runs the checked settings as `runner.run_job` does, which is the default.
        settings: of the configuration, where it has been checked already.

    Raises:
        KeyboardInterrupt: after a signal, once the outcome is written.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from rlexp.jobs import preflight, runner
    from rlexp.tracking.follower import keep_child

    began = time.monotonic()
    hydra = HydraConfig.get()
    leave_in = Path(hydra.runtime.output_dir) if hydra.mode == RunMode.MULTIRUN else None
    sweep = leave_in.parents[1] if leave_in else None
    if hydra.runtime.choices["hydra/launcher"] not in IN_PROCESS:
        supervisor.own_process()  # a launcher's worker
        _share_the_machine(hydra.job.num)
        keep_child()
    preflight.forget()
    supervisor.note(job=str(leave_in), folder=None, env=None)

    def outcome(status: str, error: str = "", job: Any = None) -> Outcome:
        score = job["final/return"]["iqm"] if job else None
        place = job.folder if job else preflight.last_folder()
        line = (error.strip().splitlines() or [""])[0]
        found = Outcome(status, score, str(place) if place else None, line, round(time.monotonic() - began, 3))
        if leave_in is not None:
            found.write(leave_in)
        return found

    try:
        settings = settings or build(config)
        supervisor.note(env=settings.env.id)
        if "discretizer" in config.algo and not hasattr(settings.algo, "discretizer"):
            print(f"note: {settings.algo.name} is no table, and reads no bins (+discretizer)", file=sys.stderr)
        if leave_in is None:
            _spare_threads(settings)
        run, overrides = run_job or runner.run_job, list(hydra.overrides.task)
        return outcome("done", job=run(settings, sweep=sweep, overrides=overrides, prune=_pruner(leave_in)))
    except Refusal as refused:
        print(f"refused: {refused}", file=sys.stderr)
        return outcome("refused", str(refused))
    except KeyboardInterrupt as interrupt:
        outcome("killed", str(interrupt))
        raise
    except SystemExit as left:
        print(f"failed: the job called sys.exit({left.code!r})", file=sys.stderr)
        return outcome("failed", f"the job called sys.exit({left.code!r})")
    except Exception as error:
        from rlexp.engines.bookkeeping import Pruned

        if isinstance(error, Pruned):
            return outcome("pruned", str(error))
        if isinstance(error, Failure):
            print(f"failed: {clean(error)}", file=sys.stderr)
        elif (place := preflight.last_folder()) is not None and (place / "error.txt").is_file():
            from rlexp.envs.guard import raised

            print(f"failed: {raised(error, 'the job')}; the traceback is in {place / 'error.txt'}", file=sys.stderr)
        else:
            print(clean(traceback.format_exc()), end="", file=sys.stderr)
        return outcome("failed", f"{type(error).__name__}: {error}")


def _pruner(leave_in: Path | None) -> Callable[..., bool] | None:
    """What tells a search's candidate to end early; None for all other jobs."""
    if leave_in is None:
        return None
    from rlexp.sweeps.search.candidates import pruner

    return pruner(leave_in)


def _share_the_machine(number: int) -> None:
    """For a job that runs beside others: one thread for each operation, one of the GPUs, dealt out by job number.

    Has no effect on a process that has loaded TensorFlow for an earlier job, which did the same.
    """
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")
    gpus = visible_gpus()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]


def _spare_threads(settings: Settings) -> None:
    """For a process that runs one job, of an algorithm with tables: one thread for each operation.

    Kernels of some 100 ns each gain nothing from a second thread: what XLA's threads share slows them down. Not for
    processes that may run a network's job next, since TensorFlow reads it once.
    """
    if registry.family(settings.algo.name).tabular:
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them; found without TensorFlow."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name and not name.startswith("-")]
    return [str(i) for i, _ in enumerate(sorted(Path("/proc/driver/nvidia/gpus").glob("*")))]
