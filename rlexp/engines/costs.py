"""An estimate of how long a job takes on each engine, in one process or in several, from one table of measured costs.

`costs_table.json` holds the costs of one machine (two cores, Python 3.11, NumPy 2.5, TensorFlow 2.21);
`scripts/benchmark.py engines --write` measures them again, and `scripts/benchmark.py engines` checks the choices that
follow from them. The estimate covers everything from building the agent to scoring the best weights. Starting Python,
pictures and the tracker take equally long on all engines.

Nothing is timed here: the engine is part of the folder's name, which must be the same each time, on any machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rlexp.config import registry
from rlexp.config.images import convolutions, is_picture, size
from rlexp.config.schema.job import Settings
from rlexp.engines.record_steps import most_steps
from rlexp.envs.info import EnvInfo

TABLE = Path(__file__).with_name("costs_table.json")

MIN_LANES = 2  # that a compiled program has, even for one trial
MIN_ROWS = 128  # that a batch of policy gradients is padded to
SHARE_OF_LIMIT = 0.3  # mean length of an episode in other environments, as a share of their time limit
UNLIMITED = 200.0  # the same where there is no time limit, in env steps
LONGEST = 3.0  # the longest episode of an evaluation, in mean lengths
LOOKS = 2  # candidates scored in the second look: between one and `evaluation.candidates`
FORWARD = 0.25  # of an update of a row: it holds two forward passes, one of them with its gradient
# A network goes to the host engine if fused is estimated to take this many times as long. With the seconds that both
# have in common, some four, that is 1.5 times from command to exit.
SURE = 1.75
SAVED_SHARE, SAVED_SECONDS = 0.2, 5.0  # what several workers have to save


@dataclass(frozen=True)
class EngineCost:
    """The costs of a family of algorithms on one engine; microseconds unless another unit is named.

    Attributes:
        start: importing, building, compiling and the first calls, in seconds.
        lock_step: one step of all trials, besides what each trial adds.
        trial_step: what each env step of a trial adds, besides its environment and its network.
        update: one update of all trials, besides what each trial adds.
        trial_update: what each trial adds, besides its network.
        weight: the update of a trial, for each weight of its network and row of its batch, in nanoseconds.
        portion: an evaluation, besides its steps. On the fused engine it ends a call of the program.
        evaluation: one step of all episodes of an evaluation, besides what each episode adds.
        played: what each episode adds, besides its environment.
        beside: seconds that a worker with one thread takes for its trials, with other workers beside it, as a multiple
            of what they take alone in an ordinary process; None: never dealt out.
    """

    start: float
    lock_step: float = 0.0
    trial_step: float = 0.0
    update: float = 0.0
    trial_update: float = 0.0
    weight: float = 0.0
    portion: float = 0.0
    evaluation: float = 0.0
    played: float = 0.0
    beside: float | None = None


@dataclass(frozen=True)
class EnvCost:
    """The costs of an environment in microseconds.

    Attributes:
        step: one env step of one trial in training, on the host engine.
        played: one env step of one evaluation episode, on the host engine.
        reset: the start of an evaluation episode, on the host engine.
        length: mean length of an episode in a short job, in env steps. Not measured by the script.
        fused: one env step of one trial on the fused engine.
    """

    step: float
    played: float
    reset: float
    length: float
    fused: float = 0.0


@dataclass(frozen=True)
class Table:
    """The measured costs.

    Attributes:
        engines: family -> engine -> its costs.
        envs: Gymnasium id -> costs.
        worker: seconds that a worker process needs before it can build an agent, without and with TensorFlow.
    """

    engines: dict[str, dict[str, EngineCost]]
    envs: dict[str, EnvCost]
    worker: dict[str, float]  # "numpy", "tensorflow"


@lru_cache
def table() -> Table:
    """The table in `costs_table.json`."""
    read = json.loads(TABLE.read_text())
    engines = {
        family: {engine: EngineCost(**costs) for engine, costs in row.items()}
        for family, row in read["engines"].items()
    }
    return Table(engines, {name: EnvCost(**costs) for name, costs in read["envs"].items()}, read["worker"])


def of_env(settings: Settings, info: EnvInfo) -> EnvCost:
    """The cost of a job's environment, as measured; for an unknown one, a typical cost."""
    known = table().envs.get(settings.env.id.rpartition(":")[2])
    if known is not None:
        return known
    limit = info.max_episode_steps
    length = UNLIMITED if limit is None else max(1.0, SHARE_OF_LIMIT * limit)
    if info.num_states is not None:
        return EnvCost(7.0, 7.0, 60.0, length, 0.5)
    if is_picture(info.observation_shape):
        return EnvCost(1_000.0, 1_000.0, 5_000.0, length)
    return EnvCost(20.0, 20.0, 200.0, length, 0.5)


def weights(settings: Settings, info: EnvInfo) -> float:
    """Multiplications of one forward pass of a job's network; those of an unknown network as if it were dense."""
    inputs = math.prod(info.observation_shape)
    total, network = 0, settings.network
    if registry.network(network.name).convolutional and size(info.observation_shape) is not None:
        for layer in convolutions(info.observation_shape, network):
            inputs = layer.places * layer.filters
            total += layer.patch * inputs
    for units in (*network.hidden_units, math.prod(info.action.output_shape)):
        total += inputs * units
        inputs = units
    return total


def seconds(settings: Settings, info: EnvInfo, engine: str, workers: int = 1) -> float:
    """Seconds from the start of building to the end of scoring.

    Args:
        settings, info: of the job.
        engine: "host" or "fused".
        workers: processes that its trials are dealt out to; 1: none but the first.

    Raises:
        KeyError: for an engine that the family does not have, and for planning, whose costs are not in the table.
    """
    costs = table().engines[registry.algo(settings.algo.name).family]
    cost, trials = costs[engine], math.ceil(settings.trials / workers)
    env, steps = of_env(settings, info), _steps(settings, info)
    keras = registry.family(settings.algo.name).keras
    per_row = cost.weight * 1e-3 * weights(settings, info) if keras else 0.0
    forward = FORWARD * per_row
    lanes = max(trials, MIN_LANES) if keras or engine == "fused" else trials
    step = env.step if engine == "host" else env.fused
    several = getattr(settings.algo, "num_envs", 1)  # env steps of a trial in one lock-step
    train = steps * (cost.lock_step / several + lanes * (cost.trial_step + forward) + trials * step)
    if keras:
        updates, rows = _updates(settings, info, steps)
        train += updates * (cost.update + lanes * (cost.trial_update + rows * per_row))
    loop = train * 1e-6 + _scoring(settings, info, costs, engine, trials, steps, forward)
    if workers == 1:
        return cost.start + loop
    imports = table().worker["tensorflow" if keras or engine == "fused" else "numpy"]
    return cost.start + imports + loop * (cost.beside or 1.0)


def sooner(settings: Settings, info: EnvInfo, engines: Sequence[str]) -> str:
    """The engine that is estimated to finish a job first, in one process.

    For algorithms with networks the first of `engines` is taken unless another one is sooner for certain (`SURE`): the
    engines' results differ, so that jobs of different lengths are better compared on one engine.

    Args:
        settings, info: of the job.
        engines: that can run it, the preferred one first.
    """
    estimate = {engine: seconds(settings, info, engine) for engine in engines}
    best = min(engines, key=lambda engine: estimate[engine])
    margin = SURE if registry.family(settings.algo.name).keras else 1.0
    return best if margin * estimate[best] <= estimate[engines[0]] else engines[0]


def best_workers(settings: Settings, info: EnvInfo, most: int) -> int:
    """The number of worker processes with which a job is estimated to finish first.

    It is 1 unless more save at least `SAVED_SHARE` of the time and `SAVED_SECONDS`.

    Args:
        settings, info: of the job, whose engine is chosen.
        most: largest number.
    """
    row = table().engines.get(registry.algo(settings.algo.name).family, {}).get(settings.engine)
    if row is None or row.beside is None:
        return 1
    estimate = {
        n: seconds(settings, info, settings.engine, n) for n in range(1, max(1, min(most, settings.trials)) + 1)
    }
    best = min(estimate, key=lambda n: (estimate[n], n))
    saved = estimate[1] - estimate[best]
    return best if saved >= max(SAVED_SECONDS, SAVED_SHARE * estimate[1]) else 1


def _length(settings: Settings, info: EnvInfo) -> float:
    """Mean length of a training episode in env steps."""
    length = of_env(settings, info).length
    return length if info.max_episode_steps is None else min(length, info.max_episode_steps)


def _steps(settings: Settings, info: EnvInfo) -> float:
    """Env steps of a trial."""
    steps: float = most_steps(settings, info)
    if settings.budget.episodes is not None:
        steps = min(steps, settings.budget.episodes * _length(settings, info))
    return steps


def _updates(settings: Settings, info: EnvInfo, steps: float) -> tuple[float, float]:
    """Updates of a trial in training, and the rows that each learns from."""
    algo = settings.algo
    episodes = steps / _length(settings, info)
    if registry.algo(algo.name).family == "replay":
        count = steps if algo.learn_unit == "step" else episodes
        return max(0.0, count - algo.learn_start) / algo.learn_period * algo.num_updates, algo.batch_size
    by_episode = algo.batch_unit == "episode"
    batches = (episodes if by_episode else steps) / algo.batch_size
    passes, parts = getattr(algo, "num_updates", 1), getattr(algo, "num_minibatches", 1)
    rows = max(MIN_ROWS, algo.batch_size * (_length(settings, info) if by_episode else 1))
    return batches * passes * parts, rows / parts


def _scoring(
    settings: Settings,
    info: EnvInfo,
    costs: dict[str, EngineCost],
    engine: str,
    trials: int,
    steps: float,
    forward: float,
) -> float:
    """Seconds of the periodic evaluations, the second look and the final episodes, which are the host engine's."""
    config, env = settings.evaluation, of_env(settings, info)
    limit = min(info.max_episode_steps or config.max_steps, config.max_steps)
    length, longest = min(env.length, limit), min(LONGEST * env.length, limit)
    portion, evaluations = config.num_episodes, max(1.0, steps / config.period)
    several = config.selection == "eval" and registry.algo(settings.algo.name).family != "fixed"
    looks = min(LOOKS, config.candidates, evaluations) if several and config.candidates > 1 else 0
    during = evaluations + looks * config.candidate_episodes / portion  # portions of as many episodes for each trial

    def on_host() -> float:
        cost = costs["host"]
        episode = env.reset + length * (env.played + cost.played + forward)
        return cost.portion + longest * cost.evaluation + trials * portion * episode

    def on_fused() -> float:  # all episodes take as many steps as the longest one
        cost = costs["fused"]
        return cost.portion + longest * (cost.evaluation + trials * portion * (cost.played + forward))

    each = on_host() if engine == "host" else on_fused()
    return (during * each + config.final_episodes / portion * on_host()) * 1e-6
