"""The part `minatar` of benchmark.py: the cost of updates of ten trials of a convolutional network for small images.

The observations are random: no environment takes part.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from measuring import Row, spread

Update = Callable[[], object]

OBSERVATION = (10, 10, 4)  # of MinAtar's Breakout
NUM_ACTIONS = 6
TRIALS = 10
REPEATS = 20  # updates of one measurement
PAIRS = 5  # measurements of each program per round
FORMS = {"mapped, in patches": "minatar", "side by side": f"{__name__}:with_keras_convolution"}


def minatar(rounds: int) -> list[Row]:
    """Time updates of one and of ten trials on the host engine in turn, `algo=ddqn network=minatar`, batches of 32.

    The same network with Keras' own convolution, whose program is one copy of the update for each trial, is measured
    beside it.
    """
    from rlexp.system.backend import prepare

    prepare("cpu")
    updates = {(form, trials): _update(name, trials) for form, name in FORMS.items() for trials in (1, TRIALS)}
    seconds = [_seconds(updates, order) for _ in range(rounds * PAIRS) for order in (1, -1)]

    def compare(what: str, above: tuple[str, int], below: tuple[str, int], target: float | None = None) -> Row:
        wall, cpu = ([taken[above][kind] / taken[below][kind] for taken in seconds] for kind in (0, 1))
        numbers = [f"{1e3 * median(taken[key][1] for taken in seconds):.1f}" for key in (above, below)]
        text = f"{spread(wall, '.2f')}; of processor time {spread(cpu, '.2f')}, {' and '.join(numbers)} ms"
        return Row(what, f"<= {target:g}" if target else "reported", text, target is None or median(wall) <= target)

    mapped, side_by_side = FORMS
    what = f"an update of {TRIALS} trials against one, network=minatar"
    other = f"an update of {{}}, {side_by_side} against {mapped}"
    return [
        compare(f"{what}, {mapped}", (mapped, TRIALS), (mapped, 1), 6),
        compare(f"{what}, {side_by_side}", (side_by_side, TRIALS), (side_by_side, 1)),
        compare(other.format(f"{TRIALS} trials"), (side_by_side, TRIALS), (mapped, TRIALS)),
        compare(other.format("one trial"), (side_by_side, 1), (mapped, 1)),
    ]


def with_keras_convolution(observation_shape: Any, output_shape: Any, network: Any) -> Any:
    """The network of conf/network/minatar.yaml, whose convolution is the operation of Keras."""
    import keras

    options = network.options
    observation = keras.layers.Input(observation_shape)
    hidden = keras.layers.Conv2D(options["filters"][0], options["kernel_sizes"][0], activation="relu")(observation)
    for units in network.hidden_units:
        hidden = keras.layers.Dense(units, activation="relu")(keras.layers.Flatten()(hidden))
    return keras.Model(observation, keras.layers.Dense(output_shape[0])(hidden))


def _seconds(updates: dict[tuple[str, int], Update], order: int) -> dict[tuple[str, int], tuple[float, float]]:
    """Seconds of an update, by the clock and of the processor, of each program in turn, forwards or backwards."""
    taken = {}
    for key in list(updates)[::order]:
        before = time.perf_counter(), time.process_time()
        for _ in range(REPEATS):
            updates[key]()
        now = time.perf_counter(), time.process_time()
        taken[key] = (now[0] - before[0]) / REPEATS, (now[1] - before[1]) / REPEATS
    return taken


def _update(network: str, trials: int) -> Update:
    """A function that updates all of so many trials once; it is compiled."""
    import numpy as np

    from rlexp.config import schedules
    from rlexp.engines.building import build_agent
    from rlexp.envs.info import EnvInfo
    from rlexp.envs.spec import Box, Discrete
    from rlexp.jobs.runner import compose

    settings = compose("algo=ddqn", "network=minatar", f"network.name={network}", "engine=host", f"trials={trials}",
                       "algo.batch_size=32")  # fmt: skip
    info = EnvInfo(Box(OBSERVATION, "uint8"), Discrete(NUM_ACTIONS), None, False, small_numbers=True)
    lanes = build_agent(settings, info, print).agent
    rng, shape = np.random.default_rng(0), (trials, settings.algo.batch_size)
    o_tm1, o_t = rng.integers(0, 2, (2, *shape, *OBSERVATION), np.uint8)
    a_tm1 = rng.integers(0, NUM_ACTIONS, shape, np.int32)
    numbers = {name: rng.random(shape, np.float32) for name in ("r_t", "terminated", "num_steps")}
    batch = {"o_tm1": o_tm1, "a_tm1": a_tm1, **numbers, "o_t": o_t}
    counts = {unit: np.zeros(trials, np.int64) for unit in ("step", "episode", "update")}
    scheduled = schedules.parse_scalars(settings.algo, lanes.agent.scalars)
    scalars = {path: schedule(counts) for path, schedule in scheduled.items()}
    u, everyone = np.zeros((trials, 0), np.float32), np.ones(trials, bool)

    def update() -> object:
        return lanes.learn(batch, u, scalars, everyone, ~everyone)

    update()
    return update
