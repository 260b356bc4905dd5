"""Synthetic studies: job folders like those of the runner, with returns chosen by a test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.math.two_way import summarize_final

STARTED = 1_700_000_000.0


def make_job(
    study: Path,
    algo: str,
    final: Sequence[float] | None,
    *,
    env: str = "cartpole",
    env_id: str = "CartPole-v1",
    config: dict[str, Any] | None = None,
    first_seed: int = 0,
    points: int = 20,
    steps: int = 20_000,
    status: str = "done",
    error: str = "",
    num_trials: int = 10,
    env_config: dict[str, Any] | None = None,
    noise: Callable[[int], np.ndarray] | None = None,
) -> Path:
    """Write the folder of one job.

    Args:
        study: the study's folder.
        algo: registry key.
        final: final return of each trial, NaN for a trial without one; None for a job without final returns.
        env: name of the environment.
        env_id: its Gymnasium id.
        config: further keys under `algo`.
        first_seed: seed of the first trial.
        points: number of evaluations.
        steps: budget in env steps.
        status: status in the summary; "" for no summary.
        error: error in the summary of a failed job.
        num_trials: number of trials if `final` is None.
        env_config: further keys under `env`.
        noise: function of N that returns the deviations [N, E] of the final episodes from the final returns, with mean 0;
            default: zeros, E = 2.

    Returns:
        The job's folder.
    """
    returns = np.full(num_trials, 100.0) if final is None else np.asarray(final, np.float64)
    seeds = list(range(first_seed, first_seed + len(returns)))
    settings = {
        "algo": {"name": algo, **(config or {})},
        "env": {"name": env, "id": env_id, "kwargs": {}, "max_episode_steps": None, "preprocessing": "none",
                "default_steps": steps, **(env_config or {})},
        "budget": {"steps": None, "episodes": None},
        "trials": len(seeds), "seed": first_seed, "study": study.name, "tracking": {"name": "mlflow", "uri": None},
    }  # fmt: skip
    group = json.dumps([settings["algo"], settings["env"]], sort_keys=True)
    group_id = hashlib.sha256(group.encode()).hexdigest()[:8]
    folder = study / f"{algo}-{env}-{group_id[:6]}{first_seed:02d}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps(settings))  # JSON is valid YAML
    job = {
        "study": study.name, "name": folder.name, "algo": algo, "env": env, "config_id": f"{group_id[:6]}{first_seed:02d}",
        "group_id": group_id, "seeds": seeds, "command": f"rlexp algo={algo} env={env}", "started": STARTED,
        "tags": {"git.commit": "0123abc", "git.dirty": "false", "device": "cpu", "version.numpy": "2.4.6"},
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    ramp = np.linspace(1 / points, 1, points)[:, None]  # [T, 1]
    low = min(0.0, float(np.nanmin(returns)))
    curve = low + (np.where(np.isfinite(returns), returns, low) - low) * ramp**0.5
    lines = [
        {"step": int(steps * (i + 1) / points), "time": STARTED + i, "metrics": {"eval/return": list(row), "train/loss": [1.0] * len(row)}}
        for i, row in enumerate(curve.tolist())
    ]  # fmt: skip
    if final is not None:
        lines.append(
            {
                "step": steps,
                "time": STARTED + points,
                "metrics": {"final/return": [None if np.isnan(x) else x for x in returns.tolist()]},
            }
        )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if final is not None:
        played = noise(len(returns)) if noise else np.zeros((len(returns), 2))
        rows = [
            f"{seed},{5000 + i},{value!r},10\n"
            for seed, row in zip(seeds, (returns[:, None] + played).tolist(), strict=True)
            for i, value in enumerate(row)
        ]
        (folder / "evaluation.csv").write_text("seed,episode_seed,return,length\n" + "".join(rows))
    if not status:
        return folder
    summary: dict[str, Any] = {"algo": algo, "env": env, "seeds": seeds, "status": status, "wall_seconds": 12.5}
    if final is None:
        summary["error"] = error
        if status == "pruned":
            summary["pruned_at"] = steps
    else:
        summary |= {
            "final/return": summarize_final(returns, returns[:, None] + played), "steps": steps, "best_seed": seeds[0],
            "total_steps": steps * len(seeds), "train_seconds": 10.0, "finished": STARTED + 13,
            "trials": [{"seed": s, "status": "diverged" if np.isnan(x) else "done", "final_return": None if np.isnan(x) else x,
                        "note": "loss at env step 900" if np.isnan(x) else ""} for s, x in zip(seeds, returns.tolist(), strict=True)],
        }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder
