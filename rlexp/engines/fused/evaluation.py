"""Evaluation on the fused engine: greedy episodes of all lanes as one program.

Axes: L lanes (>= N trials), E evaluation episodes, P parameters, D numbers of an environment's state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from rlexp.engines.evaluation import Evaluator, Policy, Scores
from rlexp.engines.fused.base import Tree, compile_now, program
from rlexp.engines.services import Services
from rlexp.engines.vectorized import mapped
from rlexp.envs.tensor.base import TensorEnv, gymnasium_uniforms
from rlexp.system.stopping import raise_if_stopped


class GreedyAgent(Protocol):
    """What this evaluator needs of an agent of one trial."""

    def greedy(self, params: Tree, o_t: tf.Tensor) -> tf.Tensor:
        """Best actions [E] for observations [E, *shape]."""


class FusedEvaluator:
    """Plays greedy episodes of all lanes as one program; the final scores come from the real Gymnasium environment.

    The episodes are those of the host engine's evaluator: each draws the numbers of Gymnasium's own generator for its
    seed, so that it starts in the same state and, in a table, draws the same transitions. Policies are parameters
    [L, P].

    Args:
        env: the dynamics of one trial.
        agent: of one trial; its `greedy` is played.
        num_lanes: L.
        services: the job around it.
        key: what `graph_key` returns.
        policy: turns a policy of this evaluator into one of the host engine's.
    """

    def __init__(
        self,
        env: TensorEnv,
        agent: GreedyAgent,
        num_lanes: int,
        services: Services,
        key: str,
        policy: Callable[[Any], Policy],
    ) -> None:
        self._env, self._num_lanes, self._services, self._policy = env, num_lanes, services, policy
        self._config = services.settings.evaluation
        limit = services.info.max_episode_steps
        self._limit = self._config.max_steps if limit is None else min(limit, self._config.max_steps)
        self._numbers: dict[
            int, tuple[tf.Tensor, tf.Tensor]
        ] = {}  # seed of the first episode -> numbers of resets and steps
        self._compiled = False
        self._program = program("evaluate", key, episodes(env, self._act_of(agent), num_lanes, self._limit))

    def periodic(self, policy: Any, trials: np.ndarray) -> Scores:
        """Play the periodic evaluation of the chosen trials [N] bool."""
        return self._scores(policy, self._config.seed, self._config.num_episodes, trials)

    def candidates(self, policy: Any, trials: np.ndarray) -> Scores:
        """Play the second look at candidates for the best weights of the chosen trials [N] bool."""
        raise_if_stopped(self._services.stop)
        return self._scores(policy, self._config.candidate_seed, self._config.candidate_episodes, trials)

    def final(self, policy: Any) -> Scores:
        """Play fresh episodes on Gymnasium's environment that score the best weights of all trials again."""
        services = self._services
        evaluator = Evaluator(services.settings, services.info, services.stop, services.progress.phase)
        try:
            return evaluator.final(self._policy(policy))
        finally:
            evaluator.close()

    def acting(self, policy: Any) -> Policy:
        """Return how a policy of this evaluator acts on observations."""
        return self._policy(policy)

    def close(self) -> list[str]:
        """Nothing is open, and nothing goes wrong."""
        return []

    def _act_of(self, agent: Any) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
        """How one trial acts: parameters [P], observations [E, *shape], uniform numbers [E or 0, W] -> actions [E].

        Subclasses may need more of the agent than `GreedyAgent`.
        """
        return lambda params, o_t, _: agent.greedy(params, o_t)

    def _params_and_numbers(self, policy: Any, first_seed: int) -> tuple[tf.Tensor, np.ndarray]:
        """The parameters of a policy [L, P], and the uniform numbers by which it acts [L, steps, E or 0, W]."""
        return policy, np.zeros((self._num_lanes, self._limit, 0), np.float32)

    def _scores(self, policy: Any, first_seed: int, num_episodes: int, trials: np.ndarray) -> Scores:
        """Play episodes in portions of one size, so that one program plays them all; the first call compiles it."""
        if not self._compiled:
            self._compiled, nobody = True, np.zeros_like(trials)
            compile_now(lambda: self.periodic(policy, nobody), self._services.progress.say, "evaluation")
        n, width = len(trials), self._config.num_episodes
        chosen = np.zeros(self._num_lanes, bool)
        chosen[:n] = trials
        played = [
            self._program(
                *self._params_and_numbers(policy, first_seed + start),
                *self._uniforms(first_seed + start),
                tf.constant(chosen),
            )
            for start in range(0, num_episodes, width)
        ]
        returns, lengths = (np.concatenate(part, axis=1)[:n, :num_episodes] for part in zip(*played, strict=True))
        mask = trials[:, None]
        seeds = [first_seed + i for i in range(num_episodes)]
        return Scores(seeds, np.where(mask, returns, np.nan), np.where(mask, lengths, 0))

    def _uniforms(self, first_seed: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Uniform numbers of one portion of episodes: [E, reset_width], [E, steps, step_width]."""
        if first_seed not in self._numbers:
            env, seeds = self._env, [first_seed + i for i in range(self._config.num_episodes)]
            width = env.reset_width + env.step_width * self._limit
            rows = np.stack([gymnasium_uniforms(seed, width) for seed in seeds]).astype(np.float32)  # [E, width]
            steps = rows[:, env.reset_width :].reshape(len(seeds), self._limit, env.step_width)
            self._numbers[first_seed] = tf.constant(rows[:, : env.reset_width]), tf.constant(steps)
        return self._numbers[first_seed]


def episodes(env: TensorEnv, act: Callable[..., tf.Tensor], num_lanes: int, limit: int) -> Callable[..., Tree]:
    """Return the function that plays one episode for each of E resets in each chosen lane, at most `limit` steps."""

    def play(
        params: tf.Tensor, u_act: tf.Tensor, u_reset: tf.Tensor, u_step: tf.Tensor, chosen: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Play the episodes.

        Args:
            params: of the lanes.  # [L, P]
            u_act: uniform numbers by which they act.  # [L, limit, E or 0, W]
            u_reset, u_step: uniform numbers of the environment.  # [E, reset_width], [E, limit, step_width]
            chosen: lanes that play, bool.  # [L]

        Returns:
            Returns and lengths.  # [L, E], [L, E]
        """
        width = u_reset.shape[0]  # E

        def body(i: tf.Tensor, state: tf.Tensor, alive: tf.Tensor, returns: tf.Tensor, lengths: tf.Tensor) -> Tree:
            o_t = mapped(env.observe)(state)  # [L * E, *shape]
            o_t = tf.reshape(o_t, (num_lanes, width, *o_t.shape[1:]))
            a_t = mapped(act)(params, o_t, u_act[:, i])  # [L, E, *action shape]
            u = tf.tile(u_step[:, i], (num_lanes, 1))  # [L * E, step_width]
            state, r_t, terminated = mapped(env.step)(state, tf.reshape(a_t, (-1, *a_t.shape[2:])), u)
            returns += tf.where(alive, tf.cast(r_t, tf.float64), tf.zeros_like(returns))
            lengths += tf.cast(alive, tf.int32)
            return i + 1, state, alive & ~terminated, returns, lengths

        state = tf.tile(mapped(env.reset)(u_reset), (num_lanes, 1))  # [L * E, D]
        alive = tf.repeat(chosen, width)  # [L * E]
        zeros = tf.zeros(num_lanes * width, tf.float64), tf.zeros(num_lanes * width, tf.int32)
        _, _, _, returns, lengths = tf.while_loop(
            lambda i, _, alive, *__: (i < limit) & tf.reduce_any(alive), body, (0, state, alive, *zeros)
        )
        return tf.reshape(returns, (num_lanes, width)), tf.reshape(lengths, (num_lanes, width))

    return play
