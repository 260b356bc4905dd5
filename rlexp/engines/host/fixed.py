"""The host engine's loop for policies that do not learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlexp.algos.angle_policy import AnglePolicy
from rlexp.algos.random import Random
from rlexp.data import seeding
from rlexp.engines.bookkeeping import Trials
from rlexp.engines.evaluation import Policy, Scores, sampling
from rlexp.engines.services import Services


class FixedLoop:
    """Plays a policy that does not learn."""

    def __init__(self, agent: Random | AnglePolicy, services: Services) -> None:
        self.agent = agent
        self.seeds = services.settings.seeds
        self.trials = Trials(services, np.zeros((len(self.seeds), 0), np.float32))
        self.u_act = seeding.Uniforms(self.seeds, "act", agent.widths["act"])

    def run(self) -> None:
        """Play until each trial has spent its budget or has failed."""
        trials = self.trials
        while trials.active.any():
            a_tm1 = self.agent.act(trials.envs.observation, self.u_act.rows(trials.counts["step"]))
            trials.advance(trials.envs.step(a_tm1, trials.active))
            trials.housekeeping(self._policy(trials.t), lambda: trials.best.params, {}, self.get_state)

    def final(self) -> Scores:
        """Score the policy on fresh episodes."""
        return self.trials.final(lambda _: self._policy(0))

    def get_state(self) -> dict[str, Any]:
        """Nothing: the trials hold all state."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Nothing to put back."""

    def _policy(self, t: int) -> Policy:
        return sampling(self.agent.act, self.seeds, t, self.agent.widths["act"])
