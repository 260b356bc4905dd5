"""Probe environments: seconds-long problems whose Q-values are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tests.probes as probes
from rlexp.algos.pg_baseline import PGBaseline
from rlexp.data.checkpoint import Checkpoints
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete
from rlexp.jobs.policy import load_settings
from rlexp.networks import mlp
from rlexp.networks.flat_model import FlatModel

LEARN = [
    "env.imports=[tests.probes]", "trials=2", "budget.steps=1500", "algo.learn_start=50", "algo.learn_period=1",
    "algo.batch_size=32", "algo.replay_size=1000", "algo.epsilon=1.0", "network.hidden_units=[16]",
    "algo.target_period=20", "evaluation.period=1500", "evaluation.num_episodes=4",
    "algo.optimizer.lr={kind: linear, initial: 1e-2, final: 1e-3, duration: 1500}", "algo.loss=mse", "algo.n_step=1",
]  # fmt: skip


def q_values(job: Any, observations: np.ndarray) -> list[np.ndarray]:
    models = [keras.models.load_model(job.folder / "trials" / str(seed) / "best.keras") for seed in job["seeds"]]
    return [np.asarray(model(observations)) for model in models]


# The last one asks for all that the others do.
PROBES = [pytest.param(probe, marks=pytest.mark.slow) for probe in (probes.Identity, probes.Bandit)]
PROBES += [pytest.param(probes.DelayedReward, marks=pytest.mark.slow), pytest.param(probes.TwoStateChain)]


@pytest.mark.parametrize(
    "algo", [pytest.param("dqn", marks=pytest.mark.slow), "ddqn", pytest.param("dueling_ddqn", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("probe", PROBES)
def test_known_q_values(algo: str, probe: Any, tiny: Callable[..., Any]) -> None:
    job = tiny(algo, f"env.id=probes/{probe.__name__}-v0", f"algo.gamma={probe.gamma}", *LEARN)
    for q in q_values(job, probe.observations):
        np.testing.assert_allclose(q, probe.q_star, atol=0.15 * max(1.0, np.abs(probe.q_star).max() / 3))


HEADS = {  # and n-step returns of 1, as LEARN has them, so that values are those of the best policy
    "c51": ("algo.num_atoms=21", "algo.v_min=0", "algo.v_max=2"),
    "qr_dqn": ("algo.num_quantiles=8",),
    "iqn": ("algo.num_features=16", "algo.num_cosines=16", "algo.num_greedy_taus=8"),
    "rainbow": ("algo.num_atoms=21", "algo.v_min=0", "algo.v_max=2", "algo.epsilon=0.5"),
    "munchausen_dqn": ("algo.temperature=0.01", "algo.alpha=0"),  # without its bonus it has the values of DQN
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "fused"])
@pytest.mark.parametrize("algo", HEADS)
def test_known_q_values_of_every_head(algo: str, engine: str, tiny: Callable[..., Any]) -> None:
    chain, own = probes.TableChain, HEADS[algo]
    left_out = (*(f"{option.split('=')[0]}=" for option in own), *(() if algo == "munchausen_dqn" else ("algo.loss=",)))
    options = [option for option in LEARN if not option.startswith(left_out)]
    job = tiny(algo, f"engine={engine}", "env.id=probes/TableChain-v0", f"algo.gamma={chain.gamma}", *options, *own)
    for q in q_values(job, np.eye(2, dtype=np.float32)):
        np.testing.assert_allclose(q, chain.q_star, atol=0.15)


@pytest.mark.slow
def test_images_and_stacks_of_them(tiny: Callable[..., Any]) -> None:
    """The convolutional network, bytes, and the ring that stores each frame once: a single frame does not tell."""
    options = [o for o in LEARN if not o.startswith(("budget", "algo.optimizer"))]
    job = tiny("dueling_ddqn", "env.id=probes/Blink-v0", "env.frame_stack=2", "network=dueling_cnn", "algo.gamma=0", *options,
               "budget.steps=250", "algo.optimizer.lr=1e-3")  # fmt: skip
    frames = probes.Blink.observations
    stacks = np.stack([np.stack([frames[s // 2], frames[s % 2]]) for s in range(4)])  # [S, 2, 36, 36]
    for q in q_values(job, stacks.astype(np.float32)):
        np.testing.assert_allclose(q, probes.Blink.q_star, atol=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("notebook", [False, True])
def test_truncation_bootstraps_and_termination_does_not(notebook: bool, tiny: Callable[..., Any]) -> None:
    """The notebook takes both for an end."""

    def value(probe: Any, *overrides: str) -> float:
        options = [o for o in LEARN if not o.startswith(tuple(x.split("=")[0] for x in overrides))]
        job = tiny(
            "fixed_dqn",
            f"env.id=probes/{probe.__name__}-v0",
            f"algo.gamma={probe.gamma}",
            *options,
            *overrides,
        )
        return float(np.mean([q.max() for q in q_values(job, probe.observations)]))

    options, truth = ("budget.steps=3000", "algo.target_period=5"), 1 / (1 - probes.TruncatedLoop.gamma)
    if notebook:
        assert value(probes.TruncatedLoop, *options, "algo.truncation=terminate") < 0.7 * truth
    else:
        assert value(probes.TerminatedLoop) == pytest.approx(1.0, abs=0.05)
        assert value(probes.TruncatedLoop, *options) == pytest.approx(truth, rel=0.1)


PG_LEARN = [
    "env.imports=[tests.probes]", "trials=2", "network.hidden_units=[16]", "evaluation.period=3000", "budget.steps=3000",
    "evaluation.num_episodes=4", "algo.optimizer.lr=2e-2", "evaluation.selection=last",
    "algo.reward_scale=1.0",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["pg", "pg_baseline"])
@pytest.mark.parametrize("probe", PROBES)
def test_known_best_actions(algo: str, probe: Any, tiny: Callable[..., Any]) -> None:
    """The best action of each state where there is one has nearly all of the probability."""
    episodes = 5 if probe is probes.Identity else 20
    job = tiny(
        algo,
        f"env.id=probes/{probe.__name__}-v0",
        f"algo.gamma={probe.gamma}",
        f"algo.batch_size={episodes}",
        *PG_LEARN,
    )
    decided = np.ptp(probe.q_star, axis=1) > 0
    for logits in q_values(job, probe.observations):
        pi = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        best = pi[np.arange(len(pi)), probe.q_star.argmax(axis=1)]
        assert (best[decided] > 0.9).all(), pi


def values(job: Any, observations: np.ndarray) -> list[np.ndarray]:
    """V of each trial at the end, from the checkpoint: best.keras holds the policy alone."""
    settings = load_settings(job.folder, allow_imports=True)
    info = EnvInfo(Box((1,), "float32"), Discrete(2), None, False)
    model = PGBaseline.models(lambda shape: mlp.build((1,), shape, settings.network), info, settings.algo)["policy"]
    network = FlatModel(model)
    state = Checkpoints(job.folder / "checkpoint", every=60, keep=2).load(pytest.fail)
    assert state is not None
    return [network(tf.constant(params), observations)[1].numpy() for params in state["loop"]["lanes"][0][:2]]


@pytest.mark.slow
def test_the_baseline_learns_that_a_cut_episode_goes_on(tiny: Callable[..., Any]) -> None:
    """V = 1 / (1 - gamma) = 10 where the time limit bootstraps; the mean return of 10 steps, 4.1, where it is an end."""
    for truncation, expected in (("bootstrap", 10.0), ("terminate", 4.14)):
        job = tiny(
            "pg_baseline", "env.id=probes/TruncatedLoop-v0", "algo.gamma=0.9", f"algo.truncation={truncation}",
            "algo.batch_size=4", *PG_LEARN,
        )  # fmt: skip
        for v in values(job, probes.TruncatedLoop.observations):
            assert v.item() == pytest.approx(expected, rel=0.1)
