"""Probe environments: problems that train in seconds and have known answers, registered as `probes/<name>-v0` on import.

A learner that fails one of them is wrong, and each one tests a part of it: Identity (observations reach the network),
Bandit (rewards), DelayedReward (discount and bootstrap), TwoStateChain (all of these), TruncatedLoop and TerminatedLoop
(truncation bootstraps, termination does not), Blink (images and frame stacks), NaNReward (a diverging trial), KnownReturns
(the distribution of returns).

Each class with a known answer has `gamma`, `observations` [S, D], one row per state, and `q_star` [S, A], the optimal
action values of those rows. A step after the end of an episode and an action outside the space raise errors, so that the
probes also catch engines that forget to reset.

Axes: `S` states, `A` actions, `D` observation size.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

Reset = tuple[np.ndarray, dict[str, Any]]
Step = tuple[np.ndarray, float, bool, bool, dict[str, Any]]


class Probe(gym.Env[np.ndarray, Any]):
    """Base class. Two actions; the observation is the row of the state in `observations`."""

    observations: ClassVar[np.ndarray] = np.ones((1, 1), np.float32)  # [S, D]
    state: int
    num_steps: int  # of the current episode

    def __init__(self) -> None:
        self.action_space = spaces.Discrete(2)
        self.observation_space = spaces.Box(0.0, 1.0, self.observations.shape[1:], np.float32)
        self._over = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        super().reset(seed=seed)
        self.state, self.num_steps, self._over = self.first_state(), 0, False
        return self.observations[self.state].copy(), {}

    def step(self, action: Any) -> Step:
        if self._over:
            raise RuntimeError(f"{type(self).__name__}: step() after the end of the episode; call reset() first.")
        if not self.action_space.contains(action):
            raise ValueError(f"{type(self).__name__}: expected the action 0 or 1, received {action!r}.")
        self.num_steps += 1
        reward, terminated, truncated = self.transition(int(action))
        self._over = terminated or truncated
        return self.observations[self.state].copy(), reward, terminated, truncated, {}

    def first_state(self) -> int:
        return 0

    def transition(self, action: int) -> tuple[float, bool, bool]:
        """Moves `state` and returns reward, terminated, truncated; `num_steps` includes this step."""
        raise NotImplementedError


class Identity(Probe):
    """Reward 1 for the action that equals the state, which is random at each step; terminates after 10 steps.

    The next state does not depend on the action, so the actions of a state differ only in their reward:
    q*(s, s) - q*(s, 1 - s) = 1 for any discount. For gamma = 0, q*(s, a) = 1 if a == s else 0. For larger ones the
    values also depend on the number of remaining steps, which is not observed. The best return is 10; random play
    gets 5.
    """

    gamma = 0.0
    observations = np.eye(2, dtype=np.float32)
    q_star = np.array([[1.0, 0.0], [0.0, 1.0]])  # [S, A]

    def first_state(self) -> int:
        return int(self.np_random.integers(2))

    def transition(self, action: int) -> tuple[float, bool, bool]:
        reward = float(action == self.state)
        self.state = int(self.np_random.integers(2))
        return reward, self.num_steps == 10, False


class Bandit(Probe):
    """One step; the reward is the action: q*(a) = a for any discount."""

    gamma = 0.9
    q_star = np.array([[0.0, 1.0]])  # [S, A]

    def transition(self, action: int) -> tuple[float, bool, bool]:
        return float(action), True, False


class DelayedReward(Probe):
    """Two steps; the first action is the reward of the second step, whatever the second action is.

    States: 0 start, 1 after action 0, 2 after action 1. At the second step q*(1, .) = 0 and q*(2, .) = 1,
    then the episode terminates. At the first, q*(0, a) = 0 + gamma max q*(1 + a, .) = gamma a: 0 and 0.9 for
    gamma = 0.9.
    """

    gamma = 0.9
    observations = np.eye(3, dtype=np.float32)
    q_star = np.array([[0.0, 0.9], [0.0, 0.0], [1.0, 1.0]])  # [S, A]

    def transition(self, action: int) -> tuple[float, bool, bool]:
        if self.state == 0:
            self.state = 1 + action
            return 0.0, False, False
        return float(self.state == 2), True, False


class TwoStateChain(Probe):
    """Two states with different best actions; a wrong action costs time.

    State 0: action 0 stays, action 1 moves to state 1. State 1: action 0 terminates with reward 1, action 1
    goes back to state 0. All other rewards are 0; truncated after 20 steps.

    q*(1, 0) = 1 is the only reward, so v(1) = 1 and v(0) = gamma; then q*(0, 0) = gamma v(0) = gamma^2,
    q*(0, 1) = gamma v(1) = gamma, q*(1, 1) = gamma v(0) = gamma^2.
    """

    gamma = 0.9
    observations = np.eye(2, dtype=np.float32)
    q_star = np.array([[0.81, 0.9], [1.0, 0.81]])  # [S, A]

    def transition(self, action: int) -> tuple[float, bool, bool]:
        terminated = self.state == 1 and action == 0
        self.state = int(self.state == 0 and action == 1)
        return float(terminated), terminated, self.num_steps == 20 and not terminated


class TruncatedLoop(Probe):
    """One state, reward 1 per step, truncated after 10 steps, never terminated.

    The last step bootstraps like any other: q* = 1 + gamma q*, hence q* = 1 / (1 - gamma), 10 for gamma 0.9.
    A learner that treats truncation as termination does not bootstrap in one sample of ten: q = 1 + gamma (9 / 10) q
    is 5.26.
    """

    gamma = 0.9
    q_star = np.array([[10.0, 10.0]])  # [S, A]

    def transition(self, action: int) -> tuple[float, bool, bool]:
        return 1.0, False, self.num_steps == 10


class TerminatedLoop(Probe):
    """One state, reward 1, terminated after one step: q* = 1 for any discount.

    The observation after the end equals the one before it: a learner that bootstraps there gets 10.
    """

    gamma = 0.9
    q_star = np.array([[1.0, 1.0]])  # [S, A]

    def transition(self, action: int) -> tuple[float, bool, bool]:
        return 1.0, True, False


class Blink(Probe):
    """Images whose left or right half is lit at random; reward 1 for the right answer to whether the side has changed.

    Action 1 means that it has. One frame does not show it. With a stack of two and gamma = 0, q*(s, a) = 1 if a is right
    else 0. States: 2 * (side of the previous frame) + (current side), equal after a reset; terminated after 10 steps.
    """

    gamma = 0.0
    observations = np.zeros((4, 36, 36), np.uint8)  # [S, 36, 36]
    observations[[0, 2], :, :18] = observations[[1, 3], :, 18:] = 255
    q_star = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])  # [S, A]

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (36, 36), np.uint8)

    def first_state(self) -> int:
        return int(self.np_random.integers(2)) * 3

    def transition(self, action: int) -> tuple[float, bool, bool]:
        reward = float(action == (self.state in (1, 2)))
        self.state = 2 * (self.state % 2) + int(self.np_random.integers(2))
        return reward, self.num_steps == 10, False


class NaNReward(Probe):
    """Reward 1 per step, but `bad` after `after` steps of an episode that was reset with an even seed.

    To make one trial diverge and another not, choose trials whose episode seeds differ in parity, and make `length` the
    whole budget; with many episodes every trial eventually gets an even seed. Without a seed all rewards are 1.

    Args:
        after: number of good steps before the first bad reward. Default 5.
        length: steps in an episode, which ends by termination. Default 10.
        bad: the bad reward. Default NaN, which is refused in rewards; 1e38 is finite, but its square overflows float32.
    """

    def __init__(self, after: int = 5, length: int = 10, bad: float = math.nan) -> None:
        super().__init__()
        self.after, self.length, self.bad_reward = after, length, bad

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        self.bad = seed is not None and seed % 2 == 0
        return super().reset(seed=seed, options=options)

    def transition(self, action: int) -> tuple[float, bool, bool]:
        reward = self.bad_reward if self.bad and self.num_steps > self.after else 1.0
        return reward, self.num_steps == self.length, False


class TableProbe(gym.Env[int, int]):
    """A transition table, by the convention of Gymnasium's toy-text environments."""

    P: ClassVar[dict[int, dict[int, list[tuple[float, int, float, bool]]]]]
    initial_state_distrib: ClassVar[np.ndarray]  # [S]

    def __init__(self) -> None:
        self.observation_space, self.action_space = spaces.Discrete(2), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.s = int(self.np_random.choice(2, p=self.initial_state_distrib))
        return self.s, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        outcomes = self.P[self.s][int(action)]
        chosen = self.np_random.choice(len(outcomes), p=[outcome[0] for outcome in outcomes])
        _, self.s, reward, terminated = outcomes[chosen]
        return self.s, reward, terminated, False, {}


class TableChain(TableProbe):
    """`TwoStateChain` as a transition table."""

    gamma, q_star = TwoStateChain.gamma, TwoStateChain.q_star
    P: ClassVar = {
        0: {0: [(1.0, 0, 0.0, False)], 1: [(1.0, 1, 0.0, False)]},
        1: {0: [(1.0, 1, 1.0, True)], 1: [(1.0, 0, 0.0, False)]},
    }
    initial_state_distrib = np.array([1.0, 0.0])


class KnownReturns(TableProbe):
    """The distribution of returns is known: two points in the first state, geometric in the second, as a table.

    State 0: action 0 ends with 4 or, three times as often, with 0; action 1 ends with 1/2. State 1: each step has reward
    1, and action 0 ends with one half, so that without a discount its return is k with probability 2^-k; action 1 ends.
    """

    gamma = 1.0
    q_star = np.array([[1.0, 0.5], [2.0, 1.0]])  # [S, A]
    P: ClassVar = {
        0: {0: [(0.75, 0, 0.0, True), (0.25, 0, 4.0, True)], 1: [(1.0, 0, 0.5, True)]},
        1: {0: [(0.5, 1, 1.0, True), (0.5, 1, 1.0, False)], 1: [(1.0, 1, 1.0, True)]},
    }
    initial_state_distrib = np.array([0.5, 0.5])
    returns: ClassVar = [  # of a state and an action: return -> probability
        [{0.0: 0.75, 4.0: 0.25}, {0.5: 1.0}],
        [{float(k): 2.0**-k for k in range(1, 40)}, {1.0: 1.0}],
    ]

    @classmethod
    def quantiles(cls, state: int, action: int, taus: np.ndarray) -> np.ndarray:
        """The quantiles of the return at shares [K]."""
        found = cls.returns[state][action]
        ends = np.cumsum([*found.values()])
        return np.array([*found])[np.minimum(np.searchsorted(ends, taus), len(found) - 1)]

    @classmethod
    def cumulative(cls, state: int, action: int, points: np.ndarray) -> np.ndarray:
        """The probability of a return up to each of the points [K]."""
        return np.array([sum(p for z, p in cls.returns[state][action].items() if z <= point) for point in points])


PROBES: dict[str, type[Probe]] = {
    "probes/Identity-v0": Identity,
    "probes/Bandit-v0": Bandit,
    "probes/DelayedReward-v0": DelayedReward,
    "probes/TwoStateChain-v0": TwoStateChain,
    "probes/TruncatedLoop-v0": TruncatedLoop,
    "probes/TerminatedLoop-v0": TerminatedLoop,
    "probes/Blink-v0": Blink,
    "probes/NaNReward-v0": NaNReward,
}

for _id, _class in PROBES.items():
    if _id not in gym.registry:  # a second import under another name would warn
        # The checker would warn about each NaN reward, which this probe gives on purpose.
        gym.register(_id, entry_point=f"{__name__}:{_class.__name__}", disable_env_checker=_class is NaNReward)
for _table in (TableChain, KnownReturns):
    if (_id := f"probes/{_table.__name__}-v0") not in gym.registry:
        gym.register(_id, entry_point=f"{__name__}:{_table.__name__}", max_episode_steps=20)
