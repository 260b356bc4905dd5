"""Policies over all kinds of actions: by hand, as they are deployed, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from rlexp.algos.pg import PG
from rlexp.algos.pg_baseline import PGBaseline
from rlexp.algos.ppo import PPO
from rlexp.config.schema.algos import OptimizerSettings, PGBaselineSettings, PGSettings, PPOSettings
from rlexp.config.schema.network import NetworkSettings
from rlexp.data import seeding
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete, MultiDiscrete, Spec
from rlexp.jobs.preflight import preflight
from rlexp.jobs.runner import compose
from rlexp.jobs.stored_models import load_model
from rlexp.jobs.weights import save_model
from rlexp.networks import mlp
from rlexp.networks.building import check_saved, redraw
from rlexp.networks.flat_model import FlatModel
from rlexp.system.errors import Refusal

SGD = OptimizerSettings("sgd", lr=1.0, clip_norm=None)
UNEVEN = Box((2, 1), "float32", (-1.0, 0.0), (1.0, 4.0))
FREE = Box((3,), "float32", (None, 0.0, -1.0), (None, None, 1.0))
CHOICES = MultiDiscrete((2, 3), (2,))
GAUSSIANS = [
    (UNEVEN, {}), (UNEVEN, {"distribution": "tanh_gaussian"}), (UNEVEN, {"state_dependent_std": True}), (FREE, {}),
    (UNEVEN, {"distribution": "tanh_gaussian", "state_dependent_std": True, "log_std_init": -1.0}),
]  # fmt: skip


def made(
    action: Spec, kind: type[PG] = PG, settings: type[PGSettings] = PGSettings, seed: int = 0, **options: Any
) -> PG:
    """An agent with a network of its own, whose weights have the seed."""
    config = settings(optimizer=SGD, normalize=False, **options)
    info = EnvInfo(Box((3,), "float32"), action, None, False)

    class Make:
        dueling = None

        def __call__(self, output_shape: tuple[int, ...]) -> keras.Model:
            return mlp.build((3,), output_shape, NetworkSettings("mlp", [8]))

        def features(self, number: int) -> keras.Model:
            raise NotImplementedError

    models = seeding.with_keras_seed(seed, lambda: kind.models(Make(), info, config))
    return kind(config, {name: FlatModel(model) for name, model in models.items()}, info)


def weights(agent: PG) -> dict[str, tf.Tensor]:
    return {name: tf.constant(network.get_params()) for name, network in agent.networks.items()}


def observations(number: int = 20) -> tf.Tensor:
    return tf.constant(3 * np.random.default_rng(0).normal(size=(number, 3)), tf.float32)


def uniforms(agent: PG, number: int = 20) -> tf.Tensor:
    return tf.constant(np.random.default_rng(1).random((number, agent.widths["act"]), np.float32))


def scalars(**values: float) -> dict[str, tf.Tensor]:
    found = {"gamma": 0.9, "optimizer.lr": 1.0, "entropy_coef": 0.0, **values}
    return {path: tf.constant(value) for path, value in found.items()}


@pytest.mark.parametrize(
    ("action", "options", "kind"),
    [
        pytest.param(*each, kind, marks=[pytest.mark.slow] * ((i, kind) not in ((1, PGBaseline), (3, PG))))
        for i, each in enumerate(GAUSSIANS)
        for kind in (PG, PGBaseline)
    ],
)
def test_what_is_deployed_gives_the_greedy_action_itself(
    action: Box, options: dict[str, Any], kind: type[PG], tmp_path: Path
) -> None:
    """Saved and loaded in safe mode; within the bounds, whatever the network says."""
    agent = made(action, kind, {PG: PGSettings, PGBaseline: PGBaselineSettings}[kind], **options)
    params = weights(agent)
    check_saved(agent.networks["policy"].model)  # as of a network of one's own
    for name, vector in agent.deploy(params).items():
        agent.networks[name].set_params(vector.numpy())
    model = agent.policy_model({name: network.model for name, network in agent.networks.items()})
    save_model(model, tmp_path / "best.keras")
    loaded, greedy = load_model(tmp_path / "best.keras", allow_imports=False), agent.greedy(params, observations())
    assert loaded.output_shape == (None, *action.shape) and greedy.shape == (20, *action.shape)
    np.testing.assert_array_equal(loaded(observations()), greedy)
    low, high = action.bounds
    assert (greedy >= low).numpy().all() and (greedy <= high).numpy().all()
    assert (greedy.numpy() == action.to_env(greedy.numpy())).all()
    assert len(np.unique(greedy)) > 5  # they are not all at a bound


@pytest.mark.parametrize(
    ("action", "options", "dtype"),
    [*((*each, tf.float32) for each in GAUSSIANS), (CHOICES, {}, tf.int32), (Discrete(3), {}, tf.int32)],
)
def test_sampled_actions_have_the_shape_and_dtype_of_their_spec(action: Spec, options: Any, dtype: Any) -> None:
    agent = made(action, **options)
    params, o_t, u = weights(agent), observations(), uniforms(agent)
    sampled = agent.sample(params, o_t, u)
    assert sampled.shape == (20, *action.shape) and sampled.dtype == dtype == tf.as_dtype(action.dtype)
    one = agent.act(params, o_t[3], u[3], scalars())
    assert one.shape == action.shape and np.allclose(one, sampled[3], atol=1e-6)
    log_prob = agent.log_prob(params, {"o_tm1": o_t, "a_tm1": sampled})
    assert log_prob.shape == (20,) and np.isfinite(log_prob).all()
    if isinstance(action, Box):
        assert np.ptp(sampled.numpy().reshape(20, -1), axis=0).min() > 0.1
    else:
        assert len(np.unique(sampled.numpy().reshape(20, -1), axis=0)) > 2


def batch(agent: PG, actions: tf.Tensor, rewards: list[float]) -> dict[str, tf.Tensor]:
    """Episodes of one step each."""
    number = len(rewards)
    return {
        "o_tm1": observations(number), "a_tm1": actions, "r_t": tf.constant(rewards), "o_t": observations(number),
        "terminated": tf.ones(number, tf.bool), "truncated": tf.zeros(number, tf.bool), "mask": tf.ones(number, tf.bool),
    }  # fmt: skip


def test_the_update_of_a_gaussian_by_hand() -> None:
    """One row, return 3, sigma e^.5, scale 2: with z = a / 2, d log p / d mu = (z - mu) / sigma^2 and
    d log p / d log sigma = ((z - mu) / sigma)^2 - 1; the entropy bonus adds its weight to log sigma."""
    agent = made(Box((1,), "float32", (-2.0,), (2.0,)), log_std_init=0.5)
    assert agent.networks["policy"].sizes[-1] == 1  # log sigma: one number, the last
    params = weights(agent)
    outputs = agent.outputs(params, observations(1))
    mean = float(outputs[0, 0, 0])
    assert outputs.shape == (1, 1, 2) and float(outputs[0, 0, 1]) == 0.5
    rows = batch(agent, tf.constant([[1.5]]), [3.0])
    state = agent.init(params)
    now = scalars(entropy_coef=0.25)
    new, metrics, _ = agent.learn(state, agent.prepare(agent.acting(state), rows, now), tf.zeros(0), now)
    apart = 0.75 - mean
    moved = (new["online"]["policy"] - params["policy"]).numpy()
    assert moved[-1] == pytest.approx(3 * (apart**2 / math.e - 1) + 0.25, rel=1e-4)  # log sigma
    assert moved[-2] == pytest.approx(3 * apart / math.e, rel=1e-4)  # bias of mu
    assert float(metrics["entropy"]) == pytest.approx(0.5 + 1.418939 + math.log(2), rel=1e-5)
    log_prob = -(apart**2) / (2 * math.e) - 0.5 - 0.918939 - math.log(2)
    assert float(metrics["loss"]) == pytest.approx(-3 * log_prob - 0.25 * float(metrics["entropy"]), rel=1e-5)


def test_the_deviation_starts_as_configured_and_is_the_same_in_every_state_or_not() -> None:
    same = made(UNEVEN, log_std_init=-1.0)
    outputs = same.outputs(weights(same), observations()).numpy()
    assert outputs.shape == (20, 2, 2) and (outputs[..., 1] == -1).all()
    own = made(UNEVEN, log_std_init=-1.0, state_dependent_std=True)
    log_std = own.outputs(weights(own), observations()).numpy()[..., 1]
    plain = made(UNEVEN, state_dependent_std=True).outputs(weights(own), observations()).numpy()[..., 1]
    assert np.ptp(log_std) > 0.1
    np.testing.assert_allclose(log_std, plain - 1, atol=1e-6)
    far = own.distribution.entropy(tf.constant([[[0.0, 50.0], [0.0, -50.0]]]))  # clipped to 2 and -20
    assert float(far[0]) == pytest.approx(2 - 20 + 2 * 1.418939 + math.log(2), rel=1e-5)


@pytest.mark.parametrize("action", [UNEVEN, CHOICES])
def test_initial_weights_are_those_of_the_seed_without_building(action: Spec) -> None:
    first, second = (made(action, PGBaseline, PGBaselineSettings, seed=seed, log_std_init=-0.5) for seed in (3, 4))
    drawn = redraw(first.networks, 4)
    for name, network in second.networks.items():
        assert (drawn[name] == network.get_params()).all() and (drawn[name] != first.networks[name].get_params()).any()


@pytest.mark.parametrize(
    ("action", "options"), [(UNEVEN, {"distribution": "tanh_gaussian"}), (UNEVEN, {}), (CHOICES, {})]
)
def test_the_ratio_of_ppo_is_that_of_the_distribution(action: Spec, options: dict[str, Any]) -> None:
    """1 at first, so that the gain is the advantage; then p / p_old of the actions, also of those beyond the bounds."""
    agent = made(action, PPO, PPOSettings, clip_ratio=1.0, value_coef=1e-9, **options)
    params = weights(agent)
    rows = batch(agent, agent.sample(params, observations(8), uniforms(agent, 8)), [1.0] * 8)
    prepared = {**agent.prepare(params, rows, scalars()), "advantage": tf.ones(8)}
    _, metrics, _ = agent.learn(agent.init(params), prepared, tf.zeros(0), scalars())
    assert float(metrics["loss"]) == pytest.approx(-1, abs=1e-6)
    other = {name: 0.9 * vector for name, vector in params.items()}
    before, after = (agent.log_prob(p, rows).numpy().astype(float) for p in (params, other))
    _, metrics, _ = agent.learn(agent.init(other), prepared, tf.zeros(0), scalars())
    expected = np.minimum(np.exp(after - before), 2.0).mean()
    assert float(metrics["loss"]) == pytest.approx(-expected, rel=1e-4) and abs(expected - 1) > 1e-3


REFUSED = [
    ("algo.distribution=tanh_gaussian", "algo.distribution: expected auto where actions are no Box, received 'tanh_gaussian' "
     "and 'CartPole-v1' with actions of Discrete(2)."),
    ("env=pendulum algo.head=sigmoid", "algo.head: expected softmax for actions of Box(-2.0, 2.0, (1,), float32), received "
     "'sigmoid', which is for two."),
    ("env.id=tests/Free-v0 algo.distribution=tanh_gaussian", "algo.distribution: expected gaussian where a number of the "
     "action has no bound, received 'tanh_gaussian' and 'tests/Free-v0' with actions of Box([-1.0 -inf], 1.0, (2,), "
     "float32).\nA Gaussian needs none: algo.distribution=gaussian"),
    ("env.id=tests/Whole-v0", "env.id: expected actions of floats for ppo, received 'tests/Whole-v0' with actions of Box(0.0, "
     "9.0, (2,), int64)."),
    ("algo.distribution=beta", "algo.distribution: expected one of auto, gaussian, tanh_gaussian, received 'beta'."),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "message"), REFUSED, ids=[overrides for overrides, _ in REFUSED])
def test_refusals(overrides: str, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        preflight(compose("algo=ppo", *overrides.split()))
    assert str(refused.value) == message


def test_settings_of_gaussians_are_in_no_hash_where_they_change_nothing() -> None:
    plain = compose("algo=ppo")
    names = ("distribution", "log_std_init", "state_dependent_std")
    given = compose("algo=ppo", *(f"algo.{n}={v}" for n, v in zip(names, ("auto", "0", "false"), strict=True)))
    assert plain.config_id == given.config_id
    for other in ("distribution=gaussian", "log_std_init=-1", "state_dependent_std=true"):
        assert compose("algo=ppo", f"algo.{other}").group_id != plain.group_id


class Odd(gym.Env[Any, Any]):
    """Its spaces alone count here."""

    observation_space = gym.spaces.Box(-1, 1, (3,))

    def __init__(self, action_space: gym.Space) -> None:
        self.action_space = action_space


gym.register(
    "tests/Free-v0", Odd, kwargs={"action_space": gym.spaces.Box(np.float32([-1, -np.inf]), np.float32([1, 1]))}
)
gym.register("tests/Whole-v0", Odd, kwargs={"action_space": gym.spaces.Box(0, 9, (2,), np.int64)})
