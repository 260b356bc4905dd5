"""The candidates of a search, kept on disk: the only module that imports optuna.

    <sweep's folder>/candidates.journal     Optuna's journal: values, evaluations and scores of every candidate

Several processes write to it: the search, and its jobs, which report evaluations. A candidate has one number, that
of its Optuna trial and of its job in the sweep. Its values depend only on the search's seed, its number and the results
known when it was chosen, so that a killed search continues as if it had never stopped.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.data import seeding
from rlexp.math.statistics import iqm
from rlexp.sweeps.search.space import Dimension, Value
from rlexp.system.errors import Refusal
from rlexp.system.stored_files import Damaged, read_bytes, read_json, set_aside
from rlexp.system.stored_schemas import SWEEP
from rlexp.system.tool import warn

JOURNAL = "candidates.journal"
STUDY = "search"
STATES = {"done": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL", "refused": "FAIL", "lost": "FAIL"}


def require_optuna() -> None:
    """Raise `Refusal` if Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise Refusal(
            "hydra/sweeper=optuna: expected the package optuna, which is not installed.\n"
            "pip install -c constraints.txt 'rlexp[search]'"
        )


class Candidates:
    """All candidates of one search, those of earlier starts included.

    Args:
        folder: of the sweep.
        space: the dimensions of the search.
        seed: of the search.
        startup: how many candidates are drawn at random before the results count.
        minimize: whether smaller scores are better.
    """

    def __init__(self, folder: Path, space: Sequence[Dimension], seed: int, startup: int, minimize: bool) -> None:
        self._space, self._seed, self._startup = space, seed, startup
        direction = "minimize" if minimize else "maximize"
        try:
            self._study = _open(folder, direction)
        except Damaged as error:
            set_aside(error, lambda said: warn(f"{said}, and the search starts again; finished jobs are kept"))
            self._study = _open(folder, direction)

    def __len__(self) -> int:
        return len(self._study.get_trials(deepcopy=False))

    def values(self, number: int) -> list[Value]:
        """The values of a candidate, in the order of the space."""
        params = self._study.get_trials(deepcopy=False)[number].params
        return [params[dimension.key] for dimension in self._space]

    def unfinished(self) -> list[int]:
        """Numbers of the candidates whose outcome was not told."""
        return [trial.number for trial in self._study.get_trials(deepcopy=False) if not trial.state.is_finished()]

    def scores(self) -> list[float | None]:
        """Score of each candidate; None for those without one."""
        trials = self._study.get_trials(deepcopy=False)
        return [trial.value if trial.state.name == "COMPLETE" else None for trial in trials]

    def ask(self) -> int:
        """Choose one more candidate; returns its number."""
        number = len(self)
        seed = int(seeding.generator(self._seed, "search", number).integers(2**32))
        self._study.sampler = _sampler(seed, self._startup)
        return int(self._study.ask({d.key: _distribution(d) for d in self._space}).number)

    def tell(self, number: int, status: str, score: float = math.nan) -> None:
        """Tell how a candidate's job ended; a score of NaN counts as a failure."""
        from optuna.trial import TrialState

        state = TrialState[STATES[status]]
        if state == TrialState.COMPLETE and math.isnan(score):
            state = TrialState.FAIL
        self._study.tell(number, score if state == TrialState.COMPLETE else None, state)


def rounded(value: float, low: float, high: float, step: float | None = None) -> float:
    """A sample with the digits that matter: four significant ones, or as many as divide its range into a thousand.

    Args:
        value: what was drawn.
        low, high: the ends of its range, which the result does not leave.
        step: between possible numbers, if there is one: only rounding errors are removed then.
    """

    def place(number: float, digits: int) -> int:
        return digits - 1 - math.floor(math.log10(abs(number))) if number else 0

    digits = place(value, 12) if step is not None else max(place(value, 4), place(high - low, 4))
    return min(max(round(value, digits), low), high)


def _sampler(seed: int, startup: int) -> Any:
    """Optuna's sampler, whose numbers are rounded before they are stored: what is printed is what runs and counts."""
    from optuna.distributions import FloatDistribution
    from optuna.samplers import TPESampler

    def plain(value: Any, distribution: Any) -> Any:
        if not isinstance(distribution, FloatDistribution):
            return value
        return rounded(value, distribution.low, distribution.high, distribution.step)

    class Rounded(TPESampler):
        def sample_relative(self, study: Any, trial: Any, search_space: dict[str, Any]) -> dict[str, Any]:
            drawn = super().sample_relative(study, trial, search_space)
            return {name: plain(value, search_space[name]) for name, value in drawn.items()}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            drawn = super().sample_independent(study, trial, param_name, param_distribution)
            return plain(drawn, param_distribution)

    return Rounded(seed=seed, n_startup_trials=startup)


def pruner(job_folder: Path) -> Callable[[int, float, np.ndarray], bool] | None:
    """The function that decides, at each evaluation of a candidate's job, whether the job ends.

    The median rule (Golovin et al. 2017): a job ends if its best evaluation so far is below the median of those of the
    candidates trained to the end, at the same step. The IQM over trials of eval/return is compared, whatever the
    search's objective is.

    Args:
        job_folder: `<sweep's folder>/jobs/<number>`.

    Returns:
        (env steps per trial, share of the budget done, latest eval/return [N]) -> whether to end; None for jobs
        outside a search, or of a search that does not prune.
    """
    sweep_folder, number = job_folder.parents[1], int(job_folder.name)
    if not (sweep_folder / JOURNAL).is_file():
        return None
    search = read_json(sweep_folder / "sweep.json", SWEEP, "search")["search"]
    if not search["prune"]:
        return None
    from optuna.pruners import MedianPruner

    study = _open(sweep_folder)
    storage, median = study._storage, MedianPruner(n_startup_trials=search["startup"])
    trial_id = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    sign = -1.0 if search["objective"] == "steps_to_threshold" else 1.0  # a search that minimises

    def prune(step: int, share: float, eval_return: np.ndarray) -> bool:
        value = float(iqm(eval_return))
        if math.isnan(value) or storage.get_trial(trial_id).state.is_finished():
            return False
        storage.set_trial_intermediate_value(trial_id, step, sign * value)
        return share >= search["warmup"] and median.prune(study, storage.get_trial(trial_id))

    return prune


def _open(folder: Path, direction: Any = None) -> Any:
    """Open the Optuna study in a folder; create it if there is none and `direction` is given."""
    import optuna
    from filelock import FileLock
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = folder / JOURNAL
    # Optuna's own locks outlive a killed process by half a minute.
    lock: Any = FileLock(path.with_suffix(".lock"))
    try:
        with lock:
            _check_journal(path, mend=direction is not None)
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
        if direction is None:
            return optuna.load_study(study_name=STUDY, storage=storage)
        return optuna.create_study(study_name=STUDY, storage=storage, direction=direction, load_if_exists=True)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, AssertionError) as error:
        if isinstance(error, Damaged):
            raise
        raise Damaged(path, "an Optuna journal", f"{type(error).__name__}: {error}"[:200]) from error


def _check_journal(path: Path, mend: bool) -> None:
    """Raise ValueError for a line that is not JSON; if `mend`, cut off the half line that a killed process left."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        return
    whole = data.rfind(b"\n") + 1
    for line in data[:whole].splitlines():
        json.loads(line)
    if mend and whole < len(data):  # else the next record would continue the same line
        os.truncate(path, whole)
        warn(f"{path}: expected whole lines, received half of one at the end; it is cut off")


def _distribution(dimension: Dimension) -> Any:
    from optuna import distributions

    low, high, step, log = dimension.low, dimension.high, dimension.step, dimension.log
    if dimension.choices:
        return distributions.CategoricalDistribution(dimension.choices)
    if isinstance(low, int) and isinstance(high, int):
        return distributions.IntDistribution(low, high, log, int(step or 1))
    return distributions.FloatDistribution(low, high, log, step)
