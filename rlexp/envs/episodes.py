"""Whole episodes with given reset seeds, for evaluations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rlexp.config.schema.env import EnvSettings
from rlexp.envs.faults import Fault
from rlexp.envs.guard import close_all
from rlexp.envs.info import EnvInfo
from rlexp.envs.lock_step import LockStep


class EpisodePlayer(LockStep):
    """Plays episodes, E at a time in each of N trials, all in lock-step.

    Args:
        settings, info: the environment.
        seeds: of the N trials, to name them.
        width: E, episodes of one trial that are played side by side.
        max_steps: an episode is cut here.

    Attributes:
        faults: of the last `play`.
    """

    def __init__(self, settings: EnvSettings, info: EnvInfo, seeds: Sequence[int], width: int, max_steps: int) -> None:
        super().__init__(settings, info, len(seeds), width)
        self._trial_seeds, self._max_steps = list(seeds), max_steps
        self._seeds: list[int] = []  # of the current episodes
        self._lengths = np.zeros(len(seeds) * width, np.int64)  # of the current episodes
        self._observation = np.zeros((len(seeds) * width, *info.observation.shape), info.observation.dtype)
        self.faults: list[Fault] = []

    def play(
        self, act: Callable[[np.ndarray], np.ndarray], seeds: Sequence[int], trials: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Play one episode per seed (at most E of them) in each chosen trial.

        Args:
            act: observations [N, E, *shape] -> actions [N, E, *action shape].
            seeds: reset seeds, the same for every trial.
            trials: which trials play.  # [N] bool

        Returns:
            Returns and lengths; NaN and 0 for trials that do not play, or whose environment has misbehaved, in
            this call (see `faults`) or before.  # [N, len(seeds)], [N, len(seeds)]
        """
        width, observation, num_trials = self._width, self._observation, len(self._trial_seeds)
        returns, lengths = np.full(len(observation), np.nan), np.zeros(len(observation), np.int64)
        self._seeds, self._lengths = list(seeds), lengths
        running = [int(k) * width + i for k in np.flatnonzero(trials & ~self._broken) for i in range(len(seeds))]
        self._name_calls()
        for j in running:
            if not self._broken[j // width]:
                self._reset_env(j, seeds[j % width], observation)
            returns[j] = 0.0
        rewards = [0.0] * len(observation)
        for _ in range(self._max_steps):
            if self._faults:
                running = [j for j in running if not self._broken[j // width]]
            if not running:
                break
            actions = act(observation.reshape(num_trials, width, *observation.shape[1:]))
            lengths[running] += 1
            over = self._step_envs(actions.reshape(-1, *self._action.shape), running, observation, rewards)
            returns[running] += [rewards[j] for j in running]
            self._check_sound(observation, running)
            ended = {j for j, _, _ in over}
            running = [j for j in running if j not in ended] if ended else running
        self.faults = self._take_faults()
        broken = np.repeat(self._broken, width)
        returns[broken], lengths[broken] = np.nan, 0
        by_trial = (num_trials, width)
        return returns.reshape(by_trial)[:, : len(seeds)], lengths.reshape(by_trial)[:, : len(seeds)]

    def close(self) -> list[str]:
        """Close all environments.

        Returns:
            What went wrong with that.
        """
        problems = close_all([*self._envs.values()])
        self.release()
        return [f"{self._id}, an evaluation's: {text}; its results are in" for text in problems]

    def _place(self, j: int) -> str:
        k, i = divmod(j, self._width)
        where = f"{self._id}, evaluation of trial seed {self._trial_seeds[k]}, episode seed {self._seeds[i]}"
        return f"{where}, step {self._lengths[j]}"
