"""Test the guarantees about crashes, outages and memory for hours: prints a table and writes JSON.

    python scripts/soak.py                        # everything (about an hour and a half on two cores)
    python scripts/soak.py kills --kills 20       # some of it
    python scripts/soak.py --json out.json starts sweep

kills    SIGKILL at random moments of jobs of all families on both engines; results equal an undisturbed run's
starts   six processes at once on a store that does not exist yet
attack   a command on a job with one damaged file, many times
store    SIGKILL of a job, its delivering process, or both, in the first ten seconds of a fresh store
sweep    a sweep that is killed three times and restarted, under Hydra's own launcher and joblib
outage   a real MLflow server that is down for half a minute in mid-run
jobs     thirty jobs in one process: memory
long     a hundred trials, and two million steps: memory, and points in MLflow

Needs Linux (/proc) and, for the sweep, the extra rlexp[parallel]. Times are compared in turn within one run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import attack as attacks
import measuring
import numpy as np
from evidence import differences, records, stored
from measuring import Row

from rlexp.cli.ui import environment as server_environment
from rlexp.data.checkpoint import unfinished
from rlexp.sweeps.outcome import Outcome

SEED = 0  # --seed: seed of the random moments
KILLS = 100  # --kills
CASES = 1000  # --cases: cases of the part "attack"
STORE_KILLS = 30  # --kills for the part "store"
AIMED = 0.25  # share of the kills that wait for a file that is being written
PAGE = os.sysconf("SC_PAGE_SIZE")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}


@dataclass
class Started:
    """A process in a process group of its own, with its output."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]

    @classmethod
    def rlexp(cls, *args: str) -> Started:
        """Start `rlexp ...`."""
        return cls.python("-m", "rlexp", *args)

    @classmethod
    def alone(cls, *args: str) -> Started:
        """Start `rlexp ...` as one process, without a supervisor, to observe its memory."""
        return cls.python("-m", "rlexp", *args, env={**ENVIRONMENT, "RLEXP_SUPERVISE": "0"})

    @classmethod
    def python(cls, *args: str, env: dict[str, str] = ENVIRONMENT) -> Started:
        """Start `python ...`."""
        output = tempfile.TemporaryFile()  # noqa: SIM115  (gone with this object)
        command = [sys.executable, *args]
        process = subprocess.Popen(command, stdout=output, stderr=output, env=env, start_new_session=True)
        return cls(process, output)

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit status; None if the process still runs after this time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def text(self) -> str:
        """The output so far, errors included."""
        self.output.seek(0)
        return self.output.read().decode(errors="replace")

    def finish(self) -> str:
        """Wait for the end, which must be successful; returns the output."""
        if status := self.wait():
            raise SystemExit(f"{' '.join(map(str, self.process.args[1:]))} ended with {status}:\n{self.text()}")  # type: ignore[index]
        return self.text()

    def kill(self, with_children: bool = False) -> None:
        """SIGKILL the process group; `with_children`: also children that have left it, as when a machine dies."""
        others = descendants(self.process.pid) if with_children else []
        os.killpg(self.process.pid, signal.SIGKILL)
        for pid in others:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # it belonged to the group
                continue
        self.process.wait()

    def memory(self) -> int | None:
        """Resident memory in bytes; None if the process has ended."""
        try:
            return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE or None
        except (OSError, IndexError):
            return None


def descendants(pid: int) -> list[int]:
    """The ids of a process's children, grandchildren and so on."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        parents.setdefault(parent, []).append(int(path.parent.name))
    found = parents.get(pid, [])
    return [*found, *(child for own in found for child in descendants(own))]


def job_folders(output: Path) -> list[Path]:
    """The folders of the jobs in an output folder."""
    return sorted(path.parent for path in output.glob("*/*/job.json"))


def status_of(folder: Path) -> str:
    """The status in a job's summary."""
    try:
        status: str = json.loads((folder / "summary.json").read_text())["status"]
    except FileNotFoundError:
        return "not ended"
    return status


# kills

TINY = ("tracking=files", "animation.enabled=false", "evaluation.num_episodes=4", "evaluation.final_episodes=10",
        "evaluation.candidate_episodes=10", "checkpoint.every=0", "log.points=100")  # fmt: skip
DQN = ("algo=dueling_ddqn", "trials=2", "network.hidden_units=[16,16]", "algo.learn_start=200", "algo.replay_size=500")
TABLE = ("algo=q_learning", "+discretizer=cartpole", "trials=3")
PG = ("algo=ppo", "trials=2")
VICTIMS = {  # a few seconds of training each, some hundred checkpoints; the ring comes round
    "dueling_ddqn, host": (*DQN, "engine=host", "budget.steps=1000", "evaluation.period=200"),
    "dueling_ddqn, fused": (*DQN, "engine=fused", "budget.steps=6000", "evaluation.period=500"),
    "q_learning, host": (*TABLE, "engine=host", "budget.steps=8000", "evaluation.period=1000"),
    "q_learning, fused": (*TABLE, "engine=fused", "budget.steps=150000", "evaluation.period=10000"),
    "ppo, host": (*PG, "engine=host", "budget.steps=2000", "evaluation.period=500"),
    "ppo, fused": (*PG, "engine=fused", "budget.steps=10000", "evaluation.period=1000"),
    "q_value_iteration": ("algo=q_value_iteration", "env=frozen_lake_8x8", "trials=3", "evaluation.period=5"),
}


@dataclass
class Killed:
    """The outcome of one kind of job.

    Attributes:
        kills: number of kills per phase of the job.
        chains: number of jobs that were killed, restarted until they were done, and compared.
        different: differences from the undisturbed run.
    """

    kills: Counter[str] = field(default_factory=Counter)
    chains: int = 0
    different: list[str] = field(default_factory=list)


def kill_and_compare(
    output: Path,
    overrides: Sequence[str],
    kills: int,
    generator: np.random.Generator,
    variants: Sequence[str] = ("rerun=false",),
) -> Killed:
    """Run a job undisturbed; then kill and restart it until it is done, and compare; repeat up to a number of kills.

    The moments are uniform over the time of the undisturbed run, start and end included. A quarter of the kills then
    wait until a file is being written. Each start draws one of `variants`, overrides that change no result.
    """
    result = Killed()
    options = (*TINY, *overrides)
    began = time.monotonic()
    Started.rlexp(*options, f"output_dir={output / 'whole'}").finish()
    length = time.monotonic() - began
    (whole,) = job_folders(output / "whole")
    while result.kills.total() < kills:
        shutil.rmtree(output / "killed", ignore_errors=True)
        before = result.kills.total()
        while True:
            run = Started.rlexp(*options, str(generator.choice(variants)), f"output_dir={output / 'killed'}")
            started = time.time()
            if result.kills.total() < kills:
                moment, aimed = generator.uniform(0, length), generator.random() < AIMED
                status = run.wait(moment)
                if status is None and aimed:
                    status = _wait_for_writing(run, output / "killed", length)
                if status is None:
                    run.kill()
                    result.kills[
                        _where(output / "killed", started, json.loads((whole / "summary.json").read_text()))
                    ] += 1
                    continue
            if status := run.wait():
                result.different.append(f"exit status {status}: {run.text().strip().splitlines()[-1:]}")
            break
        if result.kills.total() > before:
            result.chains += 1
            (folder,) = job_folders(output / "killed")
            result.different += ["no summary"] if status_of(folder) != "done" else differences(whole, folder)
    return result


def _parts(output: Path) -> list[Path]:
    """Unfinished files: being written, or left by a process that died."""
    return [path for folder in output.glob("*/*") for path in unfinished(folder)]


def _wait_for_writing(run: Started, output: Path, longest: float) -> int | None:
    """Wait until a job writes a file; returns its exit status if it ends first."""
    before, deadline = set(_parts(output)), time.monotonic() + longest
    while run.process.poll() is None and time.monotonic() < deadline and not set(_parts(output)) - before:
        time.sleep(0.0005)
    return run.process.poll()


def _where(output: Path, started: float, whole: dict[str, object]) -> str:
    """The phase in which a process was killed, judged by its files."""
    new = [path for path in output.glob("*/*/**/*") if path.stat().st_mtime >= started]
    if set(_parts(output)) & set(new):
        return "writing a file"
    if list(output.glob(f"*/*/checkpoint/{whole['steps']:012d}.npz")):
        return "at the end"
    return "training" if any(path.name == "metrics.jsonl" for path in new) else "starting"


def kills(output: Path) -> list[Row]:
    """Kill jobs of every family and engine, as many at a time as there are processors."""
    print(f"kill moments: --seed {SEED}", file=sys.stderr, flush=True)
    shares = [KILLS // len(VICTIMS) + (i < KILLS % len(VICTIMS)) for i in range(len(VICTIMS))]
    generators = np.random.default_rng(SEED).spawn(len(VICTIMS))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(
            pool.map(
                kill_and_compare,
                [output / f"kills-{i}" for i in range(len(VICTIMS))],
                VICTIMS.values(),
                shares,
                generators,
            )
        )
    rows = []
    for name, result in zip(VICTIMS, found, strict=True):
        where = ", ".join(f"{count} {what}" for what, count in sorted(result.kills.items()))
        text = f"{len(result.different)} differences, {result.kills.total()} kills ({where}), {result.chains} jobs"
        text += "".join(f"; {what}" for what in dict.fromkeys(result.different))
        rows.append(Row(f"{name}: SIGKILL at random moments", "0 differences", text, not result.different))
    total, wrong = sum(r.kills.total() for r in found), sum(len(r.different) for r in found)
    what = f"all families and both engines (--seed {SEED})"
    return [*rows, Row(what, f"{KILLS} kills, 0 differences", f"{total} kills, {wrong} differences", wrong == 0)]


# starts and sweeps

QUICK = ("algo=q_learning", "env=frozen_lake", "engine=host", "trials=2", "budget.steps=2000",
         "tracking.timeout=300", "evaluation.period=500", "evaluation.final_episodes=5", "animation.enabled=false",
         "log.points=20")  # fmt: skip


TRACKED = tuple(option for option in QUICK if not option.startswith("tracking."))  # with the default timeout


def start_at_once(output: Path, processes: int) -> list[str]:
    """Start jobs at the same moment on a store that does not exist; returns the failures."""
    runs = [Started.rlexp(*QUICK, f"output_dir={output}", f"seed={10 * i}") for i in range(processes)]
    statuses = [run.wait() for run in runs]
    wrong = [f"exit status {status}: {run.text()}" for status, run in zip(statuses, runs, strict=True) if status]
    folders = job_folders(output)
    wrong += [f"{folder.name}: not delivered" for folder in folders if not _delivered(folder)]
    found = stored(output / "mlflow.db", folders)
    if (dict(found.kinds), found.open) != ({"job": processes, "trial": 2 * processes}, []):
        wrong.append(f"runs in the store: {dict(found.kinds)}, not finished: {found.open}")
    return wrong + ([f"{found.lost} points lost, {found.doubled} doubled"] if found.lost or found.doubled else [])


def _delivered(folder: Path) -> bool:
    log = folder / "tracking.log"
    return log.is_file() and log.read_text().splitlines()[-1:] == ["Delivered."]


def starts(output: Path) -> list[Row]:
    """Start six processes at once, twenty times."""
    wrong = [start_at_once(output / f"starts-{repeat}", 6) for repeat in range(20)]
    failures = [what for each in wrong for what in each]
    text = "; ".join([f"{len(failures)} failures", *failures])
    return [Row("6 processes at once on a fresh SQLite store, 20 times", "0 failures", text, not failures)]


# store

TARGETS = ("the job", "its delivering process", "both")


def kill_young_store(output: Path, target: str, after: float, from_its_birth: bool) -> tuple[str, list[str]]:
    """Kill a job that creates a store, or its delivering process, and run the same command again.

    Args:
        output: a fresh folder.
        target: the process to kill, one of TARGETS.
        after: the delay in seconds.
        from_its_birth: whether the delay counts from the first file of the store; else from the start of the process.

    Returns:
        The state of the store at that moment, and the failures.
    """
    command = (*TRACKED, f"output_dir={output}")
    run = Started.rlexp(*command)
    while from_its_birth and not _files_of_store(output) and run.wait(0.01) is None:
        pass
    run.wait(after)
    left = _files_of_store(output)
    was = "being made" if any("making" in name for name in left) else "made" if left else "not there"
    children = descendants(run.process.pid)
    if run.process.poll() is not None:
        was = "made, the job over"
    elif target == "its delivering process":
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.wait()
    else:
        run.kill(with_children=target == "both")
    wrong = []
    again = Started.rlexp(*command)
    if status := again.wait():
        wrong.append(f"the same command ended with {status}: {again.text()}")
    folders = job_folders(output)
    found = stored(output / "mlflow.db", folders)
    if (dict(found.kinds), found.open) != ({"job": 1, "trial": 2}, []):
        wrong.append(f"runs in the store: {dict(found.kinds)}, not finished: {found.open}: {again.text()}")
    if found.lost or found.doubled:
        wrong.append(f"{found.lost} points lost, {found.doubled} doubled: {again.text()}")
    wrong += [f"left behind: {name}" for name in _files_of_store(output) if name != "mlflow.db"]
    return was, wrong


def _files_of_store(output: Path) -> list[str]:
    return sorted(path.name for path in output.glob("*mlflow.db*"))


def store(output: Path) -> list[Row]:
    """Kill at moments uniform over ten seconds from the start, or over five from the store's first file, in turn."""
    generator = np.random.default_rng(SEED)
    moments: Counter[str] = Counter()
    failures = []
    for i in range(STORE_KILLS):
        born, target = i % 2 == 1, TARGETS[i // 2 % 3]
        after = float(generator.uniform(0, 5 if born else 10))
        was, wrong = kill_young_store(output / f"store-{i}", target, after, born)
        moments[was] += 1
        failures += [f"kill {i + 1} ({target}, {was}): {what}" for what in wrong]
        shutil.rmtree(output / f"store-{i}")
    when = ", ".join(f"{number} {was}" for was, number in sorted(moments.items()))
    text = "; ".join([f"{len(failures)} failures ({when})", *failures])
    what = f"SIGKILL {STORE_KILLS} times in the first ten seconds of a fresh store, then the same command"
    return [Row(what, "0 failures: everything delivered, once", text, not failures)]


def kill_sweep(
    output: Path, launcher: str, jobs: int, kills: int, generator: np.random.Generator
) -> tuple[list[int], list[str]]:
    """Kill a sweep several times and restart it; returns the number of finished jobs at each kill, and the failures.

    Kills alternate between the sweep's process group alone and the group with the process that delivers to MLflow, as
    when a machine dies.
    """
    seeds = ",".join(str(10 * i) for i in range(jobs))
    command = ("-m", f"hydra/launcher={launcher}", *QUICK, f"seed={seeds}", f"output_dir={output}")
    ended: dict[Path, int] = {}  # folder -> time at which the job was done
    wrong, done = [], []
    for k in range(kills):
        run, enough = Started.rlexp(*command), (k + 1) * jobs // (kills + 1)
        while run.wait(0.02) is None and len(_done(output)) < enough:
            pass
        run.wait(generator.uniform(0, 0.5))
        if run.process.poll() is not None:
            wrong.append(f"ended before kill {k + 1} with {run.process.returncode}: {run.text()}")
            continue
        run.kill(with_children=k % 2 == 1)
        done.append(len(_done(output)))
        ended = _done(output) | ended
    last = Started.rlexp(*command)
    if last.wait() != 0:
        wrong.append(f"exit status {last.process.returncode}: {last.text()}")
    folders = job_folders(output)
    again = [folder.name for folder, when in ended.items() if _done(output)[folder] != when]
    (sweep,) = output.glob("*/sweeps/*")
    outcomes = [Outcome.read(path) for path in sweep.glob("jobs/*")]
    statuses = Counter(outcome.status if outcome else "none" for outcome in outcomes)
    if again or len(folders) != jobs or statuses != {"done": jobs}:
        wrong.append(f"{len(folders)} folders, outcomes {dict(statuses)}, done twice: {again}")
    found = stored(output / "mlflow.db", folders)
    if (found.kinds, found.open, len(found.parents)) != ({"job": jobs, "trial": 2 * jobs, "sweep": 1}, [], 1):
        wrong.append(f"runs {dict(found.kinds)} in {len(found.parents)} sweeps, not finished: {found.open}")
    if found.lost or found.doubled:
        wrong.append(f"{found.lost} points lost, {found.doubled} doubled")
    return done, wrong


def _done(output: Path) -> dict[Path, int]:
    """The folders of finished jobs, with the modification times of their summaries."""
    return {
        path.parent: path.stat().st_mtime_ns
        for path in output.glob("*/*/summary.json")
        if status_of(path.parent) == "done"
    }


def sweep(output: Path) -> list[Row]:
    """Kill sweeps of twenty jobs, in one process and in two workers."""
    rows = []
    for launcher, generator in zip(("basic", "joblib"), np.random.default_rng(SEED).spawn(2), strict=True):
        done, wrong = kill_sweep(output / f"sweep-{launcher}", launcher, 20, 3, generator)
        text = "; ".join([f"killed after {', '.join(map(str, done))} jobs; {len(wrong)} failures", *wrong])
        what = f"20-job sweep killed three times and restarted, hydra/launcher={launcher}"
        rows.append(
            Row(what, "every job done once, one closed run, no point twice", text, not wrong and len(done) == 3)
        )
    return rows


# outage


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """A real `mlflow server` with its store in the folder; yields its address and functions that start and kill it."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri, running = f"http://127.0.0.1:{port}", []

    def start() -> None:
        args = (
            "--backend-store-uri",
            f"sqlite:///{folder}/mlflow.db",
            "--artifacts-destination",
            str(folder / "files"),
            *("--workers", "1"),  # it shares the cores with training; the default of four takes 20 s of CPU to start
        )
        env = {**ENVIRONMENT, **server_environment()}
        running.append(
            Started.python("-m", "mlflow", "server", *args, "--host", "127.0.0.1", "--port", str(port), env=env)
        )

    def kill() -> None:
        running.pop().kill(with_children=True)

    start()
    try:
        _wait_for_answer(uri, running[0])
        yield uri, start, kill
    finally:
        while running:
            kill()


def _wait_for_answer(uri: str, process: Started, patience: float = 240.0) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.process.poll() is None:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise SystemExit(f"MLflow's server did not answer at {uri}:\n{process.text()}")


@dataclass
class Outage:
    """The comparison of two runs of one job, with and without an outage of the server.

    Attributes:
        ratio: training time with the outage divided by that without.
        lost, doubled: numbers of points in the store.
        wrong: other failures.
    """

    ratio: float
    lost: int
    doubled: int
    wrong: list[str]


def pair(output: Path, overrides: Sequence[str], away: float, moment: float, outage_first: bool) -> Outage:
    """Run a job with and without an outage, in turn, on one server.

    Args:
        output: a fresh folder.
        overrides: the overrides of the job.
        away: duration of the outage in seconds.
        moment: seconds from the first record to the kill of the server.
        outage_first: whether the run with the outage comes first.
    """
    seconds, wrong = {}, []
    with server(output / "server") as (uri, start, kill):
        for disturbed in (outage_first, not outage_first):
            folder = output / ("outage" if disturbed else "calm")
            run = Started.rlexp(*overrides, f"output_dir={folder}", f"tracking.uri={uri}", f"study={folder.name}")
            if disturbed:
                while (
                    not any(path.stat().st_size for path in folder.glob("*/*/metrics.jsonl")) and run.wait(0.05) is None
                ):
                    pass
                run.wait(moment)
                kill()
                run.wait(away)
                if run.process.poll() is not None:
                    wrong.append("the job had ended before the server was back")
                start()
            run.finish()
            (job,) = job_folders(folder)
            seconds[disturbed] = json.loads((job / "summary.json").read_text())["train_seconds"]
            wrong += [] if _delivered(job) else [f"{folder.name}: not delivered"]
    jobs = [*job_folders(output / "outage"), *job_folders(output / "calm")]
    found = stored(output / "server" / "mlflow.db", jobs)
    wrong += [f"not closed: {name}" for name in found.open]
    if records(jobs[0]) != records(jobs[1]):
        wrong.append("the two runs differ")
    return Outage(seconds[True] / seconds[False], found.lost, found.doubled, wrong)


def outage(output: Path) -> list[Row]:
    """Kill the server for half a minute, in jobs of about two minutes."""
    job = ("algo=dqn", "engine=host", "trials=2", "budget.steps=60000", "log.points=2000", "animation.enabled=false",
           "evaluation.num_episodes=5", "evaluation.candidate_episodes=10", "tracking.timeout=300")  # fmt: skip
    moments = np.random.default_rng(SEED).uniform(5, 20, 3)
    found = [pair(output / f"outage-{i}", job, 30, float(moment), i % 2 == 0) for i, moment in enumerate(moments)]
    low, middle, high = sorted(each.ratio for each in found)
    lost, doubled = sum(each.lost for each in found), sum(each.doubled for each in found)
    wrong = [what for each in found for what in each.wrong]
    text = f"{100 * (middle - 1):+.1f} % ({100 * (low - 1):+.1f} to {100 * (high - 1):+.1f})"
    points = "; ".join([f"{lost} lost, {doubled} doubled", *wrong])
    return [
        Row("points, MLflow's server killed for 30 s in mid-run, three times", "0 lost, 0 doubled", points,
            not (lost or doubled or wrong)),
        Row("training time with the outage against without", "<= +5 %", text, middle <= 1.05),
    ]  # fmt: skip


# memory

LOOP = """
import json, pathlib, sys, rlexp
for job in json.loads(sys.argv[1]):
    rlexp.run(*job, quiet=True)
    print("pages", pathlib.Path("/proc/self/statm").read_text().split()[1], flush=True)
"""


def memory_of_jobs(output: Path, jobs: Sequence[Sequence[str]]) -> list[int]:
    """Resident bytes of one process after each of its jobs."""
    commands = [[*job, f"output_dir={output}"] for job in jobs]
    lines = Started.python("-c", LOOP, json.dumps(commands)).finish().splitlines()
    return [int(line.split()[1]) * PAGE for line in lines if line.startswith("pages ")]  # TensorFlow warns between them


BRIEF = ("tracking=files", "animation.enabled=false", "trials=2", "budget.steps=1000", "evaluation.period=500",
         "evaluation.num_episodes=2", "evaluation.candidate_episodes=5", "evaluation.final_episodes=5")  # fmt: skip
BRIEF_DQN = ("algo=dqn", "algo.learn_start=100", "algo.replay_size=500")


def growth_after_the_third(used: Sequence[int]) -> float:
    """The relative growth of memory from the third job to the maximum after it."""
    return max(used[3:]) / used[2] - 1


def jobs(output: Path) -> list[Row]:
    """Measure the memory over thirty jobs that share their compiled programs, on each engine."""
    rows = []
    for engine in ("host", "fused"):
        used = memory_of_jobs(
            output / engine, [(*BRIEF, *BRIEF_DQN, f"engine={engine}", f"seed={i}") for i in range(30)]
        )
        growth = growth_after_the_third(used)
        text = f"{100 * growth:+.1f} %, {used[2] / 2**20:.0f} MB after the third, {max(used) / 2**20:.0f} MB at most"
        what = f"resident memory of a process over 30 jobs, engine={engine}, growth after the third"
        rows.append(Row(what, "<= 5 %", text, growth <= 0.05))
    return rows


def flat_memory(output: Path, overrides: Sequence[str]) -> tuple[float, float, int]:
    """Run a job and sample its memory ten times per second during training.

    Returns:
        The relative growth of the maximum from the first to the second half of training, the maximum in MB, and the
        largest number of points of a metric of one trial in its MLflow store.
    """
    run, samples = Started.alone(*overrides, f"output_dir={output}"), []
    while run.wait(0.1) is None:
        if (used := run.memory()) is not None:
            samples.append((time.time(), used))
    run.finish()
    (folder,) = job_folders(output)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    times = [line["time"] for line in lines if "final/return" not in line["metrics"]]
    middle = (times[0] + times[-1]) / 2
    first, second = (
        max(used for when, used in samples if begin <= when <= end)
        for begin, end in ((times[0], middle), (middle, times[-1]))
    )
    return second / first - 1, max(first, second) / 2**20, stored(output / "mlflow.db", [folder]).most


def long(output: Path) -> list[Row]:
    """Measure many trials whose rings are full in the first half, and many steps with the largest number of records."""
    common = ("animation.enabled=false", "engine=fused", "tracking.timeout=300", "log.points=1999")
    brief = ("evaluation.num_episodes=1", "evaluation.candidate_episodes=5", "evaluation.final_episodes=5")
    dqn = ("algo=dqn", "trials=100", "budget.steps=20000", "algo.replay_size=2000", "evaluation.period=20")
    table = ("algo=q_learning", "+discretizer=cartpole", "trials=5", "budget.steps=2000000", "evaluation.period=500")
    workloads = {
        "algo=dqn, 100 trials, 20,000 steps each": dqn,
        "algo=q_learning, 5 trials, 2,000,000 steps each": table,
    }
    rows: list[Row] = []
    for name, overrides in workloads.items():
        growth, most, points = flat_memory(output / f"long-{len(rows)}", (*common, *brief, *overrides))
        what = f"{name}: most resident memory in the second half of training against the first"
        rows.append(Row(what, "<= +5 %", f"{100 * growth:+.1f} %, {most:.0f} MB", growth <= 0.05))
        rows.append(Row(f"{name}: points per metric and trial in MLflow", "<= 2,000", f"{points:,}", points <= 2000))
    return rows


def attack(output: Path) -> list[Row]:
    """Damage files: commands must print a sentence about the damage, and no wrong results."""
    attacks.load()
    report = attacks.attack(attacks.prepare(output / "attack"), CASES, SEED)
    what = "every command on jobs, a sweep and a search with one damaged file"
    target = f"{CASES:,} cases, 0 tracebacks, 0 silent wrong results, 0 hangs over {attacks.LIMIT:.0f} s"
    return [Row(what, target, attacks.measured(report), not attacks.failures(report))]


PARTS: measuring.Parts = {
    "kills": kills,
    "attack": attack,
    "starts": starts,
    "store": store,
    "sweep": sweep,
    "outage": outage,
    "jobs": jobs,
    "long": long,
}


def main() -> int:
    """Run the chosen parts; returns exit status 1 if a target is missed."""
    global CASES, KILLS, SEED, STORE_KILLS
    parser = measuring.parser(__doc__, PARTS, Path("outputs/soak.json"))
    parser.add_argument("--kills", type=int, help=f"number of kills (default: kills {KILLS}, store {STORE_KILLS})")
    parser.add_argument("--cases", type=int, default=CASES, help=f"cases of the part attack (default: {CASES})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of the random moments (default: {SEED})")
    args = parser.parse_args()
    SEED, CASES = args.seed, args.cases
    if args.kills is not None:
        KILLS = STORE_KILLS = args.kills
    return measuring.measure(PARTS, args.parts, args.json)


if __name__ == "__main__":
    sys.exit(main())
