"""The schema of a job."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlexp.config.schema.algos import DQNSettings
from rlexp.config.schema.env import EnvSettings
from rlexp.config.schema.fields import opt
from rlexp.config.schema.network import NetworkSettings
from rlexp.system.version import __version__


@dataclass
class TrackingSettings:
    """Where results are sent besides the job's folder."""

    name: str = opt("mlflow", "tracker", choices=("mlflow", "files"))
    uri: str | None = opt(None, "tracking URI; null: MLFLOW_TRACKING_URI, else SQLite in output_dir")
    timeout: float = opt(60.0, "seconds to wait at the end for delivery", low=0)


@dataclass
class BudgetSettings:
    """How long each trial trains, exactly."""

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
    candidates: int = opt(3, "best weights kept per trial, scored again at the end; 1: none is", low=1, high=100)
    candidate_episodes: int = opt(200, "episodes that score a candidate again", low=1, high=10**6)
    candidate_seed: int = opt(300_000, "candidate episode i is reset with candidate_seed + i", low=0, high=2**31)
    selection: str = opt("eval", "what chooses the best weights", choices=("eval", "train_episode", "last"))
    max_steps: int = opt(10_000, "an evaluation episode without a limit of its own is cut here", low=1)


@dataclass
class LogSettings:
    """How finely training is recorded."""

    points: int = opt(250, "records per job in metrics.jsonl, about; evaluations add theirs", low=1, high=2_000)


@dataclass
class CheckpointSettings:
    """When to write checkpoints, and how many to keep."""

    every: float = opt(60.0, "seconds between checkpoints", low=0)
    keep: int = opt(2, "checkpoints kept", low=1)


@dataclass
class AnimationSettings:
    """The picture of the best trial at the end."""

    enabled: bool = opt(True, "animate the best trial")
    max_steps: int = opt(500, "env steps shown", low=1)


@dataclass
class Settings:
    """One job: what `python -m rlexp` runs."""

    algo: Any = opt(DQNSettings, "algorithm")
    env: EnvSettings = opt(EnvSettings, "environment")
    network: NetworkSettings = opt(NetworkSettings, "network")
    tracking: TrackingSettings = opt(TrackingSettings, "tracker")
    trials: int = opt(5, "seeds run together", low=1, high=100_000)
    seed: int = opt(0, "trial k uses seed + k", low=0, high=2**32 - 1)
    study: str = opt("default", "MLflow experiment and folder")
    label: str | None = opt(None, "what tables and reports call it; null: its algorithm and what differs")
    engine: str = opt("auto", "what advances the trials", choices=("auto", "host", "fused"))
    device: str = opt("auto", "where tensors live", choices=("auto", "cpu", "gpu"))
    output_dir: str = opt("outputs", "where job folders live")
    exact_trials: bool = opt(True, "pad a single trial, so that it equals the trial in a batch")
    rerun: bool = opt(False, "start afresh where there is something to skip or to resume")
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
        """Env steps per trial, or None where the budget counts episodes."""
        if self.budget.episodes is not None:
            return None
        return self.budget.steps or self.env.default_steps

    @property
    def group_id(self) -> str:
        """Hash of everything that can move a curve but for the seeds: the same for replications."""
        from rlexp.config.schema.network import options_that_differ

        curve = dataclasses.asdict(self)
        for elsewhere in (
            "study",
            "label",
            "output_dir",
            "tracking",
            "rerun",
            "checkpoint",
            "animation",
            "trials",
            "seed",
        ):
            del curve[elsewhere]
        curve["budget"] = {"steps": self.max_steps, "episodes": self.budget.episodes}
        del curve["env"]["default_steps"], curve["env"]["step_timeout"]
        if not self.env.wrappers:  # as it was before there were any
            del curve["env"]["wrappers"]
        if self.network.name in ("cnn", "dueling_cnn"):  # options younger than these networks count where they differ
            curve["network"]["options"] = options_that_differ(self.network)
        del curve["env"]["discretizer"]  # of tables what is in effect is in algo.discretizer; networks read none
        return _digest({"version": __version__, **curve})

    @property
    def config_id(self) -> str:
        """Hash of everything that can move a curve: it names the job's folder."""
        return _digest({"group": self.group_id, "seeds": [self.seed, self.trials]})

    @property
    def job_name(self) -> str:
        """`<algo>-<env>-<config_id>`."""
        return f"{self.algo.name}-{self.env.name}-{self.config_id}"

    @property
    def folder(self) -> Path:
        """Absolute path of the job's folder."""
        return Path(self.output_dir).expanduser().resolve() / self.study / self.job_name

    def trial_name(self, k: int) -> str:
        """What a person calls trial `k`."""
        return f"seed={self.seeds[k]}"

    def to_dict(self) -> dict[str, Any]:
        """Plain nested mapping, as written to the job's config.yaml."""
        return dataclasses.asdict(self)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
