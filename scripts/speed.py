"""The part `speed` of benchmark.py: rlexp against Stable-Baselines3 and the chapter's own loops, in one run.

Each number comes from a process of its own, after compilation and after the first updates. Compared processes run in
turn, and ratios are medians over the rounds. Entries with a target are measured in each round, others in the first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from measuring import Row, spread

TRIALS = (1, 10, 32, 100)
NO_SCORING = (
    "animation.enabled=false",
    "tracking=files",
    "evaluation.period=100000000",
    "evaluation.candidates=1",
    "evaluation.final_episodes=1",
    "evaluation.num_episodes=1",
)  # fmt: skip
CLEANRL = ("+experiment=cleanrl_dqn", *NO_SCORING)
EVERY_STEP = (
    *("algo=fixed_dqn", "env=cartpole", "network.hidden_units=[32,32]", "algo.batch_size=32", "algo.learn_period=1"),
    *("algo.learn_start=1000", "algo.replay_size=10000", "algo.target_period=500", *NO_SCORING),
)
TABLE = ("algo=q_learning", "env=cartpole", "+discretizer=cartpole", *NO_SCORING)


@dataclass(frozen=True)
class Workload:
    """A training job for rlexp, and its counterparts.

    Attributes:
        name: the name in the tables.
        overrides: overrides of `rlexp`.
        first: env steps before the timing starts.
        record_every: env steps between records, as with the workload's whole budget; a call of the fused engine ends at
            each record.
        steps: engine -> env steps per trial as a function of N.
        peer: arguments of peers.py: (peer, workload, steps).
        notebook: the same for the chapter's own loop on its nearest workload.
    """

    name: str
    overrides: Sequence[str]
    first: int
    record_every: int
    steps: dict[str, Callable[[int], int]]
    peer: tuple[str, str, int]
    notebook: tuple[str, str, int]


WORKLOADS = (
    Workload(
        "CleanRL's DQN settings",
        CLEANRL,
        11_000,
        2_000,
        {"host": lambda n: 16_000 if n < 32 else 13_000, "fused": lambda n: 80_000 if n < 32 else 26_000},
        ("sb3", "cleanrl", 15_000),
        ("notebook", "dqn", 400),
    ),
    Workload(
        "update every step, 32-32, batch 32",
        EVERY_STEP,
        2_000,
        200,
        {"host": lambda n: 4_000 if n < 32 else 2_600, "fused": lambda n: 30_000 if n < 32 else 10_000},
        ("sb3", "every_step", 5_000),
        ("notebook", "dqn", 400),
    ),
    Workload(
        "tabular Q-learning, 6 x 12 bins",
        TABLE,
        1,
        5_000,
        {"host": lambda n: 20_000, "fused": lambda n: 40_000_000 // n},
        ("bare", "cartpole", 200_000),
        ("notebook", "table", 500),
    ),
)
TARGETS = {  # (workload, engine, N) -> smallest ratio to the peer
    (WORKLOADS[0].name, "fused", 10): 18.0,
    (WORKLOADS[0].name, "fused", 1): 9.0,
    (WORKLOADS[1].name, "fused", 32): 60.0,
    (WORKLOADS[2].name, "fused", 32): 50.0,
}
REPEATED = {
    *TARGETS,
    (WORKLOADS[0].name, "host", 1),  # the fused engine is compared with this too
    (WORKLOADS[0].name, "fused", 100),
}


def peer(which: tuple[str, str, int]) -> float | None:
    """Env steps per second of a peer; None if it is not installed."""
    name, workload, steps = which
    command = [sys.executable, str(Path(__file__).with_name("peers.py")), name, workload, "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{name} {workload}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return float(json.loads(done.stdout.splitlines()[-1])["steps_per_second"])


def measure(run: Callable[..., Any], output: Path, rounds: int, quick: bool) -> list[dict[str, Any]]:
    """Measure everything in rounds.

    Args:
        run: `benchmark.run`.
        output: a folder for the jobs.
        rounds: number of measurements of each ratio.
        quick: only the entries with a target.

    Returns:
        One dict per workload, engine (or peer) and N, with one speed per round.
    """
    found: dict[tuple[str, str, int], dict[str, Any]] = {}

    def note(workload: str, engine: str, trials: int, speed: float | None, **more: Any) -> None:
        entry = found.setdefault(
            (workload, engine, trials),
            {"workload": workload, "engine": engine, "trials": trials, "steps_per_second": [], **more},
        )
        entry["steps_per_second"].append(speed)

    for round_ in range(quick, rounds + quick):
        for workload in WORKLOADS:
            for name, which in (("peer", workload.peer), ("notebook", workload.notebook)):
                if round_ == 0 or name == "peer":
                    note(workload.name, name, 1, peer(which), what=f"{which[0]} {which[1]}")
            for engine in ("host", "fused"):
                for trials in TRIALS:
                    if round_ > 0 and (workload.name, engine, trials) not in REPEATED:
                        continue
                    steps = workload.steps[engine](trials)
                    options = [*workload.overrides, f"engine={engine}", f"trials={trials}", f"budget.steps={steps}"]
                    if engine == "fused":
                        options.append(f"log.points={min(steps // workload.record_every, 2_000)}")
                    folder = output / f"speed-{workload.peer[1]}-{engine}-{trials}-{round_}"
                    result = run(folder, *options)
                    note(
                        workload.name,
                        engine,
                        trials,
                        result.steps_per_second(first=workload.first),
                        peak_mb=round(result.peak_mb),
                        compile_seconds=result.compile_seconds,
                    )
                    print(
                        f"{workload.name} {engine} {trials}: {result.steps_per_second(workload.first):,.0f}",
                        file=sys.stderr,
                    )
    return list(found.values())


def ratio(entries: Sequence[dict[str, Any]], above: tuple[str, str, int], below: tuple[str, str, int]) -> list[float]:
    """The sorted ratios of two entries' speeds in each round; empty if one was not measured."""
    by_key = {(e["workload"], e["engine"], e["trials"]): e["steps_per_second"] for e in entries}
    pairs = zip(by_key[above], by_key[below], strict=True)
    return sorted(a / b for a, b in pairs if a is not None and b is not None)


def rows(entries: Sequence[dict[str, Any]]) -> list[Row]:
    """The rows of the table."""
    cleanrl = WORKLOADS[0].name

    def row(what: str, target: float, above: tuple[str, str, int], below: tuple[str, str, int]) -> None:
        ratios = ratio(entries, above, below)
        if not ratios:
            table.append(
                Row(what, f">= {target:g}", "not measured: pip install -c constraints.txt -e '.[bench]'", False)
            )
            return
        table.append(Row(what, f">= {target:g}", spread(ratios, ".3g"), median(ratios) >= target))

    table: list[Row] = []
    for (name, engine, trials), target in TARGETS.items():
        other = "bare Gymnasium" if name == WORKLOADS[2].name else "Stable-Baselines3"
        row(f"{name}, {engine}, N = {trials}, against {other}", target, (name, engine, trials), (name, "peer", 1))
    row(f"{cleanrl}, fused against host, N = 1", 4, (cleanrl, "fused", 1), (cleanrl, "host", 1))
    row(f"{cleanrl}, fused, N = 100 against N = 10", 0.85, (cleanrl, "fused", 100), (cleanrl, "fused", 10))
    by_trials = {e["trials"]: e for e in entries if e["workload"] == cleanrl and e["engine"] == "fused"}
    memory = {n: entry["peak_mb"] for n, entry in sorted(by_trials.items())}
    each = [(memory[b] - memory[a]) / (b - a) for a, b in pairwise(memory)]
    linear = max(each) <= 3 * max(each[-1], 1.0)
    text = ", ".join(f"{n}: {mb:,} MB" for n, mb in memory.items())
    table.append(Row(f"peak memory of the process, {cleanrl}, fused", "linear in N", text, linear))
    text = ", ".join(f"{n}: {e['compile_seconds']} s" for n, e in by_trials.items())
    table.append(Row(f"compilation, {cleanrl}, fused", "reported", text, True))
    update, limit = matmul_share(entries)
    text = f"{update:.0f} of {limit:.0f} GFLOP/s, {100 * update / limit:.0f} %"
    table.append(Row(f"{cleanrl}, fused, N = 10, against matrix multiplication alone", "reported", text, True))
    return table


def matmul_share(entries: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Compare the compiled update with pure matrix multiplication, for CleanRL's network and ten trials.

    Returns:
        The GFLOP/s of the products in an update and the ten steps before it, at the measured speed; and the GFLOP/s of
        ten products [128, 120] x [120, 84] side by side, compiled by XLA.
    """
    import numpy as np
    import tensorflow as tf

    trials, batch, sizes = 10, 128, (4, 120, 84, 2)
    forward = sum(2 * a * b for a, b in pairwise(sizes))  # FLOP per row
    first = 2 * sizes[0] * sizes[1]  # the input needs no gradient
    per_update = batch * (2 * forward + 2 * forward - first) + 10 * forward  # online, target, backward; ten actions
    speed = median(
        next(e for e in entries if (e["workload"], e["engine"], e["trials"]) == (WORKLOADS[0].name, "fused", 10))[
            "steps_per_second"
        ]
    )
    a = tf.constant(np.random.default_rng(0).random((trials, batch, 120), np.float32))
    b = tf.constant(np.random.default_rng(1).random((trials, 120, 84), np.float32))
    repeats = 200

    @tf.function(jit_compile=True, autograph=False)
    def products(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        def body(i: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return i + 1, x * 0.5 + tf.reduce_mean(
                tf.matmul(a + x[:, :1, :1], b)
            ) * 1e-9  # the result feeds the next step, so XLA cannot hoist it

        return tf.while_loop(lambda i, _: i < repeats, body, (0, a))[1]

    products(a, b)
    rates = []
    for _ in range(5):
        began = time.perf_counter()
        products(a, b).numpy()
        rates.append(repeats * trials * 2 * batch * 120 * 84 / (time.perf_counter() - began))
    return speed / 10 * per_update / 1e9, max(rates) / 1e9


def draw(entries: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot the steps per second of all trials against N, one panel per workload, with the line of perfect scaling."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, len(WORKLOADS))
    for axis, workload in zip(axes, WORKLOADS, strict=True):
        for engine, color in (("fused", "#0072b2"), ("host", "#d55e00")):
            own = [e for e in entries if e["workload"] == workload.name and e["engine"] == engine]
            own.sort(key=lambda e: e["trials"])
            if not own:  # a quick run
                continue
            speeds = [median(e["steps_per_second"]) for e in own]
            axis.plot([e["trials"] for e in own], speeds, "o-", color=color, label=f"rlexp, {engine} engine")
            first = speeds[0] / own[0]["trials"]
            axis.plot(TRIALS, [first * n for n in TRIALS], ":", color=color, lw=0.8)
        for engine, style in (("peer", "--"), ("notebook", "-.")):
            peers = [e for e in entries if e["workload"] == workload.name and e["engine"] == engine]
            speeds = [s for e in peers for s in e["steps_per_second"] if s is not None]
            if speeds:
                entry = peers[0]
                axis.axhline(
                    median(speeds), ls=style, color="black", lw=1, label=LABELS.get(entry["what"], entry["what"])
                )
        axis.set(xscale="log", yscale="log", xlabel="trials N", title=workload.name)
        axis.set_xticks(TRIALS, [str(n) for n in TRIALS])
        axis.legend(fontsize=7)
    axes[0].set_ylabel("env steps/s over all trials\n(dotted: perfect scaling)")
    figure.savefig(path, dpi=120)


LABELS = {
    "sb3 cleanrl": "Stable-Baselines3, one seed",
    "sb3 every_step": "Stable-Baselines3, one seed",
    "bare cartpole": "bare Gymnasium environment",
    "notebook dqn": "the chapter's own loop (DQN, one update per episode)",
    "notebook table": "the chapter's own loop",
}
