"""Distributions of returns: what is read from saved models, what is drawn, and who is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rlexp
from rlexp.cli.play import main as play
from rlexp.cli.report import main as report
from rlexp.config import registry
from rlexp.config.schema.algos import C51Settings, IQNSettings, QRDQNSettings
from rlexp.config.schema.network import NetworkSettings
from rlexp.jobs.return_animation import HEIGHT, MAX_FRAMES, WIDTH, beside, draw_panels
from rlexp.jobs.returns import Returns, check_algorithm, histogram, quantity, returns_of
from rlexp.report.distributions import RETURNS
from rlexp.system.errors import Refusal
from tests.studies import make_job

KNOWN = "c51, iqn, qr_dqn, rainbow"


class Settings:
    """What `returns_of` and `quantity` read of a job's settings."""

    def __init__(self, algo: Any) -> None:
        self.algo = algo


class Saved:
    """A policy that has a model and nothing else."""

    def __init__(self, algo: Any, model: Any) -> None:
        self.settings, self.model = Settings(algo), model

    def observed(self, observation: Any) -> Any:
        return observation


@pytest.mark.parametrize("name", ["c51", "c51 dueling", "qr_dqn", "qr_dqn dueling", "iqn", "iqn dueling", "iqn cvar"])
def test_a_saved_model_holds_the_distributions_whose_means_it_gives(name: str, tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    from rlexp.jobs.weights import save_model
    from rlexp.networks.building import Maker
    from rlexp.networks.flat_model import FlatModel
    from tests.algos.test_base import INFO

    algo = name.partition(" ")[0]
    settings: Any = {
        "c51": C51Settings(num_atoms=7, v_min=-2.0, v_max=4.0),
        "qr_dqn": QRDQNSettings(num_quantiles=5),
        "iqn": IQNSettings(num_greedy_taus=6, num_features=4, cvar=0.25 if "cvar" in name else 1.0),
    }[algo]

    make = Maker(NetworkSettings("dueling" if "dueling" in name else "mlp", [4]), INFO)
    kind: Any = registry.load(registry.algo(algo).target)
    networks = {key: FlatModel(model) for key, model in kind.models(make, INFO, settings).items()}
    agent = kind(settings, networks, INFO)
    save_model(agent.policy_model({key: flat.model for key, flat in networks.items()}), tmp_path / "best.keras")
    loaded: Any = keras.saving.load_model(tmp_path / "best.keras", safe_mode=True)
    observations = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    found = returns_of(Saved(settings, loaded))(observations)  # type: ignore[arg-type]
    number = {"c51": 7, "qr_dqn": 5, "iqn": 6}[algo]
    assert found.values.shape == found.probabilities.shape == (9, 3, number)
    np.testing.assert_allclose(found.probabilities.sum(axis=-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(found.means, loaded(observations), rtol=1e-4, atol=1e-6)
    params = {key: tf.constant(flat.get_params()) for key, flat in networks.items()}
    if algo == "c51":
        np.testing.assert_allclose(found.values[3, 1], [-2, -1, 0, 1, 2, 3, 4])
        logits = agent.outputs(params, tf.constant(observations))
        np.testing.assert_allclose(found.probabilities, tf.nn.softmax(logits), rtol=1e-5, atol=1e-7)
    elif algo == "qr_dqn":
        np.testing.assert_allclose(found.values, agent.outputs(params, tf.constant(observations)), rtol=1e-5, atol=1e-6)
    else:
        quantiles = agent.quantiles(params, tf.constant(observations), tf.constant(agent.taus))
        np.testing.assert_allclose(found.values, np.swapaxes(quantiles, 1, 2), rtol=1e-4, atol=1e-6)
    heights = histogram(found).heights
    np.testing.assert_allclose(heights.sum(axis=-1), 1.0, rtol=1e-6)


def test_another_model_is_refused_in_a_sentence() -> None:
    import keras

    inputs = keras.layers.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    with pytest.raises(
        Refusal,
        match=r"^distribution: expected a saved model of qr_dqn with distributions, received a model that ends in ",
    ):
        returns_of(Saved(QRDQNSettings(), model))  # type: ignore[arg-type]
    with pytest.raises(Refusal, match=r"^distribution: expected a saved model of c51 with distributions, received"):
        returns_of(Saved(C51Settings(), model))  # type: ignore[arg-type]


@pytest.mark.parametrize("algo", ["ddqn", "ppo", "q_learning", "random"])
def test_other_algorithms_are_refused_and_those_with_distributions_named(algo: str) -> None:
    with pytest.raises(Refusal) as refused:
        check_algorithm(algo, "--distribution")
    assert str(refused.value) == (
        f"--distribution: expected an algorithm that learns the distribution of returns ({KNOWN}), received '{algo}'."
    )
    assert registry.distributional() == KNOWN.split(", ")


def test_a_histogram_of_atoms_has_a_bar_for_each_and_its_limits_hold_all_that_is_likely() -> None:
    atoms = np.array([-1.0, 0.0, 1.0, 2.0])
    probabilities = np.array([[[0.0, 0.25, 0.75, 0.0], [0.0, 1.0, 0.0, 0.0]]])
    bars = histogram(Returns(np.broadcast_to(atoms, (1, 2, 4)), probabilities))
    assert bars.edges.tolist() == [-1.5, -0.5, 0.5, 1.5, 2.5] and bars.limits == (-0.5, 1.5)
    np.testing.assert_array_equal(bars.heights, probabilities)


def test_a_histogram_of_quantiles_counts_them() -> None:
    values = np.array([[[0.0, 0.1, 25.0, 25.0], [5.5, 5.6, 5.7, 12.0]]])
    bars = histogram(Returns(values, np.full(values.shape, 0.25)))
    assert bars.limits == (0.0, 25.0) and len(bars.edges) == 26
    assert {i: h for i, h in enumerate(bars.heights[0, 0]) if h} == {0: 0.5, 24: 0.5}
    assert {i: h for i, h in enumerate(bars.heights[0, 1]) if h} == {5: 0.75, 12: 0.25}
    same = histogram(Returns(np.full((1, 1, 4), 3.0), np.full((1, 1, 4), 0.25)))
    assert same.limits == (2.5, 3.5) and same.heights.sum() == 1


def test_what_is_drawn_says_what_it_is_of() -> None:
    assert quantity(Settings(QRDQNSettings())) == "discounted return"  # type: ignore[arg-type]
    worst = IQNSettings(cvar=0.25, reward_clip=1.0)
    assert quantity(Settings(worst)) == "discounted return, its worst 25 % (of clipped rewards)"  # type: ignore[arg-type]


def test_panels_emphasise_the_chosen_action_and_change_with_the_state() -> None:
    rng = np.random.default_rng(0)
    values = np.sort(rng.normal(size=(3, 8, 20)), axis=-1)
    found = Returns(values, np.full(values.shape, 0.05))
    panels = draw_panels(histogram(found), found.means, [0, 0, 1], "discounted return")
    assert {panel.shape for panel in panels} == {(HEIGHT, WIDTH, 3)} and panels[0].dtype == np.uint8
    assert not np.array_equal(panels[0], panels[1]) and not np.array_equal(panels[1], panels[2])
    joined = beside(np.zeros((400, 600, 3), np.uint8), panels[0])
    assert joined.shape == (HEIGHT, 405 + WIDTH, 3) and joined[:, :405].max() == 0


def test_the_report_refuses_studies_without_distributions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_job(tmp_path / "s", "ddqn", [1.0, 2.0])
    assert report([str(tmp_path / "s"), "--distributions"]) == 2
    assert (
        f"refused: --distributions: expected a study with an algorithm that learns the distribution of returns ({KNOWN}), "
        "received ddqn." in capsys.readouterr().err
    )
    assert report(["s", "--distributions", "--tracking-uri", "sqlite:///x.db"]) == 2
    assert "--distributions: expected job folders, which have the weights" in capsys.readouterr().err
    assert play(["nowhere", "--distribution", "--screen"]) == 2


def test_the_report_shows_the_picture_beside_the_animation_and_says_what_is_wrong_with_another(tmp_path: Path) -> None:
    from rlexp.report import study

    good, bad = (make_job(tmp_path / "s", algo, [1.0, 2.0]) for algo in ("c51", "qr_dqn"))
    Image.new("P", (8, 8)).save(good / RETURNS)
    (bad / RETURNS).write_text("no GIF")
    page = study.write(tmp_path / "s")
    assert 'alt="Distribution of returns of c51"' in page.read_text()
    markdown = page.with_suffix(".md").read_text()
    assert f"[Distribution of returns](../{good.name}/distribution.gif)" in markdown
    assert "Its distribution of returns cannot be used: expected a GIF, received another file." in markdown


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["c51", "qr_dqn", "iqn"])
def test_a_trained_job_plays_with_its_distributions(
    algo: str, tiny: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tiny(algo, "trials=2")
    path = tmp_path / "out.gif"
    assert play([str(job.folder), "--distribution", "--output", str(path), "--max-steps", "60"]) == 0
    assert f"written to {path}" in capsys.readouterr().out
    with Image.open(path) as image:
        assert image.size == (405 + WIDTH, HEIGHT) and 2 < image.n_frames <= MAX_FRAMES
    policy = rlexp.load_policy(job.folder)
    env = policy.make_env()
    observations = np.stack([env.reset(seed=seed)[0] for seed in range(5)])
    found = returns_of(policy)(observations)
    np.testing.assert_allclose(found.probabilities.sum(axis=-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(found.means, policy.model(observations), rtol=1e-4, atol=1e-5)
    assert found.means.argmax(axis=-1).tolist() == policy(observations).tolist()
    assert report([str(job.folder.parent), "--distributions"]) == 0
    drawn = job.folder / RETURNS
    assert drawn.is_file() and sorted(p.name for p in job.folder.glob("*distribution*")) == [RETURNS]
    assert f'alt="Distribution of returns of {algo}"' in (job.folder.parent / "report" / "index.html").read_text()
    before = drawn.stat().st_mtime_ns
    assert report([str(job.folder.parent), "--distributions"]) == 0 and drawn.stat().st_mtime_ns == before
    config = json.loads((job.folder / "job.json").read_text())
    assert config["seeds"] == [0, 1]


@pytest.mark.slow
def test_a_trained_job_without_distributions_is_refused(
    tiny: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tiny("ddqn", "trials=1")
    assert play([str(job.folder), "--distribution", "--output", str(tmp_path / "out.gif")]) == 2
    assert f"learns the distribution of returns ({KNOWN}), received 'ddqn'." in capsys.readouterr().err
    assert not (tmp_path / "out.gif").exists()
