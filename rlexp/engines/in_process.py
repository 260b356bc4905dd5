"""The training of all trials of a job, or of a group of jobs, in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rlexp.config import registry
from rlexp.config.schema.job import Settings
from rlexp.data.checkpoint import State
from rlexp.engines.building import build_agent
from rlexp.engines.evaluation import Scores
from rlexp.engines.loop import AnotherState, Loop
from rlexp.engines.services import Services
from rlexp.engines.tabular_rules import set_optimum
from rlexp.engines.trial_results import Results
from rlexp.envs import transition_table
from rlexp.envs.info import EnvInfo

if TYPE_CHECKING:
    import numpy as np


class InProcess:
    """A `loop.Trainer` that trains in the process that calls it.

    Args:
        settings, info: of the job.
        warn: called with each warning.

    Raises:
        Refusal: for an agent that cannot be built.
    """

    num_workers = 1

    def __init__(self, settings: Settings, info: EnvInfo, warn: Callable[[str], None]) -> None:
        self._settings = settings
        built = build_agent(settings, info, warn)
        self._agent, self.device, self.deploy = built.agent, built.device, built.deploy
        self._loop: Loop | None = None

    def open(self, services: Services, state: State | None) -> None:
        """As `loop.Trainer.open`."""
        settings, info = self._settings, services.info
        fused = registry.fused_loop(settings.algo.name) if settings.engine == "fused" else None
        loop: Loop = registry.load(fused or registry.family(settings.algo.name).loop)(self._agent, services)
        if loop.trials.optimum is None and (table := transition_table.load(settings.env) if info.table else None):
            # also for networks, so that their regret can be compared with that of tables
            set_optimum(loop.trials, table)
        self._loop = loop
        if state is None:
            return
        try:
            loop.trials.restore(state["trials"])
            loop.set_state(state["loop"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise AnotherState(f"{type(error).__name__}: {error}") from error

    @property
    def loop(self) -> Loop:
        """The loop, once it is open."""
        assert self._loop is not None, "open comes first"
        return self._loop

    @property
    def t(self) -> int:
        """Env steps so far of each trial that still trains."""
        return self.loop.trials.t

    def train(self) -> None:
        """As `loop.Trainer.train`."""
        self.loop.run()

    def save(self) -> None:
        """As `loop.Trainer.save`."""
        self.loop.trials.save(self.loop.get_state)

    def score(self) -> Scores:
        """As `loop.Trainer.score`."""
        return self.loop.final()

    def results(self) -> Results:
        """As `loop.Trainer.results`."""
        return self.loop.trials.results()

    def best_params(self) -> np.ndarray:
        """The best weights of every trial so far.  # [N, P]"""
        return self.loop.trials.best.params

    def close(self) -> None:
        """As `loop.Trainer.close`."""
        self.loop.trials.close()

    def release(self) -> None:
        """Let go of the loop, whose rings may be large, and whose environments may have processes of their own."""
        if self._loop is not None:
            self._loop.trials.release()
        self._loop = None
