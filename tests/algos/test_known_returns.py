"""Distributional heads find known distributions of returns: two points and geometric (`tests.probes.KnownReturns`).

A distance is that of Wasserstein: the area between the cumulative probabilities, in units of return.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlexp.algos.c51 import C51
from rlexp.algos.iqn import IQN
from rlexp.algos.qr_dqn import QRDQN
from rlexp.config.schema.algos import C51Settings, IQNSettings, OptimizerSettings, QRDQNSettings
from rlexp.data import seeding
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete
from rlexp.math import distributions
from rlexp.networks.flat_model import FlatModel
from tests.algos.test_base import linear, scalars
from tests.engines.test_probe_learning import LEARN
from tests.probes import KnownReturns

TWO_ACTIONS = EnvInfo(Box((2,), "float32"), Discrete(2), None, False)
STATES = np.eye(2, dtype=np.float32)
C51_RETURNS = {"num_atoms": 25, "v_min": 0, "v_max": 12}
ADAM = OptimizerSettings(name="adam", clip_norm=None)


def all_rows() -> dict[str, tf.Tensor]:
    """Rows in which each outcome of the probe is as frequent as it should be.  # field: [B, ...]"""
    rows = []
    for state, actions in KnownReturns.P.items():
        for action, outcomes in actions.items():
            for probability, next_state, reward, terminated in outcomes:
                rows += [(state, action, reward, terminated, next_state)] * round(4 * probability)
    s_tm1, a_tm1, r_t, terminated, s_t = zip(*rows, strict=True)
    ones = np.ones(len(rows), np.float32)
    batch = {"o_tm1": STATES[list(s_tm1)], "a_tm1": np.array(a_tm1, np.int32), "r_t": np.float32(r_t),
             "terminated": np.float32(terminated), "num_steps": ones, "o_t": STATES[list(s_t)]}  # fmt: skip
    return {name: tf.constant(values) for name, values in batch.items()}


def distances(outputs: np.ndarray, is_c51: bool) -> np.ndarray:
    """How far probabilities of atoms, or quantiles at the middles of equal shares [S, A, K], are from the truth.  # [S, A]"""
    found = np.zeros(outputs.shape[:2])
    points = distributions.atoms(*(C51_RETURNS[name] for name in ("v_min", "v_max", "num_atoms")))
    for state, action in np.ndindex(found.shape):
        values = outputs[state, action]
        if is_c51:
            gap = np.abs(np.cumsum(values) - KnownReturns.cumulative(state, action, points))
            found[state, action] = gap.sum() * (points[1] - points[0])
        else:
            truth = KnownReturns.quantiles(state, action, distributions.midpoints(len(values)))
            found[state, action] = np.abs(np.sort(values) - truth).mean()
    return found


@pytest.mark.parametrize(
    ("kind", "config", "lr", "tolerance"),
    [
        (C51, C51Settings(optimizer=ADAM, **C51_RETURNS), 0.1, 0.05),
        (QRDQN, QRDQNSettings(optimizer=ADAM, num_quantiles=16, kappa=0.0), 0.1, 0.1),
        (IQN, IQNSettings(optimizer=ADAM, batch_size=16, kappa=0.0, num_features=32, num_taus=16, num_target_taus=16,
                          num_greedy_taus=16), 0.03, 0.25),
    ],
    ids=["c51", "qr_dqn", "iqn"],
)  # fmt: skip
def test_a_head_finds_them_from_all_outcomes(kind: Any, config: Any, lr: float, tolerance: float) -> None:
    """From exact frequencies, so that what is left is the head's own error: of its learning rate, atoms or shares."""
    models = seeding.with_keras_seed(0, lambda: kind.models(linear, TWO_ACTIONS, config))
    agent = kind(config, {name: FlatModel(model) for name, model in models.items()}, TWO_ACTIONS)
    generator, rows = np.random.default_rng(0), all_rows()
    assert len(rows["r_t"]) == 16
    state = agent.init({name: tf.constant(network.get_params()) for name, network in agent.networks.items()})

    @tf.function(autograph=False)
    def learn(state: Any, u: tf.Tensor, lr: tf.Tensor) -> Any:
        new = agent.learn(state, rows, u, {**scalars(gamma=1.0), "optimizer.lr": lr}).state
        return agent.renew_target(new, tf.constant(True))

    for update in range(UPDATES):
        u = tf.constant(generator.random(agent.widths["learn"]), tf.float32)
        state = learn(state, u, tf.constant(lr * 0.01 ** (update / UPDATES)))
    outputs = outputs_of(agent, state["online"])
    assert (distances(outputs, kind is C51) < tolerance).all()
    np.testing.assert_allclose(agent.q_values(state["online"], STATES), KnownReturns.q_star, atol=tolerance)


UPDATES = 500


def outputs_of(agent: Any, params: Any) -> np.ndarray:
    """Probabilities of atoms or quantiles [S, A, K]."""
    if isinstance(agent, IQN):
        return np.moveaxis(agent.quantiles(params, STATES, tf.constant(agent.taus)).numpy(), 1, 2)
    outputs = agent.outputs(params, STATES)
    return (tf.nn.softmax(outputs) if isinstance(agent, C51) else outputs).numpy()


JOBS = {
    "c51": ("algo.num_atoms=25", "algo.v_min=0", "algo.v_max=12"),
    "qr_dqn": ("algo.num_quantiles=16", "algo.kappa=0"),
    "iqn": ("algo.num_greedy_taus=16", "algo.kappa=0", "algo.num_features=16"),
    "rainbow": ("algo.num_atoms=25", "algo.v_min=0", "algo.v_max=12", "algo.n_step=3", "algo.epsilon=0",
                "algo.priority_beta=1"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "fused"])
@pytest.mark.parametrize("algo", JOBS)
def test_a_job_finds_them(algo: str, engine: str, tiny: Callable[..., Any]) -> None:
    own = (*JOBS[algo], "algo.gamma=1", "budget.steps=3000", "evaluation.period=3000", "evaluation.selection=last",
           "algo.optimizer.lr={kind: linear, initial: 1e-2, final: 1e-4, duration: 3000}")  # fmt: skip
    left_out = (*(f"{option.split('=')[0]}=" for option in own), "algo.loss=")
    options = [option for option in LEARN if not option.startswith(left_out)]
    job = tiny(algo, "env.id=probes/KnownReturns-v0", f"engine={engine}", *options, *own)
    # Rainbow's own policy soon takes the better action alone, and learns no more of the other.
    seen = KnownReturns.q_star == KnownReturns.q_star.max(axis=1, keepdims=True) if algo == "rainbow" else np.s_[:]
    tolerance = 0.4 if algo == "rainbow" else 0.3
    for seed in job["seeds"]:
        model = keras.models.load_model(job.folder / "trials" / str(seed) / "best.keras")
        is_c51 = algo in ("c51", "rainbow")
        layer = model.get_layer("return_probabilities").output if is_c51 else model.operations[-1].input
        outputs = np.asarray(keras.Model(model.input, layer)(STATES))
        outputs = np.moveaxis(outputs, 1, 2) if algo == "iqn" else outputs
        assert (distances(outputs, is_c51)[seen] < tolerance).all()
        values = np.asarray(model(STATES))
        np.testing.assert_allclose(values[seen], KnownReturns.q_star[seen], atol=tolerance)
        assert values.argmax(axis=1).tolist() == [0, 0]
