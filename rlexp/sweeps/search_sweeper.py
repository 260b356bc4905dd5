"""Hydra's sweeper for `hydra/sweeper=optuna`: a search for hyper-parameters, whose candidates are the jobs of a sweep.

    ask Optuna for candidates -> run their jobs by the launcher -> tell Optuna their scores -> again

Everything but the choice of the jobs is that of a sweep: the folder, the outcomes, the table, the runs in MLflow. A
search is identified by its configuration, space, objective and seed: started again, it continues; with a larger
num_candidates it continues for longer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlexp.jobs.names import stored_configs
from rlexp.jobs.origin import command_line
from rlexp.math.statistics import iqm
from rlexp.sweeps.outcome import Outcome
from rlexp.sweeps.search.space import split
from rlexp.sweeps.sweep import Planned, Sweep
from rlexp.sweeps.sweeper import Sweeper
from rlexp.system.errors import Refusal, refusal

if TYPE_CHECKING:
    from rlexp.jobs.results import JobData
    from rlexp.sweeps.search.candidates import Candidates


class Search(Sweeper):
    """Candidates by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), pruned by the median rule.

    Args:
        params, restarts, max_batch_size: see `Sweeper`.
        num_candidates: number of jobs, those of earlier starts included.
        batch_size: how many candidates are chosen, and given to the launcher, at once.
        objective, threshold: see `search.objective.Objective`; candidates are chosen by its `choice`.
        seed: of the choice of candidates.
        startup: how many candidates are drawn at random, and trained to the end, before the results count.
        prune: whether poor candidates end early.
        warmup: share of the budget before which no candidate is pruned.
    """

    def __init__(
        self,
        params: dict[str, str] | None,
        restarts: int,
        num_candidates: int,
        batch_size: int,
        objective: str,
        threshold: float | None,
        seed: int,
        startup: int,
        prune: bool,
        warmup: float,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__(max_batch_size, params, restarts)
        self.options: dict[str, Any] = {
            "num_candidates": num_candidates,
            "batch_size": batch_size,
            "objective": objective,
            "threshold": threshold,
            "seed": seed,
            "startup": startup,
            "prune": prune,
            "warmup": warmup,
        }

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Run the search; raises `Ended` if a candidate failed, `Refusal` before anything runs.

        Returns:
            The sweep's folder, in a list.
        """
        from rlexp.sweeps.search.candidates import require_optuna
        from rlexp.sweeps.search.objective import Objective

        require_optuna()
        self._check()
        check(self.options)
        self._objective = Objective(self.options["objective"], self.options["threshold"])
        self._fixed, self._space = split(self._parse(arguments))
        examples = self._check_space()
        first = examples[0]
        assert first.settings is not None
        space = [asdict(dimension) for dimension in self._space]
        identity = json.dumps([first.key, space, asdict(self._objective), self.options["seed"]])
        about = {"search": {**self.options, "space": space}}
        sweep = _SearchSweep(examples, self._name(), command_line(), identity, about)
        sweep.rerun = first.settings.rerun
        self._complete(sweep, f"{self.options['num_candidates']} candidates for the best {self._objective}")
        return [sweep.folder]

    def _name(self) -> str:
        named = super()._name()
        return "search" if named == "sweep" else named

    def _check_space(self) -> list[Planned]:
        """Compose each end and each choice of the space once; returns them, the one of all first values first."""
        planned = []
        for i in range(max(dimension.num_examples for dimension in self._space)):
            values = [dimension.override(dimension.example(i)) for dimension in self._space]
            planned.append(self._plan([*self._fixed, *values]))
            if planned[-1].settings is None:
                raise Refusal(f"the candidate {' '.join(values)}: {planned[-1].refused}")
        return planned

    def _run(self, sweep: Sweep) -> None:
        from rlexp.sweeps.search.candidates import Candidates

        options = self.options
        minimize = self._objective.smaller_is_better
        candidates = Candidates(sweep.folder, self._space, options["seed"], options["startup"], minimize)
        unfinished = candidates.unfinished()
        for number in range(len(candidates)):
            sweep.jobs.append(self._planned(candidates, number, compose=number in unfinished))
        waiting: list[int] = []
        for number in unfinished:
            if not self._settle(sweep, candidates, number, missing=waiting):
                waiting.append(number)
        if len(candidates):
            print(f"{len(candidates)} candidates from earlier starts, {len(waiting)} of them unfinished", flush=True)
        for number in waiting:  # killed by a signal, or without an outcome
            shutil.rmtree(sweep.job_folder(number), ignore_errors=True)
        while True:
            while len(waiting) < options["batch_size"] and len(candidates) < options["num_candidates"]:
                number = candidates.ask()
                sweep.jobs.append(self._planned(candidates, number))
                waiting.append(number)
            if not waiting:
                break
            batch = _distinct(sweep, waiting)[: options["batch_size"]]
            waiting = [number for number in waiting if number not in batch]
            for number in batch:
                self._say(candidates, number)
            self._run_jobs(sweep, batch)
            for number in batch:
                self._settle(sweep, candidates, number)
        self._say_best(sweep, candidates)

    def _planned(self, candidates: Candidates, number: int, compose: bool = True) -> Planned:
        """The job of a candidate; `compose`: whether it will run, and so needs settings."""
        values = candidates.values(number)
        own = [dimension.override(value) for dimension, value in zip(self._space, values, strict=True)]
        overrides = [*self._fixed, *own]
        return self._plan(overrides) if compose else Planned(overrides, None)

    def _settle(self, sweep: Sweep, candidates: Candidates, number: int, missing: Sequence[int] = ()) -> bool:
        """Tell Optuna how a candidate's job ended; False if it has not ended, or its score must wait.

        A job with diverged trials has a score like any other (see `Objective.filled`). Since that score depends on the
        candidates before it, it waits for those that are `missing` after a kill.
        """
        from rlexp.sweeps.search.candidates import STATES

        outcome = Outcome.read(sweep.job_folder(number))
        if outcome is None or outcome.status not in STATES:
            return False
        status, score = outcome.status, float("nan")
        job = _scored(outcome)
        if job is not None:
            values, words = self._objective.choice(job)
            if np.isnan(values).any():
                if missing:
                    return False
                values = self._objective.filled(values, self._before(sweep, candidates, number))
            score = float(iqm(values))
            if not np.isnan(score):
                status = "done"
                final = "" if self._objective.name != "final" else f"; final return {_final(job):,.4g}"
                print(f"candidate {number}: {words} {score:,.4g}{final} (IQM over trials)", flush=True)
        candidates.tell(number, status, score)
        return True

    def _before(self, sweep: Sweep, candidates: Candidates, number: int) -> list[np.ndarray]:
        """Scores of the trials, for each candidate before `number`."""
        known = [i for i, score in enumerate(candidates.scores()[:number]) if score is not None]
        outcomes = [Outcome.read(sweep.job_folder(i)) for i in known]
        jobs = [_scored(outcome) for outcome in outcomes if outcome is not None]
        return [self._objective.choice(job)[0] for job in jobs if job is not None]

    def _say(self, candidates: Candidates, number: int) -> None:
        """Print the values of a candidate."""
        values = zip(self._space, candidates.values(number), strict=True)
        text = " ".join(dimension.override(value) for dimension, value in values)
        print(f"candidate {number}: {text}", flush=True)

    def _say_best(self, sweep: Sweep, candidates: Candidates) -> None:
        """Print the best candidate, and note all scores."""
        scores = candidates.scores()
        sweep.note("scores", scores)
        done = {number: score for number, score in enumerate(scores) if score is not None}
        if not done:
            print("no candidate finished")
            return
        best = (min if self._objective.smaller_is_better else max)(done, key=lambda number: done[number])
        outcome = Outcome.read(sweep.job_folder(best))
        job = _scored(outcome) if outcome else None
        words = self._objective.choice(job)[1] if job else str(self._objective)
        final = f"; final return {_final(job):,.4g}" if job and self._objective.name == "final" else ""
        print(f"best candidate: {best}: {words} {done[best]:,.4g}{final}")
        print(f"rlexp best {sweep.study}")


class _SearchSweep(Sweep):
    """A sweep whose jobs are chosen while it runs, and that keeps those of earlier starts.

    Args:
        probe: jobs at the ends of the space, by which names say all that is searched.
        name, command, identity, about: see `Sweep`.
    """

    rerun = False

    def __init__(
        self, probe: Sequence[Planned], name: str, command: str, identity: str, about: Mapping[str, Any]
    ) -> None:
        super().__init__(probe, name, command, identity, about)
        self.jobs, self._probe = [], [job.settings.to_dict() for job in probe if job.settings is not None]
        self._earlier: dict[int, dict[str, Any]] = {}  # configurations of jobs of earlier starts

    @property
    def total(self) -> int:
        """Number of candidates, those that are not chosen yet included."""
        return max(int(self._about["search"]["num_candidates"]), len(self.jobs))

    def _others(self) -> list[dict[str, Any]]:
        return [*super()._others(), *self._probe]

    def _config(self, index: int) -> dict[str, Any] | None:
        if (planned := super()._config(index)) is not None or self.jobs[index].refused:
            return planned
        if index not in self._earlier:
            outcome = Outcome.read(self.job_folder(index))
            folders = [Path(outcome.folder)] if outcome is not None and outcome.folder is not None else []
            for config in stored_configs(folders).values():
                self._earlier[index] = config
        return self._earlier.get(index)

    def _forget(self) -> None:
        from rlexp.sweeps.search.candidates import JOURNAL

        if self.rerun:
            super()._forget()
            (self.folder / JOURNAL).unlink(missing_ok=True)


def check(options: Mapping[str, Any]) -> None:
    """Raise `Refusal` for a wrong option of the search."""

    def whole(name: str, low: int) -> None:
        value = options[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise refusal(f"hydra.sweeper.{name}", f"a whole number >= {low}", repr(value))

    for name, low in (("num_candidates", 1), ("batch_size", 1), ("seed", 0), ("startup", 1)):
        whole(name, low)
    if not isinstance(options["prune"], bool):
        raise refusal("hydra.sweeper.prune", "true or false", repr(options["prune"]))
    warmup = options["warmup"]
    if isinstance(warmup, bool) or not isinstance(warmup, int | float) or not 0 <= warmup <= 1:
        raise refusal("hydra.sweeper.warmup", "a number >= 0 and <= 1", repr(warmup))


def _scored(outcome: Outcome) -> JobData | None:
    """The job of a candidate that was trained to the end, diverged trials or not; else None."""
    from rlexp.jobs.results import load_job

    if outcome.status not in ("done", "failed") or outcome.folder is None:
        return None
    try:
        job = load_job(outcome.folder)
    except (OSError, ValueError):
        if outcome.status == "done":
            raise
        return None  # it failed before it wrote anything that can be read
    return job if "final/return" in (job.summary or {}) else None


def _final(job: JobData) -> float:
    """IQM of the final returns; NaN without any."""
    value = (job.summary or {})["final/return"]["iqm"]
    return float("nan") if value is None else float(value)


def _distinct(sweep: Sweep, numbers: Sequence[int]) -> list[int]:
    """Candidates without those whose job equals an earlier one: two processes cannot run one job."""
    return list({sweep.jobs[number].key: number for number in reversed(numbers)}.values())[::-1]
