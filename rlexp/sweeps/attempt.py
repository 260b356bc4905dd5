"""One attempt at a job: it runs, and whatever happens becomes an outcome and a few words on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.config import registry
from rlexp.config.build import build
from rlexp.config.schema.algos import DQNSettings
from rlexp.config.schema.job import Settings
from rlexp.sweeps.outcome import IN_PROCESS, Outcome
from rlexp.sweeps.progress import ended_line, place_of
from rlexp.system import cores, supervisor
from rlexp.system.errors import Failure, Refusal
from rlexp.system.text import clean

if TYPE_CHECKING:
    from rlexp.jobs.place import Place
    from rlexp.sweeps.launcher import Share

SMALL_PRODUCT = 200_000  # multiplications of a product of matrices: about 5 us of one core


def attempt(config: Any, run_job: Callable[..., Any] | None = None, settings: Settings | None = None) -> Outcome:
    """Run the job that Hydra has composed; errors are printed to stderr and returned, not raised.

    The outcome of a sweep's job is also written to its folder in the sweep.

    Args:
        config: the composed configuration.
        run_job: runs the checked settings; default: `runner.run_job`. `launcher.Groups` also tells the share of time of
            a job that it has trained together with others.
        settings: of the configuration, if it is checked already.

    Raises:
        KeyboardInterrupt: after a signal, once the outcome is written.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from rlexp.jobs import preflight, runner

    hydra = HydraConfig.get()
    own_folder = Path(hydra.runtime.output_dir) if hydra.mode == RunMode.MULTIRUN else None
    beside = hydra.runtime.choices["hydra/launcher"] not in IN_PROCESS
    if beside:
        _begin_worker(hydra.job.num)
    preflight.forget()
    supervisor.note(job=str(own_folder), folder=None, env=None)
    place = place_of(own_folder, beside) if own_folder is not None else None
    run = run_job or runner.run_job
    outcome = _Outcomes(own_folder, place, getattr(run, "shares", {}))
    try:
        settings = settings or build(config)
        supervisor.note(env=settings.env.id)
        if "discretizer" in config.algo and not hasattr(settings.algo, "discretizer"):
            print(f"note: {settings.algo.name} has no tables and ignores +discretizer", file=sys.stderr)
        if own_folder is None:
            _limit_threads(settings)
        sweep, overrides = own_folder.parents[1] if own_folder else None, list(hydra.overrides.task)
        job = run(settings, sweep=sweep, overrides=overrides, prune=_pruner(own_folder), place=place)
        return outcome.of("done", job=job)
    except KeyboardInterrupt as interrupt:
        outcome.of("killed", str(interrupt))
        raise
    except (Exception, SystemExit) as error:
        return outcome.of(*_explain(error, preflight.last_folder()))


class _Outcomes:
    """Makes the outcome of a job, writes it to the job's folder in its sweep, and tells it in one line there.

    Args:
        folder: the job's in its sweep; None for a single job.
        place: of the job in its sweep.
        shares: of the time of jobs that were trained together, by folder.
    """

    def __init__(self, folder: Path | None, place: Place | None, shares: Mapping[Path, Share]) -> None:
        self._folder, self._place, self._shares = folder, place, shares
        self._began, self._since = time.monotonic(), time.time()

    def of(self, status: str, error: str = "", job: Any = None) -> Outcome:
        """The outcome.

        Args:
            status: see `Outcome`.
            error: what went wrong; its first line is kept.
            job: that is done, if it is.
        """
        from rlexp.jobs import preflight

        folder = job.folder if job else preflight.last_folder()
        final = job["final/return"] if job else None
        share = self._shares.get(folder) if folder else None
        found = Outcome(
            status,
            final["iqm"] if final else None,
            str(folder) if folder else None,
            (error.strip().splitlines() or [""])[0],
            round(share.seconds if share else time.monotonic() - self._began, 3),
            share.jobs if share else 1,
            job is None or share is not None or job.get("finished", self._since) >= self._since,
        )
        if self._folder is not None:
            found.write(self._folder)
            if self._place is not None and status != "killed":
                with contextlib.suppress(BrokenPipeError):  # nobody reads it; the outcome is written
                    print(ended_line(self._place, self._folder, found, final), flush=True)
        return found


def _explain(error: Exception | SystemExit, folder: Path | None) -> tuple[str, str]:
    """Print to stderr what went wrong with a job.

    Args:
        error: what was raised.
        folder: of the job, if it has one; its error.txt may hold the traceback.

    Returns:
        Status and error of the `Outcome`.
    """
    if isinstance(error, Refusal):
        print(f"refused: {error}", file=sys.stderr)
        return "refused", str(error)
    from rlexp.engines.services import Pruned

    if isinstance(error, Pruned):
        return "pruned", str(error)
    if isinstance(error, SystemExit):
        print(f"failed: the job called sys.exit({error.code!r})", file=sys.stderr)
        return "failed", f"the job called sys.exit({error.code!r})"
    if isinstance(error, Failure):
        print(f"failed: {clean(error)}", file=sys.stderr)
    elif folder is not None and (folder / "error.txt").is_file():
        from rlexp.envs.faults import raised

        print(f"failed: {raised(error, 'the job')}; the traceback is in {folder / 'error.txt'}", file=sys.stderr)
    else:
        print(clean(traceback.format_exc()), end="", file=sys.stderr)
    return "failed", f"{type(error).__name__}: {error}"


def _begin_worker(number: int) -> None:
    """Prepare the process that a launcher started for job `number`."""
    from rlexp.tracking.follower import keep_child

    supervisor.own_process()
    _share_machine(number)
    keep_child()


def _pruner(own_folder: Path | None) -> Callable[..., bool] | None:
    """What ends a search's candidate early, given its folder in the sweep; None for other jobs."""
    if own_folder is None:
        return None
    from rlexp.sweeps.search.candidates import pruner

    return pruner(own_folder)


def _share_machine(number: int) -> None:
    """For a job that runs beside others: use one thread per operation, and one GPU, chosen by the job's number.

    Has no effect in a process that loaded TensorFlow for an earlier job, which called this function too.
    """
    cores.share()
    gpus = cores.gpus()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]


def _limit_threads(settings: Settings) -> None:
    """For a process that runs a single job of small kernels: use one thread per operation.

    Kernels of about 100 ns gain nothing from a second thread; what XLA's threads share slows them down. Jobs of such
    kernels have tables, or one trial of a small network. Larger networks multiply matrices with both threads, and of
    several trials each thread has a part.
    Results do not depend on it. Processes that may run a larger job next must not call this, because TensorFlow reads
    the setting once.
    """
    if registry.family(settings.algo.name).tabular or _is_one_small_network(settings):
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


def _is_one_small_network(settings: Settings) -> bool:
    """Whether a job is one trial that learns from a replay, and the largest product of its updates is small."""
    network = settings.network
    if settings.trials > 1 or not isinstance(settings.algo, DQNSettings) or not registry.network(network.name).dense:
        return False
    inner = max((a * b for a, b in pairwise(network.hidden_units)), default=max(network.hidden_units, default=1))
    return settings.algo.batch_size * inner <= SMALL_PRODUCT
