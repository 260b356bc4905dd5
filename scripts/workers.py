"""Show that the number of worker processes changes no result: prints a table and writes JSON.

    python scripts/workers.py                                  # everything (about an hour on two cores)
    python scripts/workers.py equality --only fused            # some of it
    python scripts/workers.py kills --kills 10 --seed 3
    python scripts/workers.py speed --rounds 5

equality  jobs of every family and engine with 1, 2 and 3 workers: records, checkpoints, weights, scores, episodes
kills     SIGKILL at random moments of jobs of every family and engine; each start takes 1, 2 or 3 workers
deaths    SIGKILL of one worker at a random moment: its trials fail, the others are as ever, no process is left
speed     two workers against one, in pairs: env steps per second of the training loop, and seconds from command to exit

Times are compared in turn within one run, since machines are noisy; `speed` needs two quiet cores.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import fingerprint
import measuring
import numpy as np
from evidence import differences, records
from measuring import Row, spread
from soak import TINY, VICTIMS, Started, descendants, job_folders, kill_and_compare

WORKERS = (1, 2, 3)


@dataclass
class Chosen:
    """What the command line has chosen."""

    only: str = ""
    kills: int = 10
    seed: int = 0
    rounds: int = 5


CHOSEN = Chosen()
# Planning is done once for all trials, whatever the number of workers.
EQUAL = {
    name: overrides
    for name, overrides in fingerprint.JOBS.items()
    if not any(part in name for part in ("one exact", "one trial", "q_value_iteration"))
}
GROUPS = {
    "a group of tables, fused": (
        "algo=q_learning", *fingerprint.BINS, "engine=fused", "algo.alpha=0.1,0.3", "algo.epsilon=0.1,0.2"),
    "a group of networks, fused": ("algo=ddqn", "engine=fused", *fingerprint.DQN, "algo.optimizer.lr=1e-3,3e-3"),
}  # fmt: skip
KILLED = {name: overrides for name, overrides in VICTIMS.items() if name != "q_value_iteration"}
QUIET = (*("tracking=files", "animation.enabled=false", "evaluation.period=1000000"),
         *("evaluation.num_episodes=1", "evaluation.candidates=1", "evaluation.final_episodes=1"))  # fmt: skip
LANDER = ("env=lunar_lander", "trials=10", "engine=host")
SPEEDS = {  # job -> overrides, the smallest ratio asked for
    "ddqn on LunarLander, 10 trials": (("algo=ddqn", *LANDER, "budget.steps=20000"), 1.7),
    "pg_baseline on LunarLander, 10 trials": (("algo=pg_baseline", *LANDER, "budget.steps=40000"), 1.6),
    "ppo on LunarLander, 10 trials": (("algo=ppo", *LANDER, "budget.steps=40000"), 1.6),
    "q_learning on FrozenLake, host, 10 trials": (
        ("algo=q_learning", "env=frozen_lake", "trials=10", "engine=host", "budget.steps=200000"), 1.6),
    "q_learning on CartPole, fused, 32 trials": (
        ("algo=q_learning", "+discretizer=cartpole", "trials=32", "engine=fused", "budget.steps=6000000"), 1.5),
}  # fmt: skip


def equality(output: Path) -> list[Row]:
    """Run jobs with each number of workers and compare their folders."""
    names = [name for name in EQUAL if CHOSEN.only in name]
    different: list[str] = []
    for i, name in enumerate(names):
        folders = {}
        for number in WORKERS:
            place = output / f"equality-{i}-{number}"
            options = [*fingerprint.overrides_of(EQUAL[name], place), "trials=3", f"workers={number}"]
            Started.rlexp(*options).finish()
            (folders[number],) = job_folders(place)
        for number in WORKERS[1:]:
            found = differences(folders[1], folders[number])
            different += [f"{name}, {number} workers: {what}" for what in found]
        print(f"{name}: {len(different)} differences so far", file=sys.stderr, flush=True)
    for name in (name for name in GROUPS if CHOSEN.only in name):
        names.append(name)
        different += _group(output / f"group-{len(names)}", name)
    text = f"{len(different)} differences in {2 * len(names)} comparisons" + "".join(f"; {what}" for what in different)
    what = "2 and 3 workers against 1, every family and engine: records, checkpoints, weights, scores, episodes"
    return [Row(what, "0 differences", text, not different)]


def _group(output: Path, name: str) -> list[str]:
    """Run a group of jobs with each number of workers; the differences between the folders of its jobs."""
    different = []
    for number in WORKERS:
        place = output / str(number)
        options = [*fingerprint.overrides_of(GROUPS[name], place), "trials=2", f"workers={number}"]
        Started.rlexp("-m", "hydra/launcher=fused", *options).finish()
        for folder in job_folders(place):
            one = output / "1" / folder.relative_to(place)
            different += [f"{name}, {number} workers: {folder.name}: {what}" for what in differences(one, folder)]
    return different


def kills(output: Path) -> list[Row]:
    """Kill jobs, and continue each with another number of workers."""
    print(f"kill moments: --seed {CHOSEN.seed}", file=sys.stderr, flush=True)
    names = [name for name in KILLED if CHOSEN.only in name]
    generators = np.random.default_rng(CHOSEN.seed).spawn(len(names))
    share = -(-CHOSEN.kills // len(names))
    variants = [f"workers={number}" for number in WORKERS]

    def job(i: int) -> tuple[str, int, list[str]]:
        options = [option for option in KILLED[names[i]] if not option.startswith("trials=")]
        found = kill_and_compare(output / f"kills-{i}", (*options, "trials=3"), share, generators[i], variants)
        print(f"{names[i]}: {found.kills.total()} kills, {found.different}", file=sys.stderr, flush=True)
        return names[i], found.kills.total(), found.different

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(job, range(len(names))))
    return [
        Row(f"{name}: SIGKILL at random moments, each start with 1, 2 or 3 workers", "0 differences",
            f"{len(wrong)} differences, {number} kills" + "".join(f"; {what}" for what in wrong), not wrong)
        for name, number, wrong in found
    ]  # fmt: skip


def deaths(output: Path) -> list[Row]:
    """Kill one worker of a job; the other's trials must come out as without it."""
    options = (*TINY, "algo=q_learning", "env=frozen_lake", "engine=host", "trials=4", "budget.steps=20000",
               "evaluation.period=2000", "workers=2")  # fmt: skip
    Started.rlexp(*options, f"output_dir={output / 'whole'}").finish()
    (whole,) = job_folders(output / "whole")
    generator, wrong, killed = np.random.default_rng(CHOSEN.seed), [], 0
    for i in range(CHOSEN.kills):
        place = output / f"death-{i}"
        run = Started.rlexp(*options, f"output_dir={place}")
        wrong += [f"kill {i}: {what}" for what in _kill_worker(run, place, whole, generator)]
        killed += 1
    text = f"{len(wrong)} differences, {killed} kills" + "".join(f"; {what}" for what in wrong)
    what = "SIGKILL of one of two workers: its trials fail in a sentence, the others are as ever, no process is left"
    return [Row(what, "0 differences", text, not wrong)]


def _kill_worker(run: Started, place: Path, whole: Path, generator: np.random.Generator) -> list[str]:
    """Kill a worker of a job once it trains; what is wrong with the job then."""
    while not list(place.glob("*/*/metrics.jsonl")) and run.process.poll() is None:
        time.sleep(0.01)
    time.sleep(generator.uniform(0, 0.5))
    everyone = descendants(run.process.pid)
    workers = [pid for pid in everyone if b"rlexp.engines.workers" in _command(pid)]
    if len(workers) < 2:
        run.wait()
        return []  # it has ended before
    os.kill(workers[0], signal.SIGKILL)
    status = run.wait(120)
    left = [pid for pid in everyone if Path(f"/proc/{pid}").exists() and _command(pid)]
    wrong = [f"{len(left)} processes left"] if left else []
    (folder,) = job_folders(place)
    summary = json.loads((folder / "summary.json").read_text())
    failed = [trial["seed"] for trial in summary["trials"] if trial["status"] == "failed"]
    if len(failed) != 2 or status != 1 or "SIGKILL" not in run.text():
        wrong.append(f"exit status {status}, trials {failed} failed: {run.text()[-300:]}")
    kept = [k for k, seed in enumerate(summary["seeds"]) if seed not in failed]
    if _columns(folder, kept) != _columns(whole, kept):
        wrong.append("metrics.jsonl")
    return wrong


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def _columns(folder: Path, trials: Sequence[int]) -> list[object]:
    """The records of some trials."""
    rows = [
        (record["step"], sorted((name, [values[k] for k in trials]) for name, values in record["metrics"].items()))
        for record in records(folder)
    ]
    empty = [None] * len(trials)
    return [(step, [entry for entry in row if entry[1] != empty]) for step, row in rows]


def speed(output: Path) -> list[Row]:
    """Time jobs with one and with two workers, in turn."""
    rows = []
    for name, (overrides, least) in SPEEDS.items():
        if CHOSEN.only not in name:
            continue
        loop: dict[int, list[float]] = {1: [], 2: []}
        whole: dict[int, list[float]] = {1: [], 2: []}
        for i in range(CHOSEN.rounds):
            for number in (1, 2) if i % 2 else (2, 1):
                with tempfile.TemporaryDirectory(dir=output) as place:
                    began = time.monotonic()
                    Started.rlexp(*QUIET, *overrides, f"workers={number}", f"output_dir={place}").finish()
                    whole[number].append(time.monotonic() - began)
                    loop[number].append(_steps_per_second(job_folders(Path(place))[0]))
        ratios = [two / one for one, two in zip(loop[1], loop[2], strict=True)]
        exits = [one / two for one, two in zip(whole[1], whole[2], strict=True)]
        text = f"{spread(ratios, '.2f')}; {median(loop[2]):,.0f} and {median(loop[1]):,.0f} steps/s; "
        text += f"from command to exit {spread(exits, '.2f')}: {median(whole[2]):.1f} and {median(whole[1]):.1f} s"
        rows.append(
            Row(f"{name}: 2 workers against 1, steps/s of the loop", f">= {least}", text, median(ratios) >= least)
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _steps_per_second(folder: Path) -> float:
    """Env steps of all trials per second between the first and the last record of training: without start and end."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if "final/return" not in line["metrics"]]
    first, last = trained[len(trained) // 10], trained[-2]
    trials = len(next(iter(first["metrics"].values())))
    return float((last["step"] - first["step"]) * trials / (last["time"] - first["time"]))


PARTS = {"equality": equality, "kills": kills, "deaths": deaths, "speed": speed}


def main() -> int:
    """Measure the chosen parts; the exit status."""
    parser = measuring.parser(__doc__, PARTS, Path("outputs/workers.json"))
    parser.add_argument("--only", default="", metavar="TEXT", help="jobs whose names contain TEXT")
    parser.add_argument("--kills", type=int, default=CHOSEN.kills, help="of `kills` and of `deaths`")
    parser.add_argument("--seed", type=int, default=CHOSEN.seed, help="of the moments")
    parser.add_argument("--rounds", type=int, default=CHOSEN.rounds, help="pairs of each job of `speed`")
    args = parser.parse_args()
    CHOSEN.only, CHOSEN.kills, CHOSEN.seed, CHOSEN.rounds = args.only, args.kills, args.seed, args.rounds
    return measuring.measure(PARTS, args.parts, args.json)


if __name__ == "__main__":
    sys.exit(main())
