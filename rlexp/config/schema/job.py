"""The schema of a job."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlexp.config.schema.algos import PRIORITY_KEYS, SIGMA_0, DQNSettings
from rlexp.config.schema.env import EnvSettings
from rlexp.config.schema.fields import opt
from rlexp.config.schema.network import NetworkSettings
from rlexp.system.version import __version__

MAX_WORKERS = 256
# Keys that cannot move a curve: no part of `group_id`, and not compared in reports.
MOVES_NO_CURVE = (
    "study", "label", "output_dir", "tracking", "rerun", "checkpoint", "animation", "trials", "seed", "workers",
)  # fmt: skip

# Settings of algorithms that came later, and the value that changes nothing: it is no part of the hash.
ADDED_LATER: dict[str, Any] = {
    "num_envs": 1,
    "distribution": "auto",
    "log_std_init": 0.0,
    "state_dependent_std": False,
    "orthogonal": False,
    "normalize_observations": False,
    "normalize_rewards": False,
    "value_clip": None,
    "target_kl": None,
}


@dataclass
class TrackingSettings:
    """The trackers that receive results in addition to the job's folder."""

    name: Any = opt("mlflow", "tracker, or a list of trackers", choices=("mlflow", "tensorboard", "files"))
    uri: str | None = opt(None, "tracking URI; null: MLFLOW_TRACKING_URI, else SQLite in output_dir")
    timeout: float = opt(60.0, "seconds to wait for delivery at the end", low=0)

    @property
    def names(self) -> list[str]:
        """The trackers, each once."""
        return list(dict.fromkeys(self.name)) if isinstance(self.name, list) else [self.name]


@dataclass
class BudgetSettings:
    """The exact length of each trial's training: env steps or episodes."""

    steps: int | None = opt(None, "env steps per trial", low=1)
    episodes: int | None = opt(None, "episodes per trial", low=1)


@dataclass
class EvaluationSettings:
    """Evaluation on fixed seeds, and the choice of the best weights."""

    policy: str = opt("greedy", "how actions are chosen", choices=("greedy", "sampled"))
    num_episodes: int = opt(50, "episodes per evaluation and trial", low=1, high=10_000)
    period: int = opt(2_000, "env steps of a trial between evaluations", low=1)
    seed: int = opt(100_000, "evaluation episode i is reset with seed + i", low=0, high=2**31)
    final_episodes: int = opt(100, "fresh episodes that re-score the best weights", low=1, high=10**6)
    final_seed: int = opt(200_000, "final episode i is reset with final_seed + i", low=0, high=2**31)
    candidates: int = opt(3, "best weights per trial that are scored again at the end; 1: none is", low=1, high=100)
    candidate_episodes: int = opt(200, "episodes that score a candidate again", low=1, high=10**6)
    candidate_seed: int = opt(300_000, "candidate episode i is reset with candidate_seed + i", low=0, high=2**31)
    selection: str = opt("eval", "what chooses the best weights", choices=("eval", "train_episode", "last"))
    max_steps: int = opt(10_000, "time limit of evaluation episodes if the environment has none", low=1)


@dataclass
class LogSettings:
    """The resolution of the records."""

    points: int = opt(250, "approximate records per job in metrics.jsonl; evaluations add theirs", low=1, high=2_000)


@dataclass
class CheckpointSettings:
    """When to write checkpoints, and how many to keep."""

    every: float = opt(60.0, "seconds between checkpoints", low=0)
    keep: int = opt(2, "checkpoints kept", low=1)


@dataclass
class AnimationSettings:
    """The animation of the best trial at the end."""

    enabled: bool = opt(True, "animate the best trial")
    max_steps: int = opt(500, "env steps shown", low=1)


@dataclass
class Settings:
    """One job, as `rlexp` runs it."""

    algo: Any = opt(DQNSettings, "algorithm")
    env: EnvSettings = opt(EnvSettings, "environment")
    network: NetworkSettings = opt(NetworkSettings, "network")
    tracking: TrackingSettings = opt(TrackingSettings, "tracker")
    trials: int = opt(5, "seeds run together", low=1, high=100_000)
    seed: int = opt(0, "trial k uses seed + k", low=0, high=2**32 - 1)
    study: str = opt("default", "MLflow experiment and folder")
    label: str | None = opt(None, "name in tables and reports; null: the algorithm and the keys that differ")
    engine: str = opt("auto", "what advances the trials", choices=("auto", "host", "fused"))
    device: str = opt("auto", "where tensors live", choices=("auto", "cpu", "gpu"))
    output_dir: str = opt("outputs", "where job folders live")
    workers: Any = opt("auto", "processes that share the trials: auto or a number", low=1, high=MAX_WORKERS)
    exact_trials: bool = opt(True, "pad a single trial, so that it equals the trial in a batch")
    rerun: bool = opt(False, "start afresh instead of skipping or resuming")
    budget: BudgetSettings = opt(BudgetSettings, "length of training")
    evaluation: EvaluationSettings = opt(EvaluationSettings, "evaluation")
    log: LogSettings = opt(LogSettings, "records")
    checkpoint: CheckpointSettings = opt(CheckpointSettings, "checkpoints")
    animation: AnimationSettings = opt(AnimationSettings, "animation")

    @property
    def seeds(self) -> list[int]:
        """Seeds of the trials: [seed, seed + 1, ...]."""
        return list(range(self.seed, self.seed + self.trials))

    @property
    def max_steps(self) -> int | None:
        """Env steps per trial; None if the budget counts episodes."""
        if self.budget.episodes is not None:
            return None
        return self.budget.steps or self.env.default_steps

    @property
    def group_id(self) -> str:
        """Hash of everything that can move a curve except the seeds; equal for replications."""
        from rlexp.config.schema.network import options_that_differ

        curve = dataclasses.asdict(self)
        for elsewhere in MOVES_NO_CURVE:
            del curve[elsewhere]
        curve["budget"] = {"steps": self.max_steps, "episodes": self.budget.episodes}
        del curve["env"]["default_steps"], curve["env"]["step_timeout"], curve["env"]["workers"]
        if not self.env.wrappers:  # keeps the hash of versions without wrappers
            del curve["env"]["wrappers"]
        if self.network.name in ("cnn", "dueling_cnn"):  # defaults of newer options do not count
            curve["network"]["options"] = options_that_differ(self.network)
        if curve["algo"].get("replay") == "uniform":  # keeps the hash of versions without priorities
            for key in ("replay", *PRIORITY_KEYS):
                del curve["algo"][key]
        _remove_unchanged(curve["algo"])
        if not self.network.noisy:  # keeps the hash of versions without noisy networks
            del curve["network"]["noisy"]
        if not self.network.noisy or curve["algo"].get("sigma0") == SIGMA_0:  # likewise without the setting
            curve["algo"].pop("sigma0", None)
        del curve["env"]["discretizer"]  # tables: the effective bins are in algo.discretizer; networks read none
        return _digest({"version": __version__, **curve})

    @property
    def config_id(self) -> str:
        """Hash of everything that can move a curve; part of the job's folder name."""
        return _digest({"group": self.group_id, "seeds": [self.seed, self.trials]})

    @property
    def job_name(self) -> str:
        """`<algo>-<env>-<config_id>`."""
        return f"{self.algo.name}-{self.env.name}-{self.config_id}"

    @property
    def output_folder(self) -> Path:
        """Absolute path of `output_dir`."""
        return Path(self.output_dir).expanduser().resolve()

    @property
    def folder(self) -> Path:
        """Absolute path of the job's folder."""
        return self.output_folder / self.study / self.job_name

    def trial_name(self, k: int) -> str:
        """The name of trial `k` in messages and reports."""
        return f"seed={self.seeds[k]}"

    def to_dict(self) -> dict[str, Any]:
        """A plain nested mapping, as written to the job's config.yaml."""
        return dataclasses.asdict(self)


def _remove_unchanged(algo: dict[str, Any]) -> None:
    """Remove what `ADDED_LATER` names from an algorithm's settings, where it has the value that changes nothing."""
    for key, unchanged in ADDED_LATER.items():
        if key in algo and algo[key] == unchanged:
            del algo[key]


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
