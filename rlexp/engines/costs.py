"""An estimate, from constants, of how long a job with tables takes on each engine.

The host engine starts within a second, without TensorFlow. The fused engine takes seconds to import TensorFlow and to
compile, and very little from then on. The estimate covers training, periodic evaluations and the second look at
candidates; starting Python, the final episodes and pictures take equally long on both engines. `scripts/benchmark.py
engines` measures the result: near the budget where the engines take equally long, an estimate that is wrong by a factor
of 1.7 makes a job 1.5 times too long.

No engine is timed here: the engine is part of the folder's name, which must be the same each time.
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
LOCK_STEP = 55e-6  # host engine: a lock-step, besides the env steps of its trials
PLAYED_RESET = 60e-6  # host engine: an evaluation episode, besides its steps

SHARE_OF_LIMIT = 0.3  # mean length of an episode in other environments, as a share of their time limit
UNLIMITED = 200.0  # the same where there is no time limit, in env steps
LOOKS = 2  # candidates scored in the second look: between one and `evaluation.candidates`


@dataclass(frozen=True)
class Cost:
    """The cost of one environment on the host engine.

    Attributes:
        step: one env step of one trial in training, in microseconds.
        played: one env step of one evaluation episode, in microseconds.
        length: mean length of an episode in a short job, in env steps.
    """

    step: float
    played: float
    length: float


COSTS = {
    "FrozenLake-v1": Cost(7.0, 6.0, 20),
    "FrozenLake8x8-v1": Cost(5.0, 6.0, 90),
    "Taxi-v4": Cost(6.0, 14.0, 135),
    "CliffWalking-v1": Cost(4.0, 5.5, 135),
    "CartPole-v1": Cost(6.0, 5.0, 60),
    "rlexp/ThreeStateMDP-v0": Cost(3.0, 3.0, 100),
}


def of(info: EnvInfo, env_id: str) -> Cost:
    """The cost of an environment, as measured; for an unknown one, a typical cost."""
    if env_id in COSTS:
        return COSTS[env_id]
    limit = info.max_episode_steps
    return Cost(7.0, 7.0, UNLIMITED if limit is None else max(1.0, SHARE_OF_LIMIT * limit))


def seconds(settings: Settings, info: EnvInfo) -> dict[str, float]:
    """Seconds that a job takes on each engine, without what takes equally long on both.  # "host", "fused": seconds"""
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
    """The engine that is estimated to finish a job with tables first."""
    estimate = seconds(settings, info)
    return "host" if estimate["host"] <= estimate["fused"] else "fused"


def best_workers(settings: Settings, info: EnvInfo, most: int) -> int:
    """TO BE MERGED."""
    return 1
