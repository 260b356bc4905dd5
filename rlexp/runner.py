"""From settings to a finished job folder: build, train, score, draw, track.

preflight -> agent -> folder -> loop.run() -> loop.final() -> pictures, weights, summary -> tracker
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp import registry
from rlexp.settings import (
    AnglePolicySettings,
    DQNSettings,
    PGSettings,
    Refusal,
    Settings,
    TabularSettings,
    build,
    refusal,
)

if TYPE_CHECKING:
    from rlexp.console import JobConsole
    from rlexp.envs.adapter import EnvInfo
    from rlexp.evaluation import Scores
    from rlexp.report.load import JobData


FUSED_TABULAR_STEPS = 2_000_000  # env steps of all trials from which `engine=auto` fuses tables


class Job(dict[str, Any]):
    """The summary of a job (the content of summary.json) with its folder and curves.

    Attributes:
        folder: the job's folder.
        curves: name -> `Curve(steps [T], values [T, N])`; also `job["curves"]`.
    """

    def __init__(self, folder: Path) -> None:
        from rlexp.report.load import load_job

        data = load_job(folder)
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
    return run_job(compose(*overrides), quiet=quiet)


def compose(*overrides: str) -> Settings:
    """The checked settings of a command line; raises `Refusal`."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from rlexp.settings import conf_dir, explain

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


def run_job(settings: Settings, quiet: bool = False) -> Job:
    """Run the job that `settings` describe, or what is left of it.

    A finished job is not run again (`rerun=true` starts afresh); one with a checkpoint continues from it.

    Raises:
        Refusal: before anything is written.
        Interrupted: after a signal; the checkpoint is written and the runs are closed as killed.
        Exception: what went wrong while running; error.txt holds the traceback.
    """
    settings, info = resolve(settings)
    from rlexp.console import JobConsole

    console = JobConsole(settings.trials, quiet)
    folder = settings.folder
    if _status(folder) == "done" and not settings.rerun:
        job = Job(folder)
        console.table(job)
        console.say(f"already done, nothing was run: {folder}\nrerun=true starts afresh")
        return job
    return _JobRun(settings, info, console).execute()


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
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf
        if needed > memory:
            raise refusal(
                "algo.replay_size",
                f"rings that fit in this machine's memory ({memory / 2**30:.0f} GiB)",
                f"{settings.trials} rings of {algo.replay_size} transitions, {needed / 2**30:.0f} GiB",
                "Lower algo.replay_size or trials.",
            )
    return info


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


class _JobRun:
    """One run of one job: the order of things, and what is left behind when it breaks."""

    def __init__(self, settings: Settings, info: EnvInfo, console: JobConsole) -> None:
        self.settings, self.info, self.console = settings, info, console
        self.folder = settings.folder
        self.model: Any = None  # the FlatModel of one trial, for agents that have weights
        self.device = "cpu"
        self.began = time.monotonic()
        self.earlier = 0.0  # seconds that runs before this one have spent
        self.train_seconds = 0.0

    def execute(self) -> Job:
        from rlexp.trackers.base import open_tracker

        settings, console = self.settings, self.console
        algo = settings.algo
        if (
            isinstance(algo, DQNSettings)
            and algo.learn_unit == "step"
            and algo.learn_start >= (settings.max_steps or math.inf)
        ):
            console.warn(f"nothing will be learned: algo.learn_start={algo.learn_start} is not less than the budget")
        trials = f"{settings.trials} trials (seeds {_span(settings.seeds)})"
        console.say(f"{algo.name} on {settings.env.id}, {trials}, {self._budget()} each")
        agent = self._build_agent()  # still refusals: nothing is written before it
        with _folder_lock(self.folder):
            self._prepare_folder()
            tracker = open_tracker(
                settings.tracking.name,
                settings.tracking.uri,
                self.folder,
                Path(settings.output_dir).expanduser().resolve(),
            )
            tracker.start()
            status = "failed"
            try:
                with _stop_signals() as stop:
                    self._train(agent, stop)
                status = "done"
            except KeyboardInterrupt:
                status = "killed"
                console.stop()
                console.say(f"stopped; the same command continues from the checkpoint in {self.folder}")
                raise
            except Exception:
                (self.folder / "error.txt").write_text(traceback.format_exc())
                raise
            finally:
                console.stop()
                if status != "done":
                    self._write_unfinished(status)
                result = tracker.close(status, settings.tracking.timeout)
        job = Job(self.folder)
        console.table(job)
        console.say(f"folder: {self.folder}")
        console.say(result.message)
        if result.ui_command:
            console.say(f"look at it:  {result.ui_command}")
        return job

    def _budget(self) -> str:
        steps = self.settings.max_steps
        return f"{steps:,} env steps" if steps is not None else f"{self.settings.budget.episodes:,} episodes"

    def _build_agent(self) -> Any:
        """What the family's loop runs: compiled lanes for agents with a Keras model, the agent itself otherwise."""
        settings, info = self.settings, self.info
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
        params = []
        for seed in settings.seeds:
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
            params.append(self.model.get_params())
        try:
            agent = agent_class(settings.algo, self.model, info.num_actions)
        except ValueError as error:
            raise Refusal(f"algo.optimizer: {error}") from error
        made_of = [compiled_settings(settings.algo, agent.scalars), asdict(settings.network), asdict(info)]
        graph = (agent_class, factory, json.dumps(made_of, sort_keys=True))
        return Lanes(agent, np.stack(params), settings.exact_trials, network.convolutional, graph)

    def _prepare_folder(self) -> None:
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
                "command": _command(),
                "started": time.time(),
                "tags": {
                    **_versions(),
                    **_git(),
                    "device": self.device,
                    "engine": settings.engine,
                    "cpus": str(os.cpu_count()),
                    "machine": platform.platform(),
                },
            },
        )

    def _train(self, agent: Any, stop: Any) -> None:
        from rlexp.checkpoint import Checkpoints
        from rlexp.engines.trials import Services
        from rlexp.metrics import Recorder

        settings, folder = self.settings, self.folder
        checkpoints = Checkpoints(folder / "checkpoint", settings.checkpoint.every, settings.checkpoint.keep)
        state = checkpoints.load(self.console.warn)
        position = state["trials"]["position"] if state else 0
        recorder = Recorder(folder / "metrics.jsonl", position)
        services = Services(settings, self.info, recorder, checkpoints, self.console, stop, self._seconds)
        family = registry.family(settings.algo.name)
        target = family.fused if settings.engine == "fused" and family.fused else family.loop
        loop: Any = registry.load(target)(agent, services)
        if state:
            loop.trials.restore(state["trials"])
            loop.set_state(state["loop"])
            self.earlier = state["trials"]["seconds"]
            self.console.say(f"continuing from env step {loop.trials.t:,}")
        del state  # as large as the rings
        self.console.start()
        loop.run()
        self.train_seconds = self._seconds()
        loop.trials.save(loop.get_state)  # a job killed from here on does not train again
        self.console.stop()
        scores = loop.final()
        recorder.sync()
        recorder.close()
        self._finish(loop.trials, scores)
        loop.trials.close()

    def _seconds(self) -> float:
        return self.earlier + time.monotonic() - self.began

    def _finish(self, trials: Any, scores: Scores) -> None:
        """Weights, tables, pictures and the summary; the summary last, since it says that the rest is there."""
        import numpy as np

        from rlexp import seeding
        from rlexp.checkpoint import write_json, write_npz
        from rlexp.report import stats
        from rlexp.report.load import load_job
        from rlexp.report.plots import learning_curve

        settings, folder = self.settings, self.folder
        if self.model is not None:
            for k, seed in enumerate(settings.seeds):
                self.model.set_params(trials.best.params[k])
                save_model(self.model.model, folder / "trials" / str(seed) / "best.keras")
        elif self.info.tabular:
            for k, seed in enumerate(settings.seeds):
                (folder / "trials" / str(seed)).mkdir(parents=True, exist_ok=True)
                table = trials.best.params[k].reshape(-1, self.info.num_actions)  # [S, A]
                write_npz(folder / "trials" / str(seed) / "best.npz", {"q": table})
        self._write_evaluation(scores)
        episodes = trials.episodes.table()
        columns = {name: episodes[:, i] for i, name in enumerate(("trial", "step", "return", "length"))}
        write_npz(folder / "episodes.npz", columns)
        finals = scores.returns.mean(axis=1)  # [N]
        best = int(np.argmax(np.where(np.isnan(finals), -np.inf, finals)))
        if settings.animation.enabled:
            self._animate(settings.seeds[best])
        steps = [int(s) for s in trials.counts["step"]]
        diverged = [k for k, status in enumerate(trials.status) if status == "diverged"]
        seconds = self._seconds()
        summary = {
            "algo": settings.algo.name,
            "env": settings.env.name,
            "env_id": settings.env.id,
            "study": settings.study,
            "config_id": settings.config_id,
            "group_id": settings.group_id,
            "seeds": settings.seeds,
            "status": "failed" if diverged else "done",
            "steps": max(steps),
            "total_steps": sum(steps),
            "episodes": [int(e) for e in trials.counts["episode"]],
            "updates": [int(u) for u in trials.counts["update"]],
            "wall_seconds": round(seconds, 3),
            "train_seconds": round(self.train_seconds, 3),
            "steps_per_second": round(sum(steps) / self.train_seconds, 1),
            "final/return": stats.summarize(finals, seeding.generator(0, "report")),
            "best_seed": settings.seeds[best],
            "trials": [
                {
                    "seed": seed,
                    "status": trials.status[k],
                    "note": trials.notes[k],
                    "steps": steps[k],
                    "best_eval_return": _finite(trials.best.scores[k, 0]),
                    "best_step": int(trials.best.steps[k, 0]),
                    "final_return": _finite(finals[k]),
                }
                for k, seed in enumerate(settings.seeds)
            ],
            "observation_shape": list(self.info.observation_shape),
            "observation_dtype": self.info.observation_dtype,
            "num_actions": self.info.num_actions,
            "device": self.device,
            "engine": settings.engine,
            "finished": time.time(),
        }
        data: JobData = load_job(folder)
        data.summary = summary
        learning_curve(data, folder / "learning_curve.png", seeding.generator(0, "report"))
        write_json(folder / "summary.json", summary)
        if diverged:
            seeds = ", ".join(str(settings.seeds[k]) for k in diverged)
            raise Diverged(
                f"{len(diverged)} of {settings.trials} trials diverged (seeds {seeds}); the others finished: {folder}"
            )

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
        from rlexp.play import animate
        from rlexp.policy import load_policy

        if not self.info.rgb_array:
            self.console.say(f"no animation: {self.settings.env.id} cannot be rendered to pictures")
            return
        try:
            policy = load_policy(self.folder, seed=seed)
            animate(
                policy,
                self.settings.evaluation.final_seed,
                self.folder / "animation.gif",
                self.settings.animation.max_steps,
            )
        except Exception as error:  # a picture is no reason to lose a trained job
            self.console.warn(f"no animation: {type(error).__name__}: {error}")

    def _write_unfinished(self, status: str) -> None:
        """A summary for a job that did not finish, unless there is a full one already."""
        from rlexp.checkpoint import write_json

        if (self.folder / "summary.json").exists():
            return
        settings = self.settings
        names = {"algo": settings.algo.name, "env": settings.env.name, "config_id": settings.config_id}
        error = traceback.format_exc() if status == "failed" else ""
        write_json(
            self.folder / "summary.json",
            {**names, "seeds": settings.seeds, "status": status, "wall_seconds": round(self._seconds(), 3),
             "error": error.strip().splitlines()[-1] if error else ""},
        )  # fmt: skip


class Diverged(RuntimeError):
    """Some trials of a job diverged; everything of the others is there."""


def save_model(model: Any, path: Path) -> None:
    """Save what acts of a Keras model, atomically: its first output, the one with a number for each action."""
    import keras

    if len(model.outputs) > 1:
        model = keras.Model(model.inputs, model.outputs[0], name=model.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".part-{path.name}")  # Keras insists on the ending
    model.save(beside)
    beside.replace(path)


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """One process per job folder."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise refusal(
            "output_dir", "a job folder that no other process uses", f"{folder}, where one is at work",
            "Wait for it, or run another configuration, seed or output_dir.",
        ) from error  # fmt: skip


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
    except (OSError, ValueError, KeyError):
        return None


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _span(seeds: list[int]) -> str:
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}-{seeds[-1]}"


def _command() -> str:
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
