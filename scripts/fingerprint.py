#!/usr/bin/env python
"""Show that a change moves no curve: run some fifty small jobs and print a digest of the results of each.

    python scripts/fingerprint.py --write before.txt      # on the commit before the change
    python scripts/fingerprint.py --against before.txt    # after it; exit status 1 if a digest differs
    python scripts/fingerprint.py --only fused            # the jobs whose names contain this; --list prints all names
    python scripts/fingerprint.py --without final/value   # ignore a metric that the other commit does not record

A job's digest has four parts: records (metrics.jsonl without times), weights (of each trial), scores (evaluation.csv)
and episodes (episodes.npz). Digests are comparable only on one machine with the same libraries.
Together the jobs cover every algorithm, family and engine, n-step targets, soft and hard target networks, optimisers,
losses, schedules, frame stacks, units of budgets, evaluation policies, two presets of the chapter, interrupted and
resumed jobs, a group of jobs trained as one program, and a search. Needs the extras rlexp[atari] and rlexp[search];
takes four minutes on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from evidence import records, weights

import rlexp

COMMON = (
    "trials=2",
    "tracking=files",
    "animation.enabled=false",
    "budget.steps=1500",
    "log.points=20",
    "evaluation.period=500",
    "evaluation.num_episodes=4",
    "evaluation.candidate_episodes=4",
    "evaluation.final_episodes=8",
)
NETWORK = ("network.hidden_units=[16,16]",)
DQN = (*NETWORK, "algo.learn_start=100", "algo.batch_size=16", "algo.replay_size=1000", "algo.target_period=20")
BINS = ("env=cartpole", "+discretizer=cartpole")
LAKE = ("env=frozen_lake",)

JOBS: dict[str, tuple[str, ...]] = {
    "random": ("algo=random",),
    "angle_policy": ("algo=angle_policy",),
    # DQN family, both engines.
    **{
        f"{algo}, {engine}": (f"algo={algo}", f"engine={engine}", *DQN)
        for algo in ("dqn", "fixed_dqn", "ddqn", "dueling_dqn", "dueling_ddqn")
        for engine in ("host", "fused")
    },
    **{
        f"{name}, {engine}": (f"engine={engine}", *DQN, *overrides)
        for name, overrides in {
            "c51, double": ("algo=c51", "algo.double=true", "algo.num_atoms=11"),
            "qr_dqn": ("algo=qr_dqn", "algo.num_quantiles=8"),
            "iqn": ("algo=iqn", "algo.num_features=16"),
            "iqn, dueling, by priority": (
                "algo=iqn", "algo.num_features=16", "network=dueling", "algo.double=true", "algo.replay=prioritized",
            ),
            "munchausen_dqn, adamw": ("algo=munchausen_dqn", "algo.optimizer.name=adamw"),
            "ddqn by priority": ("algo=ddqn", "algo.replay=prioritized", "algo.num_updates=2"),
            "fixed_dqn with noise, radam": (
                "algo=fixed_dqn", "network.noisy=true", "algo.epsilon=0", "algo.optimizer.name=radam",
                "network.options={layer_norm: true, initializer: he_normal}",
            ),
            "rainbow": ("algo=rainbow", "algo.num_atoms=11"),
        }.items()
        for engine in ("host", "fused")
    },
    **{
        f"ddqn n_step=1 soft huber, {engine}": (
            "algo=ddqn", f"engine={engine}", *DQN, "algo.n_step=1", "algo.target=soft", "algo.loss=huber",
        )
        for engine in ("host", "fused")
    },
    **{
        f"fixed_dqn on acrobot, target by step, {engine}": (
            "algo=fixed_dqn", "env=acrobot", f"engine={engine}", *DQN, "algo.n_step=3", "algo.target_unit=step",
            "algo.truncation=terminate", "algo.reward_clip=1",
        )
        for engine in ("host", "fused")
    },
    "ddqn on mountain_car, sgd, fused": (
        "algo=ddqn", "env=mountain_car", "engine=fused", *DQN, "algo.optimizer.name=sgd", "algo.optimizer.lr=1e-3",
        "algo.num_updates=2", "trials=3",
    ),
    "dqn on frozen_lake, rmsprop, fused": ("algo=dqn", *LAKE, "engine=fused", *DQN, "algo.optimizer.name=rmsprop"),
    "dqn, nadam, log10 by episode, host": (
        "algo=dqn", "engine=host", *DQN, "algo.optimizer.name=nadam",
        "algo.epsilon={kind: log10, initial: 1, final: 0.1, duration: 5, unit: episode}",
    ),
    "dqn learns by episode, host": (
        "algo=dqn", "engine=host", *DQN, "budget.steps=null", "budget.episodes=40", "algo.learn_unit=episode",
        "algo.learn_start=5", "algo.learn_period=1", "evaluation.selection=train_episode",
    ),
    "dqn by episodes, fused": ("algo=dqn", "engine=fused", *DQN, "budget.steps=null", "budget.episodes=40"),
    "ddqn, frame stack, host": ("algo=ddqn", "env.frame_stack=3", "engine=host", *DQN),
    "dueling_ddqn on Atari, host": (
        "algo=dueling_ddqn", "env=space_invaders", "network=dueling_cnn", "network.hidden_units=[16]",
        "budget.steps=60", "env.max_episode_steps=40", "algo.learn_start=40", "algo.learn_period=4",
        "algo.batch_size=4", "algo.replay_size=100", "evaluation.num_episodes=1", "evaluation.candidate_episodes=1",
        "evaluation.final_episodes=2", "evaluation.period=50",
    ),
    "ddqn, one exact trial, fused": ("algo=ddqn", "engine=fused", *DQN, "trials=1"),
    "ddqn, one trial not padded, fused": ("algo=ddqn", "engine=fused", *DQN, "trials=1", "exact_trials=false"),
    # Policy gradients, both engines.
    **{
        f"{algo}, {engine}": (f"algo={algo}", f"engine={engine}", *NETWORK)
        for algo in ("pg", "pg_baseline", "ppo")
        for engine in ("host", "fused")
    },
    **{
        f"pg_baseline on acrobot, {engine}": (
            "algo=pg_baseline", "env=acrobot", f"engine={engine}", *NETWORK, "algo.entropy_coef=0.01",
            "algo.gae_lambda=0.9", "algo.optimizer.clip_norm=0.5",
        )
        for engine in ("host", "fused")
    },
    **{
        f"ppo on acrobot, minibatches, {engine}": (
            "algo=ppo", "env=acrobot", f"engine={engine}", *NETWORK, "algo.num_minibatches=4",
            "algo.entropy_coef=0.01", "algo.gae_lambda=0.9", "algo.optimizer.clip_norm=0.5",
        )
        for engine in ("host", "fused")
    },
    **{
        f"{name}, {engine}": (f"engine={engine}", *NETWORK, *overrides)
        for name, overrides in {
            "ppo on pendulum, squashed": ("algo=ppo", "env=pendulum", "algo.distribution=tanh_gaussian"),
            "pg_baseline on mountain_car_continuous, sampled": (
                "algo=pg_baseline", "env=mountain_car_continuous", "algo.state_dependent_std=true",
                "algo.log_std_init=-0.5", "algo.entropy_coef=0.01", "evaluation.policy=sampled",
            ),
        }.items()
        for engine in ("host", "fused")
    },
    "pg, sigmoid, sampled, last, host": (
        "algo=pg", "engine=host", *NETWORK, "algo.head=sigmoid", "algo.batch_size=3", "algo.truncation_penalty=1",
        "evaluation.policy=sampled", "evaluation.selection=last",
    ),
    # Tables, both engines.
    **{
        f"{algo} on frozen_lake, {engine}": (f"algo={algo}", *LAKE, f"engine={engine}", "algo.initial_value=0.5")
        for algo in ("q_learning", "sarsa", "expected_sarsa", "double_q_learning")
        for engine in ("host", "fused")
    },
    **{
        f"q_learning on cartpole, visits, {engine}": (
            "algo=q_learning", *BINS, f"engine={engine}", "algo.visit_power=1", "algo.alpha=1",
            "algo.epsilon={kind: inverse_time, initial: 1, decay: 0.01}",
        )
        for engine in ("host", "fused")
    },
    "sarsa on taxi, host": ("algo=sarsa", "env=taxi", "engine=host", "algo.bootstrap=always"),
    "q_learning on Blackjack, host": ("algo=q_learning", "env.id=Blackjack-v1"),
    "q_value_iteration on taxi": ("algo=q_value_iteration", "env=taxi"),
    "q_value_iteration on three_state_mdp": ("algo=q_value_iteration", "env=three_state_mdp"),
    # The chapter's presets.
    "book/dqn": ("+experiment=book/dqn", "budget.episodes=60", "budget.steps=null"),
    "book/q_epsilon": ("+experiment=book/q_epsilon", "budget.episodes=150", "budget.steps=null"),
}  # fmt: skip
RESUMED: dict[str, tuple[str, ...]] = {  # interrupted after some records, then resumed
    "ddqn, host, resumed": ("algo=ddqn", "engine=host", *DQN),
    "ddqn, fused, resumed": ("algo=ddqn", "engine=fused", *DQN, "budget.steps=6000"),
    "ppo, host, resumed": ("algo=ppo", "engine=host", *NETWORK),
    "q_learning on frozen_lake, host, resumed": ("algo=q_learning", *LAKE, "engine=host", "budget.steps=20000"),
}
SWEEPS: dict[str, tuple[str, ...]] = {
    "a group of jobs": (
        "hydra/launcher=fused", "algo=ddqn", "engine=fused", *DQN, "algo.optimizer.lr=1e-3,3e-3", "algo.gamma=0.9,0.99",
    ),
    "a search of jobs": (
        "hydra/sweeper=optuna", "hydra.sweeper.num_candidates=4", "hydra.sweeper.startup=2",
        "hydra.sweeper.prune=false", "algo=q_learning", *LAKE, "engine=host",
        "algo.alpha=tag(log,interval(1e-2,1))", "algo.gamma=.9,.99",
    ),
}  # fmt: skip
NAMES = (*JOBS, *RESUMED, *SWEEPS)
FORMER = {  # name -> what older files call it
    name: f"pg_baseline{name.removeprefix('ppo')}" for name in NAMES if name.startswith("ppo")
}


def digest(folder: Path, without: Sequence[str] = ()) -> dict[str, str]:
    """The four parts of a job's digest; `without`: metrics to leave out of its records."""

    def short(*parts: bytes) -> str:
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]

    found = [(path, weights(path)) for path in sorted(folder.glob("trials/*/best.*"))]
    arrays = [(f"{path.parent.name}/{name}", values[name]) for path, values in found for name in sorted(values)]
    episodes = weights(folder / "episodes.npz")
    lines = records(folder)
    for record in lines:
        record["metrics"] = {name: values for name, values in record["metrics"].items() if name not in without}
    return {
        "records": short(json.dumps(lines, sort_keys=True).encode()),
        "weights": short(*(part for name, data in arrays for part in (name.encode(), data))),
        "scores": short((folder / "evaluation.csv").read_bytes()),
        "episodes": short(*(part for name in sorted(episodes) for part in (name.encode(), episodes[name]))),
    }


def run(name: str, output: Path, without: Sequence[str]) -> dict[str, str]:
    """Run a job or a sweep in a folder of its own; returns its digest, for a sweep that of all its jobs together."""
    output.mkdir(parents=True)
    if name in SWEEPS:
        command = [sys.executable, "-m", "rlexp", "-m", *overrides_of(SWEEPS[name], output)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        digests = [digest(path.parent, without) for path in _by_config(output.glob("*/*/summary.json"))]
        return {
            part: hashlib.sha256("".join(d[part] for d in digests).encode()).hexdigest()[:12] for part in digests[0]
        }
    if name in RESUMED:
        overrides = overrides_of(RESUMED[name], output)
        _interrupt(overrides, output)
        return digest(rlexp.run(*overrides, quiet=True).folder, without)
    return digest(rlexp.run(*overrides_of(JOBS[name], output), quiet=True).folder, without)


def overrides_of(job: Iterable[str], output: Path) -> list[str]:
    """The common overrides and the job's own, which replace them."""
    own = {override.partition("=")[0] for override in job}
    chosen = [override for override in COMMON if override.partition("=")[0] not in own]
    return [f"output_dir={output}", *chosen, *job]


def _by_config(summaries: Iterable[Path]) -> list[Path]:
    """The jobs of a sweep sorted by configuration, because folder names may change with a version."""
    return sorted(summaries, key=lambda path: (path.parent / "config.yaml").read_text())


def _interrupt(overrides: list[str], output: Path) -> None:
    """Start a job and send SIGINT to this process when the job has written five records.

    Raises:
        RuntimeError: if the job finished before the signal.
    """

    def watch() -> None:
        while not ended.wait(0.005):
            for path in output.glob("*/*/metrics.jsonl"):
                if path.read_bytes().count(b"\n") >= 5:
                    signal.raise_signal(signal.SIGINT)
                    return

    ended = threading.Event()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            rlexp.run(*overrides, quiet=True)
            raise RuntimeError(f"not interrupted: {overrides}")
    finally:
        ended.set()
        watcher.join()


def main() -> int:
    """Run the command; returns exit status 1 if a digest differs from the file's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="run only the jobs whose names contain TEXT")
    parser.add_argument("--list", action="store_true", help="print the names and run nothing")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the digests to FILE")
    parser.add_argument(
        "--against", type=Path, metavar="FILE", help="compare with the digests in FILE, written by --write"
    )
    parser.add_argument(
        "--without", nargs="+", default=(), metavar="METRIC", help="metrics to leave out of the records"
    )
    args = parser.parse_args()
    names = [name for name in NAMES if args.only in name]
    if not names:
        parser.error(f"--only: no job's name contains {args.only!r}; see --list")
    if args.list:
        print("\n".join(names))
        return 0
    before: dict[str, dict[str, str]] = {}
    if args.against:
        before = {line.split("  ")[0]: dict(p.split(":") for p in line.split("  ")[1].split()) for line in
                  args.against.read_text().splitlines()}  # fmt: skip
        if "ppo, host" not in before:  # of a commit in which `algo=pg_baseline` was PPO
            before = {name: parts for name, parts in before.items() if name not in FORMER.values()} | {
                name: before[former] for name, former in FORMER.items() if former in before
            }
    lines, different = [], []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rlexp-fingerprint-") as folder:
        for index, name in enumerate(names):
            parts = run(name, Path(folder) / str(index), args.without)
            lines.append(f"{name}  {' '.join(f'{part}:{value}' for part, value in parts.items())}")
            wrong = [part for part in parts if name in before and before[name].get(part) != parts[part]]
            if wrong:
                different.append(name)
            print(lines[-1] + (f"  DIFFERENT: {', '.join(wrong)}" if wrong else ""), flush=True)
    whole = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
    print(f"{len(names)} jobs in {time.monotonic() - began:.0f} s, all together {whole}")
    if args.write:
        args.write.write_text("\n".join(lines) + "\n")
    if args.against:
        missing = [name for name in names if name not in before]
        print(f"{len(names) - len(different) - len(missing)} equal, {len(different)} different, {len(missing)} new")
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())
