"""From settings to a finished job folder: build, train, score, draw, track.

preflight -> agent -> folder -> loop.run() -> loop.final() -> pictures, weights, summary -> tracker
"""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import math
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp import registry
from rlexp.settings import (
    AnglePolicySettings,
    DQNSettings,
    NetworkSettings,
    PGSettings,
    Refusal,
    Settings,
    TabularSettings,
    build,
    refusal,
)

if TYPE_CHECKING:
    import numpy as np

    from rlexp.checkpoint import Checkpoints
    from rlexp.console import JobConsole
    from rlexp.engines.trials import Results
    from rlexp.envs.adapter import EnvInfo
    from rlexp.evaluation import Scores
    from rlexp.report.load import JobData

    Prune = Callable[[int, float, np.ndarray], bool]  # env step, share of the budget, eval/return [N] -> to end


FUSED_TABULAR_STEPS = 2_000_000  # env steps of all trials from which `engine=auto` fuses tables


class Job(dict[str, Any]):
    """The summary of a job (the content of summary.json) with its folder and curves.

    Attributes:
        folder: the job's folder.
        curves: name -> `Curve(steps [T], values [T, N])`; also `job["curves"]`.
    """

    def __init__(self, folder: Path) -> None:
        from rlexp.report.load import load_job

        try:
            data = load_job(folder)
        except (OSError, ValueError, TypeError, KeyError) as error:
            said = str(error).splitlines()[0]
            raise Failure(f"{folder}: expected a job's files, received: {said}; rerun=true starts afresh") from error
        super().__init__(data.summary or {})
        self.folder = folder
        self.curves = data.curves
        self["curves"] = self.curves


def run(*overrides: str, quiet: bool = False) -> Job:
    """Run one job from Python.

    Args:
        *overrides: as on the command line, e.g. "algo=ddqn", "trials=3", "+experiment=book/dqn".
        quiet: print nothing.

    Returns:
        The job's summary, with `curves` as arrays and `folder`.

    Raises:
        Refusal: for a configuration that cannot run.
    """
    return run_job(compose(*overrides), quiet=quiet, overrides=overrides)


def compose(*overrides: str) -> Settings:
    """The checked settings of a command line; raises `Refusal`."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from rlexp.settings import check_arguments, conf_dir, explain

    check_arguments(overrides)
    instance = GlobalHydra.instance()
    before = instance.hydra  # the caller may be a Hydra application itself
    instance.clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return build(hydra_compose("config", list(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise Refusal(explain(error)) from error
    finally:
        instance.clear()
        instance.hydra = before


def run_job(
    settings: Settings,
    quiet: bool = False,
    sweep: Path | None = None,
    overrides: Sequence[str] | None = None,
    prune: Prune | None = None,
) -> Job:
    """Run the job that `settings` describe, or what is left of it.

    A finished job is not run again (`rerun=true` starts afresh); one with a checkpoint continues from it.

    Args:
        settings: the job.
        quiet: print nothing.
        sweep: folder of the sweep that it belongs to, whose run in MLflow its own is nested in.
        overrides: that it was composed from, where they are known: `rlexp.best` prints them.
        prune: says at each evaluation whether to end (see `rlexp.candidates.pruner`).

    Raises:
        Refusal: before anything is written.
        Interrupted: after a signal; the checkpoint is written and the runs are closed as killed.
        Pruned: when `prune` said so; the checkpoint is written and the runs are closed as killed.
        Exception: what went wrong while running; error.txt holds the traceback.
    """
    settings, info = resolve(settings)
    from rlexp.console import JobConsole

    folder = settings.folder
    if finished(settings):
        console = JobConsole(settings.trials, quiet)
        job = Job(folder)
        console.table(job)
        console.say(f"already done, nothing was run: {folder}\nrerun=true starts afresh")
        return job
    known = {} if overrides is None else {folder: overrides}
    outcome = run_together([settings], info, quiet, sweep, known, prune)[folder]
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def finished(settings: Settings) -> bool:
    """Whether a job, with its engine chosen, has nothing left to run."""
    return _status(settings.folder) == "done" and not settings.rerun


def run_together(
    jobs: Sequence[Settings],
    info: EnvInfo,
    quiet: bool = False,
    sweep: Path | None = None,
    overrides: Mapping[Path, Sequence[str]] | None = None,
    prune: Prune | None = None,
) -> dict[Path, Job | Exception]:
    """Run what is left of jobs that one loop can train (see `rlexp.engines.group`); how each ends is its own affair.

    Args:
        jobs: with their engines chosen, one of each folder.
        info: of their environment.
        quiet, sweep, prune: as of `run_job`; several jobs are pruned all at once.
        overrides: of each folder's job, where they are known.

    Returns:
        The job, or what went wrong with it, by its folder.

    Raises:
        Refusal: before anything is written.
        Interrupted: after a signal, as `run_job`.
    """
    from rlexp.console import JobConsole

    training = _Training(jobs, info, JobConsole(sum(job.trials for job in jobs), quiet), sweep, overrides or {}, prune)
    busy: dict[Path, Job | Exception] = {}
    with contextlib.ExitStack() as locks:
        for job in jobs:
            try:
                locks.enter_context(_folder_lock(job.folder))
            except Refusal as refused:
                busy[job.folder] = refused
        if not busy:
            with _disk_sentences(jobs[0].folder):
                return training.execute()
    free = [job for job in jobs if job.folder not in busy]
    return {**busy, **(run_together(free, info, quiet, sweep, overrides, prune) if free else {})}


def resolve(settings: Settings) -> tuple[Settings, EnvInfo]:
    """The settings with the engine that will run them, and so with the job's real folder; refusals as `preflight`."""
    info = preflight(settings)
    return replace(settings, engine=choose_engine(settings, info)), info


def preflight(settings: Settings) -> EnvInfo:
    """Everything that can be refused without TensorFlow; returns the environment's description."""
    from rlexp.envs import adapter
    from rlexp.replay import ring_type

    algo = settings.algo
    entry = registry.algo(algo.name)
    family = registry.family(algo.name)
    info = adapter.inspect(settings.env, tabular=family.tabular)
    if info.restricted and not family.tabular:
        raise refusal(
            "algo",
            f"one that heeds action masks, since {settings.env.id} has states in which some actions are impossible",
            repr(algo.name),
            "Such are the tabular ones, for example algo=q_learning.",
        )
    if entry.family == "planning" and not info.table:
        raise refusal(
            "env.id",
            f"an environment with a transition table P for {algo.name}",
            f"{settings.env.id!r}, which has none",
            "Toy-text environments have one, for example env=frozen_lake; or learn: algo=q_learning.",
        )
    if isinstance(algo, TabularSettings):
        _check_states(settings, algo, info)
    if isinstance(algo, AnglePolicySettings) and (
        len(info.observation_shape) != 1 or info.observation_shape[0] <= algo.observation_index or info.num_actions != 2
    ):
        raise refusal(
            "algo",
            f"an environment with two actions and more than {algo.observation_index} observed numbers for angle_policy",
            f"{settings.env.id!r} with {info.num_actions} actions and observations of shape {info.observation_shape}",
            "It was made for env=cartpole.",
        )
    if family.keras:
        network = registry.network(settings.network.name)
        _check_network(settings.network, network, info)
        if network.dense and len(info.observation_shape) == 3 and min(sorted(info.observation_shape)[1:]) >= 36:
            raise refusal(
                "network",
                f"a convolutional network for images of shape {info.observation_shape}",
                f"{settings.network.name!r}, which has dense layers only",
                "Use network=dueling_cnn or network=cnn.",
            )
    if isinstance(algo, PGSettings) and algo.head == "sigmoid" and info.num_actions != 2:
        raise refusal(
            "algo.head",
            f"softmax for {info.num_actions} actions",
            "'sigmoid', which is for two",
        )
    if isinstance(algo, DQNSettings):
        ring = ring_type(settings.env.frame_stack)
        needed = settings.trials * ring.num_bytes(algo.replay_size, info.observation_shape, info.observation_dtype)
        _check_memory("algo.replay_size", f"rings of {algo.replay_size} transitions", needed, settings.trials)
    return info


def _check_memory(where: str, what: str, needed: int, trials: int) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf
    if needed > memory:
        raise refusal(
            where,
            f"{what.split()[0]} that fit in this machine's memory ({memory / 2**30:.0f} GiB)",
            f"{trials} {what}, {needed / 2**30:.0f} GiB",
            f"Lower {where} or trials.",
        )


def choose_engine(settings: Settings, info: EnvInfo) -> str:
    """The engine that runs a job: "host" or "fused"; `auto` takes fused wherever it can.

    But agents with tables start without TensorFlow on the host, in a second; there `auto` takes fused for jobs that
    are long enough to earn its start back.

    Raises:
        Refusal: for engine=fused where it cannot run the job.
    """
    from rlexp.engines.trials import most_steps
    from rlexp.envs import tensor

    algo = settings.algo.name
    family = registry.family(algo)
    if family.fused is None:
        reason: str | None = f"algo {algo} has no fused loop"
    elif family.keras and registry.network(settings.network.name).convolutional:
        reason = f"network {settings.network.name} is convolutional, which XLA maps over trials too slowly"
    else:
        reason = tensor.why_not(settings.env, info)
    if reason is None:
        short = family.tabular and settings.trials * most_steps(settings, info) < FUSED_TABULAR_STEPS
        return "host" if settings.engine == "host" or (settings.engine == "auto" and short) else "fused"
    if settings.engine == "fused":
        raise refusal("engine", "auto or host", f"'fused', but {reason}",
                      "engine=host runs it: the same algorithm, configuration and metrics.")  # fmt: skip
    return "host"


def _check_network(config: NetworkSettings, network: registry.Network, info: EnvInfo) -> None:
    """What can be said of a network without Keras."""
    if ":" in config.name:
        module, _, function = config.name.partition(":")
        if not registry.can_import(module) or not function.isidentifier():
            raise refusal("network.name", "an importable module:function", repr(config.name))
    for key, value in config.options.items():
        if network.options is None:
            break
        if key not in network.options:
            reads = f"It reads {', '.join(network.options)}." if network.options else "It reads none."
            raise refusal(f"network.options.{key}", f"an option of network {config.name}", "an unknown one", reads)
        if value not in network.options[key]:
            choices = ", ".join(str(choice).lower() for choice in network.options[key])
            raise refusal(f"network.options.{key}", f"one of {choices}", repr(value))
    shape = info.observation_shape
    if network.convolutional and (len(shape) != 3 or min(sorted(shape)[1:]) < 36):
        raise refusal(
            "network",
            f"image observations of at least 36 x 36 pixels for {config.name}",
            f"shape {shape}",
            "Use network=mlp.",
        )


def _check_states(settings: Settings, algo: TabularSettings, info: EnvInfo) -> None:
    """A table needs numbered states: the environment's own, or bins of a vector of numbers."""
    bins = algo.discretizer
    if settings.env.frame_stack > 1:
        raise refusal("env.frame_stack", f"1 for {algo.name}", str(settings.env.frame_stack))
    if info.num_states is not None:
        if bins.dimensions:
            raise refusal(
                "algo.discretizer",
                f"no bins, since {settings.env.id} has numbered states",
                f"dimensions {bins.dimensions}",
            )
        return
    size = info.observation_shape[0] - info.masked * info.num_actions if len(info.observation_shape) == 1 else 0
    if not bins.dimensions or max(bins.dimensions) >= size:
        shape = f"observations of shape {info.observation_shape}"
        raise refusal(
            "algo.discretizer",
            f"bins of some of the {size} observed numbers for {algo.name}" if size else "an environment with states",
            f"dimensions {bins.dimensions} and {settings.env.id!r} with {shape}",
            "Add +discretizer=cartpole, or give algo.discretizer.dimensions, .low, .high and .num_bins."
            if size
            else "A table cannot hold such observations; use a network, for example algo=ddqn.",
        )
    needed = 24 * settings.trials * info.num_actions * math.prod(bins.num_bins)  # values, visits, best values
    _check_memory("algo.discretizer.num_bins", f"tables of {math.prod(bins.num_bins)} states", needed, settings.trials)


class _Training:
    """Jobs that are trained together, usually one: the order of things, and what is left behind when it breaks.

    What is refused is refused here; nothing is written before `execute`.
    """

    def __init__(
        self,
        jobs: Sequence[Settings],
        info: EnvInfo,
        console: JobConsole,
        sweep: Path | None,
        overrides: Mapping[Path, Sequence[str]],
        prune: Prune | None,
    ) -> None:
        from rlexp.engines import group
        from rlexp.sweeps import identity

        self.info, self.console = info, console
        self.sweep = identity(sweep) if sweep else None
        self.overrides, self.prune = overrides, prune
        self.runs = [_JobRun(job, self) for job in jobs]
        self.settings = group.together(jobs)
        self.model: Any = None  # the FlatModel of one trial, for agents that have weights
        self.device = "cpu"
        self.began = time.monotonic()
        self.earlier = 0.0  # seconds that runs before this one have spent
        self._greet()
        self.agent = self._build_agent(self.settings)

    def execute(self) -> dict[Path, Job | Exception]:
        """Train and finish all jobs, whose folders are locked; each job, or what went wrong with it."""
        from rlexp.engines.trials import Pruned
        from rlexp.envs import watchdog
        from rlexp.trackers.base import open_tracker

        for run in self.runs:
            run.prepare_folder()
        folders = [run.folder for run in self.runs]
        tracking, output_dir = self.settings.tracking, Path(self.settings.output_dir).expanduser().resolve()
        tracker = open_tracker(tracking.name, tracking.uri, folders, output_dir)
        tracker.start()
        errors: dict[Path, Exception | None] = {}  # of the jobs that have ended

        def end(runs: Iterable[_JobRun], status: str, error: Exception | None = None) -> None:
            for run in runs:
                if run.folder not in errors:
                    with contextlib.suppress(OSError):  # a full disk, which `error` says
                        run.leave_word(status, error)
                    with contextlib.suppress(OSError):
                        tracker.end(run.folder, status)
                    errors[run.folder] = _in_a_sentence(error, run.folder)

        try:
            with _stop_signals() as stop, watchdog.armed(self.settings.env.step_timeout):
                for runs, states in self._at_one_step():
                    try:
                        self._train(runs, states, stop, end)
                    except Pruned as reason:
                        end(runs, "pruned", reason)
                        self.console.say(f"{reason}: {folders[0]}")
                    except Exception as error:
                        end(runs, "failed", error)
                    except SystemExit as left:  # of an environment: no reason for other jobs not to run
                        end(runs, "failed", RuntimeError(f"sys.exit({left.code!r}) was called"))
        except KeyboardInterrupt:
            self.console.stop()
            where = f"checkpoint in {folders[0]}" if len(folders) == 1 else f"checkpoints of these {len(folders)} jobs"
            self.console.say(f"stopped; the same command continues from the {where}")
            end(self.runs, "killed")
            raise
        except Exception as error:
            end(self.runs, "failed", error)
        finally:
            self.console.stop()
            results = tracker.close(tracking.timeout * len(folders))
        for wrong in filter(None, errors.values()):
            traceback.clear_frames(wrong.__traceback__)  # they would hold the rings for as long as the error is known
        ended = {folder: errors[folder] or Job(folder) for folder in folders}
        done = [job for job in ended.values() if isinstance(job, Job)]
        for job in done:
            self.console.table(job)
            self.console.say(f"folder: {job.folder}\n{results[job.folder].message}")
        for command in dict.fromkeys(results[job.folder].ui_command for job in done):
            if command:
                self.console.say(f"look at it:  {command}")
        return ended

    def seconds(self) -> float:
        """Wall time spent on the jobs that are trained now, earlier runs included."""
        return self.earlier + time.monotonic() - self.began

    def _greet(self) -> None:
        settings, algo = self.settings, self.settings.algo
        steps = settings.max_steps
        if isinstance(algo, DQNSettings) and algo.learn_unit == "step" and algo.learn_start >= (steps or math.inf):
            self.console.warn(
                f"nothing will be learned: algo.learn_start={algo.learn_start} is not less than the budget"
            )
        trials = f"{settings.trials} trials (seeds {_span(settings.seeds)})"
        if len(self.runs) > 1:
            trials = f"group of {len(self.runs)} jobs, {settings.trials} trials: one program"
        budget = f"{steps:,} env steps" if steps is not None else f"{settings.budget.episodes:,} episodes"
        self.console.say(f"{algo.name} on {settings.env.id}, {trials}, {budget} each")

    def _at_one_step(self) -> list[tuple[list[_JobRun], list[Any]]]:
        """The jobs in portions whose checkpoints are at the same step, all of them as a rule; and those checkpoints."""
        portions: dict[int, tuple[list[_JobRun], list[Any]]] = {}
        for run in self.runs:
            state = run.checkpoints().load(self.console.warn)
            runs, states = portions.setdefault(state["trials"]["t"] if state else -1, ([], []))
            runs.append(run)
            states.append(state)
        return list(portions.values())

    def _train(self, runs: list[_JobRun], states: list[Any], stop: Any, end: Callable[..., None]) -> None:
        """Train jobs whose checkpoints, if any, are at the same step, and finish each."""
        from rlexp.engines import group
        from rlexp.engines.trials import Services
        from rlexp.evaluation import Scores
        from rlexp.metrics import Recorder

        jobs = [run.settings for run in runs]
        settings, parts = group.together(jobs), group.rows(jobs)
        agent = self.agent if len(runs) == len(self.runs) else self._build_agent(settings)
        recorders = [
            Recorder(run.folder / "metrics.jsonl", state["trials"]["position"] if state else 0)
            for run, state in zip(runs, states, strict=True)
        ]
        recorder: Any = recorders[0]
        checkpoints: Any = runs[0].checkpoints()
        if len(runs) > 1:
            recorder = group.GroupRecorder(recorders, parts)
            every = settings.checkpoint.every
            checkpoints = group.GroupCheckpoints([run.checkpoints() for run in runs], parts, every)
        services = Services(settings, self.info, recorder, checkpoints, self.console, stop, self.seconds, self.prune)
        family = registry.family(settings.algo.name)
        target = family.fused if settings.engine == "fused" and family.fused else family.loop
        loop: Any = registry.load(target)(agent, services)
        trials = loop.trials
        if states[0]:
            state = states[0] if len(states) == 1 else group.join(states, jobs)
            states.clear()  # as large as the rings
            try:
                trials.restore(state["trials"])
                loop.set_state(state["loop"])
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise Failure(
                    f"{runs[0].folder / 'checkpoint'}: expected a checkpoint of this job, received another's "
                    f"({type(error).__name__}: {error}); rerun=true starts afresh"
                ) from error
            self.earlier = state["trials"]["seconds"]
            del state
            self.console.say(f"continuing from env step {trials.t:,}")
        if len(runs) > 1:
            recorder.counts = trials.counts
        self.console.start()
        loop.run()
        train_seconds = self.seconds()
        trials.save(loop.get_state)  # a job killed from here on does not train again
        self.console.stop()
        scores = loop.final()
        recorder.sync()
        recorder.close()
        for run, part in zip(runs, parts, strict=True):
            try:
                own = Scores(scores.seeds, scores.returns[part], scores.lengths[part])
                run.finish(trials.results(part), own, train_seconds, len(runs))
            except Exception as error:
                end([run], "failed", error)
            else:
                end([run], "done")
        trials.close()
        self.began, self.earlier = time.monotonic(), 0.0  # of the next portion

    def _build_agent(self, settings: Settings) -> Any:
        """What the family's loop runs: compiled lanes for agents with a Keras model, the agent itself otherwise."""
        info = self.info
        entry = registry.algo(settings.algo.name)
        keras = registry.family(settings.algo.name).keras
        if keras or settings.engine == "fused":
            from rlexp.backend import prepare

            self.device = prepare(settings.device)
        if not keras:
            return registry.load(entry.target)(settings.algo, info)
        import numpy as np

        from rlexp import seeding
        from rlexp.engines.lanes import Lanes, compiled_settings
        from rlexp.networks.flat import FlatModel

        network = registry.network(settings.network.name)
        if network.convolutional and self.device == "cpu":
            self.console.warn("no GPU was found and the network is convolutional: training will be very slow")
        factory, agent_class = registry.load(network.target), registry.load(entry.target)
        params: dict[int, np.ndarray] = {}  # by seed: jobs of a group may have the same ones
        for seed in dict.fromkeys(settings.seeds):
            try:
                model = seeding.with_keras_seed(
                    seed,
                    lambda: agent_class.build(  # type: ignore[attr-defined]
                        lambda outputs: factory(info.observation_shape, outputs, settings.network),
                        info.num_actions,
                        settings.algo,
                    ),
                )
            except (TypeError, ValueError) as error:
                if isinstance(error, Refusal):
                    raise
                raise Refusal(f"network: {str(error).strip().splitlines()[0]}") from error
            self.model = FlatModel(model)
            params[seed] = self.model.get_params()
        try:
            agent = agent_class(settings.algo, self.model, info.num_actions)
        except ValueError as error:
            raise Refusal(f"algo.optimizer: {error}") from error
        made_of = [compiled_settings(settings.algo, agent.scalars), asdict(settings.network), asdict(info)]
        graph = (agent_class, factory, json.dumps(made_of, sort_keys=True))
        return Lanes(
            agent,
            np.stack([params[seed] for seed in settings.seeds]),
            settings.exact_trials,
            network.convolutional,
            graph,
        )


class _JobRun:
    """One job of a training: its folder, from the first file to the summary."""

    def __init__(self, settings: Settings, training: _Training) -> None:
        self.settings, self.training = settings, training
        self.folder = settings.folder

    def checkpoints(self) -> Checkpoints:
        """Those in the job's folder."""
        from rlexp.checkpoint import Checkpoints

        config = self.settings.checkpoint
        return Checkpoints(self.folder / "checkpoint", config.every, config.keep)

    def prepare_folder(self) -> None:
        """Its first files; those of an earlier run where it starts afresh are removed."""
        from rlexp.checkpoint import write_atomically, write_json

        settings, folder = self.settings, self.folder
        if settings.rerun:
            for name in ("checkpoint", "trials"):
                shutil.rmtree(folder / name, ignore_errors=True)
            for name in (
                "metrics.jsonl",
                "tracking.json",
                "animation.gif",
                "evaluation.csv",
                "episodes.npz",
                "history.npz",
            ):
                (folder / name).unlink(missing_ok=True)
        for name in ("summary.json", "error.txt"):
            (folder / name).unlink(missing_ok=True)
        from omegaconf import OmegaConf

        overrides = self.training.overrides.get(folder)
        text = OmegaConf.to_yaml(OmegaConf.create(replace(settings, rerun=False).to_dict()))
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
                "tags": {
                    **_versions(),
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

        from rlexp import seeding
        from rlexp.checkpoint import write_json, write_npz
        from rlexp.report import stats
        from rlexp.report.load import load_job
        from rlexp.report.plots import learning_curve

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
            "final/return": stats.summarize(finals, seeding.generator(0, "report")),
            "best_seed": settings.seeds[best],
            "trials": [
                {
                    "seed": seed,
                    "status": results.status[k],
                    "note": results.notes[k],
                    "steps": steps[k],
                    "best_eval_return": _finite(results.score[k]),
                    "best_step": int(results.step[k]),
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
        write_json(folder / "summary.json", summary)
        if diverged or failed:
            raise _unwell(settings, diverged, failed, results.notes, results.traces, folder)

    def _write_evaluation(self, scores: Scores) -> None:
        from rlexp.checkpoint import write_atomically

        table = StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["seed", "episode_seed", "return", "length"])
        for k, seed in enumerate(self.settings.seeds):
            for i, episode_seed in enumerate(scores.seeds):
                writer.writerow([seed, episode_seed, repr(float(scores.returns[k, i])), int(scores.lengths[k, i])])
        write_atomically(self.folder / "evaluation.csv", lambda file: file.write(table.getvalue().encode()))

    def _animate(self, seed: int) -> None:
        from rlexp.envs import watchdog
        from rlexp.play import animate
        from rlexp.policy import load_policy

        if not self.training.info.rgb_array:
            self.training.console.say(f"no animation: {self.settings.env.id} cannot be rendered to pictures")
            return
        try:
            policy = load_policy(self.folder, seed=seed)
            with watchdog.calling():
                animate(
                    policy,
                    self.settings.evaluation.final_seed,
                    self.folder / "animation.gif",
                    self.settings.animation.max_steps,
                )
        except Exception as error:  # a picture is no reason to lose a trained job
            self.training.console.warn(f"no animation: {type(error).__name__}: {error}")

    def leave_word(self, status: str, error: Exception | None) -> None:
        """The files of a job that did not finish; a summary only where there is no full one already."""
        from rlexp.checkpoint import write_json
        from rlexp.engines.trials import Pruned

        pruned = {"pruned_at": error.step} if isinstance(error, Pruned) else {}
        if pruned:
            error = None
        if error is not None:
            (self.folder / "error.txt").write_text("".join(traceback.format_exception(error)))
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


DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)


def _disk_failure(error: OSError, folder: Path) -> Failure:
    """A full or read-only disk: what is there is whole, and the same command goes on from it."""
    where = error.filename or folder
    return Failure(
        f"{where}: cannot be written ({error.strerror}); what was written before is whole, and the same command "
        "continues once there is room"
    )


def _in_a_sentence(error: Exception | None, folder: Path) -> Exception | None:
    return _disk_failure(error, folder) if isinstance(error, OSError) and error.errno in DISK_ERRORS else error


@contextlib.contextmanager
def _disk_sentences(folder: Path) -> Iterator[None]:
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

    if len(model.outputs) > 1:
        model = keras.Model(model.inputs, model.outputs[0], name=model.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".part-{path.name}")  # Keras insists on the ending
    try:
        model.save(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """One process per job folder."""
    from filelock import FileLock, Timeout

    owner = folder / "owner.json"
    with _disk_sentences(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            try:
                first = json.loads(owner.read_text())
                who = f"process {first['pid']} on {first['host']} is at work"
            except (OSError, ValueError, KeyError, TypeError):  # it is just starting
                who = "one is at work"
            raise refusal(
                "output_dir", "a job folder that no other process uses", f"{folder}, where {who}",
                "Wait for it, or run another configuration, seed or output_dir.",
            ) from error  # fmt: skip
    try:
        with _disk_sentences(folder):
            owner.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield
    finally:
        with contextlib.suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def _stop_signals() -> Iterator[Any]:
    """SIGINT and SIGTERM ask the loop to stop at the next step; a second one stops at once."""
    asked: list[int] = []

    def handler(signum: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(signum)

    previous = {}
    with contextlib.suppress(ValueError):  # not the main thread: the caller handles signals
        for signum in (signal.SIGINT, signal.SIGTERM):
            previous[signum] = signal.signal(signum, handler)
    try:
        yield lambda: asked[0] if asked else None
    finally:
        for signum, old in previous.items():
            signal.signal(signum, old)


def _status(folder: Path) -> str | None:
    try:
        status: str = json.loads((folder / "summary.json").read_text())["status"]
        return status
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _span(seeds: list[int]) -> str:
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}-{seeds[-1]}"


def command_line() -> str:
    """What started this process."""
    if Path(sys.argv[0]).parent.name == "rlexp":
        return " ".join(["python -m rlexp", *sys.argv[1:]])
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in ("rlexp", "tensorflow", "keras", "gymnasium", "numpy", "hydra-core", "mlflow"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return {f"version.{name}": text for name, text in found.items()}


def _git() -> dict[str, str]:
    """Commit and dirty flag of the repository the command was started in, if any."""

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        return {"git.commit": git("rev-parse", "HEAD"), "git.dirty": str(bool(git("status", "--porcelain"))).lower()}
    except (OSError, subprocess.SubprocessError):
        return {}
