"""The schemas of SAC and TD3, and what contradicts in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlexp.config.schema.algos import Environment, OptimizerSettings, ReplaySettings
from rlexp.config.schema.fields import constant, opt
from rlexp.system.errors import refusal


@dataclass
class TwinCriticsOptimizerSettings(OptimizerSettings):
    """Optimiser of a policy or of critics."""

    lr: Any = opt(constant(1e-3), "learning rate, a number or a schedule", above=0, scalar=True)
    clip_norm: float | None = opt(None, "largest norm of the gradient of one network; null: no clipping", above=0)


@dataclass
class TwinCriticsSettings(ReplaySettings):
    """What SAC and TD3 share."""

    optimizer: OptimizerSettings = opt(TwinCriticsOptimizerSettings, "optimiser of the critics, one for each")
    policy_optimizer: OptimizerSettings = opt(TwinCriticsOptimizerSettings, "optimiser of the policy")
    replay_size: int = opt(100_000, "transitions in the replay ring", low=1)
    batch_size: int = opt(256, "transitions per update", low=1)
    learn_start: int = opt(1_000, "nothing is learned, and actions are random, up to this count", low=0)
    learn_period: int = opt(1, "one learning phase every so many", low=1)
    n_step: int = opt(1, "most steps that one target sums rewards over", low=1, high=1_000)
    target: str = opt("soft", "target networks", choices=("hard", "soft"))

    def check_env(self, env_id: str, info: Environment) -> None:
        """Actions are floats with bounds, and observations are numbers that one vector can hold with an action."""
        if info.action.dtype != "float32":
            received = f"{env_id!r} with actions of {info.action}"
            raise refusal("env.id", f"actions of floats for {self.name}", received)
        if not info.action.bounded:
            expected = f"an environment whose actions have bounds for {self.name}, which scales them to these"
            raise refusal("env.id", expected, f"{env_id!r} with {info.action}")
        if len(info.observation_shape) > 1:
            expected = f"observations that are a vector for {self.name}, whose critics see an action beside them"
            raise refusal("env.id", expected, f"{env_id!r} with observations of shape {info.observation_shape}")


@dataclass
class SACSettings(TwinCriticsSettings):
    """Soft actor-critic."""

    name: str = opt("sac", "registry key")
    optimizer: OptimizerSettings = opt(
        TwinCriticsOptimizerSettings, "optimiser of the critics and the temperature, one for each"
    )
    learn_start: int = opt(100, "nothing is learned, and actions are random, up to this count", low=0)
    temperature: float = opt(1.0, "alpha at the start", above=0)
    target_entropy: float | None = opt(None, "nats that the temperature holds, of actions in [-1, 1]; null: -D")


@dataclass
class TD3Settings(TwinCriticsSettings):
    """Twin delayed deep deterministic policy gradient."""

    name: str = opt("td3", "registry key")
    policy_delay: int = opt(2, "updates of the critics for each of the policy and the target networks", low=1)
    exploration_noise: float = opt(0.1, "deviation of exploring actions, as a share of half the range", low=0)
    target_noise: float = opt(0.2, "deviation of the target policy's actions, likewise", low=0)
    target_noise_clip: float = opt(0.5, "most that this noise adds, likewise", low=0)
