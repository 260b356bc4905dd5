"""Which engine runs a job with tables sooner, from command to exit: an estimate of seconds, from constants alone.

The host engine starts without TensorFlow, in a second; the fused one takes seconds to import TensorFlow and to compile,
and next to nothing from then on. Training, periodic evaluations and the second look at candidates count; starting
Python, the final episodes and pictures take as long on either engine. `scripts/benchmark.py engines` measures the
result: near the budget where both engines take equally long, an estimate that is wrong by a factor of 1.7 makes a job
1.5 times too long.

No engine is timed here: the engine is a part of the folder's name, which has to be the same whenever it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlexp.config.schema.job import Settings
from rlexp.engines.record_steps import most_steps
from rlexp.envs.info import EnvInfo

# Seconds on one of two cores with Python 3.11, NumPy 2.5 and TensorFlow 2.21.
FUSED_START = 4.0  # importing TensorFlow, and compiling
FUSED_STEP = 0.7e-6  # an env step of one trial
FUSED_EVALUATION = 10e-3  # an evaluation of all trials
LOCK_STEP = 55e-6  # of the host engine: what an env step of all trials takes besides
PLAYED_RESET = 60e-6  # of the host engine: one evaluation episode besides its steps

SHARE_OF_LIMIT = 0.3  # the mean length of episodes of other environments, of their limit
UNLIMITED = 200.0  # and where they have none
LOOKS = 2  # at candidates: one to `evaluation.candidates`


@dataclass(frozen=True)
class Cost:
    """Of one environment, in microseconds of the host engine, and env steps."""

    step: float  # one env step of one trial in training
    played: float  # one env step of one evaluation episode
    length: float  # mean length of an episode in a short job


COSTS = {
    "FrozenLake-v1": Cost(7.0, 6.0, 20),
    "FrozenLake8x8-v1": Cost(5.0, 6.0, 90),
    "Taxi-v4": Cost(6.0, 14.0, 135),
    "CliffWalking-v1": Cost(4.0, 5.5, 135),
    "CartPole-v1": Cost(6.0, 5.0, 60),
    "rlexp/ThreeStateMDP-v0": Cost(3.0, 3.0, 100),
}


def of(info: EnvInfo, env_id: str) -> Cost:
    """The costs of an environment: measured, or those of environments in general."""
    if env_id in COSTS:
        return COSTS[env_id]
    limit = info.max_episode_steps
    return Cost(7.0, 7.0, UNLIMITED if limit is None else max(1.0, SHARE_OF_LIMIT * limit))


def seconds(settings: Settings, info: EnvInfo) -> dict[str, float]:
    """What a job takes on each engine, besides what both take.  # "host" and "fused": seconds"""
    cost, config = of(info, settings.env.id), settings.evaluation
    longest = info.max_episode_steps or config.max_steps
    length = min(cost.length, longest, config.max_steps)
    steps: float = most_steps(settings, info)
    if settings.budget.episodes is not None:
        steps = min(steps, settings.budget.episodes * min(cost.length, longest))
    evaluations = max(1.0, steps / config.period)
    looks = min(LOOKS, config.candidates, evaluations) if config.selection == "eval" and config.candidates > 1 else 0
    episodes = settings.trials * (evaluations * config.num_episodes + looks * config.candidate_episodes)
    train = steps * (LOCK_STEP + settings.trials * cost.step * 1e-6)
    play = episodes * (PLAYED_RESET + length * cost.played * 1e-6)
    fused = FUSED_START + steps * settings.trials * FUSED_STEP + (evaluations + looks) * FUSED_EVALUATION
    return {"host": train + play, "fused": fused}


def sooner(settings: Settings, info: EnvInfo) -> str:
    """The engine that is estimated to run a job with tables sooner."""
    estimate = seconds(settings, info)
    return "host" if estimate["host"] <= estimate["fused"] else "fused"
