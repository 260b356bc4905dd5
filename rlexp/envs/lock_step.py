"""What training and evaluation share: environments stepped side by side, whose faults are collected, not raised."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from rlexp.config.schema.env import EnvSettings
from rlexp.envs.env_process import EnvProcesses
from rlexp.envs.faults import Fault, Misbehaved, shown
from rlexp.envs.guard import call, step_all
from rlexp.envs.info import EnvInfo
from rlexp.envs.making import make
from rlexp.envs.result_check import ResultCheck
from rlexp.envs.watchdog import watch


class LockStep(abc.ABC):
    """Environments of N trials. A trial plays no more once one of its environments has misbehaved; the others go on.

    Args:
        settings, info: the environment.
        num_trials: N.
        width: environments per trial; environment `j` belongs to trial `j // width`.
    """

    def __init__(self, settings: EnvSettings, info: EnvInfo, num_trials: int, width: int = 1) -> None:
        self._id, self._action, self._width = settings.id, info.action, width
        self._make: Callable[[int], Any] = lambda j: make(settings, tabular=info.tabular)
        self._processes: EnvProcesses | None = None
        if settings.workers > 1 and os.name == "posix":
            number = min(settings.workers, num_trials * width)
            self._processes = EnvProcesses(replace(settings, workers=1), info, number)
            self._make = self._processes.make
        self._check = ResultCheck(info)
        self._envs: dict[int, Any] = {}  # those that could be made
        self._broken = np.zeros(num_trials, bool)  # trials with a fault
        self._faults: list[Fault] = []  # not reported yet

    @abc.abstractmethod
    def _place(self, j: int) -> str:
        """Environment `j` in words: id, trial, episode and the step that it was last asked for."""

    def _name_calls(self) -> None:
        """Let the watchdog name the environments of this object."""
        watch.where = lambda: self._place(watch.number)

    def _make_env(self, j: int) -> None:
        watch.number = j
        try:
            self._envs[j] = call("__init__", self._make, j)
        except Misbehaved as fault:
            self._report(j, fault.text, fault.trace)

    def _reset_env(self, j: int, seed: int, observations: np.ndarray) -> None:
        """Begin an episode; its first observation goes to `observations[j]`."""
        watch.number = j
        if j not in self._envs:
            self._make_env(j)
        if self._broken[j // self._width]:
            return
        try:
            result = call("reset", partial(self._envs[j].reset, seed=seed))
            observations[j] = self._check.reset_result(result)
        except Misbehaved as fault:
            self._report(j, fault.text, fault.trace)

    def _step_envs(
        self,
        actions: np.ndarray,
        running: Sequence[int],
        observations: np.ndarray,
        rewards: list[float],
        report: Callable[[int, str, str], None] | None = None,
    ) -> list[tuple[int, bool, bool]]:
        """One step in each of some environments.

        Args:
            actions: of all environments.  # [N * width, *action shape]
            running: numbers of the environments that take a step.
            observations, rewards: where results are written.  # [N * width, *shape], [N * width]
            report: as `_report`, which is the default.

        Returns:
            Number, terminated and truncated of the episodes that have ended.
        """
        raw = list(self._action.to_env(actions))  # a list is read faster
        if self._processes is not None:
            return self._processes.step_all(raw, running, observations, rewards, report or self._report)
        return step_all(self._envs, raw, running, self._check, observations, rewards, report or self._report)

    def release(self) -> None:
        """Let processes of environments exit, if there are any; nothing is called after it."""
        if self._processes is not None:
            self._processes.release()

    def _check_sound(self, observations: np.ndarray, running: Sequence[int]) -> None:
        """Report running environments whose observations are unsound, and set these to zero.  # [N * width, *shape]"""
        if self._check.is_sound(observations):
            return
        for j in running:
            if not self._check.is_sound(observations[j : j + 1]):
                self._report(j, f"expected {self._check.expected}, received {shown(observations[j])}")
                observations[j] = 0

    def _report(self, j: int, problem: str, trace: str = "") -> None:
        """Note the first fault of environment `j`'s trial."""
        k = j // self._width
        if not self._broken[k]:
            self._faults.append(Fault(k, f"{self._place(j)}: {problem}", trace))
        self._broken[k] = True

    def _take_faults(self) -> list[Fault]:
        """The faults since the last call."""
        faults, self._faults = self._faults, []
        return faults
