"""Evaluation on fixed seeds, apart from training, and the choice of the best weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from rlexp.config.schema.job import EvaluationSettings, Settings
from rlexp.data import seeding
from rlexp.envs.episodes import EpisodePlayer
from rlexp.envs.faults import Fault
from rlexp.envs.info import EnvInfo
from rlexp.system.stopping import heed

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
    faults: list[Fault] = field(default_factory=list)  # of trials whose environments have misbehaved


class Evaluator:
    """Plays the evaluation episodes of N trials on environments of their own.

    Every algorithm and every trial meets the same episodes (paired seeds).

    Args:
        settings, info: of the job.
        stop: the signal that asked to stop, if any: the scoring at the end heeds it between two portions of episodes.
    """

    def __init__(self, settings: Settings, info: EnvInfo, stop: Callable[[], int | None] = lambda: None) -> None:
        self._stop = stop
        config: EvaluationSettings = settings.evaluation
        self._config, self._width = config, config.num_episodes  # more episodes are played in such portions
        self._player = EpisodePlayer(settings.env, info, settings.seeds, self._width, config.max_steps)
        self._seeds = settings.seeds

    def periodic(self, policy: Policy, trials: np.ndarray) -> Scores:
        """The periodic evaluation of the chosen trials [N] bool."""
        return self._play(policy, self._config.seed, self._config.num_episodes, trials)

    def candidates(self, policy: Policy, trials: np.ndarray) -> Scores:
        """A second look at candidates for the best weights of the chosen trials [N] bool, on episodes of its own."""
        return self._play(policy, self._config.candidate_seed, self._config.candidate_episodes, trials, self._stop)

    def final(self, policy: Policy) -> Scores:
        """Fresh episodes that re-score the best weights of all trials."""
        every = np.ones(len(self._seeds), bool)
        return self._play(policy, self._config.final_seed, self._config.final_episodes, every, self._stop)

    def acting(self, policy: Policy) -> Policy:
        """How a policy that this evaluator takes acts on observations."""
        return policy

    def close(self) -> list[str]:
        """Close the environments; what was wrong with it."""
        return self._player.close()

    def _play(
        self,
        policy: Policy,
        first_seed: int,
        num_episodes: int,
        trials: np.ndarray,
        stop: Callable[[], int | None] = lambda: None,
    ) -> Scores:
        seeds = [first_seed + i for i in range(num_episodes)]
        returns, lengths, faults = [], [], []
        for start in range(0, num_episodes, self._width):
            heed(stop)
            part = seeds[start : start + self._width]
            played = self._player.play(policy(part[0]), part, trials)
            returns.append(played[0])
            lengths.append(played[1])
            faults += self._player.faults
        return Scores(seeds, np.concatenate(returns, axis=1), np.concatenate(lengths, axis=1), faults)


class BestWeights:
    """The weights of each trial that its selection rule likes best, best first; among equals the latest.

    Several are kept, since the best of many scores was partly luck: at the end they are scored again, and chosen from.

    Args:
        params: weights to start with, which count as the first choice until there is a better one.  # [N, P]
        num_candidates: K, how many are kept.

    Attributes:
        candidates: the weights.  # [N, K, P]
        scores: their scores, -inf where there is no candidate yet.  # [N, K]
        steps: env steps of the trial when they were offered.  # [N, K]
    """

    def __init__(self, params: np.ndarray, num_candidates: int) -> None:
        self.candidates = np.repeat(params[:, None], num_candidates, axis=1)
        self.scores: np.ndarray = np.full(self.candidates.shape[:2], -np.inf)
        self.steps = np.zeros(self.candidates.shape[:2], np.int64)

    @property
    def params(self) -> np.ndarray:
        """The first choice of every trial.  # [N, P]"""
        return self.candidates[:, 0]

    def take(self, trials: np.ndarray, scores: np.ndarray, params: np.ndarray, steps: np.ndarray) -> None:
        """Make weights [N, P] the first choice of the chosen trials [N] bool, whatever their score [N]."""
        for rows, values in ((self.candidates, params), (self.scores, scores), (self.steps, steps)):
            rows[trials, 0] = values[trials]

    def offer(self, scores: np.ndarray, params: Callable[[], np.ndarray], steps: np.ndarray) -> None:
        """Keep the weights of the trials whose score [N] is good enough; NaN never is."""
        chosen = np.flatnonzero(scores >= self.scores[:, -1])
        if not len(chosen):
            return
        values = params()
        for k in chosen:
            place = int((self.scores[k] > scores[k]).sum())
            for rows, value in ((self.candidates, values), (self.scores, scores), (self.steps, steps)):
                rows[k, place + 1 :] = rows[k, place:-1].copy()
                rows[k, place] = value[k]

    def choose(self, score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """Score the candidates again, in order, and put the best of them first.

        A trial's search ends with the first candidate that scores no less than it did before. A trial without a
        candidate (it diverged before its first evaluation) keeps its first weights, which are scored, too.

        Args:
            score: weights [N, P], trials that take part [N] bool -> scores [N].

        Returns:
            The score of the chosen weights in this second look, NaN where there is none.  # [N]
        """
        trials = np.arange(len(self.scores))
        best, best_score = np.zeros(len(trials), np.int64), np.full(len(trials), -np.inf)
        open_ = np.ones(len(trials), bool)
        for i in range(self.scores.shape[1]):
            open_ &= np.isfinite(self.scores[:, i]) | (i == 0)
            if not open_.any():
                break
            again = np.where(open_, score(self.candidates[:, i], open_), -np.inf)
            best = np.where(again > best_score, i, best)
            best_score = np.maximum(again, best_score)
            open_ &= again < self.scores[:, i]
        for rows in (self.candidates, self.scores, self.steps):
            rows[:, 0] = rows[trials, best]
        return np.where(np.isfinite(best_score), best_score, np.nan)

    def get_state(self) -> dict[str, np.ndarray]:
        """Candidates, scores and steps."""
        return {"candidates": self.candidates, "scores": self.scores, "steps": self.steps}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Put back what `get_state` returned."""
        self.candidates, self.scores, self.steps = (state[name] for name in ("candidates", "scores", "steps"))
