"""Whole iterations of policy gradients as one XLA program, where the batches of all trials are complete together.

The host draws the numbers, minibatches included, and afterwards counts, evaluates and records as if it had been there
at each lock-step. An evaluation is made with the weights that acted then: a call ends with the iteration in which one
is due. A job stops, and checkpoints are written, between two batches alone: the bits of an update are those of the
program that makes it, and so it is always the same one. The lanes are split over the cores: shards advance side by
side, since all of them take equally many lock-steps.

Axes: N trials, L lanes, E environments of a trial, K iterations of a call, T lock-steps of a batch, U updates from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rlexp.algos.base import Params
from rlexp.config.schema.job import Settings
from rlexp.data.rollout_buffer import padded
from rlexp.engines.fused.base import NEVER, EnvState, Pace, Tables, TensorEnvs, Tree, compile_now, program
from rlexp.engines.fused.rollout_program import Given, IterationProgram, Learned, Learning
from rlexp.engines.fused.shards import Shards, num_cores
from rlexp.engines.host.rollout import RolloutLoop

MOST_STEPS = 1024  # lock-steps of a call, or of one batch if it has more


def suit(settings: Settings) -> bool:
    """Whether a job learns in whole iterations: batches and budget count steps, and several environments act.

    (With one environment per trial the bits of earlier versions are kept.) Training episodes that choose the best
    weights are offered with the weights of their own lock-step, which the host does.
    """
    config = settings.algo
    return (
        config.num_envs > 1
        and config.batch_unit == "step"
        and settings.max_steps is not None
        and settings.evaluation.selection != "train_episode"
    )


class Iterations:
    """What calls the program of whole iterations.

    Args:
        loop: whose trials, agents and numbers these are.
        envs: of the trials.
        make: makes the program for so many lanes and T lock-steps.
        key: of the compiled program for so many lanes, see `fused.base.program`.
        policy: makes a policy, as the evaluator plays it, of what acts and an env step.
    """

    def __init__(
        self,
        loop: RolloutLoop,
        envs: TensorEnvs,
        make: Callable[[int, int], IterationProgram],
        key: Callable[[int], str],
        policy: Callable[[Params, int], Any],
    ) -> None:
        self._loop, self._envs, self._policy = loop, envs, policy
        config, agent = loop.config, loop.lanes.agent
        self._batch = config.batch_size  # env steps
        self._length = config.batch_size // config.num_envs  # T
        self._most = max(1, MOST_STEPS // self._length)  # K
        self._updates = agent.num_updates * agent.num_minibatches  # U
        steps = self._most * self._length
        sizes = {"step": steps, "episode": steps * config.num_envs, "update": self._most * self._updates}
        self._tables = Tables(loop.schedules, sizes, config.num_envs)
        self._shards = Shards(len(loop.seeds), loop.lanes.num_lanes, num_cores())
        lanes = self._shards.num_lanes
        self._program = program("iterations", key(lanes), make(lanes, self._length).iterate)
        self._pace = Pace()

    def train(self) -> None:
        """Train until the budget is spent, or no trial trains any more."""
        compile_now(lambda: self._call(0), self._loop.trials.services.progress.say, "training")
        while self._loop.trials.active.any():
            if number := self._due():
                self._run(number)
            else:
                self._run_rest()

    def _left(self) -> int:
        """Env steps that are left of the budget."""
        settings = self._loop.trials.settings
        assert settings.max_steps is not None
        return settings.max_steps - self._loop.trials.t

    def _due(self) -> int:
        """How many iterations the next call should have; 0: what is left of the budget is less than one."""
        trials, left = self._loop.trials, self._left()
        period = trials.settings.evaluation.period
        most = [left // self._batch, self._most, math.ceil((period - trials.t % period) / self._batch)]
        if (agreed := trials.services.checkpoints.agreed()) is not None:
            most.append((agreed - trials.t) // self._batch)
        return min(*most, max(1, self._pace.steps // self._length))

    def _run(self, number: int) -> None:
        """Train for so many iterations, and attend to what was due in them."""
        loop, trials, length = self._loop, self._loop.trials, self._length
        self._pace.start()
        out = self._call(number)
        self._pace.stop(number * length)
        returns, lengths = (values[: number * length] for values in (out.returns, out.lengths))
        self._envs.note(lengths)
        for k in range(number):
            rows = slice(k * length, (k + 1) * length)
            own = lengths[rows] * trials.active[:, None]  # not of trials that have diverged in this call
            self._count(returns[rows], own, out.acting)
            due, scalars = np.flatnonzero(trials.active), self._scalars(own)
            loop.learned(due, {name: out.metrics[k, due, i] for i, name in enumerate(loop.lanes.agent.metrics)})
            if k == number - 1:
                policy = self._policy(loop.lanes.acting, trials.t)
                trials.housekeeping(policy, loop.lanes.params, scalars, loop.get_state)
            else:
                trials.attend(None, loop.lanes.params, scalars)  # a record at most
            if not trials.active.any():
                return

    def _run_rest(self) -> None:
        """Act for what is left of the budget, in which no batch is complete: an iteration that is not learned from."""
        loop, trials, state = self._loop, self._loop.trials, self._loop.lanes.state
        assert self._left() < self._batch, "checkpoints are agreed upon between two batches"
        out = self._call(1)
        loop.lanes.state = state
        steps = math.ceil(self._left() / loop.num_envs)
        lengths = trials.counted(out.lengths[:steps])
        self._count(out.returns[:steps], lengths, loop.lanes.acting)
        policy = self._policy(loop.lanes.acting, trials.t)
        trials.housekeeping(policy, loop.lanes.params, self._scalars(lengths), loop.get_state)

    def _count(self, returns: np.ndarray, lengths: np.ndarray, acting: Params) -> None:
        """Count lock-steps [T, N, E], and attend to what was due between them; `acting`: what acted in them."""
        trials, loop, taken = self._loop.trials, self._loop, 0
        while taken < len(lengths):
            part = slice(taken, min(len(lengths), taken + trials.steps_left()))
            trials.advance_many(returns[part], lengths[part])
            taken = part.stop
            if taken < len(lengths):
                policy = self._policy(acting, trials.t)
                trials.attend(policy, lambda: loop.lanes.rows(acting), self._scalars(lengths[part]))

    def _scalars(self, lengths: np.ndarray) -> dict[str, np.ndarray]:
        """What was scheduled for the lock-step that was counted last."""
        before: Mapping[str, np.ndarray] = self._loop.trials.before_last(lengths)
        schedules = self._loop.schedules
        return self._loop.lanes.logged({path: schedule(before) for path, schedule in schedules.items()})

    def _call(self, number: int) -> Learned:
        """One call of the program."""
        loop, lanes, trials, most = self._loop, self._loop.lanes, self._loop.trials, self._most
        n, counts, first = len(trials.active), trials.counts, trials.t // loop.num_envs
        steps, size, updates = number * self._length, most * self._length, self._updates
        learn = loop.u_learn.span(counts["update"], number * updates, most * updates)
        rows = {
            "active": trials.active,
            "held_steps": np.zeros(n, np.int32),
            "held_episodes": np.zeros(n, np.int32),
            "first_episode": counts["episode"].astype(np.int32),
            "act": loop.u_act.span(np.full(n, first), steps, size),
            "scalars": self._tables.rows(counts),
            "order": self._orders(number),
            "learn": learn.reshape(n, most, updates, lanes.agent.widths["learn"]),
            **self._envs.numbers(first, self._envs.episode, steps, size)._asdict(),
        }

        def run(i: int, carry: tuple[Tree, EnvState], rows: dict[str, Tree]) -> tuple[tuple[Tree, EnvState], Learned]:
            learning = Learning(np.int32(number), rows.pop("order"), rows.pop("learn"))
            given = Given(steps=np.int32(steps), max_episodes=np.int32(NEVER), **rows)
            given = given._replace(active=given.active & self._shards.occupied(i))
            state, envs, out = self._program(*carry, given, learning)
            return (state, envs), out

        outs: list[Learned]
        (lanes.state, self._envs.state), outs = self._shards.call(run, (lanes.state, self._envs.state), rows)
        returns, lengths, metrics = (
            self._shards.columns([getattr(out, name) for out in outs]) for name in ("returns", "lengths", "metrics")
        )
        return Learned(returns, lengths, metrics, self._shards.join([out.acting for out in outs]))

    def _orders(self, number: int) -> np.ndarray:
        """The rows that each update learns from; of the first `number` iterations.  # int32 [N, K, U, M]"""
        loop, num_rows = self._loop, int(padded(self._batch))
        agent, n = loop.lanes.agent, len(loop.trials.active)
        orders = np.zeros((n, self._most, self._updates, num_rows // agent.num_minibatches), np.int32)
        for i in range(n):
            update = int(loop.trials.counts["update"][i])
            for k in range(number):
                orders[i, k] = loop.order_of(i, self._batch, num_rows, update + k * self._updates)
        return orders
