"""What the first process and its workers tell one another: orders, answers, and what happens during training.

Messages are pickled, and hold data alone: settings, numbers, arrays and texts. A worker makes its environments,
networks and programs itself, from the settings.

Axes: N trials of one worker, P parameters of a trial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlexp.config.schema.job import Settings
from rlexp.data.checkpoint import State
from rlexp.engines.evaluation import Scores
from rlexp.engines.trial_results import Results
from rlexp.envs.info import EnvInfo

# --- orders of the first process


@dataclass(frozen=True)
class Build:
    """Build the agent; answered by `Built`."""

    settings: Settings
    info: EnvInfo


@dataclass(frozen=True)
class Open:
    """Make the loop; answered by `Opened`.

    Attributes:
        state: the checkpoint to continue from, None for a new job.
        prunes: whether to wait for a `Verdict` after each evaluation.
    """

    state: State | None
    prunes: bool


@dataclass(frozen=True)
class Train:
    """Train to the end; answered by `Trained`."""


@dataclass(frozen=True)
class Save:
    """Send the state; answered by `Saved`. Only when training has ended."""


@dataclass(frozen=True)
class Score:
    """Score the best weights; answered by `Scored`."""


@dataclass(frozen=True)
class Close:
    """Close the environments and exit."""


@dataclass(frozen=True)
class GoTo:
    """During training, after `At`: train up to a lock-step and send the state there.

    Attributes:
        number: of the request that this answers.
        step: lock-step, not before that of any worker.
        signum: the signal to stop with there; None: go on.
    """

    number: int
    step: int
    signum: int | None


@dataclass(frozen=True)
class Verdict:
    """During training, after `Evaluated`: whether the search ends the job."""

    prune: bool


# --- what a worker says


@dataclass(frozen=True)
class Built:
    """The agent is built.

    Attributes:
        device: where its tensors are.
        deployable: whether it has networks.
    """

    device: str
    deployable: bool


@dataclass(frozen=True)
class Opened:
    """The loop is made.

    Attributes:
        t: env steps so far of each trial that still trains.
        params: the best weights so far.  # [N, P]
    """

    t: int
    params: np.ndarray


@dataclass(frozen=True)
class Trained:
    """Training has ended."""

    t: int


@dataclass(frozen=True)
class Saved:
    """The state at a lock-step."""

    t: int
    state: State


@dataclass(frozen=True)
class Scored:
    """The end: scores and results of the trials."""

    scores: Scores
    results: Results


@dataclass(frozen=True)
class Failed:
    """An order could not be carried out.

    Attributes:
        error: what was raised, with its traceback as a note.
    """

    error: BaseException


@dataclass(frozen=True)
class Said:
    """A line for people; `warning`: for stderr."""

    text: str
    warning: bool


@dataclass(frozen=True)
class Phase:
    """What a worker does after the training, see `Progress.phase`; `number`: of phases before."""

    what: str
    done: int
    total: int
    number: int

    def order(self) -> tuple[int, int]:
        """Smaller for a worker that is less far."""
        return self.number, self.done


@dataclass(frozen=True)
class Record:
    """A record of some of the trials.

    Attributes:
        t: lock-step.
        steps: env steps that each trial has taken.  # [N]
        metrics: name -> values.  # [N] each
    """

    t: int
    steps: np.ndarray
    metrics: dict[str, np.ndarray]


@dataclass(frozen=True)
class Shown:
    """Progress: the share of the budget that is spent, and the latest returns [N]."""

    done: float
    eval_return: np.ndarray


@dataclass(frozen=True)
class Evaluated:
    """As `Shown`, after an evaluation at lock-step `t`; `active`: whether any trial still trains. Waits for a
    `Verdict`."""

    t: int
    done: float
    eval_return: np.ndarray
    active: bool


@dataclass(frozen=True)
class At:
    """The lock-step that the worker has reached at request `number`; it waits for a `GoTo`."""

    number: int
    t: int


Message = Any  # one of these
