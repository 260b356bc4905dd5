"""Optimisers against `keras.optimizers`, step by step, alone and mapped over trials."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlexp.math.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Nadam, RAdam, RMSprop, build, clip_by_global_norm

KERAS = {
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "nadam": keras.optimizers.Nadam,
}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("rmsprop", {}),
    ("rmsprop", {"rho": 0.95, "epsilon": 0.01, "centered": True}),
    ("rmsprop", {"momentum": 0.5}),
    ("rmsprop", {"momentum": 0.5, "epsilon": 1e-3, "centered": True}),
    ("adam", {}),
    ("adam", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}),
    ("adamw", {}),
    ("adamw", {"weight_decay": 0.5, "epsilon": 1e-3}),
    ("nadam", {}),
    ("nadam", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}),
]
STEPS, P = 50, 12
IDS = [f"{name}-{'-'.join(options) or 'defaults'}" for name, options in CASES]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


GRADS = numbers(STEPS, P) * np.float32(10.0) ** np.linspace(-3, 2, P, dtype=np.float32)  # [STEPS, P]
RATES = np.linspace(0.02, 0.001, STEPS, dtype=np.float32)  # [STEPS], scheduled
SGD_SCALE = np.float32(1e-2)  # SGD's steps are as long as its gradients


@pytest.mark.parametrize("name, options", CASES, ids=IDS)
def test_fifty_steps_equal_keras(name: str, options: dict[str, Any]) -> None:
    optimizer, reference = build(name, **options), KERAS[name](learning_rate=0.0, **options)
    grads = GRADS * (SGD_SCALE if name == "sgd" else 1)
    variable = keras.Variable(numbers(P, seed=1))
    params = tf.constant(numbers(P, seed=1))
    state = optimizer.init(params)
    for grad, rate in zip(grads, RATES, strict=True):
        reference.learning_rate = rate
        reference.apply([tf.constant(grad)], [variable])
        params, state = optimizer.update(params, tf.constant(grad), state, tf.constant(rate))
        np.testing.assert_allclose(params, variable.numpy(), rtol=0, atol=1e-6)
    assert np.abs(params - numbers(P, seed=1)).max() > 0.02  # it moved


@pytest.mark.parametrize("name, options", CASES, ids=IDS)
def test_mapped_lanes_with_own_learning_rates_equal_single_runs(name: str, options: dict[str, Any]) -> None:
    optimizer = build(name, **options)
    rates = tf.constant([0.1, 0.03, 0.01, 0.003, 0.001])  # [N]
    grads = tf.constant(numbers(STEPS, 5, P))  # [STEPS, N, P]
    start = tf.constant(numbers(5, P, seed=1))  # [N, P]

    @tf.function(jit_compile=True, autograph=False)
    def mapped(params: tf.Tensor, grad: tf.Tensor, state: dict[str, tf.Tensor]) -> Any:
        return tf.vectorized_map(lambda lane: optimizer.update(*lane), (params, grad, state, rates))

    lanes = start
    states = tf.vectorized_map(optimizer.init, start)
    for grad in grads:
        lanes, states = mapped(lanes, grad, states)
    for k in range(5):
        params, state = start[k], optimizer.init(start[k])
        for grad in grads[:, k]:
            params, state = optimizer.update(params, grad, state, rates[k])
        np.testing.assert_allclose(lanes[k], params, rtol=1e-6, atol=1e-6)
        assert states.keys() == state.keys()
        for key in state:
            np.testing.assert_allclose(states[key][k], state[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name, options, keys",
    [
        ("sgd", {}, set()),
        ("sgd", {"momentum": 0.9}, {"momentum"}),
        ("rmsprop", {}, {"velocity"}),
        ("rmsprop", {"momentum": 0.9}, {"velocity", "momentum"}),
        ("rmsprop", {"centered": True}, {"velocity", "average_gradient"}),
        ("adam", {}, {"step", "momentum", "velocity"}),
        ("nadam", {}, {"step", "momentum", "velocity", "u_product"}),
    ],
)
def test_the_state_has_what_the_options_need(name: str, options: dict[str, Any], keys: set[str]) -> None:
    optimizer, params = build(name, **options), tf.ones(3)
    state = optimizer.init(params)
    assert state.keys() == keys
    _, new = optimizer.update(params, params, state, tf.constant(0.1))
    assert {key: (value.dtype, value.shape) for key, value in new.items()} == {
        key: (tf.float32, []) if key in ("step", "u_product") else (tf.float32, [3]) for key in keys
    }


def test_nadam_warms_beta_1_up_by_hand() -> None:
    optimizer, grad = build("nadam"), tf.constant([2.0])
    state = optimizer.init(grad)
    products, product = [], 1.0
    for step in (1, 2, 3):
        _, state = optimizer.update(grad, grad, state, tf.constant(0.1))
        product *= 0.9 * (1 - 0.5 * 0.96**step)
        products.append(product)
        assert float(state["step"]) == step
        assert float(state["u_product"]) == pytest.approx(products[-1], rel=1e-6)
    assert products[0] == pytest.approx(0.468)


def test_first_steps_by_hand() -> None:
    """With one gradient g = 2, lr = 0.1: SGD 0.2, RMSprop 0.1 g / sqrt(0.1 g^2), Adam the sign of g."""
    grad, rate = tf.constant([2.0]), tf.constant(0.1)
    for name, step in (("sgd", 0.2), ("rmsprop", 0.1 / np.sqrt(0.1)), ("adam", 0.1)):
        optimizer = build(name)
        params, _ = optimizer.update(tf.zeros(1), grad, optimizer.init(grad), rate)
        assert float(params[0]) == pytest.approx(-step, rel=1e-5)


def test_epsilon_of_rmsprop_stands_inside_the_root() -> None:
    """A2C's results moved with a port that had it outside. g = .1 and epsilon .01: the root of .001 + .01, and not the
    root of .001 plus .01, which would make a step .2402."""
    grad, optimizer = tf.constant([0.1]), build("rmsprop", epsilon=0.01)
    params, _ = optimizer.update(tf.zeros(1), grad, optimizer.init(grad), tf.constant(0.1))
    assert float(params[0]) == pytest.approx(-0.1 * 0.1 / np.sqrt(0.001 + 0.01), rel=1e-5)
    assert float(params[0]) == pytest.approx(-0.0953, rel=1e-3)


def test_the_registry_has_the_defaults_of_keras() -> None:
    assert {
        "sgd": SGD, "rmsprop": RMSprop, "adam": Adam, "adamw": AdamW, "nadam": Nadam, "radam": RAdam,
    } == OPTIMIZERS  # fmt: skip
    assert vars(build("radam")) == vars(build("adam"))  # Keras has no rectified Adam
    for name in KERAS:
        config, optimizer = KERAS[name]().get_config(), build(name)
        assert vars(optimizer) == {key: config[key] for key in vars(optimizer)}


@pytest.mark.parametrize("clip_norm", [0.3, 5.0, 1000.0])
def test_clip_equals_keras_global_clipnorm(clip_norm: float) -> None:
    grad = numbers(P)
    parts = [keras.Variable(np.zeros(size, np.float32)) for size in (5, P - 5)]
    reference = keras.optimizers.SGD(1.0, global_clipnorm=clip_norm)
    reference.apply([tf.constant(grad[:5]), tf.constant(grad[5:])], parts)
    clipped, norm = clip_by_global_norm(tf.constant(grad), clip_norm)
    expected = -np.concatenate([part.numpy() for part in parts])
    np.testing.assert_allclose(clipped, expected, rtol=1e-6, atol=1e-6)
    assert float(norm) == pytest.approx(float(np.linalg.norm(grad)), rel=1e-6)


def test_clip_by_hand() -> None:
    clipped, norm = clip_by_global_norm(tf.constant([3.0, -4.0]), 1.0)
    np.testing.assert_allclose(clipped, [0.6, -0.8], rtol=1e-6)
    assert float(norm) == 5.0
    for untouched in ([3.0, -4.0], [0.0, 0.0]):
        np.testing.assert_array_equal(clip_by_global_norm(tf.constant(untouched), 5.0)[0], untouched)


def test_clip_keeps_divergence_visible_and_in_its_own_lane() -> None:
    inf, nan = np.inf, np.nan
    grads = tf.constant([[3.0, 4.0], [inf, 1.0], [1.0, nan], [1e30, 0.0], [0.0, 0.0]])  # [N, P]

    @tf.function(jit_compile=True, autograph=False)
    def clip(grads: tf.Tensor) -> Any:
        return tf.vectorized_map(lambda grad: clip_by_global_norm(grad, 1.0), grads)

    expected = [[0.6, 0.8], [nan, nan], [nan, nan], [nan, nan], [0.0, 0.0]]
    norms = [5.0, inf, nan, inf, 0.0]  # the square of 1e30 does not fit float32
    mapped = clip(grads)
    for k in range(len(norms)):
        for clipped, norm in ((mapped[0][k], mapped[1][k]), clip_by_global_norm(grads[k], 1.0)):
            np.testing.assert_allclose(clipped, expected[k], rtol=1e-6)
            np.testing.assert_array_equal(norm, norms[k])


@pytest.mark.parametrize(
    "name, options, message",
    [
        (
            "adamm",
            {},
            "Unknown optimizer: expected one of sgd, rmsprop, adam, adamw, nadam, radam; received 'adamm'. "
            "Did you mean 'adam'?",
        ),
        ("Lion", {}, "Unknown optimizer: expected one of sgd, rmsprop, adam, adamw, nadam, radam; received 'Lion'."),
        (
            "adam",
            {"beta1": 0.9, "lr": 1.0, "epsilon": 1e-8},
            "Optimizer 'adam' has the hyper-parameters beta_1, beta_2, epsilon; received beta1, lr. Remove or "
            "rename what is unknown (a learning rate is given to each update instead, and gradients are clipped "
            "by clip_by_global_norm).",
        ),
        (
            "sgd",
            {"nesterov": True},
            "SGD: nesterov=True needs momentum > 0, received momentum=0.0. Give a momentum (0.9 is usual) or "
            "leave nesterov out.",
        ),
        ("sgd", {"momentum": 1.0}, "SGD: momentum must be a number in [0, 1), received 1.0 (float)."),
        ("sgd", {"momentum": True}, "SGD: momentum must be a number in [0, 1), received True (bool)."),
        ("adam", {"beta_2": float("nan")}, "Adam: beta_2 must be a number in [0, 1), received nan (float)."),
        ("nadam", {"epsilon": "1e-7"}, "Nadam: epsilon must be a number > 0, received '1e-7' (str)."),
        ("adam", {"epsilon": 0}, "Adam: epsilon must be a number > 0, received 0 (int)."),
        ("rmsprop", {"centered": 1}, "RMSprop: centered must be true or false, received 1 (int)."),
    ],
)
def test_errors_teach(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        build(name, **options)
    assert str(error.value) == message


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, float("nan")])
def test_clip_norm_must_be_positive(clip_norm: float) -> None:
    with pytest.raises(
        ValueError,
        match=f"^clip_norm: expected a number > 0, received {clip_norm}. For no clipping, do not call this function.$",
    ):
        clip_by_global_norm(tf.ones(2), clip_norm)


@pytest.mark.parametrize("options", [{}, {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}], ids=["defaults", "options"])
def test_fifty_steps_of_radam_equal_the_papers(options: dict[str, Any]) -> None:
    """In float64, from the paper's algorithm 2 with PyTorch's threshold; with its defaults the first 5 steps are not
    rectified."""
    beta_1, beta_2, epsilon = (options.get(name, value) for name, value in vars(Adam()).items())
    optimizer, params = build("radam", **options), tf.constant(numbers(P, seed=1))
    state = optimizer.init(params)
    expected, m, v, rectified = numbers(P, seed=1).astype(np.float64), np.zeros(P), np.zeros(P), 0
    for t, (grad, rate) in enumerate(zip(GRADS.astype(np.float64), RATES, strict=True), start=1):
        m, v = beta_1 * m + (1 - beta_1) * grad, beta_2 * v + (1 - beta_2) * grad**2
        limit = 2 / (1 - beta_2) - 1
        rho = limit - 2 * t * beta_2**t / (1 - beta_2**t)
        step = m / (1 - beta_1**t)
        if rho > 5:
            rectified += 1
            r = np.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
            step = r * step * np.sqrt(1 - beta_2**t) / (np.sqrt(v) + epsilon)
        expected -= rate * step
        params, state = optimizer.update(params, tf.constant(grad, tf.float32), state, tf.constant(rate))
        np.testing.assert_allclose(params, expected, rtol=1e-5, atol=2e-5)
    assert 40 <= rectified < STEPS


def test_radam_that_is_never_rectified_is_refused() -> None:
    with pytest.raises(ValueError, match=r"RAdam: beta_2 must be above 2/3, received 0\.5: no step"):
        build("radam", beta_2=0.5)
