"""What the family loops share: counters, budgets, masks, evaluation, records and checkpoints of N trials.

Trials advance in lock-step: after `t` iterations each active trial has taken exactly `t` env steps. A trial whose
budget is spent, or that has diverged, is masked, and never removed.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rlexp.config.schema.job import Settings
from rlexp.data.metrics import Window
from rlexp.engines.evaluation import BestWeights, Evaluator, Scores
from rlexp.envs import exact
from rlexp.envs.faults import Fault
from rlexp.envs.info import EnvInfo
from rlexp.envs.trial_envs import Step, TrialEnvs
from rlexp.system.stopping import Interrupted

LONGEST_EPISODE = 1_000_000  # env steps, where the budget counts episodes and the environment has no limit
MAX_RECORDS = 2_000  # of a metric of one trial, the scores at the end included, which have metrics of their own
RECORD_THINNING_START = (
    1_900  # records, where episodes are counted and more may come than there may be: the rest is for those
)


class Records(Protocol):
    """Where records go: a `metrics.Recorder`, or those of a group of jobs."""

    def write(self, steps: np.ndarray, metrics: Mapping[str, np.ndarray]) -> None:
        """One record of what the trials have measured after so many env steps: steps [N], name -> [N]."""

    def sync(self) -> Any:
        """Bring them to the disk; the position that a checkpoint keeps."""

    @property
    def digest(self) -> Any:
        """Of the records up to that position."""


class Saves(Protocol):
    """Where checkpoints go: a `checkpoint.Checkpoints`, or those of a group of jobs."""

    def due(self) -> bool:
        """Whether it is time for the next one."""

    def saving(self) -> AbstractContextManager[None]:
        """Around all that one costs, by which the next is due."""

    def save(self, step: int, state: dict[str, Any]) -> Any:
        """Write one."""


class Pruned(Exception):
    """A search has no use for the rest of the job: other candidates were better at this step."""

    def __init__(self, step: int) -> None:
        super().__init__(f"pruned at env step {step:,}")
        self.step = step


class Progress(Protocol):
    """What is shown to a person while a job runs."""

    def update(self, done: float, step: int, eval_return: np.ndarray) -> None:
        """done: share of the budget; step: env steps a trial; eval_return [N], NaN before the first evaluation."""

    def say(self, text: str) -> None:
        """Print one line."""

    def warn(self, text: str) -> None:
        """Print one warning."""


@dataclass
class Services:
    """What a loop needs from the job around it."""

    settings: Settings
    info: EnvInfo
    recorder: Records
    checkpoints: Saves
    progress: Progress
    stop: Callable[[], int | None]  # the signal that asked to stop, if any
    seconds: Callable[[], float]  # wall time spent on this job so far, earlier runs of it included
    prune: Callable[[int, float, np.ndarray], bool] | None = None  # asked at evaluations: step, share done, returns [N]


class Episodes:
    """Every training episode that has ended, in the order of time: millions of them on the fused engine.

    Args:
        table: the episodes so far, as `table` returned them.
    """

    def __init__(self, table: np.ndarray | None = None) -> None:
        self._parts = [] if table is None else [table]  # [M, 4] each
        self._rows: list[tuple[int, int, float, int]] = []  # not in a part yet

    def add(self, trial: int, step: int, episode_return: float, length: int) -> None:
        """One episode, and the step of its end."""
        self._rows.append((trial, step, episode_return, length))

    def add_many(self, trial: np.ndarray, step: np.ndarray, episode_return: np.ndarray, length: np.ndarray) -> None:
        """Many episodes.  # [M] each"""
        self._parts += [self._take_rows(), np.stack([trial, step, episode_return, length], axis=1, dtype=np.float64)]

    def table(self) -> np.ndarray:
        """Trial, step at the end, return and length of every episode.  # [M, 4] float64"""
        self._parts = [np.concatenate([*self._parts, self._take_rows()])]
        return self._parts[0]

    def _take_rows(self) -> np.ndarray:
        rows, self._rows = np.array(self._rows, np.float64).reshape(-1, 4), []
        return rows


@dataclass
class Results:
    """What trials have come to: all of a loop, or those of one job of a group.

    Attributes:
        params, score, step: the best weights [N, P], their score [N], env steps of the trial when they had it [N].
        counts, status, notes, restarts, traces: as in `Trials`.
        episodes: as `Episodes.table` has them, trials counted from the first of these.  # [M, 4]
        candidate_return: of the best weights in the second look that chose them, NaN where there was none.  # [N]
        value: the expected return of the best weights where it is known exactly, else None.  # [N]
        optimum: that of the best policy, where it is known.
    """

    params: np.ndarray
    score: np.ndarray
    step: np.ndarray
    counts: dict[str, np.ndarray]
    status: list[str]
    notes: list[str]
    restarts: np.ndarray
    traces: list[str]
    episodes: np.ndarray
    candidate_return: np.ndarray
    value: np.ndarray | None
    optimum: float | None


class Trials:
    """Counters and housekeeping of the trials of one job.

    Attributes:
        t: iterations so far.
        active: trials that still train.  # [N] bool
        counts: env steps, finished episodes and updates of each trial.  # {"step" | "episode" | "update": [N]}
        best: the chosen weights.
        episodes: every training episode that has ended.
        status: of each trial: "training", "done", "diverged" or "failed" (its environment has misbehaved).
        restarted: trials whose episode was started again when this process went on from a checkpoint, since their
            environment is not deterministic: loops forget what they hold of the episode under way.  # [N] bool
        restarts: how often that has happened to each trial.  # [N]
        traces: of each trial: the traceback of what its environment raised in this process, if it did.
        optimum: the expected return of the best policy, where it is known: evaluations then log `eval/regret`.
        candidate_return, value: see `Results`.

    Args:
        services: the job around the trials.
        initial_params: the trials' weights.  # [N, P]
        envs, evaluator: the engine's own; by default the host's, one Gymnasium environment a trial.
    """

    def __init__(self, services: Services, initial_params: np.ndarray, envs: Any = None, evaluator: Any = None) -> None:
        self.services, settings = services, services.settings
        self.settings, n = settings, settings.trials
        self.envs = envs or TrialEnvs(settings.env, services.info, settings.seeds)
        self.evaluator = evaluator or Evaluator(settings, services.info, services.stop)
        self.t = 0
        self.active = np.ones(n, bool)
        self.counts = {unit: np.zeros(n, np.int64) for unit in ("step", "episode", "update")}
        self.status = ["training"] * n
        self.notes: list[str] = [""] * n
        self.traces = [""] * n
        self.restarted = np.zeros(n, bool)
        self.restarts = np.zeros(n, np.int64)
        several = settings.evaluation.selection == "eval" and initial_params.shape[1] > 0
        self.best = BestWeights(initial_params, settings.evaluation.candidates if several else 1)
        self.window = Window(n)
        self.episodes = Episodes()
        self.eval_return = np.full(n, np.nan)
        self.optimum: float | None = None
        self.candidate_return = np.full(n, np.nan)
        self.value: np.ndarray | None = None
        self._diverged_now = np.zeros(n, bool)
        self._finished_now = np.zeros(n, bool)
        limited = settings.budget.episodes is None or services.info.max_episode_steps is not None
        self._records = RecordSteps(
            log_period(settings, services.info),
            settings.evaluation.period,
            most_steps(settings, services.info) if limited else None,
            exact=settings.max_steps is not None,
        )
        self._may_be_endless = envs is None and not limited

    def advance(self, step: Step) -> np.ndarray:
        """Count one lock-step of the active trials; the returns of episodes that ended, NaN elsewhere.  # [N]"""
        self.t += 1
        self.counts["step"] += self.active
        ended = np.full(len(self.active), np.nan)
        for k, episode_return, length in step.finished:
            self.counts["episode"][k] += 1
            self.episodes.add(k, self.t, episode_return, length)
            ended[k] = episode_return
        if step.finished:
            done = np.isfinite(ended)
            lengths = np.zeros(len(done))
            lengths[[k for k, _, _ in step.finished]] = [length for _, _, length in step.finished]
            self.window.add("train/return", ended, done)
            self.window.add("train/length", lengths, done)
        if step.faults:
            self.fail(step.faults)
        for warning in step.warnings:
            self.services.progress.warn(warning)
        if self._may_be_endless and self.envs.episode_length.max() >= LONGEST_EPISODE:
            long = self.active & (self.envs.episode_length >= LONGEST_EPISODE)
            self.fail([self.envs.endless(int(k)) for k in np.flatnonzero(long)])
        return ended

    def advance_many(self, returns: np.ndarray, lengths: np.ndarray) -> None:
        """Count many lock-steps of the trials that are active in all of them.

        Args:
            returns: of the episodes that ended with each step.  # [T, N]
            lengths: env steps of those episodes, 0 where none ended.  # [T, N]
        """
        i, k = np.nonzero(lengths)  # in the order of time
        if len(i):
            episode_returns, episode_lengths = returns[i, k], lengths[i, k]
            self.episodes.add_many(k, self.t + i + 1, episode_returns, episode_lengths)
            done = np.isfinite(episode_returns)
            self.window.add_events("train/return", k[done], episode_returns[done])
            self.window.add_events("train/length", k[done], episode_lengths[done])
        self.t += len(lengths)
        self.counts["step"] += len(lengths) * self.active
        self.counts["episode"] += np.bincount(k, minlength=len(self.active))

    def advance_call(
        self,
        returns: np.ndarray,
        lengths: np.ndarray,
        broken_at: np.ndarray,
        what: str,
        scalars: Callable[[int], Mapping[str, np.ndarray]],
    ) -> None:
        """Count the lock-steps of a call, in which trials may have diverged.

        Each of those is masked, and its record written, at the step where that happened: it does not matter where
        calls end.

        Args:
            returns, lengths: see `advance_many`.  # [T, N]
            broken_at: with which lock-step each trial has diverged, from 1 on; more than T where it has not.  # [N]
            what: has happened then.
            scalars: the agent's scheduled scalars after so many lock-steps.  # name: [N]
        """
        done, taken = 0, len(lengths)
        for step in np.unique(broken_at[broken_at <= taken]).tolist():
            self.advance_many(returns[done:step], lengths[done:step])
            self.diverge(broken_at == step, what)
            if step < taken:  # else `housekeeping` writes it
                self._record_diverged(scalars(step))
            done = step
            if not self.active.any():
                return
        self.advance_many(returns[done:], lengths[done:])

    def steps_left(self) -> int:
        """Lock-steps until `housekeeping` has something to do: an evaluation, a record, or the end of the budget."""
        periods = (self.settings.evaluation.period, self._records.log_period)
        ends = [period - self.t % period for period in periods]
        if self.settings.max_steps is not None:
            ends.append(self.settings.max_steps - self.t)
        return min(ends)

    def diverge(self, trials: np.ndarray, what: str) -> None:
        """Mask trials [N] bool whose numbers are no longer finite."""
        for k in np.flatnonzero(trials & self.active):
            self.status[k] = "diverged"
            self.notes[k] = f"{what} at env step {self.t}"
            self.services.progress.say(
                f"trial {self.settings.trial_name(int(k))} diverged: {self.notes[k]}; it is masked"
            )
        self._diverged_now |= trials & self.active
        self.active &= ~trials

    def _record_diverged(self, scalars: Mapping[str, np.ndarray]) -> None:
        """Close the windows of trials that have just diverged, where `housekeeping` is not due at this step."""
        over, self._diverged_now = self._diverged_now, np.zeros_like(self._diverged_now)
        self._record(scalars, over)

    def fail(self, faults: Sequence[Fault]) -> None:
        """Mask trials whose environment has misbehaved."""
        for fault in faults:
            k = fault.trial
            if self.status[k] in ("training", "done"):
                self.status[k], self.notes[k] = "failed", fault.text
                self.services.progress.say(f"trial {self.settings.trial_name(k)} failed: {fault.text}; it is masked")
                self.traces[k] = fault.trace
            self._diverged_now[k] |= self.active[k]
            self.active[k] = False

    def finish(self, trials: np.ndarray) -> None:
        """Trials [N] bool that have nothing more to do, with budget left."""
        self._finished_now |= trials

    def housekeeping(
        self,
        policy: Any,
        params: Callable[[], np.ndarray],
        scalars: Mapping[str, np.ndarray],
        get_state: Callable[[], dict[str, Any]],
    ) -> None:
        """Everything between two steps that is not learning: budgets, evaluation, records, checkpoints, signals.

        Args:
            policy: what the engine's evaluator plays.
            params: the trials' weights now.  # [N, P]
            scalars: the agent's scheduled scalars at this step.  # name: [N]
            get_state: the loop's own part of a checkpoint.
        """
        budget = self.settings.budget
        spent = (
            self.counts["episode"] >= budget.episodes
            if budget.episodes is not None
            else self.counts["step"] >= (self.settings.max_steps or 0)
        )
        spent = (spent | self._finished_now) & self.active
        period = self.settings.evaluation.period
        trained = self.active.copy()
        due = trained if self.t % period == 0 else spent
        if due.any():
            self._evaluate(policy, params, due)
        over = spent | self._diverged_now  # their windows close now, not when the next record is due
        self._diverged_now = np.zeros_like(spent)
        spent &= self.active
        for k in np.flatnonzero(spent):
            self.status[k] = "done"
        self.active &= ~spent
        together = self._records.due(self.t)
        if together or over.any():
            self._record(scalars, trained | over if together else over)
        self._show()
        prune, pruned = self.services.prune, False
        if prune is not None and self.t % period == 0:  # also where nothing is left to prune: others compare with it
            pruned = prune(self.t, self._share(), self.eval_return) and bool(self.active.any())
        signum = self.services.stop()
        if signum is not None or pruned or self.services.checkpoints.due():
            self.save(get_state)
        if signum is not None:
            raise Interrupted(signum)
        if pruned:
            raise Pruned(self.t)

    def final(self, policy: Callable[[np.ndarray], Any]) -> Scores:
        """Choose the best weights among their candidates, and score them on fresh episodes; the last record.

        Args:
            policy: weights [N, P] -> the policy that they make, as the engine's evaluator takes it.
        """
        if self.best.scores.shape[1] > 1:
            self.candidate_return = self.best.choose(
                lambda params, trials: self._without_failed(
                    self.evaluator.candidates(policy(params), trials)
                ).returns.mean(axis=1)
            )
        best = policy(self.best.params)
        scores: Scores = self._without_failed(self.evaluator.final(best))
        failed = np.array([status == "failed" for status in self.status])
        scores.returns[failed], scores.lengths[failed] = np.nan, 0  # of an environment that nobody can believe
        metrics = {
            "final/return": scores.returns.mean(axis=1),
            "final/length": np.where(failed, np.nan, scores.lengths.mean(axis=1)),
        }
        self._value_exactly(best)
        if self.value is not None:
            self.value[failed] = np.nan
            metrics["final/value"] = self.value
        self.services.recorder.write(self.counts["step"], metrics)
        return scores

    def _value_exactly(self, policy: Any) -> None:
        """The expected return of the best weights, where the environment is a table and their policy draws nothing."""
        if self.settings.evaluation.policy == "sampled" or self.best.params.shape[1] == 0:
            return
        act = self.evaluator.acting(policy)(0)
        found = exact.returns(self.settings, self.services.info, act, len(self.active))
        if found is not None:
            self.value, self.optimum = found

    def results(self, part: slice) -> Results:
        """What some of the trials have come to, numbered from 0."""
        first, end, _ = part.indices(len(self.active))
        episodes = self.episodes.table()
        mine = (episodes[:, 0] >= first) & (episodes[:, 0] < end)
        return Results(
            self.best.params[part],
            self.best.scores[part, 0],
            self.best.steps[part, 0],
            {unit: count[part] for unit, count in self.counts.items()},
            self.status[part],
            self.notes[part],
            self.restarts[part],
            self.traces[part],
            episodes[mine] - [first, 0, 0, 0],
            self.candidate_return[part],
            None if self.value is None else self.value[part],
            self.optimum,
        )

    def close(self) -> None:
        """Close the environments; what they do wrong then changes no result."""
        for warning in dict.fromkeys([*(self.envs.close() or ()), *(self.evaluator.close() or ())]):
            self.services.progress.warn(warning)

    def save(self, get_state: Callable[[], dict[str, Any]]) -> None:
        """Write a checkpoint of the trials and of their loop; a large one may take longer to collect than to write."""
        with self.services.checkpoints.saving():
            position = self.services.recorder.sync()
            own = {
                "t": self.t,
                "seconds": self.services.seconds(),
                "position": position,
                "digest": self.services.recorder.digest,
                "active": self.active,
                "counts": self.counts,
                "status": self.status,
                "notes": self.notes,
                "restarts": self.restarts,
                "best": self.best.get_state(),
                "window": self.window.get_state(),
                "episodes": self.episodes.table(),
                "eval_return": self.eval_return,
                "envs": self.envs.get_state(),
            }
            self.services.checkpoints.save(self.t, {"trials": own, "loop": get_state()})

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the "trials" part of a checkpoint."""
        self.t, self.active, self.eval_return = state["t"], state["active"], state["eval_return"]
        self.counts, self.status, self.notes = state["counts"], state["status"], state["notes"]
        self.best.set_state(state["best"])
        self.window.set_state(state["window"])
        self.episodes = Episodes(state["episodes"])
        self.restarted = self.envs.set_state(state["envs"]) & self.active
        self.restarts = state["restarts"] + self.restarted
        if self.restarted.any():
            names = ", ".join(self.settings.trial_name(int(k)) for k in np.flatnonzero(self.restarted))
            self.services.progress.say(
                f"{self.settings.env.id} is not deterministic: its episodes under way in trials {names} did not come "
                "back when they were played again, and start anew; this job is not the one that was not interrupted"
            )

    def _without_failed(self, scores: Scores) -> Scores:
        """Scores, once the trials whose environments have misbehaved in them are masked."""
        self.fail(scores.faults)
        return scores

    def _evaluate(self, policy: Any, params: Callable[[], np.ndarray], trials: np.ndarray) -> None:
        scores = self._without_failed(self.evaluator.periodic(policy, trials))
        trials = trials & [status != "failed" for status in self.status]
        returns = scores.returns.mean(axis=1)
        self.eval_return = np.where(trials, returns, self.eval_return)
        self.window.add("eval/return", returns, trials)
        self.window.add("eval/length", scores.lengths.mean(axis=1), trials)
        if self.optimum is not None:
            self.window.add("eval/regret", self.optimum - returns, trials)
        if self.settings.evaluation.selection == "last":
            self.best.take(trials, returns, params(), self.counts["step"])
        elif self.settings.evaluation.selection == "eval":
            self.best.offer(np.where(trials, returns, np.nan), params, self.counts["step"])

    def _record(self, scalars: Mapping[str, np.ndarray], trials: np.ndarray) -> None:
        metrics = self.window.flush(trials)
        for name, values in scalars.items():
            metrics[f"train/{name}"] = np.where(trials, values, np.nan)
        if metrics:
            self.services.recorder.write(self.counts["step"], metrics)

    def _show(self) -> None:
        self.services.progress.update(self._share(), self.t, self.eval_return)

    def _share(self) -> float:
        """How much of the budget is done."""
        budget = self.settings.budget
        if budget.episodes is not None:
            return float(self.counts["episode"].mean()) / budget.episodes
        return self.t / (self.settings.max_steps or 1)


class RecordSteps:
    """The steps at which all trials are recorded: each log period and each evaluation, as far as `MAX_RECORDS` goes.

    Where it does not, evaluations are told of in fewer records, each the mean of those since the one before: a tracking
    server cannot show a million points, and takes longer for them than the training took. One record of a trial beside
    these is for its end, at whatever step that is. Where it is not known before how many steps there will be, all are
    recorded at first, so that a job that turns out short is recorded like any other.

    Args:
        log_period: env steps of a trial between two records.
        period: env steps of a trial between two evaluations.
        most: env steps that a trial takes at most; None where there is no bound.
        exact: whether a trial takes as many, unless it diverges.

    Attributes:
        told_period: env steps between two records of evaluations: `period`, or a multiple.
        dense: up to this step all of those are recorded, and fewer from there on; None: they all are.
    """

    def __init__(self, log_period: int, period: int, most: int | None, exact: bool) -> None:
        self.log_period, self.told_period, self.dense = log_period, period, None
        self._every: int | None = None  # log periods between two records after `dense`; None: ever more
        if most is not None and self.count(most) + (not self.due(most)) <= MAX_RECORDS:
            return
        if most is not None and exact:
            room = MAX_RECORDS - math.ceil(most / log_period)
            self.told_period = (most // ((room + 1) * period) + 1) * period  # the least that makes `room` or fewer
            return
        # The least step with so many; each log period has one, so that it is found in as many of them.
        self.dense = bisect.bisect_left(
            range(RECORD_THINNING_START * log_period), RECORD_THINNING_START, key=self.count
        )
        if most is not None:
            rest = most // log_period - self.dense // log_period
            self._every = max(math.ceil(rest / (MAX_RECORDS - RECORD_THINNING_START - 1)), 1)

    def due(self, t: int) -> bool:
        """Whether step `t` is one of them."""
        if self.dense is None or t <= self.dense:
            return t % self.told_period == 0 or t % self.log_period == 0
        number, left = divmod(t, self.log_period)
        every = self._every or 1 << max(number.bit_length() - 3, 0)  # four while the steps double
        return left == 0 and number % every == 0

    def count(self, t: int) -> int:
        """How many there are from step 1 to `t`, where all are recorded."""
        a, b = self.told_period, self.log_period
        return t // a + t // b - t // math.lcm(a, b)


def log_period(settings: Settings, info: EnvInfo) -> int:
    """Env steps of a trial between two records."""
    return math.ceil(most_steps(settings, info) / settings.log.points)


def most_steps(settings: Settings, info: EnvInfo) -> int:
    """Env steps that a trial may take; an episode without a limit counts as 1,000."""
    if settings.max_steps is not None:
        return settings.max_steps
    return (settings.budget.episodes or 1) * (info.max_episode_steps or 1_000)
