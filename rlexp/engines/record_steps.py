"""The steps at which all trials are recorded: at most 2,000 records per metric and trial."""

from __future__ import annotations

import bisect
import math

from rlexp.config.schema.job import Settings
from rlexp.envs.info import EnvInfo

MAX_RECORDS = 2_000  # per metric and trial; the scores at the end are metrics of their own
# Where the number of records is not known beforehand, this many are written before any are left out.
RECORD_THINNING_START = 1_900


class RecordSteps:
    """The steps at which all trials are recorded: each log period and each evaluation, as far as `MAX_RECORDS` allows.

    Beyond that, several evaluations share a record, which holds their means: a tracking server cannot show a million
    points, and takes longer to store them than training takes. One more record of each trial is for its end, at any
    step. Where the number of steps is not known beforehand, all records are written at first, so that a job that turns
    out to be short is recorded like any other.

    Args:
        log_period: env steps of a trial between two records.
        period: env steps of a trial between two evaluations.
        most: most env steps of a trial; None: no bound.
        exact: whether each trial takes `most` steps unless it diverges.

    Attributes:
        eval_period: env steps between two records of evaluations: `period`, or a multiple of it.
        thinning_start: step after which fewer records are written; None: never.
    """

    def __init__(self, log_period: int, period: int, most: int | None, exact: bool) -> None:
        self.log_period, self.eval_period, self.thinning_start = log_period, period, None
        self._every: int | None = None  # log periods between two records after `thinning_start`; None: more and more
        if most is not None and self.count(most) + (not self.due(most)) <= MAX_RECORDS:
            return
        if most is not None and exact:
            room = MAX_RECORDS - math.ceil(most / log_period)
            self.eval_period = (most // ((room + 1) * period) + 1) * period  # the least multiple that fits
            return
        # The least step with that many records. Each log period has one, so that it lies within as many periods.
        self.thinning_start = bisect.bisect_left(
            range(RECORD_THINNING_START * log_period), RECORD_THINNING_START, key=self.count
        )
        if most is not None:
            rest = most // log_period - self.thinning_start // log_period
            self._every = max(math.ceil(rest / (MAX_RECORDS - RECORD_THINNING_START - 1)), 1)

    def due(self, t: int, stepped: int = 1) -> bool:
        """Whether all trials are recorded at step `t`.

        Args:
            t: step.
            stepped: how many steps the latest lock-step was, which may have gone past the end of a period.
        """
        if self.thinning_start is None or t <= self.thinning_start:
            return t % self.eval_period < stepped or t % self.log_period < stepped
        number, left = divmod(t, self.log_period)
        every = self._every or 1 << max(number.bit_length() - 3, 0)  # four records per doubling of the steps
        return left < stepped and number % every == 0

    def count(self, t: int) -> int:
        """How many records steps 1 to `t` have if none is left out; fewer where lock-steps are of several steps."""
        a, b = self.eval_period, self.log_period
        return t // a + t // b - t // math.lcm(a, b)


def log_period(settings: Settings, info: EnvInfo) -> int:
    """Env steps of a trial between two records."""
    return math.ceil(most_steps(settings, info) / settings.log.points)


def most_steps(settings: Settings, info: EnvInfo) -> int:
    """Most env steps of a trial; an episode without a time limit counts as 1,000."""
    if settings.max_steps is not None:
        return settings.max_steps
    return (settings.budget.episodes or 1) * (info.max_episode_steps or 1_000)
