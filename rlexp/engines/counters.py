"""Counters and status of the trials of a job.

Trials advance in lock-step, in which each of their E environments takes one env step: all that counts env steps counts
those of a trial over all its environments, and each active trial has taken exactly `t`. A trial that has spent its
budget, has diverged or has failed is masked, and never removed.

Axes: N trials, T lock-steps, E environments of a trial (arrays have no such axis where there is one).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlexp.config.schema.job import Settings
from rlexp.data.metrics import Window
from rlexp.engines.services import Progress
from rlexp.engines.trial_results import Episodes
from rlexp.envs.faults import Fault
from rlexp.envs.trial_envs import Step


class Counters:
    """What has happened to each trial.

    Attributes:
        t: env steps so far of each trial that still trains.
        num_envs: E.
        stepped: env steps of a trial in the latest lock-step: E, or what was left of the budget.
        active: trials that still train.  # [N] bool
        counts: env steps, finished episodes and updates.  # {"step" | "episode" | "update": [N]}
        status: "training", "done", "diverged" or "failed" (its environment broke its contract).  # N texts
        notes: why a trial diverged or failed; empty for the others.  # N texts
        traces: traceback of what a trial's environment raised in this process; empty for the others.  # N texts
        window: metrics since the last record.
        episodes: every training episode that has ended.

    Args:
        settings: of the job.
        progress: where diverged and failed trials are reported.
    """

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.settings, self._progress, n = settings, progress, settings.trials
        self.t = 0
        self.num_envs = self.stepped = getattr(settings.algo, "num_envs", 1)
        self.active = np.ones(n, bool)
        self.counts = {unit: np.zeros(n, np.int64) for unit in ("step", "episode", "update")}
        self.status, self.notes, self.traces = ["training"] * n, [""] * n, [""] * n
        self.window, self.episodes = Window(n), Episodes()
        self._finished = np.zeros(n, bool)
        self._masked = np.zeros(n, bool)  # since the last record: diverged and failed
        self._max_steps = settings.max_steps or 0  # 0: the budget counts episodes
        self._none_ended = np.full(n, np.nan)

    @property
    def width(self) -> int:
        """Env steps of a trial in the next lock-step: one of each environment, but what is left of the budget in the
        last: budgets are exact."""
        return min(self.num_envs, self._max_steps - self.t) if self._max_steps else self.num_envs

    def advance(self, step: Step) -> np.ndarray:
        """Count one lock-step of the active trials.

        Returns:
            The highest return of the episodes that ended with it, NaN where none has.  # [N]
        """
        self.stepped = self.width
        self.t += self.stepped
        self.counts["step"] += self.active if self.stepped == 1 else self.stepped * self.active
        if step.faults:
            self.fail(step.faults)
        if not step.finished:
            return self._none_ended
        ended = self._none_ended.copy()
        for k, episode_return, length in step.finished:
            if self._has_all_episodes(k):
                continue
            self.counts["episode"][k] += 1
            self.episodes.add(k, self.t, episode_return, length)
            ended[k] = episode_return if math.isnan(ended[k]) else max(ended[k], episode_return)
            if math.isfinite(episode_return):
                self.window.add_one("train/return", k, episode_return)
                self.window.add_one("train/length", k, length)
        return ended

    def advance_many(self, returns: np.ndarray, lengths: np.ndarray) -> None:
        """Count many lock-steps of the trials that are active in all of them.

        Args:
            returns: of the episodes that ended with each step.  # [T, N, E]
            lengths: env steps of those episodes, 0 where none ended; see `counted`.  # [T, N, E]
        """
        if not len(lengths):
            return
        ends = np.nonzero(lengths)  # in the order of time
        i, k, *_ = ends
        taken = self.num_envs * len(lengths)
        if self._max_steps:
            taken = min(taken, self._max_steps - self.t)
        if len(i):
            episode_returns, episode_lengths = returns[ends], lengths[ends]
            step = self.t + np.minimum(self.num_envs * (i + 1), taken)
            self.episodes.add_many(k, step, episode_returns, episode_lengths)
            done = np.isfinite(episode_returns)
            self.window.add_events("train/return", k[done], episode_returns[done])
            self.window.add_events("train/length", k[done], episode_lengths[done])
        self.stepped = taken - self.num_envs * (len(lengths) - 1)
        self.t += taken
        self.counts["step"] += taken * self.active
        self.counts["episode"] += np.bincount(k, minlength=len(self.active))

    def before_last(self, lengths: np.ndarray) -> dict[str, np.ndarray]:
        """The counts [N] before the lock-step that was counted last, as `Schedule` takes them.

        Args:
            lengths: as `advance_many` was given them.  # [T, N, E]
        """
        ended = (lengths[-1] > 0).reshape(len(self.active), -1).sum(axis=1)
        step = self.counts["step"] - self.stepped * self.active
        return {"step": step, "episode": self.counts["episode"] - ended, "update": self.counts["update"].copy()}

    def diverge(self, trials: np.ndarray, what: str) -> None:
        """Mask trials [N] bool whose numbers are no longer finite; `what` says which numbers."""
        for k in np.flatnonzero(trials & self.active):
            self.status[k], self.notes[k] = "diverged", f"{what} at env step {self.t}"
            self._progress.say(f"trial {self.settings.trial_name(int(k))} diverged: {self.notes[k]}; it is masked")
        self._masked |= trials & self.active
        self.active &= ~trials

    def fail(self, faults: Sequence[Fault]) -> None:
        """Mask trials whose environment broke its contract."""
        for fault in faults:
            k = fault.trial
            if self.status[k] in ("training", "done"):
                self.status[k], self.notes[k], self.traces[k] = "failed", fault.text, fault.trace
                self._progress.say(f"trial {self.settings.trial_name(k)} failed: {fault.text}; it is masked")
            self._masked[k] |= self.active[k]
            self.active[k] = False

    def finish(self, trials: np.ndarray) -> None:
        """Let trials [N] bool end at the next `housekeeping`, with budget left."""
        self._finished |= trials

    def crossed(self, period: int) -> bool:
        """Whether a period of env steps has ended with the latest lock-step."""
        return self.t % period < self.stepped

    def ending(self) -> np.ndarray:
        """Active trials that have spent their budget or have finished.  # [N] bool"""
        episodes = self.settings.budget.episodes
        if episodes is not None:
            return ((self.counts["episode"] >= episodes) | self._finished) & self.active
        if self.t >= self._max_steps:  # active trials have taken as many steps as there were lock-steps
            return self.active.copy()
        return self._finished & self.active

    def end(self, trials: np.ndarray) -> None:
        """Mark trials [N] bool as done."""
        for k in np.flatnonzero(trials):
            self.status[k] = "done"
        self.active &= ~trials

    def take_masked(self) -> np.ndarray:
        """Trials that have diverged or failed since the last call.  # [N] bool"""
        masked, self._masked = self._masked, np.zeros_like(self._masked)
        return masked

    def share_done(self) -> float:
        """Share of the budget that is spent."""
        budget = self.settings.budget
        if budget.episodes is not None:
            return float(self.counts["episode"].mean()) / budget.episodes
        return self.t / (self._max_steps or 1)

    def _has_all_episodes(self, k: int) -> bool:
        """Whether the budget of episodes is spent: what else ends with that lock-step does not count."""
        episodes = self.settings.budget.episodes
        return episodes is not None and bool(self.counts["episode"][k] >= episodes)

    def counted(self, lengths: np.ndarray) -> np.ndarray:
        """The lengths [T, N, E] of the episodes that ended with the next lock-steps, 0 for those that do not count:
        of environments beyond a budget of steps, and beyond one of episodes."""
        if self.num_envs == 1:
            return lengths
        ended, episodes = lengths > 0, self.settings.budget.episodes
        if self._max_steps:
            left = self._max_steps - self.t - self.num_envs * (len(lengths) - 1)  # for the last lock-step
            ended[-1, :, left:] = False
        if episodes is not None:
            by_trial = ended.swapaxes(0, 1).reshape(len(self.active), -1)  # [N, T * E]
            by_trial &= by_trial.cumsum(axis=1) <= (episodes - self.counts["episode"])[:, None]
            ended = by_trial.reshape(len(self.active), len(lengths), -1).swapaxes(0, 1)
        return lengths * ended

    def get_counters(self) -> dict[str, Any]:
        """The counters' part of a checkpoint."""
        return {
            "t": self.t,
            "active": self.active,
            "counts": self.counts,
            "status": self.status,
            "notes": self.notes,
            "window": self.window.get_state(),
            "episodes": self.episodes.table(),
        }

    def set_counters(self, state: dict[str, Any]) -> None:
        """Put back what `get_counters` returned; further keys are ignored."""
        self.t, self.active, self.counts = state["t"], state["active"], state["counts"]
        self.status, self.notes = state["status"], state["notes"]
        self.window.set_state(state["window"])
        self.episodes = Episodes(state["episodes"])
