"""N trials as lanes of one compiled program: an agent written for one trial, mapped over the trial axis.

`tf.vectorized_map` maps the whole update, gradient tape and optimiser included, so that loss means, norm clipping,
learning rates and NaNs are per trial. XLA keeps a lane's bits independent of how many lanes there are from two lanes
on (measured, with the flag of `backend.prepare`; plain graph mode does not; one lane alone is a matrix less an axis,
for which XLA has other kernels), so that a single trial is padded to two lanes unless `exact` is false.
An update alone cannot do without the second lane either. Its products of B rows are the same to the bit, but a factor
of one trial (the clipping of its gradient, tau) is then a number without an axis: XLA fuses it in another way, and
rounds another product together with the sum that follows (measured: adam with an active clip, sgd with a soft target).
Convolutions are the exception (but for those of small images, see `networks/patches.py`), and whatever else
`engines/mapping.py` finds in a network: mapped over trials, each with filters of its own, they are 30 times too slow
under XLA on a CPU or do not exist. Their program is one copy of the update for each trial, side by side and without
XLA: a trial's operations are then those of its solo run, to the same bits, with no padding.

Axes: L lanes (>= N trials), B batch, E observations, P parameters that act, H scalars, W uniform
numbers of an update.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from rlexp.algos.base import Agent, Params
from rlexp.config.schedules import scalar_paths

MIN_EXACT_LANES = 2
BYTES = np.dtype(np.uint8)  # of images
PRIORITIES = "priorities"  # among metrics

Tree = Any
Programs = dict[tuple, "Compiled"]  # by name, lanes, and shapes of a trial's arrays

Made = TypeVar("Made")
SomeAgent = TypeVar("SomeAgent", bound=Agent)


class Compiled(NamedTuple):
    """A compiled function of flat tensors, and the structure of its results.  # 0: one tensor"""

    concrete: Any
    structure: Tree

    def __call__(self, tensors: list[tf.Tensor]) -> Tree:
        """Call it without the dispatch of `tf.function`, which takes longer than a program that acts."""
        function = self.concrete.inference_fn
        results = context.context().call_function(function.name, tensors, len(self.concrete.outputs))
        return results[0] if self.structure == 0 else tf.nest.pack_sequence_as(self.structure, results)


class Recent(Generic[Made]):
    """What was made for the keys that were asked for last; what is dropped is made again when it is asked for.

    Args:
        size: how many are kept.
    """

    def __init__(self, size: int) -> None:
        self._size, self._made = size, OrderedDict[Hashable, Made]()

    def get(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` returned for the key, now or earlier."""
        if key not in self._made:
            self._made[key] = make()
        self._made.move_to_end(key)
        while len(self._made) > self._size:
            self._made.popitem(last=False)
        return self._made[key]

    def __len__(self) -> int:
        return len(self._made)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._made


# A graph takes one entry here and two (training and evaluation) of the fused engine's: 32 are a sweep that goes round
# all the algorithms on each engine, seed after seed, and compiles each once; a search over hundreds of networks would
# keep them all without a bound, at megabytes each.
MAX_PROGRAMS = 32
_PROGRAMS: Recent[Programs] = Recent(MAX_PROGRAMS)  # of this process, by what they are made of

# By graph and seeds: the jobs of a sweep that differ in numbers alone start alike, and Keras takes some 30 ms to build
# a network.
INITIAL_PARAMS: Recent[dict[str, np.ndarray]] = Recent(4)  # name: [N, P]


class Lanes(Generic[SomeAgent]):
    """The compiled `act`, `learn` and `greedy` of N trials of one agent.

    Args:
        agent: the agent of one trial.
        params: initial parameters of the trials' networks.  # name: [N, P]
        exact: pad a single mapped trial to two lanes, so that a trial's numbers do not depend on N. (With convolutions
            in patches it always is: in the fused engine's loop, one lane alone takes three times as long as two.)
        side_by_side: the agent's networks cannot be mapped: one copy of its update for each trial.
        graph: everything that the compiled programs are made of: jobs of one process that agree in it share them.

    Attributes:
        state: of the agent, in all lanes.  # tree of [L, ...]
    """

    def __init__(
        self, agent: SomeAgent, params: Mapping[str, np.ndarray], exact: bool, side_by_side: bool, graph: Hashable
    ) -> None:
        self.agent, self.num_trials = agent, len(next(iter(params.values())))
        padded = (exact or any(model.sees_images for model in agent.networks.values())) and not side_by_side
        self.num_lanes = max(self.num_trials, MIN_EXACT_LANES) if padded else self.num_trials
        self._jit = not side_by_side
        self._map = _side_by_side if side_by_side else mapped
        self._compiled = _PROGRAMS.get((graph, self.num_lanes, side_by_side), dict)
        lanes = {name: self.pad(vectors) for name, vectors in params.items()}
        # Eager, because it happens once and tracing takes longer.
        states = [
            agent.init({name: tf.constant(vectors[i]) for name, vectors in lanes.items()})
            for i in range(self.num_lanes)
        ]
        self.state: Tree = tf.nest.map_structure(lambda *leaves: tf.stack(leaves), *states)

    @property
    def acting(self) -> Params:
        """What acts of the agent's state now, as `greedy` takes it.  # tree of [L, ...]"""
        return self.agent.acting(self.state)

    def act(self, o_t: np.ndarray, u: np.ndarray, scalars: Mapping[str, np.ndarray]) -> np.ndarray:
        """Exploring actions [N] for observations [N, *shape], uniforms [N, W], and scheduled scalars, path: [N]."""
        actions = self._call("act", self._act, self.acting, (o_t, u, scalars))
        return actions.numpy()[: self.num_trials]

    def greedy(self, acting: Params, o_t: np.ndarray) -> np.ndarray:
        """Greedy actions [N, E] of what acts [L, ...], for observations [N, E, *shape]."""
        return self._call("greedy", self._greedy, acting, (o_t,)).numpy()[: self.num_trials]

    def learn(
        self,
        batch: dict[str, np.ndarray],
        u: np.ndarray,
        scalars: Mapping[str, np.ndarray],
        due: np.ndarray,
        copy: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """One update of the trials that are due; the others keep their state bit for bit.

        Args:
            batch: transitions.  # field: [N, B, ...]
            u: uniform numbers.  # [N, W]
            scalars: the agent's scheduled scalars.  # path: [N]
            due: trials that learn.  # [N] bool
            copy: trials whose hard target is renewed after this update.  # [N] bool

        Returns:
            The agent's metrics, and "priorities" [N, B] of an agent that asks for them.  # name: [N]
        """
        self.state, metrics = self._call("learn", self._learn, self.state, (batch, u, scalars, due, copy))
        return {name: value.numpy()[: self.num_trials] for name, value in metrics.items()}

    def logged(self, scalars: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The scalars that a record shows, by the last parts of their paths.  # path: [N] -> name: [N]"""
        return {path.rpartition(".")[2]: scalars[path] for path in self.agent.logged}

    def pad(self, values: np.ndarray) -> np.ndarray:
        """[N, ...] -> [L, ...]"""
        return pad_lanes(values, self.num_lanes)

    def restored(self, values: np.ndarray) -> tf.Tensor:
        """What a checkpoint holds of the trials, for all lanes: [N, ...] -> [L, ...]"""
        return tf.constant(self.pad(values[: self.num_trials]))

    def params(self) -> np.ndarray:
        """What acts of the trials now, as one row each.  # [N, P]"""
        return self.rows(self.acting)

    def rows(self, acting: Params) -> np.ndarray:
        """What acts [L, ...] as one row per trial.  # [N, P]"""
        leaves = [np.asarray(leaf)[: self.num_trials] for leaf in tf.nest.flatten(acting)]
        return np.concatenate([leaf.reshape(self.num_trials, -1) for leaf in leaves], axis=1)

    def acting_of(self, rows: np.ndarray) -> Params:
        """The inverse of `rows`, in all lanes: [N, P] -> tree of [L, ...]"""
        return tf.nest.map_structure(tf.constant, self._unflatten(self.pad(rows)))

    def deploy(self, row: np.ndarray) -> keras.Model:
        """The model that `best.keras` holds of one trial, whose row is given.  # [P]"""
        deployed = self.agent.deploy(tf.nest.map_structure(lambda leaf: leaf[0], self._unflatten(row[None])))
        for name, params in deployed.items():
            self.agent.networks[name].set_params(np.asarray(params))
        return self.agent.policy_model({name: self.agent.networks[name].model for name in deployed})

    def get_state(self) -> list[np.ndarray]:
        """Every tensor of the trials' state.  # [N, ...] each"""
        return [leaf.numpy()[: self.num_trials] for leaf in tf.nest.flatten(self.state)]

    def set_state(self, leaves: list[np.ndarray]) -> None:
        """Put back what `get_state` returned."""
        self.state = tf.nest.pack_sequence_as(self.state, [self.restored(leaf) for leaf in leaves])

    def _unflatten(self, rows: np.ndarray) -> Params:
        """Rows [M, P] as the tree that acts, [M, ...]."""
        shapes = [tuple(leaf.shape[1:]) for leaf in tf.nest.flatten(self.acting)]
        parts = np.split(rows, np.cumsum([math.prod(shape) for shape in shapes])[:-1], axis=1)
        leaves = [part.reshape(len(rows), *shape) for part, shape in zip(parts, shapes, strict=True)]
        acting: Params = tf.nest.pack_sequence_as(self.acting, leaves)
        return acting

    def _act(self, acting: Params, o_t: tf.Tensor, u: tf.Tensor, scalars: dict[str, tf.Tensor]) -> tf.Tensor:
        return self.agent.act(acting, as_float(o_t), u, scalars)

    def _greedy(self, acting: Params, o_t: tf.Tensor) -> tf.Tensor:
        return self.agent.greedy(acting, as_float(o_t))

    def _learn(
        self,
        state: Tree,
        batch: dict[str, tf.Tensor],
        u: tf.Tensor,
        scalars: dict[str, tf.Tensor],
        due: tf.Tensor,
        copy: tf.Tensor,
    ) -> tuple[Tree, Tree]:
        new, metrics = learn(self.agent, state, observed(batch), u, scalars)
        new = self.agent.renew_target(new, copy)
        return tf.nest.map_structure(lambda a, b: tf.where(due, a, b), new, state), metrics

    def _call(
        self,
        name: str,
        function: Callable[..., Tree],
        state: Tree,
        arrays: tuple[Tree, ...],
        num_lanes: int | None = None,
        whole: bool = False,
    ) -> Tree:
        """Call the compiled `function` of one trial for all lanes, or with `whole` the compiled function of all lanes;
        `state` holds tensors [L, ...] and `arrays` NumPy's [N, ...], which are padded to `num_lanes` (default: L).

        Small inputs and dispatch would cost more than the arithmetic: so all arrays go over as one float32 array
        [L, K], taken apart inside the program (bytes of images go as they are).
        """
        num_lanes = num_lanes or self.num_lanes
        tensors, leaves = tf.nest.flatten(state), tf.nest.flatten(arrays)
        key = (name, num_lanes, *[leaf.shape[1:] for leaf in leaves])
        tensors += [_as_tensor(pad_lanes(leaf, num_lanes)) for leaf in leaves if leaf.dtype == BYTES]
        numbers = [leaf.reshape(len(leaf), -1) for leaf in leaves if leaf.dtype != BYTES]
        if numbers:
            packed = np.concatenate(numbers, axis=1, dtype=np.float32, casting="unsafe")
            tensors.append(_as_tensor(pad_lanes(packed, num_lanes)))
        if key not in self._compiled:
            self._compiled[key] = self._compile(function, state, arrays, tensors, whole)
        return self._compiled[key](tensors)

    def _compile(
        self, function: Callable[..., Tree], state: Tree, arrays: tuple[Tree, ...], flat: list[tf.Tensor], whole: bool
    ) -> Compiled:
        kinds, results = [(leaf.shape[1:], leaf.dtype) for leaf in tf.nest.flatten(arrays)], []
        numbers = [(shape, dtype) for shape, dtype in kinds if dtype != BYTES]
        structure, num_tensors = tf.nest.map_structure(lambda _: 0, (state, *arrays)), len(tf.nest.flatten(state))

        def unpack(*lane: tf.Tensor) -> Tree:
            tensors, unpacked = iter(lane[num_tensors:]), iter(())
            if numbers:
                parts = tf.split(lane[-1], [math.prod(shape) for shape, _ in numbers])
                unpacked = (
                    tf.cast(tf.reshape(part, shape), dtype) for part, (shape, dtype) in zip(parts, numbers, strict=True)
                )
            inputs = [next(tensors if dtype == BYTES else unpacked) for _, dtype in kinds]
            return tf.nest.pack_sequence_as(structure, [*lane[:num_tensors], *inputs])

        def program(*inputs: tf.Tensor) -> list[tf.Tensor]:
            if whole:
                result = function(*self._map(unpack)(*inputs))
            else:
                result = self._map(lambda *lane: function(*unpack(*lane)))(*inputs)
            results.append(tf.nest.map_structure(lambda _: 0, result))
            return tf.nest.flatten(result)

        traced = tf.function(program, jit_compile=self._jit, autograph=False)
        concrete = traced.get_concrete_function(*[tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in flat])
        assert not concrete.captured_inputs, "compiled functions are pure: everything they read is an argument"
        return Compiled(concrete, results[-1])


def learn(agent: Agent, state: Tree, batch: dict[str, tf.Tensor], u: tf.Tensor, scalars: Tree) -> tuple[Tree, Tree]:
    """An update of one trial: its state and its metrics, with "priorities" [B] for an agent that asks for them."""
    new, metrics, priorities = agent.learn(state, batch, u, scalars)
    return new, {**metrics, PRIORITIES: priorities} if agent.prioritized else metrics


def pad_lanes(values: np.ndarray, num_lanes: int) -> np.ndarray:
    """[N, ...] -> [L, ...]; the lanes beyond the trials repeat the first, so that they stay finite."""
    missing = num_lanes - len(values)
    return values if not missing else np.concatenate([values, np.repeat(values[:1], missing, axis=0)])


def compiled_settings(algo: Any, scalars: Sequence[str]) -> dict[str, Any]:
    """An algorithm's settings but for the scalars, which are handed to its programs as numbers, by their paths, or are
    not read."""
    settings = dataclasses.asdict(algo)
    for path in dict.fromkeys([*scalars, *scalar_paths(algo)]):
        *parents, name = path.split(".")
        del functools.reduce(operator.getitem, parents, settings)[name]
    return settings


def mapped(function: Callable[..., Tree]) -> Callable[..., Tree]:
    """`function` of one trial for all lanes: every argument and result has a leading axis more."""

    def over_lanes(*args: Tree) -> Tree:
        return tf.vectorized_map(lambda packed: function(*packed), args, fallback_to_while_loop=False)

    return over_lanes


def _side_by_side(function: Callable[..., Tree]) -> Callable[..., Tree]:
    def copies(*args: Tree) -> Tree:
        lanes = zip(*[tf.unstack(tensor) for tensor in tf.nest.flatten(args)], strict=True)
        results = [function(*tf.nest.pack_sequence_as(args, lane)) for lane in lanes]
        return tf.nest.map_structure(lambda *values: tf.stack(values), *results)

    return copies


def _as_tensor(values: np.ndarray) -> tf.Tensor:
    """An array as an argument of one call, during which nobody writes into it: the tensor may share its memory.

    It is in host memory, from where a call takes it to its device. With `tf.constant` a call takes 40 us longer.
    """
    return tf.__internal__.EagerTensor(values, None, None)


def as_float(observation: tf.Tensor) -> tf.Tensor:
    """Observations as networks take them: bytes become numbers."""
    return tf.cast(observation, tf.float32)


def observed(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A batch whose observations are as networks take them."""
    return {name: as_float(value) if name in ("o_tm1", "o_t") else value for name, value in batch.items()}
