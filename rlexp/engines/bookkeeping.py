"""What the loops of all families share: everything between two lock-steps that is not learning.

Axes: N trials, P parameters of a trial, T lock-steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from rlexp.data.checkpoint import State
from rlexp.engines import parts
from rlexp.engines.best_weights import BestWeights
from rlexp.engines.counters import Counters
from rlexp.engines.evaluation import EpisodeScorer, Evaluator, Scores
from rlexp.engines.record_steps import RecordSteps, log_period, most_steps
from rlexp.engines.services import Pruned, Services
from rlexp.engines.trial_results import Results
from rlexp.envs import exact
from rlexp.envs.trial_envs import Step, TrialEnvs
from rlexp.system.stopping import Interrupted

LONGEST_EPISODE = 1_000_000  # env steps, where the budget counts episodes and the environment has no limit


class Environments(Protocol):
    """The environments of N trials: `TrialEnvs` on the host engine, `TensorEnvs` on the fused engine."""

    def get_state(self) -> dict[str, Any]:
        """The state of every trial's environment.  # [N, ...] each"""

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Put back what `get_state` returned; returns the trials whose episode had to start again.  # [N] bool"""

    def close(self) -> list[str]:
        """Close the environments; returns what went wrong."""

    def release(self) -> None:
        """Let processes of environments exit, if there are any."""


class Trials(Counters):
    """Counters of N trials, with their evaluation, records and checkpoints.

    Attributes:
        evaluator: plays evaluation episodes.
        best: the weights that the selection rule prefers.
        eval_return: the latest evaluation of each trial, NaN before the first one.  # [N]
        optimum: expected return of the best policy, where it is known; evaluations then log `eval/regret`.
        restarted: trials whose episode was started again when this process continued from a checkpoint, because their
            environment is not deterministic; loops drop what they hold of the episode under way.  # [N] bool
        restarts: how often that has happened to each trial.  # [N]
        candidate_return, value: see `Results`.

    Args:
        services: the job around the trials.
        initial_params: the trials' weights.  # [N, P]
        envs, evaluator: of the engine; default: those of the host engine, with Gymnasium environments.
    """

    def __init__(
        self,
        services: Services,
        initial_params: np.ndarray,
        envs: Environments | None = None,
        evaluator: EpisodeScorer | None = None,
    ) -> None:
        settings, n = services.settings, services.settings.trials
        super().__init__(settings, services.progress)
        self.services = services
        self._envs: Environments = envs or TrialEnvs(settings.env, services.info, settings.seeds, self.num_envs)
        self.evaluator: EpisodeScorer = evaluator or Evaluator(
            settings, services.info, services.stop, services.progress.phase
        )
        self.restarted, self.restarts = np.zeros(n, bool), np.zeros(n, np.int64)
        several = settings.evaluation.selection == "eval" and initial_params.shape[1] > 0
        self.best = BestWeights(initial_params, settings.evaluation.candidates if several else 1)
        self.eval_return, self.candidate_return = np.full(n, np.nan), np.full(n, np.nan)
        self.optimum: float | None = None
        self.value: np.ndarray | None = None
        limited = settings.budget.episodes is None or services.info.max_episode_steps is not None
        self._record_steps = RecordSteps(
            log_period(settings, services.info),
            settings.evaluation.period,
            most_steps(settings, services.info) if limited else None,
            exact=settings.max_steps is not None,
        )
        self._evaluated: int | None = None  # env step of an evaluation that the search has not seen
        self._may_be_endless = envs is None and not limited

    @property
    def envs(self) -> TrialEnvs:
        """The environments of the host engine."""
        assert isinstance(self._envs, TrialEnvs), "loops of the fused engine have environments of their own"
        return self._envs

    def advance(self, step: Step) -> np.ndarray:
        """As in `Counters`; also shows the step's warnings and fails trials whose episode never ends."""
        ended = super().advance(step)
        for warning in step.warnings:
            self.services.progress.warn(warning)
        if self._may_be_endless and self.envs.episode_length.max() >= LONGEST_EPISODE:
            longest = self.envs.episode_length.reshape(len(self.active), -1).max(axis=1)
            endless = self.active & (longest >= LONGEST_EPISODE)
            self.fail([self.envs.endless(int(k)) for k in np.flatnonzero(endless)])
        return ended

    def advance_call(
        self,
        returns: np.ndarray,
        lengths: np.ndarray,
        broken_at: np.ndarray,
        what: str,
        scalars: Callable[[int], Mapping[str, np.ndarray]],
    ) -> None:
        """Count the lock-steps of one call of a fused program, in which trials may have diverged.

        A diverged trial is masked, and its record written, at the step where it diverged: records do not depend on
        where calls end.

        Args:
            returns, lengths: see `advance_many`.  # [T, N]
            broken_at: lock-step in which each trial diverged, counted from 1; more than T where it did not.  # [N]
            what: which numbers were not finite.
            scalars: the scheduled scalars to record after so many lock-steps.  # name: [N]
        """
        done, taken = 0, len(lengths)
        for step in np.unique(broken_at[broken_at <= taken]).tolist():
            self.advance_many(returns[done:step], lengths[done:step])
            self.diverge(broken_at == step, what)
            if step < taken:  # otherwise `housekeeping` writes it
                self._record(scalars(step), self.take_masked())
            done = step
            if not self.active.any():
                return
        self.advance_many(returns[done:], lengths[done:])

    def steps_left(self) -> int:
        """Lock-steps until `housekeeping` is due: an evaluation, a record, an agreed checkpoint, the end."""
        periods = (self.settings.evaluation.period, self._record_steps.log_period)
        ends = [period - self.t % period for period in periods]
        if self.settings.max_steps is not None:
            ends.append(self.settings.max_steps - self.t)
        if (agreed := self.services.checkpoints.agreed()) is not None:
            ends.append(agreed - self.t)
        return math.ceil(min(ends) / self.num_envs)

    def housekeeping(
        self,
        policy: Any,
        params: Callable[[], np.ndarray],
        scalars: Mapping[str, np.ndarray],
        get_state: Callable[[], dict[str, Any]],
    ) -> None:
        """Everything between two lock-steps that is not learning: budgets, evaluation, records, checkpoints, signals.

        Args:
            policy, params, scalars: see `attend`.
            get_state: returns the loop's part of a checkpoint.

        Raises:
            Interrupted: after a signal, once a checkpoint is written.
            Pruned: when the search ends the job, once a checkpoint is written.
        """
        self.attend(policy, params, scalars)
        evaluated, self._evaluated = self._evaluated, None
        self.services.progress.update(self.share_done(), self.t, self.eval_return)
        prune, pruned = self.services.prune, False
        if prune is not None and evaluated:  # also when nothing is left to prune: other candidates compare with it
            pruned = prune(evaluated, self.share_done(), self.eval_return) and bool(self.active.any())
        signum = self.services.stop()
        if signum is not None or pruned or self.services.checkpoints.due():
            self.save(get_state)
        if signum is not None:
            raise Interrupted(signum)
        if pruned:
            raise Pruned(evaluated or self.t)

    def attend(self, policy: Any, params: Callable[[], np.ndarray], scalars: Mapping[str, np.ndarray]) -> None:
        """What of `housekeeping` belongs to one lock-step: budgets, evaluation, records.

        Args:
            policy: the trials' policy now, of the kind that the engine's evaluator plays.
            params: returns the trials' weights now.  # [N, P]
            scalars: the scheduled scalars to record.  # name: [N]
        """
        evaluation_due = self.crossed(self.settings.evaluation.period)
        together = self._record_steps.due(self.t, self.stepped)
        ending = self.ending()
        if evaluation_due or together or np.count_nonzero(ending | self._masked):  # seldom
            trained = self.active.copy()
            due = trained if evaluation_due else ending
            if due.any():
                self._evaluate(policy, params, due)
            over = ending | self.take_masked()  # their windows close now, not when the next record is due
            self.end(ending & self.active)
            if together or over.any():
                self._record(scalars, trained | over if together else over)
        if evaluation_due:
            self._evaluated = self.t

    def final(self, policy: Callable[[np.ndarray], Any]) -> Scores:
        """Choose the best weights among their candidates, score them on fresh episodes, and write the last record.

        Args:
            policy: makes a policy, of the kind that the engine's evaluator plays, from weights [N, P].
        """
        if (candidates := self.best.scores.shape[1]) > 1:
            looked_at = itertools.count()

            def score(params: np.ndarray, trials: np.ndarray) -> np.ndarray:
                self.services.progress.phase("second look at the best weights", next(looked_at), candidates)
                return self._without_failed(self.evaluator.candidates(policy(params), trials)).returns.mean(axis=1)

            self.candidate_return = self.best.choose(score)
        best = policy(self.best.params)
        scores = self._without_failed(self.evaluator.final(best))
        failed = np.array([status == "failed" for status in self.status])
        scores.returns[failed], scores.lengths[failed] = np.nan, 0  # a failed environment's episodes prove nothing
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

    def results(self) -> Results:
        """The results of all trials."""
        return Results(
            self.best.params,
            self.best.scores[:, 0],
            self.best.steps[:, 0],
            self.counts,
            self.status,
            self.notes,
            self.restarts,
            self.traces,
            self.episodes.table(),
            self.candidate_return,
            self.value,
            self.optimum,
        )

    def close(self) -> None:
        """Close the environments; what goes wrong then is shown as a warning and changes no result."""
        for warning in dict.fromkeys([*self._envs.close(), *self.evaluator.close()]):
            self.services.progress.warn(warning)

    def release(self) -> None:
        """Let go of processes of environments, whatever has happened."""
        self._envs.release()
        self.evaluator.release()

    def save(self, get_state: Callable[[], dict[str, Any]]) -> None:
        """Write a checkpoint of the trials and of their loop."""
        with self.services.checkpoints.saving():  # a large state may take longer to collect than to write
            own = {
                "position": self.services.recorder.sync(),
                "digest": self.services.recorder.digest,
                "seconds": self.services.seconds(),
                **self.get_counters(),
                "restarts": self.restarts,
                "best": self.best.get_state(),
                "eval_return": self.eval_return,
                "envs": self._env_state(),
            }
            self.services.checkpoints.save(self.t, {"trials": own, "loop": get_state()})

    def _env_state(self) -> dict[str, Any]:
        """The environments' part of a checkpoint.

        On the fused engine, lanes go on when their trial has ended: what they hold then says how long the other trials
        of the program went on, which is left out.
        """
        state = self._envs.get_state()
        fused = not isinstance(self._envs, TrialEnvs)
        return parts.without(state, ~self.active) if fused else state

    def restore(self, state: State) -> None:
        """Continue from the "trials" part of a checkpoint."""
        self.set_counters(state)
        self.eval_return = state["eval_return"]
        self.best.set_state(state["best"])
        self.restarted = self._envs.set_state(state["envs"]) & self.active
        self.restarts = state["restarts"] + self.restarted
        if self.restarted.any():
            names = ", ".join(self.settings.trial_name(int(k)) for k in np.flatnonzero(self.restarted))
            self.services.progress.say(
                f"{self.settings.env.id} is not deterministic: the episodes under way in trials {names} were different "
                "when they were replayed, and start again; results will differ from those of an uninterrupted job"
            )

    def _evaluate(self, policy: Any, params: Callable[[], np.ndarray], trials: np.ndarray) -> None:
        """Evaluate trials [N] bool, and offer their weights to `best`."""
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
        """Write one record of trials [N] bool, whose windows start again."""
        metrics = self.window.flush(trials)
        for name, values in scalars.items():
            metrics[f"train/{name}"] = np.where(trials, values, np.nan)
        if metrics:
            self.services.recorder.write(self.counts["step"], metrics)

    def _without_failed(self, scores: Scores) -> Scores:
        """Mask the trials whose environments failed in an evaluation; returns its scores."""
        self.fail(scores.faults)
        return scores

    def _value_exactly(self, policy: Any) -> None:
        """Set `value` and `optimum` where the environment is a table and the policy is deterministic."""
        if self.settings.evaluation.policy == "sampled" or self.best.params.shape[1] == 0:
            return
        act = self.evaluator.acting(policy)(0)
        found = exact.returns(self.settings, self.services.info, act, len(self.active))
        if found is not None:
            self.value, self.optimum = found
