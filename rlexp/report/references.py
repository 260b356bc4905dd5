"""Reference returns of environments: random play, the threshold of "solved", and published results.

Thresholds are Gymnasium's own (`reward_threshold`); CliffWalking has none, so the return of the shortest path is used.
Random play was measured with uniformly random actions and reset seeds from 200,000 on. Published results come from
`benchmark.md` of rl-baselines3-zoo, CleanRL's docs, `docs/BENCHMARKS.md` of SLM-Lab, `results/performance.md` of
Jaxplorer, and `docs/modules/qrdqn.md` of sb3-contrib. Their protocols differ, so each result tells its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from rlexp.system import words

ZOO, CLEANRL, SLM, JAXPLORER, CONTRIB = "rl-baselines3-zoo", "CleanRL", "SLM-Lab", "Jaxplorer", "sb3-contrib"
ONE_RUN = "one run"
DRAWN = (ZOO, CLEANRL)  # sources whose results are in the figures, at most four; tables have all
OURS = {  # published algorithm -> its registry key here. The chapter's `dqn` has no target network: it is none of them
    "DQN": "fixed_dqn",
    "double DQN": "ddqn",
    "C51": "c51",
    "QR-DQN": "qr_dqn",
    "PPO": "ppo",
    "A2C": "a2c",
    "SAC": "sac",
    "REINFORCE": "pg",
}


@dataclass(frozen=True)
class Published:
    """One published result.

    Attributes:
        source: who measured it.
        algo: the algorithm, by its published name.
        value: return.
        spread: standard deviation, None if it is not given.
        steps: env steps of the training, None if they are not stated.
        seeds: number of trials that the value is the mean of.
        measure: the kind of return, "" if it is not stated.
        version: the environment's, if it is another one than here.
    """

    source: str
    algo: str
    value: float
    spread: float | None
    steps: float | None
    seeds: int
    measure: str
    version: str = ""

    @property
    def note(self) -> str:
        """The protocol: steps, seeds, kind of return."""
        steps = "steps not stated" if self.steps is None else f"{words.steps(self.steps)} steps"
        seeds = ONE_RUN if self.seeds == 1 else f"mean of {self.seeds} seeds"
        return ", ".join(filter(None, [steps, seeds, self.measure, self.version]))

    def unlike(self, steps: Collection[float]) -> list[str]:
        """Why the value cannot be compared with greedy evaluations of many trials.

        Args:
            steps: numbers of env steps that those were trained for.
        """
        told = []
        if self.steps is not None and self.steps not in steps:
            told.append("other steps")
        if self.steps is None:
            told.append("steps not stated")
        if "training" in self.measure:
            told.append("training returns")
        elif not any(word in self.measure for word in ("evaluation", "test return")):
            told.append("kind of return not stated")
        if "best" in self.measure:
            told.append("chosen after the measurement")
        return told + [ONE_RUN] * (self.seeds == 1) + [self.version] * bool(self.version)

    @property
    def ours(self) -> str | None:
        """The registry key of the same algorithm here; None if there is none."""
        return OURS.get(self.algo)


def differences(algo: str, config: Mapping[str, Any]) -> list[str]:
    """What sets a contender apart from the published algorithm of its name.

    Args:
        algo: registry key.
        config: keys joined by dots -> value.
    """
    told = []
    if algo == "dqn" and config.get("algo.target", "none") == "none":
        told.append("no target network, unlike fixed_dqn")
    steps = config.get("algo.n_step")
    if algo in ("dqn", *OURS.values()) and isinstance(steps, int) and steps > 1:
        told.append(f"{steps}-step returns")
    if algo in ("dqn", *OURS.values()) and config.get("algo.replay", "uniform") != "uniform":
        told.append("prioritised replay")
    return told


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


V2 = "LunarLander-v2"  # other wind, world and bounds than v3


def _zoo(algo: str, value: float, spread: float | None, steps: float, version: str = "") -> Published:
    return Published(ZOO, algo, value, spread, steps, 1, "greedy evaluation", version)


def _cleanrl(algo: str, value: float, spread: float | None = None) -> Published:
    return Published(CLEANRL, algo, value, spread, 500e3, 3, "training return")


def _slm(algo: str, value: float, steps: float) -> Published:
    return Published(SLM, algo, value, None, steps, 4, "moving average of training returns")


def _jaxplorer(algo: str, value: float, steps: float, further: str = "", version: str = "") -> Published:
    return Published(JAXPLORER, algo, value, None, steps, 5, f"the best learning rate of a sweep{further}", version)


def _contrib(algo: str, value: float, spread: float | None, version: str = "") -> Published:
    return Published(CONTRIB, algo, value, spread, None, 5, "", version)


# (Gymnasium id, time limit if it is not the environment's own)
REFERENCES: dict[tuple[str, int | None], Reference] = {
    ("CartPole-v1", None): Reference(
        22.0,
        475.0,
        published=(
            _zoo("DQN", 500.0, None, 50e3),
            _zoo("QR-DQN", 500.0, None, 50e3),
            _zoo("PPO", 500.0, None, 100e3),
            _zoo("A2C", 500.0, None, 500e3),
            _cleanrl("DQN", 488.7, 16.1),
            _cleanrl("C51", 481.2, 20.5),
            _cleanrl("PPO", 490.0, 6.1),
            _slm("REINFORCE", 483.0, 200e3),
            _slm("DQN", 240.0, 200e3),
            _slm("double DQN with prioritised replay", 452.0, 200e3),
            _slm("A2C", 497.0, 200e3),
            _slm("PPO", 499.0, 200e3),
            _jaxplorer("DQN", 476.0, 100e3, ", test return"),
            _jaxplorer("double DQN", 478.0, 100e3, ", test return"),
            _contrib("DQN", 500.0, None),
            _contrib("QR-DQN", 386.0, 64.0),
        ),
        maximum=500.0,
    ),
    ("Acrobot-v1", None): Reference(
        -499.9,
        -100.0,
        published=(
            _zoo("DQN", -76.6, 11.8, 100e3),
            _zoo("QR-DQN", -69.1, None, 100e3),
            _zoo("PPO", -73.5, None, 1e6),
            _cleanrl("DQN", -91.5),
            _cleanrl("C51", -87.7),
            _cleanrl("PPO", -86.4),
            _slm("DQN", -94.0, 300e3),
            _slm("double DQN with prioritised replay", -84.0, 300e3),
            _slm("A2C", -84.0, 300e3),
            _slm("PPO", -81.0, 300e3),
            _jaxplorer("DQN", -91.0, 100e3),
            _contrib("DQN", -74.0, 2.0),
            _contrib("QR-DQN", -73.0, 2.0),
        ),
    ),
    ("MountainCar-v0", None): Reference(
        -200.0,
        -110.0,
        published=(
            _zoo("DQN", -100.8, 9.9, 120e3),
            _zoo("QR-DQN", -106.0, None, 120e3),
            _zoo("PPO", -110.4, None, 1e6),
            _cleanrl("DQN", -195.0),
            _cleanrl("C51", -166.4),
            _cleanrl("PPO", -200.0),
            _contrib("DQN", -107.0, 4.0),
            _contrib("QR-DQN", -111.0, 4.0),
        ),
    ),
    ("LunarLander-v3", None): Reference(
        -182.0,
        200.0,
        published=(
            _zoo("DQN", 154.0, 79.0, 100e3, V2),
            _zoo("PPO", 242.0, 32.0, 1e6, V2),
            _zoo("A2C", 156.0, None, 200e3, V2),
            _slm("DQN", 195.0, 300e3),
            _slm("double DQN with prioritised replay", 266.0, 300e3),
            _slm("A2C", 27.0, 300e3),
            _slm("PPO", 183.0, 300e3),
            _jaxplorer("DQN", 235.0, 1.5e6, version=V2),
            _jaxplorer("double DQN", 162.0, 1.5e6, version=V2),
            _contrib("DQN", 195.0, None, V2),
            _contrib("QR-DQN", 168.0, None, V2),
        ),
    ),
    ("Pendulum-v1", None): Reference(
        -1213.0,
        -157.0,
        "the return of rl-baselines3-zoo's SAC; Gymnasium has no threshold",
        published=(
            _zoo("PPO", -172.0, None, 100e3),
            _zoo("SAC", -157.0, None, 20e3),
            _slm("A2C", -821.0, 300e3),
            _slm("PPO", -175.0, 300e3),
            _slm("SAC", -151.0, 300e3),
        ),
    ),
    ("MountainCarContinuous-v0", None): Reference(-33.2, 90.0),
    ("FrozenLake-v1", None): Reference(0.015, 0.70),
    ("FrozenLake8x8-v1", None): Reference(0.0014, 0.85),
    ("Taxi-v4", None): Reference(-764.0, 8.0),
    ("CliffWalking-v1", 200): Reference(-2114.0, -13.0, "the return of the shortest path", maximum=-13.0),
}


def find(env_id: str, max_episode_steps: int | None, changed: bool) -> Reference | None:
    """The reference of an environment; None for an unknown or a changed one (arguments, preprocessing, time limit)."""
    return None if changed else REFERENCES.get((env_id, max_episode_steps))
