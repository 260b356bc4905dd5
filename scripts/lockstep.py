"""The part `lockstep` of benchmark.py: where the microseconds of one trial's lock-step go in the fused DQN program.

    python scripts/benchmark.py lockstep
    python scripts/lockstep.py every_step trials=1 exact_trials=false     # one job: prints a line of JSON

Each job is measured in a process of its own, by calls of its compiled program: the shortest of many calls counts, since
machines are noisy. Kernels, products and copies are counted in the loops of the optimised HLO: each of them is a call
of XLA's runtime, which takes about as long as the arithmetic of a small one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import speed
from measuring import Row

WORKLOADS = {  # overrides, `learn_start`, lock-steps of a call
    "cleanrl": ((*speed.CLEANRL, "engine=fused"), 10_000, 1_000),
    "every_step": ((*speed.EVERY_STEP, "engine=fused", "budget.steps=50000"), 1_000, 200),
}
NAMES = {"cleanrl": "CleanRL's DQN settings", "every_step": "32-32, an update every step"}
VARIANTS = {  # name -> overrides, threads of an operation
    "one trial (two lanes)": (("trials=1",), None),
    "one trial, one thread": (("trials=1",), "1"),
    "one trial, one lane (exact_trials=false)": (("trials=1", "exact_trials=false"), None),
    "two trials": (("trials=2",), None),
}
TRIVIAL = {"parameter", "get-tuple-element", "tuple", "constant", "bitcast"}
CALLS = 30


def lockstep(rounds: int) -> list[Row]:
    """Measure all workloads and variants; there is no target, the figures are compared with one another."""
    rows = []
    for workload, title in NAMES.items():
        found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
        for _ in range(rounds):
            for variant, (overrides, threads) in VARIANTS.items():
                found[variant].append(_measured(workload, overrides, threads))
        for variant, figures in found.items():
            parts = {name: median(figure["us"][name] for figure in figures) for name in figures[0]["us"]}
            text = ", ".join(f"{name} {value:.1f}" for name, value in parts.items())
            rows.append(Row(f"{title}, {variant}: microseconds", "none", text, True))
        for variant in ("one trial (two lanes)", "one trial, one lane (exact_trials=false)"):
            loops = found[variant][0]["loops"]
            text = "; ".join(f"{name}: {', '.join(f'{n} {what}' for what, n in ops.items())}" for name, ops in loops)
            rows.append(Row(f"{title}, {variant}: calls of XLA's runtime", "none", text, True))
    return rows


def _measured(workload: str, overrides: Sequence[str], threads: str | None) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "TF_NUM_INTRAOP_THREADS"}
    if threads:
        environment["TF_NUM_INTRAOP_THREADS"] = threads
    command = [sys.executable, __file__, workload, *overrides]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def figures(workload: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The microseconds of a lock-step, and the kernels of each loop, of one job in this process."""
    options, learn_start, steps = WORKLOADS[workload]
    loop = _loop(*options, *overrides)
    acting = _shortest(lambda: loop.call(steps), learn_start // steps) / steps
    while loop.trials.t < learn_start + steps:  # learns from now on
        loop.call(steps)
    whole = _shortest(lambda: loop.call(steps), CALLS) / steps
    nothing = _shortest(lambda: loop.call(0), CALLS)
    period = loop.config.learn_period
    parts = {
        "a lock-step": whole,
        "of that acting and storing": acting - nothing / steps,
        f"learning (each {period} steps)": whole - acting,
        f"the host, once in {steps} steps": nothing / steps,
    }
    return {"us": parts, "loops": loops(_optimized(loop, steps))}


def _shortest(call: Callable[[], object], times: int) -> float:
    """Microseconds of the shortest of some calls; the first one is not counted."""
    call()
    seconds = []
    for _ in range(max(times - 2, 1)):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return 1e6 * min(seconds)


def _loop(*overrides: str) -> Any:
    """The training loop of a job without folder, records and pictures."""
    from rlexp.engines.building import build_agent
    from rlexp.engines.fused.replay import FusedReplayLoop
    from rlexp.engines.services import Services
    from rlexp.jobs.preflight import resolve
    from rlexp.jobs.runner import compose

    settings, info = resolve(compose(*overrides))
    agent = build_agent(settings, info, print).agent
    recorder: Any = SimpleNamespace(write=lambda steps, metrics: None, sync=lambda: 0, digest="")
    checkpoints: Any = SimpleNamespace(due=lambda: False)
    progress: Any = SimpleNamespace(update=lambda *shown: None, say=lambda text: None, warn=lambda text: None)
    services = Services(settings, info, recorder, checkpoints, progress, lambda: None, lambda: 0.0)
    return FusedReplayLoop(agent, services)


def _optimized(loop: Any, steps: int) -> str:
    """The optimised HLO of a loop's program."""
    import tensorflow as tf

    program, given = loop.program, []

    def noted(*args: Any) -> Any:
        given.append(args)
        return program(*args)

    loop.program = noted
    loop.call(steps)
    loop.program = program
    args = [arg if isinstance(arg, tf.Variable) else tf.nest.map_structure(tf.convert_to_tensor, arg)
            for arg in given[0]]  # fmt: skip
    return str(program._traced.experimental_get_compiler_ir(*args)(stage="optimized_hlo"))


def loops(hlo: str) -> list[tuple[str, dict[str, int]]]:
    """The loops of a program, from the outermost inwards, and what one turn of each calls, loops within not counted.

    Args:
        hlo: optimised HLO.

    Returns:
        The name of each loop by its place ("1", within it "1.1" and "1.2"), and how many kernels, products and copies.
    """
    bodies: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in re.sub(r"/\*.*?\*/", "", hlo).splitlines():
        if header := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            lines = bodies.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        else:
            lines.append(line.strip())

    def walk(name: str, place: str) -> list[tuple[str, dict[str, int]]]:
        calls: Counter[str] = Counter()
        inner: list[str] = []
        for line in bodies[name]:
            found = re.match(r"(?:ROOT )?%?[\w.\-]+ = (?:\(.*?\)|\S+) ([\w\-]+)\(", line)
            if found and found[1] == "while":
                inner += re.findall(r"body=%?([\w.\-]+)", line)
            elif found and found[1] not in TRIVIAL:
                calls[{"dot": "products", "copy": "copies"}.get(found[1], "kernels")] += 1
        own = [(f"loop {place}", dict(sorted(calls.items())))] if place else []
        return own + [row for i, body in enumerate(inner, 1) for row in walk(body, f"{place}.{i}".lstrip("."))]

    return walk(entry, "")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from rlexp.system.backend import prepare

    prepare("cpu")
    print(json.dumps(figures(sys.argv[1], sys.argv[2:])))
