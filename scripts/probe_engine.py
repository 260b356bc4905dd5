#!/usr/bin/env python
"""Train one job without a folder and print, as JSON, when each part was over. `engine_costs.py` starts it.

    python scripts/probe_engine.py algo=dqn engine=host trials=2 ...

The clock starts before the agent is built, with the environment's description known: TensorFlow's import counts.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from rlexp.config import registry
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose


class Stamps:
    """Stands for everything around a loop: notes the time of each record and keeps nothing else."""

    digest = ""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.loop: Any = None
        self.records: list[dict[str, float]] = []
        self.evaluations: list[dict[str, float]] = []

    def write(self, steps: np.ndarray, metrics: Mapping[str, np.ndarray]) -> None:
        """Note the time, the env steps and the updates of a trial, and the seconds of evaluations so far."""
        played = sum(evaluation["seconds"] for evaluation in self.evaluations)
        updates = float(self.loop.trials.counts["update"].max())
        self.records.append({"step": float(steps.max()), "updates": updates, "seconds": self.now() - played})

    def timed(self, play: Callable[..., Any]) -> Callable[..., Any]:
        """An evaluator's `periodic` that notes its seconds, and the steps that the episodes took."""

        def periodic(policy: Any, trials: np.ndarray) -> Any:
            began = self.now()
            scores = play(policy, trials)
            if trials.any():  # otherwise it is only compiled
                lengths = scores.lengths
                steps = {"longest": float(lengths.max()), "played": float(lengths.sum())}
                self.evaluations.append({"seconds": self.now() - began, **steps})
            return scores

        return periodic

    def sync(self) -> int:
        """Nothing is written."""
        return 0

    def due(self) -> bool:
        """No checkpoint is."""
        return False

    def agreed(self) -> None:
        """No checkpoint is agreed upon."""

    def saving(self) -> contextlib.AbstractContextManager[None]:
        """Nothing is saved."""
        return contextlib.nullcontext()

    def save(self, step: int, state: Any) -> None:
        """Nothing is saved."""

    def update(self, done: float, step: int, eval_return: np.ndarray) -> None:
        """Nothing is shown."""

    def phase(self, what: str, done: int = 0, total: int = 0) -> None:
        """Nothing is shown."""

    def say(self, text: str) -> None:
        """Nothing is shown."""

    warn = say


@contextlib.contextmanager
def clock() -> Iterator[Callable[[], float]]:
    """Seconds since the block began."""
    began = time.perf_counter()
    yield lambda: time.perf_counter() - began


def main() -> None:
    """Run the job and print its times."""
    settings, info = resolve(compose(*sys.argv[1:]))
    with clock() as now:
        from rlexp.engines.building import build_agent
        from rlexp.engines.services import Services

        stamps = Stamps(now)
        agent = build_agent(settings, info, stamps.warn).agent
        services = Services(settings, info, stamps, stamps, stamps, lambda: None, now)
        fused = registry.fused_loop(settings.algo.name) if settings.engine == "fused" else None
        loop = registry.load(fused or registry.family(settings.algo.name).loop)(agent, services)
        stamps.loop = loop
        loop.trials.evaluator.periodic = stamps.timed(loop.trials.evaluator.periodic)
        loop.run()
        records = list(stamps.records)  # of training alone
        loop.final()
        times = {"done": now(), "records": records, "evaluations": stamps.evaluations}
    loop.trials.close()
    print(json.dumps(times))


if __name__ == "__main__":
    main()
