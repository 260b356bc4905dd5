"""The compiled loop of agents that learn from a replay ring: acting, storing and learning of many lock-steps.

Each trial's counters, masks and schedules are inside the program. Trials advance in lock-step, so that one slot number
serves all rings.

Axes: L lanes (>= N trials; in a program those of its shard), T lock-steps of one call, M episodes of one trial that may
end in one call, U updates of one call, B batch, C ring capacity, K numbers of a row, D numbers of an environment's
state, n steps of an n-step return, W uniform numbers of an action or of an update, H metrics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from rlexp.algos.base import Agent
from rlexp.config.schema.algos import ReplaySettings
from rlexp.data.transition import OUTCOME
from rlexp.engines import rules
from rlexp.engines.fused import prioritized
from rlexp.engines.fused.base import (
    MAX_EPISODES,
    NEVER,
    EnvState,
    Tree,
    begin_next,
    look_up,
    offer,
    one_after_another,
    write,
)
from rlexp.engines.vectorized import PRIORITIES, learn, mapped
from rlexp.envs.spec import Spec
from rlexp.envs.tensor.base import TensorEnv, limited_step

Array = Any  # of NumPy on the host, of TensorFlow in a program

MAPPED_WORK = 1_000_000  # parameters times batch above which updates are made one after another: measured


class Sizes(NamedTuple):
    """How much one call of the program may do."""

    lanes: int  # L
    steps: int  # T
    episodes: int  # M


class Best(NamedTuple):
    """The best training episode of each trial, and what acted in it."""

    params: Tree  # what acts: tree of [L, ...]
    score: Array  # float64 [L], its return
    step: Array  # int32 [L], env steps of the trial at its end
    new: Array  # bool [L], whether the parameters are yet to be kept


class Carry(NamedTuple):
    """What goes on from call to call, of all lanes."""

    agent: Tree  # the agent's state: tree of [L, ...]
    env: EnvState
    counts: dict[str, Array]  # "step", "episode", "update": int32 [L]
    before: dict[str, Array]  # the same before the trial's last step
    copied: Array  # int32 [L], target periods that have ended in a copy
    broken: Array  # bool [L], trials that have diverged
    priorities: Any = ()  # `prioritized.Priorities`, where batches are drawn by them; else nothing
    best: Any = ()  # `Best`, where the best training episode chooses the weights; else nothing


class Given(NamedTuple):
    """What the host hands to a call."""

    t: Array  # int32 [], lock-steps before it
    steps: Array  # int32 [], lock-steps to take
    max_episodes: Array  # int32 [], the budget of episodes
    num_trials: Array  # int32 [], lanes that are trials
    active: Array  # bool [L], trials that still train
    first: dict[str, Array]  # counts at its start: int32 [L]
    act: Array  # uniform numbers of acting [L, T, W]
    learn: Array  # uniform numbers of updates, from the trial's next one on [L, U, W]
    replay: Array  # uniform numbers of sampling, likewise [L, U, B]
    scalars: dict[str, Array]  # path: schedules by counts since its start [L, T or M or U, + 1]
    reset: Array  # uniform numbers of resets [L, M, reset_width]
    dynamics: Array  # uniform numbers of steps [L, T, step_width]


class Out(NamedTuple):
    """What a call has come to."""

    steps: Array  # int32 [], lock-steps taken
    updates: Array  # int32 [], updates made
    returns: Array  # float64 [T, L], of episodes that have ended with a step
    lengths: Array  # int32 [T, L], of those, 0 where none has ended
    metrics: Array  # [U, L, H]
    learned: Array  # bool [U, L], whether an update was the trial's, and its loss finite
    broken_at: Array  # int32 [1, L], with which lock-step of the call a trial has diverged, from 1 on, or NEVER


def updates_of_a_trial(config: ReplaySettings, steps: int) -> int:
    """The most updates that one trial can make in so many lock-steps of one call."""
    units = min(steps, MAX_EPISODES) if config.learn_unit == "episode" else steps
    return (units // config.learn_period + 1) * config.num_updates


def updates_of_a_call(config: ReplaySettings, steps: int) -> int:
    """The same of all trials; those that count episodes may make theirs at different steps."""
    return steps * config.num_updates if config.learn_unit == "episode" else updates_of_a_trial(config, steps)


class ReplayProgram:
    """The compiled loop: pure, and made of nothing but what `fused.graph_key` names.

    Args:
        agent: of one trial.
        env, limit: the dynamics, and most steps of an episode.
        config: the agent's configuration, a `ReplaySettings`; with DQN's keys where batches are drawn by priorities.
        action: what agents choose.
        units: what the schedule of each scalar counts.
        sizes: what one call may do.
        select_train_episode: keep the weights of the best training episode.
    """

    def __init__(
        self,
        agent: Agent,
        env: TensorEnv,
        limit: int | None,
        config: Any,
        action: Spec,
        units: Mapping[str, str],
        sizes: Sizes,
        select_train_episode: bool,
    ) -> None:
        self.agent, self.env, self.limit, self.sizes = agent, env, limit, sizes
        self.config, self.units, self.select_train_episode = config, units, select_train_episode
        self.max_updates = updates_of_a_call(config, sizes.steps)
        networks = agent.networks.values()
        large = sum(network.size for network in networks) * config.batch_size > MAPPED_WORK
        # Convolutions in patches are slow without an axis of lanes: updates of `network=minatar` take thrice as long.
        self.one_after_another = large and not any(network.sees_images for network in networks)
        self.action, self.action_size = action, math.prod(action.shape)
        # s_tm1, s_t, a_tm1 and the outcome, one after the other
        self.row_size = 2 * env.state_size + self.action_size + len(OUTCOME)

    def run(self, ring: tf.Variable, carry: Carry, given: Given) -> tuple[Carry, Out]:
        """Up to `given.steps` lock-steps; ends earlier with a step after which the host has to act.

        Args:
            ring: the transitions, which are written into it.  # [L, C, K]
            carry: what the call before has returned.
            given: see `Given`.
        """
        out = self.nothing_yet()

        def body(i: tf.Tensor, stop: tf.Tensor, rows: tf.Tensor, carry: Carry, out: Out) -> Tree:
            i, rows, carry, out = self.act_until_due(i, rows, carry, out, given)
            if self.select_train_episode:
                carry = carry._replace(best=self.kept(carry))
            was_broken = carry.broken
            due = rules.learning_due(self.config, carry.counts, carry.before, training(carry, given))
            carry, out = self.learn(due, given.t + i, rows, carry, out, given)
            out = out._replace(broken_at=tf.where(carry.broken & ~was_broken, i, out.broken_at))
            return i, self.over(carry, given), rows, carry, out

        i, _, rows, carry, out = tf.while_loop(
            lambda i, stop, *_: (i < given.steps) & ~stop, body, (0, False, ring.read_value(), carry, out)
        )
        ring.assign(rows)
        return carry, out._replace(steps=i)

    def nothing_yet(self) -> Out:
        """What a call has come to before its first lock-step."""
        lanes, steps, _ = self.sizes
        return Out(
            steps=tf.constant(0),
            updates=tf.constant(0),
            returns=tf.zeros((steps, lanes), tf.float64),
            lengths=tf.zeros((steps, lanes), tf.int32),
            metrics=tf.zeros((self.max_updates, lanes, len(self.agent.metrics))),
            learned=tf.zeros((self.max_updates, lanes), tf.bool),
            broken_at=tf.fill((1, lanes), NEVER),
        )

    def over(self, carry: Carry, given: Given) -> tf.Tensor:
        """Whether some trial needs the host: its episodes are spent, or the resets that it was given.  # []"""
        episode = carry.counts["episode"]
        spent = (episode >= given.max_episodes) | (episode - given.first["episode"] >= self.sizes.episodes)
        return tf.reduce_any(training(carry, given) & spent)

    def kept(self, carry: Carry) -> Best:
        """The best training episodes, with the parameters of those that have just ended."""
        best: Best = carry.best
        new = best.new

        def keep(now: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
            return tf.where(tf.reshape(new, (-1, *[1] * (len(now.shape) - 1))), now, before)

        params = tf.nest.map_structure(keep, self.agent.acting(carry.agent), best.params)
        return best._replace(params=params, new=tf.zeros_like(new))

    def act_until_due(
        self, i: tf.Tensor, ring: tf.Tensor, carry: Carry, out: Out, given: Given
    ) -> tuple[tf.Tensor, tf.Tensor, Carry, Out]:
        """Lock-steps from the `i`-th on, up to one after which a learning phase is due or the host has to act."""
        weights = mapped(self.agent.unpack)(self.agent.acting(carry.agent))
        still = ("agent", "copied", "broken")  # what acting leaves as it is stays out of the loop
        moving = {name: value for name, value in carry._asdict().items() if name not in still}
        active = training(carry, given)

        def step(i: tf.Tensor, _: tf.Tensor, ring: tf.Tensor, moving: Tree, out: Tree) -> Tree:
            now = carry._replace(**moving)
            ring, now, returns, lengths = self.act(i, weights, active, ring, now, out, given)
            due = rules.learning_due(self.config, now.counts, now.before, active)
            pause = tf.reduce_any(due) | self.over(now, given)
            return i + 1, pause, ring, {name: getattr(now, name) for name in moving}, (returns, lengths)

        i, _, ring, moving, (returns, lengths) = tf.while_loop(
            lambda i, pause, *_: (i < given.steps) & ~pause, step, (i, False, ring, moving, (out.returns, out.lengths))
        )
        return i, ring, carry._replace(**moving), out._replace(returns=returns, lengths=lengths)

    def act(
        self,
        i: tf.Tensor,
        weights: Tree,
        active: tf.Tensor,
        ring: tf.Tensor,
        carry: Carry,
        episodes: tuple[tf.Tensor, tf.Tensor],
        given: Given,
    ) -> tuple[tf.Tensor, Carry, tf.Tensor, tf.Tensor]:
        """One lock-step of all trials: act, step, store, count those of the active ones [L].

        Returns:
            The ring, what goes on, and the returns and lengths of episodes with those that have ended now.
        """
        counts, lane = carry.counts, carry.env
        scalars = look_up(given.scalars, self.units, since(counts, given))
        u_reset = tf.gather(given.reset, counts["episode"] - given.first["episode"], batch_dims=1)
        a_tm1, s_t, r_t, terminated, truncated, first = mapped(self.step)(
            weights, lane, given.act[:, i], given.dynamics[:, i], u_reset, scalars
        )
        outcome = {
            "r_t": rules.clipped_reward(self.config, r_t, tf),
            "terminated": rules.ends(self.config, terminated, truncated),
            "truncated": truncated,
        }
        columns = [tf.reshape(tf.cast(a_tm1, tf.float32), (-1, self.action_size))]
        columns += [tf.cast(outcome[name], tf.float32)[:, None] for name in OUTCOME]
        row = tf.concat([lane.state, s_t, *columns], axis=1)  # [L, K]
        slot = (given.t + i) % self.config.replay_size
        ring = xla.dynamic_update_slice(ring, row[:, None], tf.stack([0, slot, 0]))
        over = terminated | truncated
        ended = over & active
        env = EnvState(s_t, lane.returns + tf.cast(r_t, tf.float64), lane.length + 1)
        new_counts = {
            **counts,
            "step": counts["step"] + tf.cast(active, tf.int32),
            "episode": counts["episode"] + tf.cast(ended, tf.int32),
        }
        before = {unit: tf.where(active, now, carry.before[unit]) for unit, now in counts.items()}
        best = carry.best
        if self.select_train_episode:
            better, score, step = offer(best.score, best.step, ended, env.returns, new_counts["step"])
            best = best._replace(score=score, step=step, new=best.new | better)
        carry = carry._replace(env=begin_next(over, first, env), counts=new_counts, before=before, best=best)
        if self.agent.prioritized:
            new = prioritized.add(carry.priorities, slot, self.config.priority_alpha)
            carry = carry._replace(priorities=new)
        all_returns, all_lengths = episodes
        lengths = write(all_lengths, i, tf.where(ended, env.length, 0))
        return ring, carry, write(all_returns, i, env.returns), lengths

    def step(
        self, params: tf.Tensor, lane: EnvState, u_act: tf.Tensor, u_step: tf.Tensor, u_reset: tf.Tensor, scalars: Tree
    ) -> tuple[tf.Tensor, ...]:
        """One step of one trial: a_tm1, s_t, r_t, terminated, truncated, and where a next episode would start."""
        a_tm1 = self.agent.act(params, self.env.observe(lane.state), u_act, scalars)
        outcome = limited_step(self.env, self.limit, lane.state, lane.length, a_tm1, u_step)
        return a_tm1, *outcome, self.env.reset(u_reset)

    def learn(
        self, due: tf.Tensor, added: tf.Tensor, ring: tf.Tensor, carry: Carry, out: Out, given: Given
    ) -> tuple[Carry, Out]:
        """One learning phase of the trials that are due [L]; `added`: transitions that each ring has ever got."""
        first = carry.counts["update"] - given.first["update"]  # [L]
        numbers = first[:, None] + tf.range(self.config.num_updates)
        u = tf.gather(given.replay, numbers, batch_dims=1)  # [L, num_updates, B]
        # All slots are drawn before the loop: inside it, XLA would compute a slot anew for each number of its row.
        slots: Any = None if self.agent.prioritized else self.draw(u, added)  # [L, num_updates, B, n]
        u_learn = tf.gather(given.learn, numbers, batch_dims=1)  # [L, num_updates, W]

        def update(j: tf.Tensor, carry: Carry, out: Out) -> Tree:
            scalars = look_up(given.scalars, self.units, since(carry.counts, given))
            if self.agent.prioritized:
                drawn, weight = self.draw_by_priority(u[:, j], added, carry, scalars)
                slot = self.with_those_after(drawn)
                batch = {**self.batch(ring, slot, added, scalars["gamma"]), "weight": weight}
            else:
                batch = self.batch(ring, slots[:, j], added, scalars["gamma"])
            learning = due & ~carry.broken
            counts = {**carry.counts, "update": carry.counts["update"] + tf.cast(learning, tf.int32)}
            copy, copied = rules.target_due(self.config, counts, carry.copied, learning, tf)
            agent, metrics = self.update(given.num_trials, carry.agent, batch, u_learn[:, j], scalars, learning)
            agent = self.renew_targets(agent, copy)
            broken = learning & ~tf.math.is_finite(metrics["loss"])
            if self.agent.prioritized:
                how = self.config.priority_alpha, self.config.priority_epsilon
                new = prioritized.update(carry.priorities, learning & ~broken, drawn, metrics[PRIORITIES], *how)
                carry = carry._replace(priorities=new)
            values = tf.stack([metrics[name] for name in self.agent.metrics], axis=1)  # [L, H]
            carry = carry._replace(agent=agent, counts=counts, copied=copied, broken=carry.broken | broken)
            out = out._replace(
                updates=out.updates + 1,
                metrics=write(out.metrics, out.updates, values),
                learned=write(out.learned, out.updates, learning & ~broken),
            )
            return j + 1, carry, out

        repeats = tf.where(tf.reduce_any(due), self.config.num_updates, 0)
        return tf.while_loop(lambda j, *_: j < repeats, update, (0, carry, out))[1:]

    def update(
        self, num_trials: tf.Tensor, state: Tree, batch: Tree, u: tf.Tensor, scalars: Tree, due: tf.Tensor
    ) -> tuple[Tree, Tree]:
        """One update of all trials: state and metrics [L]; what is fixed is read, and stays as it is."""
        fixed = {name: value for name, value in state.items() if name in self.agent.fixed}
        moving = {name: value for name, value in state.items() if name not in fixed}

        def update(
            moving: Tree, fixed: Tree, batch: Tree, u: tf.Tensor, scalars: Tree, due: tf.Tensor
        ) -> tuple[Tree, Tree]:
            new, metrics = self.update_of_a_trial({**moving, **fixed}, batch, u, scalars, due)
            return {name: new[name] for name in moving}, metrics

        args = fixed, batch, u, scalars, due
        if self.one_after_another:
            metrics = dict.fromkeys(self.agent.metrics, tf.zeros(self.sizes.lanes))
            if self.agent.prioritized:
                metrics[PRIORITIES] = tf.zeros((self.sizes.lanes, self.config.batch_size))
            moving, metrics = one_after_another(update, num_trials, moving, metrics, *args)
        else:
            moving, metrics = mapped(update)(moving, *args)
        return {**moving, **fixed}, metrics

    def update_of_a_trial(
        self, state: Tree, batch: Tree, u: tf.Tensor, scalars: Tree, due: tf.Tensor
    ) -> tuple[Tree, Tree]:
        """One update of one trial.

        Where learning counts episodes, a trial that is not due keeps its state bit for bit. Where it counts steps, all
        trials that still train are due together, and nobody looks at what the others do: the mask would cost a tenth.
        """
        new, metrics = learn(self.agent, state, batch, u, scalars)
        if self.config.learn_unit == "step":
            return new, metrics
        return tf.nest.map_structure(lambda a, b: tf.where(due, a, b), new, state), metrics

    def renew_targets(self, state: Tree, due: tf.Tensor) -> Tree:
        """Hard targets, of the trials in which that is due [L], renewed.

        It is seldom due. In a loop of no turn or one it costs nothing then, where a condition would copy its operands,
        and as a part of the update XLA would compute the optimiser's step a second time for it.
        """
        fixed = {name: state[name] for name in self.agent.fixed}
        if not fixed:
            return state
        repeats = tf.cast(tf.reduce_any(due), tf.int32)

        def body(i: tf.Tensor, fixed: Tree) -> tuple[tf.Tensor, Tree]:
            new = mapped(self.agent.renew_target)({**state, **fixed}, due)
            return i + 1, {name: new[name] for name in fixed}

        return {**state, **tf.while_loop(lambda i, _: i < repeats, body, (0, fixed))[1]}

    def draw(self, u: tf.Tensor, added: tf.Tensor) -> tf.Tensor:
        """Slots of transitions for uniform numbers [...], each with the n - 1 that follow it in time.  # [..., n]"""
        size = self.config.replay_size
        held = tf.minimum(added, size)
        oldest = tf.where(added > size, added % size, 0)
        age = tf.cast(tf.cast(u, tf.float64) * tf.cast(held, tf.float64), tf.int32)  # 0 is the oldest
        return self.with_those_after(oldest + age)

    def draw_by_priority(
        self, u: tf.Tensor, added: tf.Tensor, carry: Carry, scalars: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Slots and importance weights of one update's batch for uniform numbers.  # [L, B]"""
        held = tf.minimum(added, self.config.replay_size)
        return prioritized.draw(carry.priorities, u, held, scalars["priority_beta"])

    def with_those_after(self, slot: tf.Tensor) -> tf.Tensor:
        """Each slot [...] with the n - 1 that follow it in time.  # [..., n]"""
        return (slot[..., None] + tf.range(self.config.n_step)) % self.config.replay_size

    def batch(self, ring: tf.Tensor, slot: tf.Tensor, added: tf.Tensor, gamma: tf.Tensor) -> dict[str, tf.Tensor]:
        """Transitions from slots [L, B, n], summed over up to n steps as `replay.ReplayRing.sample` does."""
        size, n, d = self.config.replay_size, self.config.n_step, self.env.state_size
        rows = tf.gather(ring, slot, batch_dims=1)  # [L, B, n, K]
        at = 2 * d + self.action_size
        outcome = dict(zip(OUTCOME, tf.unstack(rows[..., at:], axis=-1), strict=True))  # [L, B, n] each
        r_t, goes_on = outcome["r_t"], (outcome["terminated"] + outcome["truncated"])[..., :-1] < 0.5
        goes_on &= slot[..., :-1] != (added - 1) % size  # the newest
        # The first step that nothing follows, by one reduction: a running product would take a kernel for each step.
        ends = tf.where(goes_on, n - 1, tf.range(n - 1))  # [L, B, n - 1]
        last_step = tf.reduce_min(ends, axis=-1) if n > 1 else tf.zeros(slot.shape[:2], tf.int32)  # [L, B]
        looked_at = tf.range(n) <= last_step[..., None]  # [L, B, n]
        num_steps = tf.cast(last_step + 1, tf.float32)  # [L, B]
        powers = tf.pow(gamma[:, None, None], tf.range(n, dtype=tf.float32))  # [L, 1, n]
        # a reward that is not looked at must not count, not even as NaN times 0
        r_t = tf.reduce_sum(tf.where(looked_at, powers * r_t, 0.0), axis=-1)  # [L, B]
        first = rows[..., 0, :]  # [L, B, K]
        last = tf.gather(rows, last_step, batch_dims=2) if n > 1 else first  # [L, B, K]
        a_tm1 = tf.reshape(first[..., 2 * d : at], (*slot.shape[:2], *self.action.shape))
        return {
            "o_tm1": self.observe(first[..., :d]),
            "a_tm1": tf.cast(a_tm1, self.action.dtype),
            "r_t": r_t,
            "terminated": last[..., at + list(OUTCOME).index("terminated")],
            "num_steps": num_steps,
            "o_t": self.observe(last[..., d : 2 * d]),
        }

    def observe(self, states: tf.Tensor) -> tf.Tensor:
        """Observations [L, B, *shape] of states [L, B, D]."""
        observations = mapped(self.env.observe)(tf.reshape(states, (-1, states.shape[-1])))
        return tf.reshape(observations, (*states.shape[:2], *observations.shape[1:]))


def training(carry: Carry, given: Given) -> tf.Tensor:
    """Trials that still train.  # [L] bool"""
    return given.active & ~carry.broken


def since(counts: Mapping[str, tf.Tensor], given: Given) -> dict[str, tf.Tensor]:
    """What trials have counted in this call.  # unit: [L]"""
    return {unit: count - given.first[unit] for unit, count in counts.items()}
