"""The schemas of algorithms that learn from a few steps of each of several environments: see `algos.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlexp.config.schema.algos import (
    OPTIMIZER_OPTIONS,
    ActorCriticSettings,
    OptimizerSettings,
    PGOptimizerSettings,
    RolloutSettings,
    check_minibatches,
)
from rlexp.config.schema.fields import linear, opt


@dataclass
class A2COptimizerSettings(PGOptimizerSettings):
    """Optimiser of A2C."""

    lr: Any = opt(linear(5e-3, 1e-4, 50_000), "learning rate, a number or a schedule", above=0, scalar=True)


@dataclass
class A2CSettings(ActorCriticSettings):
    """Advantage actor-critic."""

    name: str = opt("a2c", "registry key")
    gamma: Any = opt(0.99, "discount factor, a number or a schedule", low=0, high=1, scalar=True)
    optimizer: OptimizerSettings = opt(A2COptimizerSettings, "optimiser")
    batch_size: int = opt(128, "episodes, or env steps, per batch", low=1)
    num_envs: int = opt(8, "environments of each trial, which act together", low=1, high=10_000)
    orthogonal: bool = opt(True, "kernels start orthogonal; policy and value start near 0")


@dataclass
class PQNOptimizerSettings(OptimizerSettings):
    """Optimiser of PQN."""

    name: str = opt("radam", "optimiser", choices=tuple(OPTIMIZER_OPTIONS))
    lr: Any = opt(linear(1e-3, 1e-5, 50_000), "learning rate, a number or a schedule", above=0, scalar=True)


@dataclass
class PQNSettings(RolloutSettings):
    """Parallelised Q-network."""

    name: str = opt("pqn", "registry key")
    gamma: Any = opt(0.99, "discount factor, a number or a schedule", low=0, high=1, scalar=True)
    epsilon: Any = opt(
        linear(1.0, 0.05, 10_000), "probability of a random action, a number or a schedule", low=0, high=1, scalar=True
    )
    optimizer: OptimizerSettings = opt(PQNOptimizerSettings, "optimiser")
    loss: str = opt("mse", "loss of the error", choices=("mse", "huber"))
    batch_unit: str = opt("step", "what batch_size counts", choices=("episode", "step"))
    batch_size: int = opt(2_048, "episodes, or env steps, per batch", low=1)
    num_envs: int = opt(32, "environments of each trial, which act together", low=1, high=10_000)
    reward_scale: float = opt(0.1, "rewards are multiplied by it, in learning only", above=0)
    q_lambda: float = opt(0.95, "lambda of the returns", low=0, high=1)
    num_updates: int = opt(4, "passes over a batch, each of num_minibatches gradient steps", low=1)
    num_minibatches: int = opt(16, "parts that a batch is shuffled into, one gradient step each", low=1)
    truncation: str = opt("bootstrap", "what an episode cut by a limit means", choices=("bootstrap", "terminate"))

    def check(self, where: str) -> None:
        """Minibatches have rows that count, and are of one size."""
        super().check(where)
        check_minibatches(self, where)
