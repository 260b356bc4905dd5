"""Convolutions of small images in patches: the same numbers, files that Keras alone loads, lanes of both engines."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

import tests.probes.catch  # noqa: F401  (registers it)
from rlexp.config import images, registry
from rlexp.config.schema.network import MNIH_2015, NetworkSettings
from rlexp.engines import mapping
from rlexp.engines.building import build_agent
from rlexp.engines.fused import replay_program
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete
from rlexp.envs.tensor.base import gymnasium_uniforms
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose
from rlexp.networks import cnn, patches
from rlexp.networks.flat_model import FlatModel
from rlexp.system.errors import Refusal
from tests.engines.test_engines import trial
from tests.probes.tensor_catch import TensorCatch

CATCH = ("env.id=probes/Catch-v0", "env.imports=[tests.probes.catch]")
TINY = ("network=minatar", "network.hidden_units=[8]", "network.options.filters=[4]")


def options(filters: list[int], kernel_sizes: list[int], strides: list[int]) -> NetworkSettings:
    return NetworkSettings("cnn", [8], "relu", {"filters": filters, "kernel_sizes": kernel_sizes, "strides": strides})


MINATAR = options([16], [3], [1])


@pytest.mark.parametrize(
    ("shape", "side", "filters", "stride"),
    [((10, 10, 4), 3, 16, 1), ((7, 9, 3), 3, 2, 2), ((11, 8, 1), 4, 3, 3), ((3, 3, 2), 3, 5, 1), ((4, 5, 2), 1, 3, 2)],
)
def test_patches_are_the_convolution_of_keras_and_its_gradients(
    shape: tuple[int, ...], side: int, filters: int, stride: int
) -> None:
    rng = np.random.default_rng(0)
    o_t = tf.constant(rng.normal(size=(2, *shape)), tf.float32)
    kernel = tf.constant(rng.normal(size=(side, side, shape[-1], filters)), tf.float32)

    def both(convolve: Callable[..., tf.Tensor]) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch((o_t, kernel))
            outputs = convolve(o_t, kernel, stride)
            total = tf.reduce_sum(tf.square(outputs))
        return [outputs, *tape.gradient(total, (o_t, kernel))]

    ours = both(patches.convolve)
    for one, other in zip(ours, both(lambda *args: keras.ops.conv(*args, padding="valid")), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "network", "small"),
    [
        ((10, 10, 4), MINATAR, True),  # 8 * 8 places of 3 * 3 * 4 numbers: 2,304
        ((10, 10, 10), MINATAR, True),  # 5,760
        ((7, 7, 3), MINATAR, True),  # MiniGrid
        ((4, 10, 10), MINATAR, True),  # channels first
        ((2, 10, 10, 4), MINATAR, True),  # a stack of two: 4,608
        ((20, 20, 3), MINATAR, True),  # 8,748
        ((21, 21, 3), MINATAR, False),  # 9,747
        ((10, 10, 4), options([16, 32], [3, 3], [1, 1]), True),  # 2,304 + 6 * 6 * 3 * 3 * 16 = 7,488
        ((10, 10, 4), options([64, 32], [3, 3], [1, 1]), False),  # 2,304 + 20,736
        ((4, 84, 84), NetworkSettings("cnn", [8], "relu", MNIH_2015), False),
        ((36, 36, 1), NetworkSettings("cnn", [8], "relu", MNIH_2015), False),  # 4,096 + 4,608 + 576
        ((4,), MINATAR, False),
    ],
)
def test_small_images_are_those_with_few_numbers_in_patches(
    shape: tuple[int, ...], network: NetworkSettings, small: bool
) -> None:
    assert images.in_patches(shape, network) == small
    if images.size(shape):
        model = FlatModel(cnn.build(shape, (2,), network))
        assert model.sees_images
        why = mapping.why_not_model(model)
        assert why == (None if small else "has convolutions (Conv2D), which XLA cannot map over trials")


@pytest.mark.parametrize("dueling", [False, True])
def test_a_saved_model_is_kerass_own(dueling: bool, tmp_path: Path) -> None:
    """Stored models are loaded without rlexp, before and after."""
    config = NetworkSettings("minatar", [8], "relu", {**MINATAR.options, "dueling": dueling, "divide_by": 1})
    keras.utils.set_random_seed(0)
    model = cnn.build((10, 10, 4), (3,), config)
    model.save(tmp_path / "best.keras")
    with zipfile.ZipFile(tmp_path / "best.keras") as archive:
        written = json.loads(archive.read("config.json"))
    assert "rlexp" not in json.dumps(written)
    assert [layer["module"] for layer in written["config"]["layers"] if layer["class_name"] == "Conv2D"] == [
        "keras.layers"
    ]
    loaded = keras.models.load_model(tmp_path / "best.keras")
    (convolution,) = (layer for layer in loaded.layers if isinstance(layer, keras.layers.Conv2D))
    assert "convolution_op" not in vars(convolution)
    o_t = np.random.default_rng(0).integers(0, 2, (5, 10, 10, 4)).astype(np.float32)
    np.testing.assert_allclose(model(o_t), loaded(o_t), rtol=1e-5, atol=1e-6)
    assert [w.tobytes() for w in model.get_weights()] == [w.tobytes() for w in loaded.get_weights()]


def test_one_trial_is_padded_whether_it_is_to_be_exact_or_not() -> None:
    info = EnvInfo(Box((5, 5, 1), "uint8"), Discrete(2), None, False, small_numbers=True)
    for network, exact, num_lanes in (("minatar", "true", 2), ("minatar", "false", 2), ("mlp", "false", 1)):
        settings = compose("algo=dqn", f"network={network}", "network.hidden_units=[4]", "engine=host", "trials=1",
                           f"exact_trials={exact}")  # fmt: skip
        assert build_agent(settings, info, pytest.fail).agent.num_lanes == num_lanes


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["dqn", "dueling_ddqn", "pg_baseline", "ppo"])
def test_a_trial_alone_equals_the_trial_in_a_batch(algo: str, tiny: Callable[..., Any]) -> None:
    own = (*CATCH, *TINY, f"network.options.dueling={str(algo == 'dueling_ddqn').lower()}")
    five, two, one = (tiny(algo, f"seed={seed}", f"trials={n}", *own) for seed, n in ((0, 5), (2, 2), (3, 1)))
    assert five["engine"] == "host" and five["updates"][0] > 10
    assert trial(five, 3) == trial(two, 3) == trial(one, 3)
    assert trial(five, 2) == trial(two, 2) != trial(five, 4)


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("probes/Catch-v0", "tests.probes.tensor_catch:DYNAMICS", "rlexp.envs")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "rlexp.envs" else [])


def test_the_tensor_environment_of_pictures_is_gymnasiums() -> None:
    theirs, ours = gym.make("probes/Catch-v0"), TensorCatch()
    for seed in range(3):
        seen, _ = theirs.reset(seed=seed)
        state = ours.reset(tf.constant(gymnasium_uniforms(seed, 1), tf.float32))
        over = False
        for action in np.random.default_rng(seed).integers(0, 3, 9):
            np.testing.assert_array_equal(ours.observe(state), seen)
            state, r_t, terminated = ours.step(state, tf.constant(action, tf.int32), tf.zeros(0))
            seen, reward, over, _, _ = theirs.step(action)
            assert (float(r_t), bool(terminated)) == (reward, over)
        assert over


@pytest.mark.usefixtures("third_party")
def test_where_the_environment_is_fused_small_images_are_too() -> None:
    def engine(*overrides: str) -> str:
        return resolve(compose("algo=ddqn", *CATCH, *overrides))[0].engine

    assert engine("network=minatar") == engine("network=minatar", "network.options.dueling=true") == "fused"
    assert engine("network=minatar", "engine=host") == engine("network=minatar", "env.frame_stack=4") == "host"
    large = ("network=minatar", "network.options.filters=[64,64]", "network.options.kernel_sizes=[3,3]", "network.options.strides=[1,1]")  # fmt: skip
    assert engine(*large) == "host"
    with pytest.raises(
        Refusal, match="'fused', but network minatar is convolutional, which XLA maps over trials for small images only"
    ):
        engine(*large, "engine=fused")


@pytest.mark.slow
@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize("algo", ["dqn", "dueling_ddqn", "pg_baseline"])
def test_a_fused_trial_of_pictures_alone_equals_the_trial_in_a_batch(
    algo: str, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_program, "MAPPED_WORK", 0)  # mapped nevertheless
    own = (*CATCH, *TINY, "engine=auto", f"network.options.dueling={str(algo == 'dueling_ddqn').lower()}")
    five, two, one = (tiny(algo, f"seed={seed}", f"trials={n}", *own) for seed, n in ((0, 5), (2, 2), (3, 1)))
    assert five["engine"] == "fused" and five["updates"][0] > 10
    assert trial(five, 3) == trial(two, 3) == trial(one, 3)
    assert trial(five, 2) == trial(two, 2) != trial(five, 4)


@pytest.mark.slow
@pytest.mark.usefixtures("third_party")
def test_catch_is_learned_on_the_fused_engine(tiny: Callable[..., Any]) -> None:
    """By three seeds of three; at random a ball is caught one time in five."""
    job = tiny("ddqn", *CATCH, "network=minatar", "network.hidden_units=[128]", "engine=fused", "seed=0", "trials=3",
               "budget.steps=12000", "algo.optimizer.lr=5e-4", "algo.n_step=3", "algo.batch_size=32", "algo.learn_period=4",
               "algo.target_period=100", "algo.loss=huber", "algo.replay_size=12000", "evaluation.period=3000",
               "evaluation.num_episodes=20", "evaluation.final_episodes=50",
               "algo.epsilon={kind: linear, initial: 1.0, final: 0.05, duration: 6000, unit: step}")  # fmt: skip
    assert min(job["final/return"]["per_trial"]) > 0.8
