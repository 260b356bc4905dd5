"""Networks for images: of one's own with convolutions, small ones, where channels are, what numbers are divided by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import pytest
from gymnasium import spaces

import rlexp
import tests.probes.catch  # noqa: F401  (registers it)
from rlexp.config import images, registry
from rlexp.config.schema.env import EnvSettings
from rlexp.config.schema.network import NetworkSettings
from rlexp.engines import mapping
from rlexp.envs import inspection, plugins
from rlexp.jobs.engine_choice import choose_engine
from rlexp.jobs.preflight import preflight, resolve
from rlexp.jobs.runner import compose
from rlexp.networks import cnn
from rlexp.networks.building import functional
from rlexp.networks.flat_model import FlatModel
from rlexp.system.errors import Refusal
from tests.engines.test_engines import trial

CATCH = ("env.id=probes/Catch-v0", "env.imports=[tests.probes.catch]")
L = keras.layers
TINY_CNN = NetworkSettings("minatar", [1], "relu", {"filters": [16], "kernel_sizes": [3], "strides": [1]})


def my_cnn(observation_shape: tuple[int, ...], output_shape: tuple[int, ...], network: NetworkSettings) -> keras.Model:
    """A network of one's own: pictures through a convolution in two dimensions, vectors in one."""
    hidden = inputs = L.Input(observation_shape)
    if len(observation_shape) == 1:
        hidden = L.Conv1D(4, 2, activation="relu")(L.Reshape((-1, 1))(hidden))
    else:
        hidden = L.MaxPooling2D(2)(L.Conv2D(4, 3, activation="relu")(hidden))
    return keras.Model(inputs, L.Dense(output_shape[0])(L.Flatten()(hidden)))


def my_mlp(observation_shape: tuple[int, ...], output_shape: tuple[int, ...], network: NetworkSettings) -> keras.Model:
    """A network of one's own without convolutions, whose input is known only once it is called."""
    return keras.Sequential([L.Flatten(), L.Dense(8, activation="relu"), L.Dense(output_shape[0])])


class Subclass(keras.Model):
    """Layers that no model lists as its own before it is called."""

    def __init__(self, num_outputs: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.num_outputs = num_outputs
        self.hidden, self.last = L.Conv2D(4, 3), L.Dense(num_outputs)

    def call(self, observation: Any) -> Any:
        return self.last(keras.ops.mean(self.hidden(observation), axis=(1, 2)))

    def get_config(self) -> dict[str, Any]:
        return {"num_outputs": self.num_outputs}


@keras.saving.register_keras_serializable("tests")
class Registered(Subclass):
    """One that Keras can load."""


def my_subclass(
    observation_shape: tuple[int, ...], output_shape: tuple[int, ...], network: NetworkSettings
) -> keras.Model:
    return Registered(output_shape[0])


def my_unregistered(
    observation_shape: tuple[int, ...], output_shape: tuple[int, ...], network: NetworkSettings
) -> keras.Model:
    return Subclass(output_shape[0])


def layers(*between: Any, shape: tuple[int, ...] = (10, 10, 4)) -> FlatModel:
    hidden = inputs = L.Input(shape)
    for layer in between:
        hidden = layer(hidden)
    return FlatModel(keras.Model(inputs, L.Dense(2)(L.Flatten()(hidden))))


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (lambda: layers(L.Conv2D(4, 3)), "Conv2D"),
        (lambda: layers(L.Conv1D(4, 3), shape=(10, 4)), "Conv2D"),
        (lambda: layers(L.Conv3D(4, 3), shape=(5, 5, 5, 2)), "Conv3D"),
        (lambda: layers(L.DepthwiseConv2D(3)), "DepthwiseConv2dNative"),
        (lambda: layers(L.SeparableConv2D(4, 3)), "Conv2D"),
        (lambda: layers(L.Conv2DTranspose(4, 3)), "Conv2D"),
        (lambda: layers(keras.Sequential([L.Conv2D(4, 3), L.ReLU()])), "Conv2D"),
        (lambda: FlatModel(functional(Subclass(), (10, 10, 4))), "Conv2D"),
    ],
    ids=["2d", "1d", "3d", "depthwise", "separable", "transposed", "nested", "subclass"],
)
def test_convolutions_are_found_in_the_model_whatever_their_layer(model: Callable[[], FlatModel], found: str) -> None:
    assert mapping.why_not_model(model()) == f"has convolutions ({found}), which XLA cannot map over trials"


def test_whatever_else_cannot_be_mapped_is_found_by_trying() -> None:
    said = "has operations that XLA cannot map over trials (No pfor vectorization defined for ResizeBilinear)"
    assert mapping.why_not_model(layers(L.Resizing(5, 5))) == said
    pools = (L.MaxPooling2D(2), L.AveragePooling2D(2), L.ZeroPadding2D(1), L.LayerNormalization())
    assert mapping.why_not_model(layers(*pools)) is None
    assert mapping.why_not_model(layers(L.GlobalMaxPooling2D())) is None
    assert mapping.why_not_model(layers(L.GlobalAveragePooling2D())) is None


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["ddqn", "pg_baseline"])
def test_a_trial_of_ones_own_convolutions_alone_equals_the_trial_in_a_batch(
    algo: str, tiny: Callable[..., Any]
) -> None:
    options = (*CATCH, f"network.name={__name__}:my_cnn", "engine=auto", "budget.steps=150", "evaluation.period=75")
    two, one = tiny(algo, "trials=2", *options), tiny(algo, "trials=1", "seed=1", *options)
    assert two["engine"] == "host" and two["observation_dtype"] == "uint8" and two["updates"][0] > 5
    assert trial(two, 1) == trial(one, 1) != trial(two, 0)


def test_a_subclass_of_ones_own_is_trained_and_loaded_where_keras_knows_it(tiny: Callable[..., Any]) -> None:
    options = (*CATCH, "trials=1", "budget.steps=60", "evaluation.period=60")
    job = tiny("ddqn", f"network.name={__name__}:my_subclass", *options)
    assert rlexp.load_policy(job.folder, allow_imports=True)(np.zeros((10, 10, 2), bool)) in (0, 1, 2)
    with pytest.raises(Refusal) as refused:
        tiny("ddqn", f"network.name={__name__}:my_unregistered", *options)
    assert str(refused.value) == (
        "network: expected a model that Keras can save and load in safe mode, received Subclass, which Keras does not know.\n"
        "Decorate classes of your own with @keras.saving.register_keras_serializable(), give them get_config, "
        "and use layers in place of lambdas."
    )


def engine(*overrides: str) -> str:
    settings = compose(*overrides)
    return choose_engine(settings, inspection.inspect(settings.env))


def test_the_engine_of_a_network_of_ones_own_is_that_of_its_model() -> None:
    """The folder's name holds the engine: it is known before the job starts."""
    own = f"network.name={__name__}"
    assert engine("algo=ddqn", f"{own}:my_mlp") == "fused"
    assert engine("algo=ddqn", f"{own}:my_cnn") == engine("algo=ddqn", f"{own}:my_cnn", "engine=host") == "host"
    with pytest.raises(
        Refusal, match=r"'fused', but network tests\.networks\.test_images:my_cnn has convolutions \(Conv2D\), which"
    ):
        engine("algo=pg", f"{own}:my_cnn", "engine=fused")


@pytest.mark.slow
def test_built_in_networks_are_what_the_registry_says_of_them() -> None:
    for name, entry in registry.NETWORKS.items():
        factory, config = registry.load(entry.target), compose(f"network={name}").network
        model = FlatModel(factory((40, 40, 3) if entry.convolutional else (4,), (2,), config))
        why = mapping.why_not_model(model)
        assert entry.convolutional != entry.dense and (why is not None) == entry.convolutional, name
        assert entry.convolutional == (entry.in_patches is not None), name


@pytest.mark.parametrize(
    ("shape", "first"),
    [
        ((4, 84, 84), True),
        ((84, 84, 4), False),
        ((210, 160, 3), False),
        ((3, 210, 160), True),
        ((10, 10, 4), False),
        ((10, 10, 12), False),  # more channels than pixels
        ((16, 10, 10), True),  # a stack of 16 frames
        ((7, 7, 3), False),
        ((3, 7, 7), True),
        ((10, 10, 10), False),
        ((4, 7, 9), True),
        ((7, 9, 4), False),
    ],
)
def test_where_the_channels_are(shape: tuple[int, ...], first: bool) -> None:
    assert images.channels_first(shape) == first
    assert images.channels_first(shape, "first") and not images.channels_first(shape, "last")
    model = cnn.build(shape, (2,), TINY_CNN)
    convolution = next(layer for layer in model.layers if isinstance(layer, L.Conv2D))
    assert convolution.kernel.shape == (3, 3, shape[0] if first else shape[2], 16)


def test_frames_with_channels_become_channels() -> None:
    model = cnn.build((2, 5, 6, 3), (2,), compose("network=minatar").network)
    convolution = next(layer for layer in model.layers if isinstance(layer, L.Conv2D))
    seen = keras.Model(model.input, convolution.input)(np.arange(180, dtype=np.float32).reshape(1, 2, 5, 6, 3))
    expected = np.arange(180).reshape(2, 5, 6, 3).transpose(1, 2, 0, 3).reshape(5, 6, 6)
    np.testing.assert_allclose(np.asarray(seen[0]), expected / 255, rtol=1e-6)


def test_the_network_of_minatar_and_that_of_mnih() -> None:
    """Young and Tian 2019: 16 filters of 3x3, stride 1, dense 128; Mnih et al. 2015, Extended Data Figure 1."""

    def parts(name: str, shape: tuple[int, ...]) -> list[Any]:
        model = cnn.build(shape, (6,), compose(f"network={name}").network)
        return [w.shape for w in model.weights], [layer.activation.__name__ for layer in model.layers if layer.weights]

    assert parts("minatar", (10, 10, 4)) == (
        [(3, 3, 4, 16), (16,), (1024, 128), (128,), (128, 6), (6,)],
        ["relu", "relu", "linear"],
    )
    assert parts("cnn", (4, 84, 84)) == (
        [(8, 8, 4, 32), (32,), (4, 4, 32, 64), (64,), (3, 3, 64, 64), (64,), (3136, 512), (512,), (512, 6), (6,)],
        ["relu"] * 4 + ["linear"],
    )


REFUSED = [
    ("network=cnn", "network: expected image observations of at least 36 x 36 pixels for cnn, received shape (10, 10, 2).\n"
     "Use network=minatar, or smaller network.options.kernel_sizes and network.options.strides."),
    ("network=cnn network.options.kernel_sizes=[3,3,3]", "network: expected image observations of at least 27 x 27 pixels for cnn, "
     "received shape (10, 10, 2).\nUse network=minatar, or smaller network.options.kernel_sizes and network.options.strides."),
    ("network=minatar network.options.filters=[16,32]", "network.options: expected as many kernel_sizes and strides as filters, one per "
     "convolution, received filters [16, 32], kernel_sizes [3] and strides [1]."),
    ("network=minatar network.options.filters=[0]", "network.options.filters: expected a list of whole numbers from 1 to 100000, received [0]."),
    ("network=minatar network.options.strides=2", "network.options.strides: expected a list of whole numbers from 1 to 100000, received 2."),
    ("network=minatar network.options.strides=[]", "network.options.strides: expected a list of whole numbers from 1 to 100000, received []."),
    ("network=minatar network.options.kernel_sizes=[1.5]", "network.options.kernel_sizes: expected a list of whole numbers from 1 to 100000, received [1.5]."),
    ("network=minatar network.options.channels=middle", "network.options.channels: expected one of auto, first, last, received 'middle'."),
    ("network=minatar network.options.divide_by=0", "network.options.divide_by: expected auto or a number > 0, received 0."),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "text"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_a_small_image_cannot_have_is_refused_without_tensorflow(overrides: str, text: str) -> None:
    with pytest.raises(Refusal) as refused:
        preflight(compose("algo=dqn", *CATCH, *overrides.split()))
    assert str(refused.value) == text


def test_small_images_pass() -> None:
    preflight(compose("algo=dqn", *CATCH, "network=minatar"))
    preflight(compose("algo=dqn", *CATCH, "network=cnn", "network.options.filters=[8,8]",
                      "network.options.kernel_sizes=[4,3]", "network.options.strides=[2,1]"))  # fmt: skip


class Shown(gym.Env[np.ndarray, Any]):
    """Shows one image, of any kind."""

    def __init__(self, space: spaces.Box, first: float) -> None:
        self.observation_space, self.first = space, first

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:  # type: ignore[override]
        return np.full(self.observation_space.shape or (), self.first, self.observation_space.dtype), {}


@pytest.mark.parametrize(
    ("space", "first", "small"),
    [
        (spaces.Box(0, 255, (4, 84, 84), np.uint8), 0, False),  # Atari, whatever is seen first
        (spaces.Box(0, 255, (84, 84, 3), np.float32), 0, False),  # numbers from 0 to 255
        (spaces.Box(0, 1, (84, 84, 3), np.float32), 1, True),
        (spaces.Box(0, 1, (10, 10, 4), np.bool_), 1, True),  # MinAtar
        (spaces.Box(0, 10, (7, 7, 3), np.uint8), 10, True),
        (spaces.Box(0, 255, (7, 7, 3), np.uint8), 10, True),  # MiniGrid
        (spaces.Box(0, 255, (20, 20, 3), np.uint8), 130, False),  # a small picture
        (spaces.Box(-np.inf, np.inf, (84, 84, 1), np.float32), 2.5, True),
        (spaces.Box(-np.inf, np.inf, (84, 84, 1), np.float32), 200, False),
        (spaces.Box(0, 255, (84,), np.uint8), 0, False),  # no image
    ],
)
def test_what_images_are_divided_by(space: spaces.Box, first: float, small: bool) -> None:
    assert images.has_small_numbers(Shown(space, first)) == small
    network = images.resolved(TINY_CNN, small)
    assert network.options["divide_by"] == (1 if small else 255)
    assert images.resolved(replace(network, options={"divide_by": 9}), small).options == {"divide_by": 9}
    if len(space.shape) == 3:
        model = cnn.build(space.shape, (2,), network)
        assert any(isinstance(layer, L.Rescaling) for layer in model.layers) == (not small)


def test_folders_of_jobs_with_the_network_of_mnih_keep_their_names() -> None:
    """Options that came later count where they change something."""
    settings = compose("+experiment=atari_dqn")

    def config_id(**options: Any) -> str:
        return replace(settings, network=replace(settings.network, options=options)).config_id

    before = config_id(dueling=True)  # when there were no others
    assert settings.config_id == before == config_id(dueling=True, strides=[4, 2, 1])
    assert config_id(dueling=True, strides=[4, 2, 2]) != before != config_id(dueling=True, divide_by=1)
    assert config_id(dueling=False) != before


def register_plugin() -> None:
    gym.register("Plugged/Catch-v0", entry_point="tests.probes.catch:Catch")


def test_packages_that_gymnasium_no_longer_asks_register_their_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one whose entry point has the namespace of the id, as MinAtar's has; others are not imported."""
    points = [
        EntryPoint("Plugged", f"{__name__}:register_plugin", "gymnasium.envs"),
        EntryPoint("Other", "nothing:here", "gymnasium.envs"),
    ]
    with pytest.raises(Refusal, match="'Plugged/Catch-v0', which is not registered"):
        inspection.inspect(EnvSettings(id="Plugged/Catch-v0"))
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    info = inspection.inspect(EnvSettings(id="Plugged/Catch-v0"))
    assert (info.observation_shape, info.observation_dtype, info.small_numbers) == ((10, 10, 2), "uint8", True)
    with pytest.warns(UserWarning, match="nothing:here has registered no environments"), pytest.raises(Refusal):
        inspection.inspect(EnvSettings(id="Other/Catch-v0"))
    gym.registry.pop("Plugged/Catch-v0")


@pytest.mark.slow
def test_minatar_runs(tiny: Callable[..., Any]) -> None:
    options = (
        *CATCH,
        "network=minatar",
        "network.hidden_units=[8]",
        "trials=1",
        "budget.steps=100",
        "evaluation.period=100",
    )
    job = tiny("dueling_ddqn", *options, "network.options.dueling=true")
    assert job["observation_shape"] == [10, 10, 2]
    model = keras.models.load_model(job.folder / "trials" / "0" / "best.keras")
    assert not any(isinstance(layer, L.Rescaling) for layer in model.layers)
    assert {"value", "advantage"} <= {layer.name for layer in model.layers}


LEARN = (
    "algo=ddqn", "network=minatar", "tracking=files", "animation.enabled=false", "seed=0", "algo.optimizer.lr=5e-4", "algo.n_step=3",
    "algo.batch_size=32", "algo.learn_period=4", "algo.target_period=100", "algo.loss=huber", "evaluation.candidates=1",
    "evaluation.final_episodes=50", "evaluation.num_episodes=20",
)  # fmt: skip


def final(tmp_path: Path, *overrides: str) -> np.ndarray:
    job = rlexp.run(*overrides, f"output_dir={tmp_path}", quiet=True)
    return np.array(job["final/return"]["per_trial"])


@pytest.mark.slow
@pytest.mark.parametrize("symbols", ["false", "true"])
def test_catch_is_learned(symbols: str, tmp_path: Path) -> None:
    """By three seeds of three; at random a ball is caught one time in five."""
    learned = final(tmp_path, *LEARN, *CATCH, f"+env.kwargs.symbols={symbols}", "trials=3", "budget.steps=12000",
                    "algo.epsilon={kind: linear, initial: 1.0, final: 0.05, duration: 6000, unit: step}",
                    "evaluation.period=3000")  # fmt: skip
    assert (learned > 0.8).all(), learned


@pytest.mark.slow
def test_minatars_breakout_is_learned(tmp_path: Path) -> None:
    """Each of three seeds plays better than random play, which breaks half a brick."""
    game = ("env.id=MinAtar/Breakout-v1", "evaluation.max_steps=1000")
    random = final(tmp_path, "algo=random", "tracking=files", "animation.enabled=false", "seed=0", "trials=3", *game,
                   "evaluation.final_episodes=200", "budget.steps=100")  # fmt: skip
    learned = final(tmp_path, *LEARN, *game, "trials=3", "budget.steps=40000", "algo.gamma=0.99", "algo.replay_size=20000",
                    "algo.epsilon={kind: linear, initial: 1.0, final: 0.05, duration: 15000, unit: step}",
                    "evaluation.period=5000")  # fmt: skip
    assert random.mean() < 1.0 and (learned > 3 * random.mean()).all(), (random, learned)


@pytest.mark.slow
def test_minigrids_empty_room_is_learned(tmp_path: Path) -> None:
    """Each of three seeds finds the goal; random play within 100 steps does in less than half of its episodes."""
    room = ("env.id=minigrids/EmptyRoom-v0", "env.imports=[tests.probes.minigrids]")
    assert resolve(compose("algo=ddqn", "network=minatar", *room))[1].small_numbers
    random = final(tmp_path, "algo=random", "tracking=files", "animation.enabled=false", "seed=0", "trials=3", *room,
                   "evaluation.final_episodes=100", "budget.steps=100")  # fmt: skip
    learned = final(tmp_path, *LEARN, *room, "trials=3", "budget.steps=15000", "algo.gamma=0.97",
                    "algo.epsilon={kind: linear, initial: 1.0, final: 0.1, duration: 8000, unit: step}",
                    "evaluation.period=3000")  # fmt: skip
    assert random.mean() < 0.5 and (learned > 0.9).all(), (random, learned)
