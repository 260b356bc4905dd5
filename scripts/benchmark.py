"""Measure the published figures of rlexp on this machine: prints a table and writes JSON.

    python scripts/benchmark.py                      # everything (some hours on two cores)
    python scripts/benchmark.py cli scaling          # some of it
    python scripts/benchmark.py --json out.json learning

Whole processes are timed, and compared in turn within one run, since machines are noisy.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import convolutions
import engine_costs
import engines
import family_costs
import lockstep
import measuring
import ppo_costs
import report_costs
import start
import sweep_costs
from measuring import Row, spread

SEEDS = (0, 1_000, 2_000)
ROUNDS = 3  # --rounds
QUICK = False  # --quick
CHAPTER_TRIALS = 10  # --chapter-trials
SPEED = Path("outputs/speed")  # .json and .png of the part `speed`


@dataclass
class Run:
    """One finished `rlexp`."""

    summary: dict[str, Any]
    records: list[dict[str, Any]]
    seconds: float  # from command to exit
    peak_mb: float  # peak resident memory of its process
    compile_seconds: float  # from its output

    def steps_per_second(self, first: int) -> float:
        """Env steps of all trials per second, from the first record at or after step `first` to the last one."""
        points = [(r["step"], r["time"]) for r in self.records if r["step"] >= first]
        points = [p for p in points if p[0] < self.summary["steps"]]
        (step0, time0), (step1, time1) = points[0], points[-1]
        return (step1 - step0) * len(self.summary["seeds"]) / (time1 - time0)


def command(*args: str) -> tuple[float, float, str]:
    """Run `rlexp ...`; returns the seconds from command to exit, the peak memory in MB, and the output."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as output_file:
        process = subprocess.Popen([sys.executable, "-m", "rlexp", *args], stdout=output_file, stderr=output_file)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        output_file.seek(0)
        text = output_file.read().decode()
    if process.returncode != 0:
        raise SystemExit(f"rlexp {' '.join(args)} ended with {process.returncode}:\n{text}")
    return seconds, usage.ru_maxrss / 1024, text


def run(output: Path, *overrides: str) -> Run:
    """Run one job in a fresh process and read its folder."""
    seconds, peak, text = command(f"output_dir={output}", *overrides)
    compiling = sum(float(found) for found in re.findall(r"compiled in ([0-9.]+) s", text))
    folder = max(output.glob("*/*/summary.json"), key=lambda p: p.stat().st_mtime).parent
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    summary = json.loads((folder / "summary.json").read_text())
    return Run(summary, records, seconds, peak, compiling)


def learning(output: Path) -> list[Row]:
    """Run the default job on three ranges of seeds."""
    rows, seconds = [], []
    for seed in SEEDS:
        result = run(output / f"learning-{seed}", "algo=dueling_ddqn", f"seed={seed}")
        finals = result.summary["final/return"]["per_trial"]
        seconds.append(result.seconds)
        text = ", ".join(f"{value:g}" for value in finals)
        solved = all(value == 500 for value in finals) and result.summary["steps"] <= 50_000
        rows.append(Row(f"final/return of algo=dueling_ddqn seed={seed}", "500 in each of 5 trials", text, solved))
    text = ", ".join(f"{s:.0f}" for s in seconds)
    rows.append(Row("seconds from command to exit, the same three jobs", "< 120", text, max(seconds) < 120))
    return rows


NO_SCORING = (
    "animation.enabled=false",
    "tracking=files",
    "evaluation.period=1000000",
    "evaluation.candidates=1",
    "evaluation.final_episodes=1",
    "evaluation.num_episodes=1",
)
CLEANRL = ("+experiment=cleanrl_dqn", "budget.steps=24000", *NO_SCORING)


def scaling(output: Path) -> list[Row]:
    """Time CleanRL's DQN settings on the host engine with one and with ten trials, in turn."""
    speeds: dict[int, list[float]] = {1: [], 10: []}
    peak = 0.0
    for repeat in range(3):
        for trials in (1, 10):
            result = run(
                output / f"scaling-{trials}-{repeat}", *CLEANRL, "engine=host", f"trials={trials}", "workers=1"
            )
            speeds[trials].append(result.steps_per_second(first=11_000))
            peak = max(peak, result.peak_mb) if trials == 10 else peak
    ratios = sorted(ten / one for one, ten in zip(speeds[1], speeds[10], strict=True))
    text = f"{spread(ratios)}; {statistics.median(speeds[1]):,.0f} and "
    text += f"{statistics.median(speeds[10]):,.0f} steps/s"
    return [
        Row("steps/s over all trials, CleanRL's DQN settings, 10 trials against 1", ">= 3", text, ratios[1] >= 3),
        Row("peak memory of the 10 trials", "< 1536 MB", f"{peak:.0f} MB", peak < 1536),
    ]


def fused(output: Path) -> list[Row]:
    """Time both engines in turn, after compilation: CleanRL's DQN settings, and policy gradients."""
    pg = ["+experiment=tuned/pg_cartpole", "trials=10", *NO_SCORING]
    workloads = {  # options, steps on the host and fused, first step that counts, smallest ratio
        "CleanRL's DQN settings, 1 trial": ([*CLEANRL, "trials=1"], 24_000, 100_000, 11_000, 4),
        "CleanRL's DQN settings, 10 trials": ([*CLEANRL, "trials=10"], 24_000, 100_000, 11_000, 4),
        "tuned/pg_cartpole, 10 trials": (pg, 40_000, 100_000, 10_000, 2),
    }
    rows: list[Row] = []
    for name, (options, host_steps, fused_steps, first, least) in workloads.items():
        speeds: dict[str, list[float]] = {"host": [], "fused": []}
        for repeat in range(3):
            for engine, steps in (("host", host_steps), ("fused", fused_steps)):
                folder = output / f"{engine}-{len(rows)}-{repeat}"
                result = run(folder, *options, f"engine={engine}", f"budget.steps={steps}", "workers=1")
                speeds[engine].append(result.steps_per_second(first))
        ratios = sorted(own / host for host, own in zip(speeds["host"], speeds["fused"], strict=True))
        text = f"{spread(ratios)}; {statistics.median(speeds['fused']):,.0f} and "
        text += f"{statistics.median(speeds['host']):,.0f} steps/s"
        what = f"steps/s of the fused engine against the host's, {name}"
        rows.append(Row(what, f">= {least}", text, ratios[1] >= least))
    return rows


def sweep(output: Path) -> list[Row]:
    """Time six learning rates of ten trials with CleanRL's settings: as six commands, as one, and as one program.

    One program saves start-up and compilation. Training takes equally long, since the update of one job of ten trials
    keeps both cores busy. The ratio therefore falls with the budget; two budgets are measured.
    """
    rows = []
    for budget in (20_000, 50_000):
        rounds = [_sweep_seconds(f"output_dir={output}/sweep-{budget}-{repeat}", budget) for repeat in range(ROUNDS)]
        six = [seconds["commands"] / seconds["fused"] for seconds in rounds]
        one = [seconds["basic"] / seconds["fused"] for seconds in rounds]
        text = f"{spread(six)}; {statistics.median(one):.1f} against one command without the launcher; "
        text += "; ".join(", ".join(f"{value:.0f}" for value in seconds.values()) for seconds in rounds)
        what = f"6 learning rates x 10 trials of {budget:,} steps with hydra/launcher=fused, against six commands"
        rows.append(Row(what, ">= 2 times faster", f"{text} s", statistics.median(six) >= 2))
    return rows


def _sweep_seconds(folder: str, budget: int) -> dict[str, float]:
    """The seconds of each way to run the sweep; `folder` is the beginning of an override."""
    rates, lr = ("1e-4", "2.5e-4", "5e-4", "1e-3", "2e-3", "4e-3"), "algo.optimizer.lr"
    options = [*(o for o in CLEANRL if not o.startswith("budget")), f"budget.steps={budget}", "engine=fused",
               "trials=10"]  # fmt: skip
    seconds = {"commands": sum(command(f"{folder}-commands", *options, f"{lr}={rate}")[0] for rate in rates)}
    for name in ("basic", "fused"):
        launcher = f"hydra/launcher={name}"
        seconds[name] = command("-m", launcher, f"{folder}-{name}", *options, f"{lr}={','.join(rates)}")[0]
    return seconds


def tabular(output: Path) -> list[Row]:
    """Time Q-learning on binned CartPole with 32 trials on both engines, and bare environments, in turn."""
    import gymnasium

    options = [
        *("algo=q_learning", "+discretizer=cartpole", "trials=32", "animation.enabled=false", "tracking=files"),
        *("evaluation.period=100000000", "evaluation.num_episodes=1", "evaluation.final_episodes=1"),
    ]
    speeds: dict[str, list[float]] = {"bare": [], "host": [], "fused": []}
    for repeat in range(3):
        env = gymnasium.make("CartPole-v1")
        env.reset(seed=repeat)
        began = time.monotonic()
        for _ in range(200_000):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
        speeds["bare"].append(200_000 / (time.monotonic() - began))
        for engine, steps in (("host", 20_000), ("fused", 3_000_000)):
            result = run(
                output / f"tabular-{engine}-{repeat}",
                *options,
                f"engine={engine}",
                f"budget.steps={steps}",
                "workers=1",
            )
            speeds[engine].append(result.steps_per_second(first=1))
    rows = []
    for engine, least in (("host", 0.4), ("fused", 50)):
        ratios = sorted(own / bare for own, bare in zip(speeds[engine], speeds["bare"], strict=True))
        text = f"{spread(ratios, '.3g')}; {statistics.median(speeds[engine]):,.0f} and "
        text += f"{statistics.median(speeds['bare']):,.0f} steps/s"
        what = f"steps/s of q_learning on CartPole, 32 trials, engine={engine}, against bare environments"
        rows.append(Row(what, f">= {least:g}", text, ratios[1] >= least))
    return rows


def speed(output: Path) -> list[Row]:
    """Compare rlexp with Stable-Baselines3 and the chapter's own loops: see scripts/speed.py."""
    import speed

    entries = speed.measure(run, output, ROUNDS, QUICK)
    SPEED.with_suffix(".json").parent.mkdir(parents=True, exist_ok=True)
    SPEED.with_suffix(".json").write_text(json.dumps(entries, indent=2) + "\n")
    speed.draw(entries, SPEED.with_suffix(".png"))
    print(f"every number: {SPEED.with_suffix('.json')}, picture: {SPEED.with_suffix('.png')}", file=sys.stderr)
    return speed.rows(entries)


def ppo(output: Path) -> list[Row]:
    """Time PPO with several environments per trial: see scripts/ppo_costs.py."""
    import speed

    return ppo_costs.ppo(run, speed.peer, output, NO_SCORING, ROUNDS, QUICK)


def tracking(output: Path) -> list[Row]:
    """Time the default job, extended to about a minute, with MLflow and with files only, in turn."""
    ratios = []
    for repeat in range(3):
        pair = {}
        for name in ("files", "mlflow") if repeat % 2 else ("mlflow", "files"):
            pair[name] = run(output / f"tracking-{name}-{repeat}", "budget.steps=70000", f"tracking={name}").seconds
        ratios.append(pair["mlflow"] / pair["files"])
    ratios.sort()
    text = f"{100 * (ratios[1] - 1):+.1f} % ({100 * (ratios[0] - 1):+.1f} to {100 * (ratios[2] - 1):+.1f})"
    return [Row("wall time with MLflow on against tracking=files", "<= +5 %", text, ratios[1] <= 1.05)]


def cli(output: Path) -> list[Row]:
    """Time the answers of the command line against the import of Hydra and Gymnasium."""
    commands = {
        "import": ["-c", "import hydra, gymnasium"],
        "--help": ["-m", "rlexp", "--help"],
        "a refused configuration": ["-m", "rlexp", "algo.gamma=2"],
        "a refused environment": ["-m", "rlexp", "env.id=Pendulum-v1"],
        "--cfg job": ["-m", "rlexp", "--cfg", "job"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    output.mkdir(exist_ok=True)
    for _ in range(9):
        for name, command in commands.items():
            began = time.monotonic()
            subprocess.run([sys.executable, *command], capture_output=True, cwd=output)
            seconds[name].append(time.monotonic() - began)
    base = statistics.median(seconds.pop("import"))
    rows = []
    for name, values in seconds.items():
        ratio = statistics.median(values) / base
        rows.append(Row(f"time of {name} against `import hydra, gymnasium`", "<= 3", f"{ratio:.2f}", ratio <= 3))
    return rows


def exact(output: Path) -> list[Row]:
    """Compare every weight and every recorded number of seed 3 alone, among three and among ten trials."""
    import keras
    import numpy as np

    from rlexp.config import registry

    options = ["budget.steps=600", "algo.learn_start=50", "evaluation.period=200", "evaluation.num_episodes=5",
               "evaluation.candidates=1", "evaluation.final_episodes=5", "animation.enabled=false",
               "tracking=files"]  # fmt: skip
    differences, compared = 0, 0
    for name in registry.ALGOS:
        family = registry.ALGOS[name].family
        own = [o for o in options if family == "replay" or not o.startswith("algo.")]
        own += {"tabular": ["+discretizer=cartpole"], "planning": ["env=three_state_mdp"]}.get(family, [])
        seen = []
        for seed, trials in ((3, 1), (2, 3), (0, 10)):
            result = run(output / f"exact-{name}-{trials}", f"algo={name}", f"seed={seed}", f"trials={trials}", *own)
            k = 3 - seed
            curve = [
                (r["step"], {m: v[k] for m, v in r["metrics"].items() if v[k] is not None}) for r in result.records
            ]
            weights = [
                w.tobytes()
                for path in output.glob(f"exact-{name}-{trials}/*/*/trials/3/best.keras")
                for w in keras.models.load_model(path).get_weights()
            ]
            for path in output.glob(f"exact-{name}-{trials}/*/*/trials/3/best.npz"):
                with np.load(path) as file:
                    weights.append(file["q"].tobytes())
            seen.append(([point for point in curve if point[1]], weights))
        compared += 2
        differences += sum(other != seen[0] for other in seen[1:])
    text = f"{differences} differences in {compared} comparisons"
    return [
        Row("trial k alone, in a batch of 3 and of 10, every algorithm", "equal bit for bit", text, differences == 0)
    ]


def repeat(output: Path) -> list[Row]:
    """Run the same command twice and compare the records."""
    options = ["algo=dueling_ddqn", "budget.steps=5000", "animation.enabled=false", "tracking=files"]
    first, second = (run(output / f"repeat-{i}", *options) for i in range(2))
    same = [
        {key: value for key, value in record.items() if key not in ("time", "sum")} for record in first.records
    ] == [{key: value for key, value in record.items() if key not in ("time", "sum")} for record in second.records]
    return [
        Row(
            "metrics.jsonl of the same command twice, except times",
            "identical",
            "identical" if same else "different",
            same,
        )
    ]


def chapter(output: Path) -> list[Row]:
    """Time scripts/reproduce_chapter.py by default and with the host engine only."""
    script, minutes = Path(__file__).with_name("reproduce_chapter.py"), {}
    for engine in ("auto", "host"):
        args = ["--engine", engine, "--trials", str(CHAPTER_TRIALS), "--output-dir", str(output / f"chapter-{engine}")]
        began = time.monotonic()
        done = subprocess.run([sys.executable, str(script), *args], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{script} {' '.join(args)} ended with {done.returncode}:\n{done.stderr}")
        minutes[engine] = (time.monotonic() - began) / 60
        print(f"{engine}: {minutes[engine]:.1f} min\n{done.stdout}", file=sys.stderr, flush=True)
    ratio = minutes["host"] / minutes["auto"]
    text = f"{ratio:.1f} ({minutes['auto']:.1f} and {minutes['host']:.1f} min)"
    what = f"reproduce_chapter.py, {CHAPTER_TRIALS} trials, against the host engine only"
    return [Row(what, ">= 3 times faster", text, ratio >= 3)]


PARTS: measuring.Parts = {
    "cli": cli,
    "start": lambda output: start.start(output, ROUNDS),
    "repeat": repeat,
    "exact": exact,
    "scaling": scaling,
    "fused": fused,
    "sweep": sweep,
    "overhead": partial(sweep_costs.overhead, command),
    "workers": lambda output: sweep_costs.workers(command, output, ROUNDS),
    "ladder": partial(sweep_costs.ladder, command),
    "families": partial(sweep_costs.families, command),
    "family": lambda output: family_costs.family(run, output, NO_SCORING, ROUNDS, QUICK),
    "ppo": ppo,
    "tabular": tabular,
    "engines": lambda output: engines.engines(output, ROUNDS, QUICK),
    "minatar": lambda output: convolutions.minatar(ROUNDS),
    "lockstep": lambda output: lockstep.lockstep(ROUNDS),
    "speed": speed,
    "tracking": tracking,
    "learning": learning,
    "report": lambda output: report_costs.report(command, output, ROUNDS),
    "chapter": chapter,
}


def main() -> int:
    """Run the chosen parts; returns exit status 1 if a target is missed."""
    global CHAPTER_TRIALS, QUICK, ROUNDS
    parser = measuring.parser(__doc__, PARTS, Path("outputs/benchmark.json"))
    parser.add_argument(
        "--quick",
        action="store_true",
        help="speed: only entries with a target; engines: fewer jobs, once each; family, ppo: fewer steps",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="engines: measure the table of costs that auto chooses by, and write it, instead",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=ROUNDS,
        help="start, speed, sweep, workers, engines, family, ppo, lockstep, minatar, report: pairs per ratio (3)",
    )
    parser.add_argument(
        "--chapter-trials",
        type=int,
        default=CHAPTER_TRIALS,
        help=f"chapter: trials per preset (default: {CHAPTER_TRIALS})",
    )
    args = parser.parse_args()
    CHAPTER_TRIALS, QUICK, ROUNDS = args.chapter_trials, args.quick, args.rounds
    if args.write:
        if args.parts != ["engines"]:
            parser.error("--write belongs to the part engines: benchmark.py engines --write")
        engine_costs.write(1 if QUICK else ROUNDS)
        return 0
    return measuring.measure(PARTS, args.parts, args.json)


if __name__ == "__main__":
    sys.exit(main())
