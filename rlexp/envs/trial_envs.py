"""The training environments: one per trial, or several.

Every episode is reset with its own derived seed, so that nothing is shared between trials, and an environment's state
can be rebuilt from (episode seed, actions since reset). There is no autoreset: an episode that ends is reset by hand,
and its last observation is the one that is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlexp.config.schema.env import EnvSettings
from rlexp.data import seeding
from rlexp.envs.bounds import BoundsCheck
from rlexp.envs.faults import Fault
from rlexp.envs.guard import close_all
from rlexp.envs.info import EnvInfo
from rlexp.envs.lock_step import LockStep
from rlexp.envs.watchdog import watch


@dataclass
class Step:
    """The results of one lock-step; zero for trials and environments that took no part.

    With one environment per trial, arrays have no axis E.

    Attributes:
        r_t, terminated, truncated: of each environment.  # [N, E] each
        o_t: the last observation of an episode that ended, not the first of the next.  # [N, E, *shape]
        finished: (trial, return, length) of the episodes that ended.
        faults: of trials whose environment has misbehaved.
        warnings: problems of environments that can be used all the same.
    """

    r_t: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    o_t: np.ndarray
    finished: list[tuple[int, float, int]]
    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls, n: int, observation: np.ndarray) -> Step:
        """A step in which nothing has happened yet."""
        return cls(
            np.zeros(n, np.float32),
            np.zeros(n, bool),
            np.zeros(n, bool),
            np.zeros(observation.shape, observation.dtype),
            [],
        )


class TrialEnvs(LockStep):
    """The environments of N trials, E of each, advanced in lock-step.

    Environment `e` of trial `k` has the number `E k + e`. With one environment per trial, arrays have no axis E.

    Args:
        settings, info: the environment.
        seeds: of the trials.  # [N]
        num_envs: E.

    Attributes:
        observation: the observation that each environment's next action is for.  # [N, E, *shape]
        episode: finished episodes of each environment, by number.  # [N * E]
        episode_return, episode_length: of its current episode.  # [N * E]
    """

    def __init__(self, settings: EnvSettings, info: EnvInfo, seeds: Sequence[int], num_envs: int = 1) -> None:
        size = len(seeds) * num_envs
        super().__init__(settings, info, len(seeds), num_envs)
        self.seeds = list(seeds)
        self._observations = np.zeros((size, *info.observation.shape), info.observation.dtype)  # by number
        self.observation = self._by_trial(self._observations)
        self.episode = np.zeros(size, np.int64)
        self.episode_return = np.zeros(size)
        self.episode_length = np.zeros(size, np.int64)
        self._actions: list[list[Any]] = [[] for _ in range(size)]  # since reset: with the seed, the state
        self._warnings: list[str] = []  # not reported yet
        self._bounds: BoundsCheck | None = None
        self._name_calls()
        for j in range(size):
            self._make_env(j)
        if size and not self._broken.any():
            self._bounds = BoundsCheck(self._envs[0].observation_space, self._observations)
        for j in range(size):
            self._reset(j)
        self._check_bounds(self._observations.copy())

    def step(self, actions: np.ndarray, active: np.ndarray, num_envs: int | None = None) -> Step:
        """Advance the active trials by one step; an episode that ends is reset at once.

        Args:
            actions: as the spec counts them, Discrete ones from 0.  # [N, E, *action shape]
            active: trials that take part.  # [N]
            num_envs: how many environments of each take part, the first ones; None: all.
        """
        out, rewards = Step.empty(len(self._actions), self._observations), [0.0] * len(self._actions)
        trials = active & ~self._broken if self._faults else active
        if self._width > 1:
            actions = actions.reshape(-1, *self._action.shape)
            trials = np.repeat(trials, self._width)
            if num_envs is not None and num_envs < self._width:
                trials &= np.arange(len(trials)) % self._width < num_envs
        playing = trials.nonzero()[0].tolist()
        plain = actions.tolist()
        for j in playing:
            self._actions[j].append(plain[j])
        self.episode_length += trials
        self._name_calls()
        ended = self._step_envs(actions, playing, out.o_t, rewards)
        self._check_sound(out.o_t, playing)
        for j, terminated, truncated in ended:
            out.terminated[j], out.truncated[j] = terminated, truncated
        for fault in self._faults:  # the last step of their trials does not count
            for j in self._of_trial(fault.trial):
                out.o_t[j], rewards[j] = self._observations[j], 0.0
                out.terminated[j] = out.truncated[j] = False
        added = np.array(rewards)
        self.episode_return += added
        out.r_t = added.astype(np.float32)
        if len(playing) == len(self._actions):
            self._observations[:] = out.o_t
            self._check_bounds(out.o_t)
        else:
            self._observations[playing] = out.o_t[playing]
            self._check_bounds(self._observations.copy())
        if ended:
            self._begin_next([j for j, _, _ in ended if not self._broken[j // self._width]], out)
        if self._faults:
            out.faults = self._take_faults()
        if self._warnings:
            out.warnings, self._warnings = self._warnings, []
        if self._width > 1:
            for name in ("r_t", "terminated", "truncated", "o_t"):
                setattr(out, name, self._by_trial(getattr(out, name)))
        return out

    def get_state(self) -> dict[str, Any]:
        """The position of every environment: episodes, the actions since their resets, and what came of these."""
        lengths = [len(actions) for actions in self._actions]
        spec = self._action
        flat = np.array([action for actions in self._actions for action in actions], spec.dtype)
        return {
            "episode": self._by_trial(self.episode).copy(),
            "lengths": self._by_trial(np.array(lengths)),
            "broken": self._broken.copy(),
            "actions": flat.reshape(-1, *spec.shape),
            "observation": self.observation.copy(),
            "return": self._by_trial(self.episode_return).copy(),
        }

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Bring every environment to the position of `get_state`, by playing the actions again.

        Returns:
            Trials where that led to another observation or return, bit for bit, or to the end of the episode: their
            environment is not deterministic, and the episode has been started again.  # [N] bool
        """
        lengths, returns = state["lengths"].ravel(), state["return"].ravel()
        observations = state["observation"].reshape(self._observations.shape)
        ends, lost = np.cumsum(lengths), np.zeros(len(self.seeds), bool)
        self._broken[:], self.episode[:], self._faults = state["broken"], state["episode"].ravel(), []
        self._name_calls()
        for j in [j for k in np.flatnonzero(~self._broken).tolist() for j in self._of_trial(k)]:
            k, actions = j // self._width, state["actions"][ends[j] - lengths[j] : ends[j]]
            over = self._play_again(j, actions)
            same = (
                self.episode_length[j] == len(actions)
                and not over
                and self._observations[j].tobytes() == observations[j].tobytes()
                and self.episode_return[j].tobytes() == returns[j].tobytes()
            )
            if not same and not self._broken[k]:
                lost[k] = True
                self._reset(j)
        return lost

    def endless(self, k: int) -> Fault:
        """The fault of trial k, whose episode has taken too long."""
        self._report(
            max(self._of_trial(k), key=self.episode_length.__getitem__),
            "its episode has not ended by now, and the budget counts episodes; set env.max_episode_steps",
        )
        return self._faults.pop()

    def close(self) -> list[str]:
        """Close all environments.

        Returns:
            What went wrong with that, and with the observations of the last steps.
        """
        self._warn_of_bounds()
        self._name_calls()
        closed: list[str] = []
        for j, env in self._envs.items():
            watch.number = j
            closed += [f"{self._place(j)}: {text}; its results are in" for text in close_all([env])]
        self.release()
        return [*self._warnings, *closed]

    def _by_trial(self, values: np.ndarray) -> np.ndarray:
        """What belongs to environments, by trial: a view.  # [N * E, ...] -> [N, E, ...]"""
        return values if self._width == 1 else values.reshape(-1, self._width, *values.shape[1:])

    def _of_trial(self, k: int) -> range:
        """The numbers of trial k's environments."""
        return range(k * self._width, (k + 1) * self._width)

    def _place(self, j: int) -> str:
        k, e = divmod(j, self._width)
        which = f", environment {e}" if self._width > 1 else ""
        where = f"{self._id}, trial seed {self.seeds[k]}{which}, episode seed {self._episode_seed(j)}"
        return f"{where}, step {int(self.episode_length[j])}"

    def _episode_seed(self, j: int) -> int:
        k, e = divmod(j, self._width)
        return seeding.episode_seed(self.seeds[k], int(self.episode[j]), e)

    def _reset(self, j: int) -> None:
        self.episode_return[j] = self.episode_length[j] = 0
        self._actions[j] = []
        k = j // self._width
        if not self._broken[k]:
            self._reset_env(j, self._episode_seed(j), self._observations)
        if self._broken[k]:  # its observation may be none
            self._bounds = None

    def _begin_next(self, ended: Sequence[int], out: Step) -> None:
        """Note the episodes that have ended, and begin the next."""
        for j in ended:
            out.finished.append((j // self._width, float(self.episode_return[j]), int(self.episode_length[j])))
            self.episode[j] += 1
            self._reset(j)
        if ended:
            self._check_bounds(self._observations.copy())

    def _play_again(self, j: int, played: np.ndarray) -> bool:
        """Play actions [T, *action shape] from the last reset of an environment on; whether the episode has ended with
        one."""
        self._reset(j)
        k, size = j // self._width, len(self._actions)
        actions = np.zeros((size, *self._action.shape), self._action.dtype)
        rewards = [0.0] * size

        def report(j: int, problem: str, trace: str) -> None:
            self._report(j, f"played again for a resumed job, {problem}", trace)
            self._actions[j] = []

        for action in played:
            if self._broken[k]:
                break
            actions[j] = action
            self.episode_length[j] += 1
            over = self._step_envs(actions, [j], self._observations, rewards, report)
            if self._broken[k]:
                break
            self._actions[j].append(action.tolist())
            self.episode_return[j] += rewards[j]
            if over:
                return True
        return False

    def _check_bounds(self, observations: np.ndarray) -> None:
        """Compare observations with the bounds of their Box, once there are many.  # [N, *shape]"""
        if self._bounds is not None and not self._bounds.done:
            self._bounds.recent.append(observations)
            if len(self._bounds.recent) >= self._bounds.period:
                self._warn_of_bounds()

    def _warn_of_bounds(self) -> None:
        text = self._bounds.warning() if self._bounds is not None else None
        if text is not None:
            self._warnings.append(f"{self._id}: {text}")
