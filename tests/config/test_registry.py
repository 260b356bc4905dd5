"""The registry times conf: every name composes, builds, and runs; third parties can add names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlexp.config import paths, registry
from rlexp.config.paths import conf_dir
from rlexp.config.schema.algos import RandomSettings
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose
from rlexp.system.errors import Refusal
from tests.conftest import records

ENVS = ("cartpole", "acrobot", "mountain_car", "lunar_lander", "space_invaders", "frozen_lake", "frozen_lake_8x8", "taxi",
        "cliff_walking", "three_state_mdp", "markov_chain", "pendulum", "mountain_car_continuous",
        "lunar_lander_continuous", "bipedal_walker")  # fmt: skip


def test_names_files_and_keys_are_the_same() -> None:
    assert paths.configured("algo") == sorted(registry.ALGOS)
    assert paths.configured("network") == sorted([*registry.NETWORKS, "mlp_relu", "mlp_tanh"])  # mlp with other values
    assert paths.configured("env") == sorted(ENVS)
    for name in registry.ALGOS:
        assert compose(f"algo={name}").algo.name == name
    for name in registry.NETWORKS:
        assert compose(f"network={name}").network.name == name
    for name in ENVS:
        assert compose(f"env={name}").env.name == name


def test_every_key_of_every_yaml_has_its_comment_and_every_yaml_opens_with_one() -> None:
    for group in ("algo", "env", "discretizer", "network", "tracking", "experiment"):
        for path in (conf_dir() / group).rglob("*.yaml"):
            assert path.read_text().startswith("#"), path


def test_every_preset_composes_and_opens_with_its_command() -> None:
    for name in paths.configured("experiment"):
        compose(f"+experiment={name}")
        assert f"rlexp +experiment={name}" in (conf_dir() / "experiment" / f"{name}.yaml").read_text()


ELSEWHERE = (  # the slow ones: they run in test_engines, or are parts or cousins of others
    "a2c", "c51", "ddqn", "dqn", "dueling_ddqn", "dueling_dqn", "fixed_dqn", "iqn", "munchausen_dqn", "pg_baseline", "ppo",
    "pqn", "qr_dqn", "td3",
)  # fmt: skip


@pytest.mark.parametrize(
    "algo",
    [pytest.param(algo, marks=[pytest.mark.slow] * (algo in ELSEWHERE)) for algo in sorted(registry.ALGOS)],
)
def test_every_algorithm_runs_fifty_steps(algo: str, tiny: Callable[..., Any]) -> None:
    family = registry.ALGOS[algo].family
    learning = {
        "replay": ["algo.learn_start=10"],
        "rollout": ["algo.batch_size=1", "algo.batch_unit=episode"],
    }
    once = {  # per batch and episode, as the others do
        "a2c": ["algo.num_envs=1"],
        "ppo": ["algo.num_updates=1"],
        "pqn": ["algo.num_envs=1", "algo.num_updates=1", "algo.num_minibatches=1"],
    }.get(algo, [])
    job = tiny(algo, "trials=2", "budget.steps=50", "evaluation.period=25", *learning.get(family, []), *once)
    assert (job["algo"], job["steps"], job["total_steps"], job["status"]) == (algo, 50, 100, "done")
    period = getattr(registry.ALGOS[algo].schema(), "learn_period", 1)
    updates = {"replay": [40 // period] * 2, "rollout": job["episodes"], "tabular": [50, 50], "planning": [50, 50]}
    assert job["updates"] == updates.get(family, [0, 0])
    weights = {"fixed": [], "tabular": ["best.npz"], "planning": ["best.npz"]}.get(family, ["best.keras"])
    assert [path.name for path in (job.folder / "trials").glob("1/*")] == weights
    assert [r["step"] for r in records(job.folder) if "eval/return" in r["metrics"]] == [25, 50]


# Tables and classic control differ in their observations only: one of each is enough by default.
SOME = [
    pytest.param(
        env,
        marks=[pytest.mark.slow]
        * (
            env
            in (
                "frozen_lake",
                "frozen_lake_8x8",
                "cartpole",  # the environment of most other tests
                "cliff_walking",
                "markov_chain",
                "acrobot",
                "taxi",
                "mountain_car",
                "space_invaders",
                "mountain_car_continuous",
                "lunar_lander_continuous",
            )
        ),
    )
    for env in ENVS
]


@pytest.mark.parametrize("env", SOME)
def test_every_environment_runs_with_a_learner(env: str, tiny: Callable[..., Any]) -> None:
    continuous = env in ("pendulum", "mountain_car_continuous", "lunar_lander_continuous", "bipedal_walker")
    algo = "q_learning" if env == "three_state_mdp" else "pg_baseline" if continuous else "dqn"
    network = ["network=cnn"] if env == "space_invaders" else []
    options = ["trials=1", "budget.steps=60", "evaluation.max_steps=50", "evaluation.period=60", *network]
    job = tiny(algo, f"env={env}", *options)
    assert job["env"] == env and job["steps"] == 60 and np.isfinite(job["final/return"]["mean"])


def test_observations_that_are_no_box_and_environments_without_a_limit(tiny: Callable[..., Any]) -> None:
    job = tiny("dqn", "env.id=CliffWalking-v1", "trials=1", "budget.steps=60", "evaluation.max_steps=20")
    assert job["env"] == "CliffWalking-v1" and job["observation_shape"] == [48]
    assert job.curves["final/length"].values.max() <= 20


def test_an_optimizer_option_that_is_unknown_is_refused(tiny: Callable[..., Any]) -> None:
    with pytest.raises(
        Refusal, match=r"algo\.optimizer\.options\.beta_3: expected one of beta_1, beta_2, epsilon for adam"
    ):
        tiny("dqn", "+algo.optimizer.options.beta_3=0.9")


def test_networks_that_cannot_be_built_are_refused(tiny: Callable[..., Any]) -> None:
    with pytest.raises(Refusal, match=r"network: expected image observations of at least 36 x 36 pixels for cnn"):
        tiny("dqn", "network=cnn")
    with pytest.raises(Refusal, match=r"network\.options\.aggregation: expected one of mean, max, received 'min'"):
        tiny("dueling_dqn", "network.options.aggregation=min")
    with pytest.raises(Refusal, match=r"network\.options\.hidden: expected an option of network mlp"):
        tiny("dqn", "+network.options.hidden=3")


def test_a_network_of_ones_own(tiny: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_networks.py").write_text(
        "import keras\n"
        "def linear(observation_shape, output_shape, network):\n"
        "    x = keras.layers.Input(observation_shape)\n"
        "    return keras.Model(x, keras.layers.Dense(output_shape[0])(x))\n"
        "def normalised(observation_shape, output_shape, network):\n"
        "    x = keras.layers.Input(observation_shape)\n"
        "    return keras.Model(x, keras.layers.Dense(output_shape[0])(keras.layers.BatchNormalization()(x)))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    job = tiny("ddqn", "network.name=my_networks:linear", "trials=1", "budget.steps=100")
    import keras

    model = keras.models.load_model(job.folder / "trials" / "0" / "best.keras")
    assert [w.shape for w in model.get_weights()] == [(4, 2), (2,)]
    with pytest.raises(
        Refusal,
        match="expected a model whose only state is trainable weights, received non-trainable variables",
    ):
        tiny("ddqn", "network.name=my_networks:normalised", "trials=1")


class Always(registry.load("rlexp.algos.random:Random")):  # type: ignore[misc]
    """A third party's policy: always action 1."""

    def act(self, o_t: np.ndarray, u: np.ndarray) -> np.ndarray:
        return np.ones(u.shape[:-1], np.int64)


ENTRY = registry.Algo("fixed", RandomSettings, f"{__name__}:Always")


def test_third_parties_add_algorithms_by_entry_points(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("always", f"{__name__}:ENTRY", "rlexp.algos")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "rlexp.algos" else [])
    assert sys.modules[__name__].ENTRY is ENTRY
    job = tiny(
        "random",
        "algo.name=always",
        "trials=1",
        "env=mountain_car",
        "budget.steps=40",
        "evaluation.max_steps=30",
    )
    assert job["algo"] == "always" and job["final/return"]["mean"] == -30


def test_an_algorithm_says_whether_it_runs_fused_and_which_replay_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    ddqn = registry.ALGOS["ddqn"]
    entries = {"own": replace(ddqn, fused=False), "ranked": replace(ddqn, replay="ranked")}
    for name, entry in entries.items():
        monkeypatch.setitem(registry.ALGOS, name, entry)
    host, _ = resolve(compose("algo=ddqn", "algo.name=own"))
    assert host.engine == "host" and resolve(compose("algo=ddqn"))[0].engine == "fused"
    with pytest.raises(Refusal) as refused:
        resolve(compose("algo=ddqn", "algo.name=own", "engine=fused"))
    assert str(refused.value).startswith(
        "engine: expected auto or host, received 'fused', but algo own has no fused loop."
    )
    with pytest.raises(Refusal) as refused:
        resolve(compose("algo=ddqn", "algo.name=ranked"))
    assert str(refused.value) == "algo.name: expected an algorithm with replay uniform, received ranked, with 'ranked'."


def test_double_dqn_of_another_name_is_refused_without_a_target_network(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its schema is DQN's own, which knows nothing of it: the algorithm says it."""
    theirs = registry.Algo("replay", registry.ALGOS["dqn"].schema, registry.ALGOS["ddqn"].target)
    monkeypatch.setitem(registry.ALGOS, "theirs", theirs)
    with pytest.raises(Refusal) as refused:
        tiny("dqn", "algo.name=theirs", "algo.target=none")
    assert str(refused.value) == (
        "algo.target: expected hard or soft for theirs, received 'none'.\n"
        "Without a target network the algorithm is algo=dqn."
    )
    assert not [*tmp_path.iterdir()]
