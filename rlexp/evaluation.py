"""Evaluation on fixed seeds, apart from training, and the choice of the best weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rlexp import seeding
from rlexp.envs.adapter import EnvInfo, EpisodePlayer
from rlexp.settings import EvaluationSettings, Settings

Act = Callable[[np.ndarray], np.ndarray]  # observations [N, E, *shape] -> actions [N, E]
Policy = Callable[[int], Act]  # seed of the first of E episodes -> how to act in them


def sampling(act: Callable[[np.ndarray, np.ndarray], np.ndarray], seeds: Sequence[int], t: int) -> Policy:
    """The policy that draws its actions, with uniform numbers of the trials' own.

    Args:
        act: observations [N, E, *shape], uniform numbers [N, E] -> actions [N, E].
        seeds: the trials' seeds.  # [N]
        t: the iteration of this evaluation: each has numbers of its own.
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
    """Episodes of an evaluation; NaN and 0 for trials that did not take part."""

    seeds: list[int]
    returns: np.ndarray  # [N, E]
    lengths: np.ndarray  # [N, E]


class Evaluator:
    """Plays the evaluation episodes of N trials on environments of their own.

    Every algorithm and every trial meets the same episodes (paired seeds).
    """

    def __init__(self, settings: Settings, info: EnvInfo) -> None:
        config: EvaluationSettings = settings.evaluation
        self._config, self._width = (
            config,
            config.num_episodes,
        )  # the final episodes are played in such portions
        self._player = EpisodePlayer(settings.env, info, settings.trials, self._width, config.max_steps)
        self._seeds = settings.seeds

    def periodic(self, policy: Policy, trials: np.ndarray) -> Scores:
        """The periodic evaluation of the chosen trials [N] bool."""
        return self._play(policy, self._config.seed, self._config.num_episodes, trials)

    def final(self, policy: Policy) -> Scores:
        """Fresh episodes that re-score the best weights of all trials."""
        return self._play(policy, self._config.final_seed, self._config.final_episodes, np.ones(len(self._seeds), bool))

    def close(self) -> None:
        """Close the environments."""
        self._player.close()

    def _play(self, policy: Policy, first_seed: int, num_episodes: int, trials: np.ndarray) -> Scores:
        seeds = [first_seed + i for i in range(num_episodes)]
        returns, lengths = [], []
        for start in range(0, num_episodes, self._width):
            part = seeds[start : start + self._width]
            played = self._player.play(policy(part[0]), part, trials)
            returns.append(played[0])
            lengths.append(played[1])
        return Scores(seeds, np.concatenate(returns, axis=1), np.concatenate(lengths, axis=1))


class BestWeights:
    """The weights of each trial that its selection rule likes best; among equals the latest.

    Attributes:
        score: the score of the chosen weights, -inf before the first.  # [N]
        step: env steps of the trial when they were chosen.  # [N]
        params: the weights.  # [N, P]
    """

    def __init__(self, params: np.ndarray) -> None:
        self.params = params.copy()
        self.score = np.full(len(params), -np.inf)
        self.step = np.zeros(len(params), np.int64)

    def take(self, trials: np.ndarray, scores: np.ndarray, params: np.ndarray, steps: np.ndarray) -> None:
        """Keep the weights [N, P] of the chosen trials [N] bool, with their score [N]."""
        self.params[trials] = params[trials]
        self.score[trials] = scores[trials]
        self.step[trials] = steps[trials]

    def offer(self, scores: np.ndarray, params: Callable[[], np.ndarray], steps: np.ndarray) -> None:
        """Keep the weights of the trials whose score [N] is at least as good as before; NaN is never."""
        better = scores >= self.score
        if better.any():
            self.take(better, scores, params(), steps)
