"""`benchmark.py engines --write`: measure the table of costs, rlexp/engines/costs_table.json, on this machine.

Each figure is the fastest of some rounds, since other programs only make it slower. A family on an engine is measured
on CartPole by a few short jobs, each in a process of its own (`probe_engine.py`): with two and with more trials, with a
small and a large network, before and after learning starts. What an environment adds comes from the environment itself.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import env_costs

from rlexp.engines import costs
from rlexp.system.errors import Refusal

Figures = dict[str, float]
Pair = tuple[float, float]  # of FEW trials and of more

PROBE = Path(__file__).with_name("probe_engine.py")
FEW = 2  # trials; a single one has two lanes
MANY = {"replay": 10, "rollout": 10, "tabular": 20, "fixed": 20}
BATCH = 250  # env steps of a batch of policy gradients
PLAYED = 20  # episodes per evaluation
SCORING = ("evaluation.candidates=1", "evaluation.final_episodes=1", f"evaluation.num_episodes={PLAYED}")
SMALL = ("network.hidden_units=[32,32]", "algo.batch_size=32")
LARGE = ("network.hidden_units=[120,84]", "algo.batch_size=128")
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
TABLES = "algo=q_learning env=cartpole +discretizer=cartpole"
FUSED_ENVS = ("FrozenLake-v1", "FrozenLake8x8-v1", "Taxi-v4", "CliffWalking-v1", "rlexp/ThreeStateMDP-v0",
              "MountainCar-v0", "Acrobot-v1")  # fmt: skip
CONF = {  # conf/env/ of each environment in the table
    "CartPole-v1": "cartpole", "MountainCar-v0": "mountain_car", "Acrobot-v1": "acrobot", "Taxi-v4": "taxi",
    "FrozenLake-v1": "frozen_lake", "FrozenLake8x8-v1": "frozen_lake_8x8", "CliffWalking-v1": "cliff_walking",
    "rlexp/ThreeStateMDP-v0": "three_state_mdp", "LunarLander-v3": "lunar_lander",
    "ALE/SpaceInvaders-v5": "space_invaders",
}  # fmt: skip
PLAIN = {  # jobs that seldom learn, or whose learning is a part of each step
    "replay": "algo=dqn env=cartpole algo.learn_start=1000000",
    "rollout": "algo=ppo env=cartpole",
    "tabular": TABLES,
    "fixed": "algo=random env=cartpole",
}
# Jobs that are compared with two workers, each with half of the trials. The fused DQN family is missing: one process
# keeps all cores busy, so that it is never dealt out.
DEALT = {
    ("replay", "host"): "algo=dqn env=cartpole algo.learn_period=2",
    ("rollout", "host"): f"algo=ppo env=cartpole algo.batch_size={BATCH}",
    ("rollout", "fused"): f"algo=ppo env=cartpole algo.batch_size={BATCH}",
    ("tabular", "host"): TABLES,
    ("tabular", "fused"): TABLES,
    ("fixed", "host"): "algo=random env=cartpole",
}


@dataclass
class Times:
    """What `probe_engine.py` prints: the times of one job."""

    done: float
    records: list[dict[str, float]]
    evaluations: list[dict[str, float]]

    def step(self, first: float, last: float) -> float:
        """Seconds per env step of a trial between two steps, evaluations left out."""
        inside = [record for record in self.records if first <= record["step"] <= last]
        return (inside[-1]["seconds"] - inside[0]["seconds"]) / (inside[-1]["step"] - inside[0]["step"])


def _started(overrides: Iterable[str], environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A process that trains a job and prints its times."""
    return subprocess.Popen(
        [sys.executable, str(PROBE), *overrides], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip


def _times(process: subprocess.Popen[str]) -> Times:
    """What it has printed, once it has ended."""
    output, errors = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, process.args))} failed:\n{errors}")  # type: ignore[arg-type]
    return Times(**json.loads(output.splitlines()[-1]))


def _overrides(job: str, engine: str, trials: int, steps: int, more: Sequence[str] = ()) -> list[str]:
    """The overrides of a job; those of `more` replace others."""
    chosen = [*job.split(), f"engine={engine}", f"trials={trials}", f"budget.steps={steps}", "log.points=40",
              f"evaluation.period={steps // 4}", *SCORING, *more]  # fmt: skip
    return list({override.partition("=")[0]: override for override in chosen}.values())


def fastest(rounds: int, measured: Callable[[], dict[str, float]]) -> Figures:
    """The smallest of each figure over some rounds."""
    found = [measured() for _ in range(rounds)]
    return {name: min(figures[name] for figures in found) for name in found[0]}


def per_trial(few: float, many: float, trials: int) -> tuple[float, float]:
    """What all trials cost together, and what each adds, from the cost of FEW trials and of `trials`; not negative."""
    each = max(0.0, (many - few) / (trials - FEW))
    return max(0.0, few - FEW * each), each


def _probe(rounds: int, job: str, engine: str, trials: int, steps: int, half: bool) -> Figures:
    """One job, measured in seconds.

    Args:
        rounds: the fastest of so many.
        job, engine, trials, steps: the job.
        half: it begins to learn in the middle.

    Returns:
        before: an env step before learning (`half`), else any; after: one afterwards. evaluated: a step of all episodes
        of an evaluation. start: what is left. Two are no seconds: longest, the steps of an evaluation; shares, the
        episodes that are under way in one of them.
    """

    def once() -> Figures:
        more = [f"algo.learn_start={steps // 2}", "algo.learn_period=1"] if half else []
        times = _times(_started(_overrides(job, engine, trials, steps, more)))
        middle = steps / 2
        after = times.step(middle + steps / 8, steps)
        before = times.step(steps / 8, middle) if half else after
        evaluations = times.evaluations[1:]
        evaluated = sum(e["seconds"] for e in evaluations) / sum(e["longest"] for e in evaluations)
        shares = sum(e["played"] for e in evaluations) / sum(e["longest"] for e in evaluations)
        all_evaluations = sum(e["seconds"] for e in evaluations) * 4 / 3
        start = max(0.0, times.done - middle * (before + after) - all_evaluations)
        longest = mean(e["longest"] for e in evaluations)
        return {"before": before, "after": after, "evaluated": evaluated, "shares": shares, "longest": longest,
                "start": start}  # fmt: skip

    return fastest(rounds, once)


def _pair(rounds: int, job: str, engine: str, trials: int, steps: int, half: bool) -> tuple[Figures, Figures]:
    """`_probe` with FEW trials and with `trials`."""
    few, many = (_probe(rounds, job, engine, n, steps, half) for n in (FEW, trials))
    return few, many


def measure_engine(family: str, engine: str, rounds: int, env: Figures) -> Figures:
    """The costs of a family on an engine.

    Args:
        family, engine: which.
        rounds: each figure is the fastest of so many.
        env: the costs of CartPole, which are not the family's.
    """
    found: Figures
    if family == "replay":
        found = _replay(engine, rounds)
    elif family == "rollout":
        found = _rollout(engine, rounds)
    else:
        steps = 400_000 if engine == "fused" else 8_000
        job = TABLES if family == "tabular" else "algo=random env=cartpole"
        few, many = _pair(rounds, job, engine, MANY[family], steps, False)
        found = _common(few, many, MANY[family], engine)
        found["lock_step"], found["trial_step"] = per_trial(few["after"], many["after"], MANY[family])
    found["portion"], playing = _portion(family, engine, rounds)
    found["evaluation"] = max(0.0, found["evaluation"] - playing / found.pop("longest"))
    micro = {name: value if name in ("start", "weight") else 1e6 * value for name, value in found.items()}
    step, played = (env["step"], env["played"]) if engine == "host" else (env["fused"], 0.0)
    micro["trial_step"] = max(0.0, micro["trial_step"] - step)
    micro["played"] = max(0.0, micro["played"] - played)
    return micro


def _portion(family: str, engine: str, rounds: int) -> Pair:
    """Seconds that an evaluation takes besides its steps, in all and while it plays.

    They come from jobs with few and with many evaluations of one step.
    """
    steps = 20_000 if engine == "fused" else 4_000

    def whole(evaluations: int) -> Pair:
        more = [f"evaluation.period={steps // evaluations}", "evaluation.num_episodes=1", "evaluation.max_steps=1"]
        overrides = _overrides(PLAIN[family], engine, FEW, steps, more)
        times = _times(_started(overrides))
        played = sum(evaluation["seconds"] for evaluation in times.evaluations[evaluations // 4 :])
        return times.step(steps / 4, steps) * steps * 3 / 4 + played, played / (evaluations * 3 / 4)

    def once() -> Figures:
        (few, _), (many, playing) = whole(4), whole(80)
        return {"few": few, "many": many, "playing": playing}

    figures = fastest(rounds, once)
    return max(0.0, figures["many"] - figures["few"]) / (76 * 3 / 4), figures["playing"]


def _common(few: Figures, many: Figures, trials: int, engine: str) -> Figures:
    """Start and evaluation from the measurements of FEW trials and of `trials`; `longest`: steps of an evaluation."""
    # On the fused engine, all episodes take as many steps as the longest one.
    shares = (FEW * PLAYED, trials * PLAYED) if engine == "fused" else (few["shares"], many["shares"])
    each = max(0.0, (many["evaluated"] - few["evaluated"]) / max(1.0, shares[1] - shares[0]))
    return {
        "start": (few["start"] + many["start"]) / 2,
        "evaluation": max(0.0, few["evaluated"] - shares[0] * each),
        "played": each,
        "longest": few["longest"],
    }


def _replay(engine: str, rounds: int) -> Figures:
    """The DQN family: env steps, and an update at each of them, with two networks and batches."""
    trials = MANY["replay"]
    measured: dict[str, tuple[Figures, Figures]] = {}
    for name, network, steps in (("small", SMALL, 3_200), ("large", LARGE, 1_600)):
        steps *= 5 if engine == "fused" else 1
        job = " ".join(("algo=dqn env=cartpole", *network))
        measured[name] = _pair(rounds, job, engine, trials, steps, True)
    few, many = measured["small"]
    found = _common(few, many, trials, engine)
    found["lock_step"], found["trial_step"] = per_trial(few["before"], many["before"], trials)
    small, large = ((few["after"] - few["before"], many["after"] - many["before"]) for few, many in measured.values())
    return {**found, **_updates(small, large, trials, (32, 128))}


def _rollout(engine: str, rounds: int) -> Figures:
    """Policy gradients: batches of BATCH env steps with one update, with eight, and with eight of a large network."""
    trials, steps = MANY["rollout"], 8_000 if engine == "fused" else 4_000
    measured: dict[str, tuple[Figures, Figures]] = {}
    for name, network, passes in (("once", SMALL, 1), ("small", SMALL, 8), ("large", LARGE, 8)):
        job = f"algo=ppo env=cartpole {network[0]} algo.batch_size={BATCH} algo.num_updates={passes}"
        measured[name] = _pair(rounds, job, engine, trials, steps, False)
    found = _common(*measured["small"], trials, engine)
    pairs = zip(*((few["after"], many["after"]) for few, many in measured.values()), strict=True)
    few, many = (_split(*three) for three in pairs)
    found["lock_step"], found["trial_step"] = per_trial(few[0], many[0], trials)
    return {**found, **_updates((few[1], many[1]), (few[2], many[2]), trials, (256, 256))}


def _split(once: float, small: float, large: float) -> tuple[float, float, float]:
    """Seconds of an env step, and of an update of each network, from those of a step with its share of updates."""
    update = (small - once) * BATCH / 7
    return once - update / BATCH, update, update + (large - small) * BATCH / 8


def _updates(small: Pair, large: Pair, trials: int, rows: tuple[int, int]) -> Figures:
    """The cost of updates, from those [FEW, trials] of a small and of a large network with so many rows."""
    together, each = per_trial(*small, trials)
    _, each_large = per_trial(*large, trials)
    sizes = [4 * a + a * b + 2 * b for a, b in ((32, 32), (120, 84))]
    work = [n * size for n, size in zip(rows, sizes, strict=True)]
    weight = max(0.0, (each_large - each) / (work[1] - work[0]))
    return {"update": together, "trial_update": max(0.0, each - work[0] * weight), "weight": weight * 1e9}


def measure_beside(family: str, engine: str, rounds: int) -> float:
    """How much longer an env step takes in a worker with one thread beside another one than in a process alone."""
    trials, steps = MANY[family] // 2, 400_000 if (family, engine) == ("tabular", "fused") else 8_000
    overrides = _overrides(DEALT[family, engine], engine, trials, steps)

    def once() -> Figures:
        alone = _times(_started(overrides))
        both = [_times(process) for process in [_started(overrides, ONE_THREAD) for _ in range(2)]]
        return {"alone": alone.step(steps / 4, steps), "beside": mean(worker.step(steps / 4, steps) for worker in both)}

    figures = fastest(rounds, once)
    return figures["beside"] / figures["alone"]


def measure_worker(rounds: int) -> Figures:
    """Seconds that a process needs before it can build an agent, without and with TensorFlow."""
    code = {"numpy": "import rlexp.jobs.training, gymnasium", "tensorflow": "import rlexp.engines.building, tensorflow"}

    def once() -> Figures:
        found = {}
        for name, imports in code.items():
            began = time.monotonic()
            subprocess.run([sys.executable, "-c", imports], check=True, capture_output=True)
            found[name] = time.monotonic() - began
        return found

    return fastest(rounds, once)


def measure(rounds: int) -> dict[str, Any]:
    """The whole table, as `costs_table.json` holds it; environments that are not installed keep their old costs."""
    former = json.loads(costs.TABLE.read_text())
    _say("tabular, fused, and environments")
    tables = measure_engine("tabular", "fused", rounds, {"fused": 0.0})
    cartpole, tables["trial_step"] = tables["trial_step"], 0.0  # all of it is the environment's
    envs = {}
    for name, old in former["envs"].items():
        envs[name] = {**old, **_env(name, rounds), "fused": cartpole if name == "CartPole-v1" else 0.0}
        if name in FUSED_ENVS:
            job = f"algo=q_learning env={CONF[name]}"
            lock_step = 1e6 * _probe(rounds, job, "fused", MANY["tabular"], 200_000, False)["after"]
            envs[name]["fused"] = max(0.0, (lock_step - tables["lock_step"]) / MANY["tabular"])
    engines: dict[str, Any] = {family: {} for family in former["engines"]}
    for family, engine in ((family, engine) for family, row in former["engines"].items() for engine in row):
        _say(f"{family}, {engine}")
        measured = tables if (family, engine) == ("tabular", "fused") else None
        engines[family][engine] = measured or measure_engine(family, engine, rounds, envs["CartPole-v1"])
        beside = measure_beside(family, engine, rounds) if (family, engine) in DEALT else None
        engines[family][engine]["beside"] = beside
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    machine |= {name: version(name) for name in ("numpy", "tensorflow", "gymnasium")}
    return {"machine": machine, "engines": engines, "envs": envs, "worker": measure_worker(rounds)}


def _env(name: str, rounds: int) -> Figures:
    tabular = name in FUSED_ENVS and name not in ("MountainCar-v0", "Acrobot-v1")
    try:
        return env_costs.measure(CONF[name], tabular, name.startswith("ALE/"), partial(fastest, max(rounds, 3)))
    except Refusal as refused:
        _say(f"{name} keeps its old costs: {refused}")
        return {}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _rounded(value: Any) -> Any:
    """Three digits of each measured number."""
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _lines(value: dict[str, Any], depth: int = 0) -> str:
    """JSON with one line for each row of the table."""
    if not any(isinstance(inner, dict) for inner in value.values()):
        return json.dumps(value)
    pad = "  " * (depth + 1)
    rows = [f"{pad}{json.dumps(name)}: {_lines(inner, depth + 1)}" for name, inner in value.items()]
    return "{\n" + ",\n".join(rows) + "\n" + "  " * depth + "}"


def write(rounds: int) -> None:
    """Measure the table, print each figure beside the one before, and write it."""
    former, found = json.loads(costs.TABLE.read_text()), _rounded(measure(rounds))
    print("| what | before | now |\n|---|---|---|")
    for part in ("engines", "envs", "worker"):
        for name, now in _figures(found[part]).items():
            before = _figures(former[part]).get(name)
            print(f"| {name} | {'none' if before is None else before} | {'none' if now is None else now} |")
    costs.TABLE.write_text(_lines(found) + "\n")
    print(f"written: {costs.TABLE}", file=sys.stderr)


def _figures(rows: dict[str, Any], name: str = "") -> dict[str, Any]:
    """The numbers of nested rows, by their names in one line."""
    found: dict[str, Any] = {}
    for key, value in rows.items():
        inner = f"{name} {key}".strip()
        found |= _figures(value, inner) if isinstance(value, dict) else {inner: value}
    return found
