"""Reference returns of environments: random play, the threshold of "solved", and published results.

Thresholds are Gymnasium's own (`reward_threshold`); CliffWalking has none, so the return of the shortest path is used.
Random play was measured with uniformly random actions and reset seeds from 200,000 on. Published results:
rl-baselines3-zoo's `benchmark.md`, one run each, and CleanRL's docs, training return after 500,000 steps, mean of 3
seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

ZOO, CLEANRL = "rl-baselines3-zoo", "CleanRL"


@dataclass(frozen=True)
class Published:
    """One published result.

    Attributes:
        source: who measured it.
        algo: the algorithm.
        value: return.
        spread: standard deviation, None if it is not given.
        note: steps, seeds, kind of return.
    """

    source: str
    algo: str
    value: float
    spread: float | None
    note: str

    @property
    def name(self) -> str:
        """Source and algorithm."""
        return f"{self.source} {self.algo}"


@dataclass(frozen=True)
class Reference:
    """The reference returns of an environment with its own time limit.

    Attributes:
        random: mean return of random play.
        solved: lowest return that counts as solved.
        why: where `solved` comes from.
        published: results of others.
        maximum: the largest possible return, if it is known and a policy reaches it with certainty.
    """

    random: float
    solved: float
    why: str = "Gymnasium's reward_threshold"
    published: tuple[Published, ...] = ()
    maximum: float | None = None


def _zoo(algo: str, value: float, spread: float | None, steps: str) -> Published:
    return Published(ZOO, algo, value, spread, f"{steps} steps, one run, greedy evaluation")


def _cleanrl(algo: str, value: float, spread: float | None = None) -> Published:
    return Published(CLEANRL, algo, value, spread, "500k steps, mean of 3 seeds, training return")


# (Gymnasium id, time limit if it is not the environment's own)
REFERENCES: dict[tuple[str, int | None], Reference] = {
    ("CartPole-v1", None): Reference(
        22.0,
        475.0,
        published=(
            _zoo("DQN", 500.0, None, "50k"),
            _zoo("QR-DQN", 500.0, None, "50k"),
            _zoo("PPO", 500.0, None, "100k"),
            _zoo("A2C", 500.0, None, "500k"),
            _cleanrl("DQN", 488.7, 16.1),
            _cleanrl("C51", 481.2, 20.5),
            _cleanrl("PPO", 490.0, 6.1),
        ),
        maximum=500.0,
    ),
    ("Acrobot-v1", None): Reference(
        -499.9,
        -100.0,
        published=(
            _zoo("DQN", -76.6, 11.8, "100k"),
            _zoo("QR-DQN", -69.1, None, "100k"),
            _zoo("PPO", -73.5, None, "1M"),
            _cleanrl("DQN", -91.5),
            _cleanrl("C51", -87.7),
            _cleanrl("PPO", -86.4),
        ),
    ),
    ("MountainCar-v0", None): Reference(
        -200.0,
        -110.0,
        published=(
            _zoo("DQN", -100.8, 9.9, "120k"),
            _zoo("QR-DQN", -106.0, None, "120k"),
            _zoo("PPO", -110.4, None, "1M"),
            _cleanrl("DQN", -195.0),
            _cleanrl("C51", -166.4),
            _cleanrl("PPO", -200.0),
        ),
    ),
    ("LunarLander-v3", None): Reference(
        -182.0,
        200.0,
        published=(
            _zoo("DQN", 154.0, 79.0, "100k"),
            _zoo("PPO", 242.0, 32.0, "1M"),
            _zoo("A2C (LunarLander-v2)", 156.0, None, "200k"),
        ),
    ),
    ("FrozenLake-v1", None): Reference(0.015, 0.70),
    ("FrozenLake8x8-v1", None): Reference(0.0014, 0.85),
    ("Taxi-v4", None): Reference(-764.0, 8.0),
    ("CliffWalking-v1", 200): Reference(-2114.0, -13.0, "the return of the shortest path", maximum=-13.0),
}


def find(env_id: str, max_episode_steps: int | None, changed: bool) -> Reference | None:
    """The reference of an environment; None for an unknown or a changed one (arguments, preprocessing, time limit)."""
    return None if changed else REFERENCES.get((env_id, max_episode_steps))
