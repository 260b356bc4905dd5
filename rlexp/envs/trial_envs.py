"""The training environments: one per trial.

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
    """The results of one lock-step; zero for trials that took no part.

    Attributes:
        r_t, terminated, truncated: of each trial.  # [N] each
        o_t: the last observation of an episode that ended, not the first of the next.  # [N, *shape]
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
    """N environments, one per trial, advanced in lock-step.

    Attributes:
        observation: the observation that each trial acts on next.  # [N, *shape]
        episode: finished episodes of each trial.  # [N]
        episode_return, episode_length: of the current episode.  # [N]
    """

    def __init__(self, settings: EnvSettings, info: EnvInfo, seeds: Sequence[int]) -> None:
        n = len(seeds)
        super().__init__(settings, info, n)
        self.seeds = list(seeds)
        self.observation = np.zeros((n, *info.observation.shape), info.observation.dtype)
        self.episode = np.zeros(n, np.int64)
        self.episode_return = np.zeros(n)
        self.episode_length = np.zeros(n, np.int64)
        self._actions: list[list[Any]] = [[] for _ in self.seeds]  # since reset: with the seed, the state
        self._warnings: list[str] = []  # not reported yet
        self._bounds: BoundsCheck | None = None
        self._name_calls()
        for k in range(n):
            self._make_env(k)
        if n and not self._broken.any():
            self._bounds = BoundsCheck(self._envs[0].observation_space, self.observation)
        for k in range(n):
            self._reset(k)
        self._check_bounds(self.observation.copy())

    def step(self, actions: np.ndarray, active: np.ndarray) -> Step:
        """Advance the active trials by one step; an episode that ends is reset at once.

        Args:
            actions: as the spec counts them, Discrete ones from 0.  # [N, *action shape]
            active: trials that take part.  # [N]
        """
        n = len(self.seeds)
        out, rewards = Step.empty(n, self.observation), [0.0] * n
        playing = (active & ~self._broken if self._faults else active).nonzero()[0].tolist()
        plain = actions.tolist()
        for k in playing:
            self._actions[k].append(plain[k])
        self.episode_length += active
        self._name_calls()
        ended = self._step_envs(actions, playing, out.o_t, rewards)
        self._check_sound(out.o_t, playing)
        for k, terminated, truncated in ended:
            out.terminated[k], out.truncated[k] = terminated, truncated
        for fault in self._faults:  # their last step does not count
            k = fault.trial
            out.o_t[k], rewards[k], out.terminated[k], out.truncated[k] = self.observation[k], 0.0, False, False
        added = np.array(rewards)
        self.episode_return += added
        out.r_t = added.astype(np.float32)
        if len(playing) == n:
            self.observation[:] = out.o_t
            self._check_bounds(out.o_t)
        else:
            self.observation[playing] = out.o_t[playing]
            self._check_bounds(self.observation.copy())
        if ended:
            self._begin_next([k for k, _, _ in ended if not self._broken[k]], out)
        if self._faults:
            out.faults = self._take_faults()
        if self._warnings:
            out.warnings, self._warnings = self._warnings, []
        return out

    def get_state(self) -> dict[str, Any]:
        """The position of every environment: episodes, the actions since their resets, and what came of these."""
        lengths = [len(actions) for actions in self._actions]
        spec = self._action
        flat = np.array([action for actions in self._actions for action in actions], spec.dtype)
        return {
            "episode": self.episode.copy(),
            "lengths": np.array(lengths),
            "broken": self._broken.copy(),
            "actions": flat.reshape(-1, *spec.shape),
            "observation": self.observation.copy(),
            "return": self.episode_return.copy(),
        }

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Bring every environment to the position of `get_state`, by playing the actions again.

        Returns:
            Trials where that led to another observation or return, bit for bit, or to the end of the episode: their
            environment is not deterministic, and the episode has been started again.  # [N] bool
        """
        ends, lost = np.cumsum(state["lengths"]), np.zeros(len(self.seeds), bool)
        self._broken[:], self.episode[:], self._faults = state["broken"], state["episode"], []
        self._name_calls()
        for k in np.flatnonzero(~self._broken).tolist():
            actions = state["actions"][ends[k] - state["lengths"][k] : ends[k]]
            over = self._play_again(k, actions)
            same = (
                self.episode_length[k] == len(actions)
                and not over
                and self.observation[k].tobytes() == state["observation"][k].tobytes()
                and self.episode_return[k].tobytes() == state["return"][k].tobytes()
            )
            if not same and not self._broken[k]:
                lost[k] = True
                self._reset(k)
        return lost

    def endless(self, k: int) -> Fault:
        """The fault of trial k, whose episode has taken too long."""
        self._report(k, "its episode has not ended by now, and the budget counts episodes; set env.max_episode_steps")
        return self._faults.pop()

    def close(self) -> list[str]:
        """Close all environments.

        Returns:
            What went wrong with that, and with the observations of the last steps.
        """
        self._warn_of_bounds()
        self._name_calls()
        closed: list[str] = []
        for k, env in self._envs.items():
            watch.number = k
            closed += [f"{self._place(k)}: {text}; its results are in" for text in close_all([env])]
        return [*self._warnings, *closed]

    def _place(self, j: int) -> str:
        where = f"{self._id}, trial seed {self.seeds[j]}, episode seed {self._episode_seed(j)}"
        return f"{where}, step {int(self.episode_length[j])}"

    def _episode_seed(self, k: int) -> int:
        return seeding.episode_seed(self.seeds[k], int(self.episode[k]))

    def _reset(self, k: int) -> None:
        self.episode_return[k] = self.episode_length[k] = 0
        self._actions[k] = []
        if not self._broken[k]:
            self._reset_env(k, self._episode_seed(k), self.observation)
        if self._broken[k]:  # its observation may be none
            self._bounds = None

    def _begin_next(self, ended: Sequence[int], out: Step) -> None:
        """Note the episodes that have ended, and begin the next."""
        for k in ended:
            out.finished.append((k, float(self.episode_return[k]), int(self.episode_length[k])))
            self.episode[k] += 1
            self._reset(k)
        if ended:
            self._check_bounds(self.observation.copy())

    def _play_again(self, k: int, played: np.ndarray) -> bool:
        """Play actions [T, *action shape] from trial k's last reset on; whether the episode has ended with one."""
        self._reset(k)
        actions = np.zeros((len(self.seeds), *self._action.shape), self._action.dtype)
        rewards = [0.0] * len(self.seeds)

        def report(j: int, problem: str, trace: str) -> None:
            self._report(j, f"played again for a resumed job, {problem}", trace)
            self._actions[j] = []

        for action in played:
            if self._broken[k]:
                break
            actions[k] = action
            self.episode_length[k] += 1
            over = self._step_envs(actions, [k], self.observation, rewards, report)
            if self._broken[k]:
                break
            self._actions[k].append(action.tolist())
            self.episode_return[k] += rewards[k]
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
