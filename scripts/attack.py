"""The part `attack` of soak.py: damage one file of a job and run one command on it, many times.

A case fails if the command shows a traceback or reports a bug, takes longer than 20 s, or dies. It also fails if the
results differ from those of the undamaged files and no message names the damaged file. Two kinds of damage are
undetectable and only have to end in a sentence: a JSON file whose digest was removed with the change (it looks like an
older version's file), and a `metrics.jsonl` of an unfinished job that ends too early (as after a kill).

The jobs run once. Each case works on a copy of them, in a forked child of a process that has imported everything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from damages import KINDS, UNSEALED, damage

from rlexp.cli import sync as sync_command

LIMIT = 20.0  # time limit of one case, seconds
STUDY = "attacked"
BRIEF = ("trials=2", "animation.enabled=false", "evaluation.final_episodes=3", "evaluation.num_episodes=2",
         "evaluation.candidate_episodes=3", "checkpoint.every=0.01", "log.points=8")  # fmt: skip
TABLES = {
    "random": ("algo=random", "env=cartpole", "budget.steps=300"),
    "q_learning": (
        "algo=q_learning",
        "env=three_state_mdp",
        "engine=host",
        "budget.steps=600",
        "evaluation.period=100",
    ),
    "planning": ("algo=q_value_iteration", "env=three_state_mdp", "engine=host", "budget.steps=20"),
}  # name -> overrides; none of these needs TensorFlow
NETWORKS = {
    "dqn": ("algo=dqn", "env=cartpole", "engine=host", "budget.steps=300", "evaluation.period=100",
            "algo.learn_start=50", "network.hidden_units=[8]"),
    "pg": ("algo=pg", "env=cartpole", "engine=host", "budget.steps=300", "evaluation.period=100",
           "network.hidden_units=[8]"),
}  # fmt: skip
SWEEP = ("-m", *TABLES["q_learning"], "algo.gamma=0.9,0.95")
SEARCH = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.num_candidates=2", *TABLES["q_learning"],
          "algo.gamma=interval(0.8,0.99)")  # fmt: skip
LEFT_ALONE = (".lock", ".tracking.lock", ".sweep.lock", ".log")
COMMANDS = ("ls", "ls study", "best", "report", "play", "sync", "train")


@dataclass
class Outcome:
    """The outcome of a command.

    Attributes:
        status: exit status; None if it was killed at the time limit.
        text: everything it printed.
        results: its results in a comparable form.
    """

    status: int | None
    text: str
    results: Any = None


@dataclass
class Base:
    """An output folder with undamaged jobs, and the outcomes of commands on it.

    Attributes:
        folder: the folder in which the commands run; it contains the output folder `outputs`.
        jobs: name -> overrides of the command that runs the job.
        usual: (command, job) -> outcome with the undamaged files.
    """

    folder: Path
    jobs: dict[str, Sequence[str]]
    usual: dict[tuple[str, str], Outcome] = field(default_factory=dict)


@dataclass
class Report:
    """The outcomes of all cases."""

    cases: int = 0
    tracebacks: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)


# The jobs.


def prepare(folder: Path, networks: bool = True, sweeps: bool = True) -> Base:
    """Run finished and unfinished jobs of each family, without MLflow."""
    (folder / "outputs").mkdir(parents=True)
    families = {**TABLES, **(NETWORKS if networks else {})}
    base = Base(folder, {})
    for name, overrides in families.items():
        common = (*overrides, *BRIEF, f"study={STUDY}", "tracking=files")
        for seed, state in enumerate(("done", "killed", "dead")):
            if state != "done" and name in ("random", "planning"):
                continue
            base.jobs[f"{name} {state}"] = command = (*common, f"seed={10 * seed}")
            outcome = in_child(folder, partial(_make, command, state), 300.0)
            if outcome.status != 0:
                raise SystemExit(f"{name} {state} could not be made:\n{outcome.text}")
    for name, overrides in (("sweep", SWEEP), ("search", SEARCH)) if sweeps else ():
        base.jobs[name] = command = (*overrides, *BRIEF, f"study={name}", "tracking=files")
        outcome = in_child(folder, partial(train, command), 300.0)
        if outcome.status != 0:
            raise SystemExit(f"{name} could not be made:\n{outcome.text}")
    return base


def _make(overrides: Sequence[str], state: str) -> int:
    """Run a job to its end ("done"), or to half of its budget: "killed" by a signal, or "dead" without a summary."""
    from rlexp.data.checkpoint import write_json
    from rlexp.engines.services import Pruned
    from rlexp.jobs import runner

    settings = runner.compose(*overrides)
    if state == "done":
        runner.run_job(settings, overrides=overrides)
        return 0
    try:
        runner.run_job(settings, overrides=overrides, prune=lambda step, share, values: share >= 0.5)
    except Pruned:
        settings = runner.resolve(settings)[0]
        path = settings.folder / "summary.json"
        summary = json.loads(path.read_text())
        path.unlink()
        if state == "killed":
            write_json(path, {key: summary[key] for key in summary if key not in ("digest", "pruned_at")}
                       | {"status": "killed"})  # fmt: skip
        return 0
    return 1


# The commands.


def run(base: Base, command: str, job: str) -> Callable[[], int]:
    """A function that runs a command on a job's folder or the output folder, in the working directory."""

    def main() -> int:
        if command in ("ls", "ls study"):
            from rlexp.cli import ls

            return ls.main([] if command == "ls" else [_study(job)])
        if command == "best":
            from rlexp.cli import best

            return best.main([_study(job)])
        if command == "report":
            from rlexp.cli import report

            return report.main([_study(job)])
        if command == "play":
            from rlexp.cli import play

            return play.main([str(_folder(base, job)), "--max-steps", "20", "--output", "played.gif"])
        if command == "sync":
            return sync_command.main([str(_folder(base, job))])
        return train(base.jobs[job])

    return main


def train(overrides: Sequence[str]) -> int:
    """Run the training command in this process."""
    from rlexp.cli import run as command

    sys.argv[:] = [str(Path(command.__file__)), *overrides]
    return command._status()


def _study(job: str) -> str:
    return job if job in ("sweep", "search") else STUDY


def _folder(base: Base, job: str) -> Path:
    """A job's or a sweep's folder, relative to the folder in which commands run."""
    if job in ("sweep", "search"):
        return next((base.folder / "outputs" / job / "sweeps").glob("*")).relative_to(base.folder)
    from rlexp.jobs import runner

    return runner.resolve(runner.compose(*base.jobs[job]))[0].folder.relative_to(Path.cwd())


def results(command: str, job: str, outcome: Outcome, base: Base, place: Path) -> Any:
    """The results of a command on the files in `place`, without times and other values that differ between runs."""
    lines = [line for line in outcome.text.splitlines() if not line.startswith("warning: ")]
    if command == "report":
        tables = place / "outputs" / _study(job) / "report" / "tables"
        found = {path.name: path.read_text() for path in sorted(tables.glob("*.csv")) if path.is_file()}
        return {name: _without_times(text) for name, text in found.items()}
    if command == "train":
        finals = {}
        for path in sorted((place / "outputs").glob(f"{_study(job)}/*/summary.json")):
            if not path.is_file():  # a named pipe would wait for its writer
                continue
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                finals[path.parent.name] = json.loads(path.read_text())["final/return"]["per_trial"]
        return finals
    return lines


def _without_times(table: str) -> str:
    """A CSV without its columns of seconds."""
    rows = [line.split(",") for line in table.splitlines()]
    timed = [i for i, name in enumerate(rows[0]) if "second" in name] if rows else []
    return "\n".join(",".join(cell for i, cell in enumerate(row) if i not in timed) for row in rows)


def in_child(folder: Path, main: Callable[[], int], seconds: float = LIMIT) -> Outcome:
    """Run a function in a forked child, in a folder; kill the child's process group at the time limit."""
    log = folder.parent / f"{folder.name}.output"
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status: int | None = 70
        try:
            os.setsid()
            with log.open("wb") as file:
                for stream in (1, 2):
                    os.dup2(file.fileno(), stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
            os.chdir(folder)
            status = main()
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status if isinstance(status, int) else 70)
    deadline, status = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(code)
            break
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
    text = log.read_bytes().decode(errors="replace")
    log.unlink()
    return Outcome(status, text)


# The cases.


def targets(base: Base, job: str, place: Path) -> list[Path]:
    """The files that may be damaged: all in a job's folder, or in those of a sweep and its jobs."""
    folders = [place / _folder_of(base, job)]
    if job in ("sweep", "search"):
        folders += [path.parent for path in place.glob(f"outputs/{job}/*/job.json")]
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in found if not path.name.endswith(LEFT_ALONE) and ".hydra" not in path.parts]


def _folder_of(base: Base, job: str) -> Path:
    if job not in _FOLDERS:
        before = Path.cwd()
        os.chdir(base.folder)
        try:
            _FOLDERS[job] = _folder(base, job)
        finally:
            os.chdir(before)
    return _FOLDERS[job]


_FOLDERS: dict[str, Path] = {}


def undamaged(base: Base, command: str, job: str, place: Path) -> Outcome:
    """The outcome of a command with the undamaged files; computed once."""
    key = (command, job if command in ("play", "sync", "train") else _study(job))
    if key not in base.usual:
        outcome = run_case(base, command, job, place)
        base.usual[key] = outcome
    return base.usual[key]


def run_case(base: Base, command: str, job: str, place: Path) -> Outcome:
    """Run a command on the files in a folder."""
    folder = _folder_of(base, job)  # determined before the fork, from undamaged files
    _FOLDERS[job] = folder
    in_place = dataclasses.replace(base, folder=place)
    outcome = in_child(place, _with_folder(in_place, command, job, folder))
    outcome.results = results(command, job, outcome, base, place)
    return outcome


def _with_folder(base: Base, command: str, job: str, folder: Path) -> Callable[[], int]:
    main = run(base, command, job)

    def child() -> int:
        globals()["_folder"] = lambda base, job: folder
        return main()

    return child


def attack(base: Base, cases: int, seed: int, commands: Sequence[str] = COMMANDS) -> Report:
    """Run the cases; the report lists the failures."""
    generator = np.random.default_rng(seed)
    report = Report()
    place = base.folder.parent / "case"
    names = list(base.jobs)
    while report.cases < cases:
        command = commands[report.cases % len(commands)]
        job = names[int(generator.integers(len(names)))]
        if command == "play" and job in ("sweep", "search"):
            continue
        _fresh(base, place)
        expected = undamaged(base, command, job, place)
        _fresh(base, place)
        files = targets(base, job, place)
        path = files[int(generator.integers(len(files)))]
        kind = KINDS[int(generator.integers(len(KINDS)))]
        others = [file for file in files if file != path]
        description = damage(path, kind, generator, others)
        outcome = run_case(base, command, job, place)
        name = f"case {report.cases}: {command} on {job}: {path.relative_to(place)} {description}"
        report.cases += 1
        report.kinds[kind] += 1
        before = len(failures(report))
        _judge(report, name, path, outcome, expected, place, job)
        for failure in failures(report)[before:]:
            print(failure, file=sys.stderr, flush=True)
    shutil.rmtree(place, ignore_errors=True)
    return report


def _fresh(base: Base, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(base.folder, place, symlinks=True)


def _judge(report: Report, name: str, path: Path, outcome: Outcome, expected: Outcome, place: Path, job: str) -> None:
    last = "\n    ".join(outcome.text.strip().splitlines()[-6:])
    case = f"{name}: exit status {outcome.status}\n    {last}"
    if outcome.status is None:
        report.hangs.append(case)
        return
    wrong = "Traceback (most recent call last)" in outcome.text or "please report" in outcome.text
    if wrong or outcome.status not in (0, 1, 2):
        report.tracebacks.append(case)
        return
    page = place / "outputs" / _study(job) / "report" / "index.md"
    every = outcome.text + (page.read_text(errors="replace") if page.is_file() else "")
    named = path.name in every or (path.parent.name in every and path.stem == "best")
    unfinished = not job.endswith("done") and job not in ("sweep", "search")
    invisible = UNSEALED in name or (
        path.name == "metrics.jsonl" and unfinished and name.endswith(("truncated", "empty"))
    )
    differs = outcome.results != expected.results or outcome.status != expected.status
    if differs and not named and not invisible:
        report.silent.append(
            f"{case}\n    usual: {str(expected.results)[:300]}\n    now:   {str(outcome.results)[:300]}"
        )


def measured(report: Report) -> str:
    """The report in one line."""
    return (
        f"{report.cases:,} cases, {len(report.tracebacks)} tracebacks, {len(report.silent)} silent wrong results, "
        f"{len(report.hangs)} hangs over {LIMIT:.0f} s"
    )


def failures(report: Report) -> list[str]:
    """All failures of the report."""
    return [*report.tracebacks, *report.silent, *report.hangs]


def load(networks: bool = True) -> None:
    """Import the libraries of the commands before the children are forked; `networks`: Keras too."""
    import hydra  # noqa: F401
    import matplotlib.pyplot  # noqa: F401

    if networks:
        from rlexp.system import backend

        backend.set_environment("cpu")
        import keras  # noqa: F401
