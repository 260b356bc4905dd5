"""Evaluation on fixed seeds, apart from training.

Axes: N trials, E episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from rlexp.config.schema.job import EvaluationSettings, Settings
from rlexp.data import seeding
from rlexp.envs.episodes import EpisodePlayer
from rlexp.envs.faults import Fault
from rlexp.envs.info import EnvInfo
from rlexp.system.stopping import raise_if_stopped

Act = Callable[[np.ndarray], np.ndarray]  # observations [N, E, *shape] -> actions [N, E]
Policy = Callable[[int], Act]  # seed of the first of E episodes -> how it acts in them


def sampling(act: Callable[[np.ndarray, np.ndarray], np.ndarray], seeds: Sequence[int], t: int) -> Policy:
    """The policy that samples its actions, by uniform numbers of each trial.

    Args:
        act: observations [N, E, *shape], uniform numbers [N, E] -> actions [N, E].
        seeds: the trials' seeds.  # [N]
        t: lock-steps before this evaluation; each evaluation has its own uniform numbers.
    """

    def policy(first_seed: int) -> Act:
        draws = [seeding.generator(seed, "evaluate", t, first_seed) for seed in seeds]

        def draw_and_act(observation: np.ndarray) -> np.ndarray:
            u = np.stack([draw.random(observation.shape[1], np.float32) for draw in draws])  # [N, E]
            return act(observation, u)

        return draw_and_act

    return policy


@dataclass
class Scores:
    """Episodes of an evaluation; NaN and 0 for trials that did not take part.

    Attributes:
        seeds: of the episodes.  # E numbers
        returns, lengths: of the episodes.  # [N, E] each
        faults: of trials whose environments broke their contract.
    """

    seeds: list[int]
    returns: np.ndarray
    lengths: np.ndarray
    faults: list[Fault] = field(default_factory=list)


class EpisodeScorer(Protocol):
    """Plays evaluation episodes: `Evaluator` on the host engine, `fused.evaluation.FusedEvaluator` on the fused one.

    What a policy is depends on the engine: the host's are functions (`Policy`), the fused engine's are parameters.
    """

    def periodic(self, policy: Any, trials: np.ndarray) -> Scores:
        """Play the periodic evaluation of the chosen trials [N] bool."""

    def candidates(self, policy: Any, trials: np.ndarray) -> Scores:
        """Play the second look at candidates for the best weights of the chosen trials [N] bool."""

    def final(self, policy: Any) -> Scores:
        """Play fresh episodes that score the best weights of all trials again."""

    def acting(self, policy: Any) -> Policy:
        """Return how such a policy acts on observations."""

    def close(self) -> list[str]:
        """Close the environments; returns what went wrong."""

    def release(self) -> None:
        """Let processes of environments exit, if there are any."""


class Evaluator:
    """Plays the evaluation episodes of N trials on environments of their own.

    Every algorithm and every trial plays the same episodes (paired seeds). They are played in portions of
    `evaluation.num_episodes`.

    Args:
        settings, info: of the job.
        stop: returns the signal that asked the job to stop, None if there was none. The second look and the scoring at
            the end check it before each portion.
        phase: called before each portion of the scoring at the end, as `Progress.phase`.
    """

    def __init__(
        self,
        settings: Settings,
        info: EnvInfo,
        stop: Callable[[], int | None] = lambda: None,
        phase: Callable[[str, int, int], None] = lambda *_: None,
    ) -> None:
        self._stop, self._phase = stop, phase
        config: EvaluationSettings = settings.evaluation
        self._config, self._width = config, config.num_episodes
        self._player = EpisodePlayer(settings.env, info, settings.seeds, self._width, config.max_steps)
        self._seeds = settings.seeds

    def periodic(self, policy: Policy, trials: np.ndarray) -> Scores:
        """Play the periodic evaluation of the chosen trials [N] bool."""
        return self._play(policy, self._config.seed, self._config.num_episodes, trials)

    def candidates(self, policy: Policy, trials: np.ndarray) -> Scores:
        """Play the second look at candidates for the best weights of the chosen trials [N] bool."""
        return self._play(policy, self._config.candidate_seed, self._config.candidate_episodes, trials, self._stop)

    def final(self, policy: Policy) -> Scores:
        """Play fresh episodes that score the best weights of all trials again."""
        every, number = np.ones(len(self._seeds), bool), self._config.final_episodes
        shown = partial(self._phase, "final episodes")
        return self._play(policy, self._config.final_seed, number, every, self._stop, shown)

    def acting(self, policy: Policy) -> Policy:
        """Return how a policy of this evaluator acts on observations."""
        return policy

    def close(self) -> list[str]:
        """Close the environments; returns what went wrong."""
        return self._player.close()

    def release(self) -> None:
        """Let processes of environments exit, if there are any."""
        self._player.release()

    def _play(
        self,
        policy: Policy,
        first_seed: int,
        num_episodes: int,
        trials: np.ndarray,
        stop: Callable[[], int | None] = lambda: None,
        show: Callable[[int, int], None] = lambda *_: None,
    ) -> Scores:
        seeds = [first_seed + i for i in range(num_episodes)]
        returns, lengths, faults = [], [], []
        for start in range(0, num_episodes, self._width):
            raise_if_stopped(stop)
            show(start, num_episodes)
            part = seeds[start : start + self._width]
            played = self._player.play(policy(part[0]), part, trials)
            returns.append(played[0])
            lengths.append(played[1])
            faults += self._player.faults
        return Scores(seeds, np.concatenate(returns, axis=1), np.concatenate(lengths, axis=1), faults)
