"""Damage one file of a finished or unfinished job and run one command on it, many times: the part `attack` of soak.py.

A case is wrong if the command shows a traceback or an error of rlexp's own, takes longer than 20 s, dies, or if its
results differ from those of the undamaged files and nothing it says names the damaged one. Two damages cannot be seen,
and only have to end in a sentence: a JSON file whose digest was removed with the change (as an older version's, or a
forger's), and a `metrics.jsonl` of an unfinished job that ends too early, as a kill leaves it.

Jobs are made once. Each case works on a copy, in a forked child of a process that has everything imported.
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
import yaml

from rlexp.cli import sync as sync_command

LIMIT = 20.0  # seconds of one case
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
KINDS = ("truncated", "flipped", "random", "empty", "another", "a folder", "a link", "a pipe", "keys")
LEFT_ALONE = (".lock", ".tracking.lock", ".sweep.lock", ".log")
UNSEALED = ", and no digest"
COMMANDS = ("ls", "ls study", "best", "report", "play", "sync", "train")


@dataclass
class Said:
    """What a command said and left.

    Attributes:
        status: exit status; None where it was killed for taking too long.
        text: all that it printed.
        results: what it found out, in a form that can be compared.
    """

    status: int | None
    text: str
    results: Any = None


@dataclass
class Base:
    """An output folder with jobs, and what the commands say of it as it is.

    Attributes:
        folder: in which the commands run; the output folder is `outputs` in it.
        jobs: name -> overrides of the command that runs it.
        usual: command and job -> what is said of the undamaged files.
    """

    folder: Path
    jobs: dict[str, Sequence[str]]
    usual: dict[tuple[str, str], Said] = field(default_factory=dict)


@dataclass
class Report:
    """What became of all cases."""

    cases: int = 0
    tracebacks: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)


# The jobs.


def prepare(folder: Path, networks: bool = True, sweeps: bool = True) -> Base:
    """Make finished and unfinished jobs of each family, tracked in files only."""
    (folder / "outputs").mkdir(parents=True)
    families = {**TABLES, **(NETWORKS if networks else {})}
    base = Base(folder, {})
    for name, overrides in families.items():
        common = (*overrides, *BRIEF, f"study={STUDY}", "tracking=files")
        for seed, state in enumerate(("done", "killed", "dead")):
            if state != "done" and name in ("random", "planning"):
                continue
            base.jobs[f"{name} {state}"] = command = (*common, f"seed={10 * seed}")
            said = in_child(folder, partial(_make, command, state), 300.0)
            if said.status != 0:
                raise SystemExit(f"{name} {state} could not be made:\n{said.text}")
    for name, overrides in (("sweep", SWEEP), ("search", SEARCH)) if sweeps else ():
        base.jobs[name] = command = (*overrides, *BRIEF, f"study={name}", "tracking=files")
        said = in_child(folder, partial(train, command), 300.0)
        if said.status != 0:
            raise SystemExit(f"{name} could not be made:\n{said.text}")
    return base


def _make(overrides: Sequence[str], state: str) -> int:
    """Run a job to its end, or to half of its budget: ended by a signal, or dead without a word."""
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
    """What runs a command on a job's folder, or on the output folder, in the present one."""

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
    """The training command, in this process."""
    from rlexp.cli import run as command

    sys.argv[:] = [str(Path(command.__file__)), *overrides]
    return command._status()


def _study(job: str) -> str:
    return job if job in ("sweep", "search") else STUDY


def _folder(base: Base, job: str) -> Path:
    """A job's folder, relative to that in which commands run; of a sweep, its own."""
    if job in ("sweep", "search"):
        return next((base.folder / "outputs" / job / "sweeps").glob("*")).relative_to(base.folder)
    from rlexp.jobs import runner

    return runner.resolve(runner.compose(*base.jobs[job]))[0].folder.relative_to(Path.cwd())


def results(command: str, job: str, said: Said, base: Base, place: Path) -> Any:
    """What a command has found out of the files of `place`, without times and what else differs from run to run."""
    lines = [line for line in said.text.splitlines() if not line.startswith("warning: ")]
    if command == "report":
        tables = place / "outputs" / _study(job) / "report" / "tables"
        found = {path.name: path.read_text() for path in sorted(tables.glob("*.csv"))}
        return {name: _without_times(text) for name, text in found.items()}
    if command == "train":
        finals = {}
        for path in sorted((place / "outputs").glob(f"{_study(job)}/*/summary.json")):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                finals[path.parent.name] = json.loads(path.read_text())["final/return"]["per_trial"]
        return finals
    return lines


def _without_times(table: str) -> str:
    """A CSV without the columns that hold seconds."""
    rows = [line.split(",") for line in table.splitlines()]
    timed = [i for i, name in enumerate(rows[0]) if "second" in name] if rows else []
    return "\n".join(",".join(cell for i, cell in enumerate(row) if i not in timed) for row in rows)


def in_child(folder: Path, main: Callable[[], int], seconds: float = LIMIT) -> Said:
    """Run something in a forked child, in a folder, and kill it and its group after so many seconds."""
    log = folder.parent / f"{folder.name}.said"
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
    return Said(status, text)


# The damages.


def damage(path: Path, kind: str, generator: np.random.Generator, others: Sequence[Path]) -> str:
    """Damage a file; what was done, in words."""
    data = path.read_bytes()
    other = others[int(generator.integers(len(others)))]
    if kind == "truncated":
        path.write_bytes(data[: int(generator.integers(len(data) + 1))])
    elif kind == "flipped":
        flipped = bytearray(data or b"\0")
        for place in generator.integers(len(flipped), size=int(generator.integers(1, 4))):
            flipped[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(flipped)
    elif kind == "random":
        path.write_bytes(generator.bytes(int(generator.integers(1, 5000))))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "another":
        path.write_bytes(other.read_bytes())
        return f"another: {other.name}"
    elif kind == "keys":
        return _damage_keys(path, data, generator)
    else:
        path.unlink()
        if kind == "a folder":
            path.mkdir()
            if generator.random() < 0.5:
                (path / "inside").write_text("text")
        elif kind == "a pipe":
            os.mkfifo(path)
        else:
            targets = (Path("/nonexistent/file"), Path("/dev/zero"), other, path.parent, path)
            target = targets[int(generator.integers(len(targets)))]
            path.symlink_to(target)
            return f"a link to {target.name}"
    return kind


def _damage_keys(path: Path, data: bytes, generator: np.random.Generator) -> str:
    """Drop or replace a value somewhere in a JSON, JSON lines, YAML or CSV file; others are cut."""
    try:
        if path.suffix == ".jsonl":
            lines = data.splitlines()
            number = int(generator.integers(len(lines)))
            value = json.loads(lines[number])
            told = _change(value, generator)
            lines[number] = _dumped(value).encode()
            path.write_bytes(b"\n".join(lines) + b"\n")
            return f"line {number + 1}: {told}"
        if path.suffix == ".csv":
            rows = [line.split(",") for line in data.decode().splitlines()]
            row = rows[int(generator.integers(len(rows)))]
            row[int(generator.integers(len(row)))] = told = str(_strange(generator))[:40]
            path.write_text("".join(",".join(row) + "\n" for row in rows))
            return f"a cell: {told}"
        value = yaml.safe_load(data) if path.suffix == ".yaml" else json.loads(data)
        told = _change(value, generator)
        if path.suffix == ".json" and generator.random() < 0.7 and value.pop("digest", None):
            told += UNSEALED  # as whoever writes such a file would
        path.write_text(_dumped(value))  # JSON is YAML, too
        return told
    except (ValueError, yaml.YAMLError, AttributeError, IndexError):  # it is no such file
        path.write_bytes(data[: len(data) // 2])
        return "cut in half"


def _change(value: Any, generator: np.random.Generator) -> str:
    """Drop, replace or add something at a random place of a nested value."""
    places: list[tuple[Any, Any, str]] = []

    def walk(node: Any, name: str) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, item in items:
            places.append((node, key, f"{name}.{key}"))
            walk(item, f"{name}.{key}")

    walk(value, "")
    node, key, name = places[int(generator.integers(len(places)))]
    if generator.random() < 0.3:
        del node[key]
        return f"without {name}"
    node[key] = strange = _strange(generator)
    return f"{name} = {f'a {type(strange).__name__}' if isinstance(strange, list | dict) else str(strange)[:30]}"


def _strange(generator: np.random.Generator) -> Any:
    nested: Any = []
    for _ in range(int(generator.choice([50, 900, 100_000]))):
        nested = [nested]
    values: tuple[Any, ...] = (
        None, "text", "", [], {}, [1, 2], {"a": 1}, -1, 10**30, 1e308, float("nan"), float("inf"), True, 2**63, [None],
        [[]], "\x1b[31m", "../../x", "x" * 5000, nested,
    )  # fmt: skip
    return values[int(generator.integers(len(values)))]


def _dumped(value: Any) -> str:
    """`json.dumps` for any depth."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_dumped(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        depth = 0
        while isinstance(value, list) and len(value) == 1:
            depth, value = depth + 1, value[0]
        inner = ", ".join(map(_dumped, value)) if isinstance(value, list) else _dumped(value)
        depth += isinstance(value, list)
        return "[" * depth + inner + "]" * depth
    return json.dumps(value)


# The cases.


def targets(base: Base, job: str, place: Path) -> list[Path]:
    """The files that may be damaged: all of a job's folder; of a sweep, its own and its jobs'."""
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


def usual(base: Base, command: str, job: str, place: Path) -> Said:
    """What a command says of the undamaged files; asked for once."""
    key = (command, job if command in ("play", "sync", "train") else _study(job))
    if key not in base.usual:
        said = one(base, command, job, place)
        base.usual[key] = said
    return base.usual[key]


def one(base: Base, command: str, job: str, place: Path) -> Said:
    """Run a command on the files of a folder."""
    folder = _folder_of(base, job)  # before the fork, and of the whole files
    _FOLDERS[job] = folder
    in_place = dataclasses.replace(base, folder=place)
    said = in_child(place, _with_folder(in_place, command, job, folder))
    said.results = results(command, job, said, base, place)
    return said


def _with_folder(base: Base, command: str, job: str, folder: Path) -> Callable[[], int]:
    main = run(base, command, job)

    def child() -> int:
        globals()["_folder"] = lambda base, job: folder
        return main()

    return child


def attack(base: Base, cases: int, seed: int, commands: Sequence[str] = COMMANDS) -> Report:
    """Run the cases; what went wrong is in the report, a line each."""
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
        expected = usual(base, command, job, place)
        _fresh(base, place)
        files = targets(base, job, place)
        path = files[int(generator.integers(len(files)))]
        kind = KINDS[int(generator.integers(len(KINDS)))]
        others = [file for file in files if file != path]
        told = damage(path, kind, generator, others)
        said = one(base, command, job, place)
        name = f"case {report.cases}: {command} on {job}: {path.relative_to(place)} {told}"
        report.cases += 1
        report.kinds[kind] += 1
        before = len(failures(report))
        _judge(report, name, path, said, expected, place, job)
        for failure in failures(report)[before:]:
            print(failure, file=sys.stderr, flush=True)
    shutil.rmtree(place, ignore_errors=True)
    return report


def _fresh(base: Base, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(base.folder, place, symlinks=True)


def _judge(report: Report, name: str, path: Path, said: Said, expected: Said, place: Path, job: str) -> None:
    last = "\n    ".join(said.text.strip().splitlines()[-6:])
    told = f"{name}: exit status {said.status}\n    {last}"
    if said.status is None:
        report.hangs.append(told)
        return
    wrong = "Traceback (most recent call last)" in said.text or "please report" in said.text
    if wrong or said.status not in (0, 1, 2):
        report.tracebacks.append(told)
        return
    page = place / "outputs" / _study(job) / "report" / "index.md"
    every = said.text + (page.read_text(errors="replace") if page.is_file() else "")
    named = path.name in every or (path.parent.name in every and path.stem == "best")
    unfinished = not job.endswith("done") and job not in ("sweep", "search")
    invisible = UNSEALED in name or (
        path.name == "metrics.jsonl" and unfinished and name.endswith(("truncated", "empty"))
    )
    differs = said.results != expected.results or said.status != expected.status
    if differs and not named and not invisible:
        report.silent.append(f"{told}\n    usual: {str(expected.results)[:300]}\n    now:   {str(said.results)[:300]}")


def measured(report: Report) -> str:
    """The measured figure."""
    return (
        f"{report.cases:,} cases, {len(report.tracebacks)} tracebacks, {len(report.silent)} silent wrong results, "
        f"{len(report.hangs)} hangs over {LIMIT:.0f} s"
    )


def failures(report: Report) -> list[str]:
    """All that went wrong."""
    return [*report.tracebacks, *report.silent, *report.hangs]


def load(networks: bool = True, everything: bool = True) -> None:
    """Import what the commands need, before the children are forked; without `everything`, nothing for MLflow."""
    import hydra  # noqa: F401
    import matplotlib.pyplot  # noqa: F401

    if everything:
        pass
    if networks:
        from rlexp.system import backend

        backend.set_environment("cpu")
        import keras  # noqa: F401
