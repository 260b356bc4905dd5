"""What people type first: free-form keys without a plus, whole numbers as 1e4, in Python, YAML, sweeps and searches."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlexp.cli import run as command_line
from rlexp.config.arguments import options_first, rewrite
from rlexp.config.build import build
from rlexp.config.schema.job import BudgetSettings, Settings
from rlexp.jobs import runner
from rlexp.jobs.origin import command_line as written_command
from rlexp.jobs.runner import compose
from rlexp.system.errors import Refusal
from tests.config.test_refusals import apply, composed, sentence


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[Settings]]:
    """Type a command line: the settings of the jobs that it would run, without running them."""

    def run(*args: str) -> list[Settings]:
        found: list[Settings] = []

        def take(settings: Settings, **more: Any) -> Any:
            found.append(settings)
            raise Refusal("not run")

        monkeypatch.setattr(sys, "argv", ["rlexp", *args])
        monkeypatch.setattr(runner, "run_job", take)
        monkeypatch.chdir(tmp_path)
        command_line._status()
        assert sys.argv == ["rlexp", *args]
        return found

    return run


FREE = [
    (("env=frozen_lake", "env.kwargs.map_name=8x8"), "env.kwargs", {"map_name": "8x8"}),
    (("env.kwargs={x: 1}",), "env.kwargs", {"x": 1}),
    (("env.kwargs.x=1", "env.kwargs.y.z=[1,2]"), "env.kwargs", {"x": 1, "y": {"z": [1, 2]}}),
    (("+env.kwargs.x=1", "++env.kwargs.y=2", "env.kwargs.x=3"), "env.kwargs", {"x": 3, "y": 2}),
    (
        ("env=space_invaders", "env.kwargs={mode: 1}", "env.kwargs.full_action_space=true"),
        "env.kwargs",
        {"repeat_action_probability": 0.25, "full_action_space": True, "mode": 1},
    ),
    (("algo.optimizer.options={beta_2: .99}",), "algo.optimizer.options", {"beta_2": 0.99}),
    (("algo.optimizer.options.beta_2=.99",), "algo.optimizer.options", {"beta_2": 0.99}),
    (("network=cnn", "network.options={dueling: true}"), "network.options.dueling", True),
    (("network=mlp_tanh", "network.options={layer_norm: true}"), "network.options", {"layer_norm": True}),
    (("network=mlp_tanh", "network.name=my:own", "network.options.size.w=3"), "network.options", {"size": {"w": 3}}),
]


@pytest.mark.parametrize(("args", "where", "value"), FREE, ids=[" ".join(args) for args, *_ in FREE])
def test_free_form_keys_need_no_plus(args: tuple[str, ...], where: str, value: Any, typed: Any) -> None:
    (settings,) = typed(*args)
    if len(args) == 1:  # Python writes it alike
        assert settings == compose(*args)
    found: Any = settings.to_dict()
    for key in where.split("."):
        found = found[key]
    assert found == value


def test_keys_that_are_no_mapping_still_need_to_exist() -> None:
    assert rewrite(["trials=3", "env.kwarg.x=1", "~env.kwargs.x", "--cfg=job", "a=b=c"]) == [
        "trials=3", "env.kwarg.x=1", "~env.kwargs.x", "--cfg=job", "a=b=c"]  # fmt: skip
    with pytest.raises(Refusal, match=r"env\.kwarg\.x: expected a key of the configuration"):
        compose("env.kwarg.x=1")


def test_sweeps_and_named_sweeps_take_them(typed: Any, tmp_path: Path) -> None:
    jobs = typed("-m", "env=frozen_lake", "env.kwargs.is_slippery=true,false", "budget.steps=1e3,2_000", "trials=1e1",
                 "tracking=files")  # fmt: skip
    assert [(job.env.kwargs["is_slippery"], job.budget.steps, job.trials) for job in jobs] == [
        (True, 1000, 10), (True, 2000, 10), (False, 1000, 10), (False, 2000, 10)]  # fmt: skip
    (plan,) = tmp_path.glob("outputs/default/sweeps/*/sweep.json")
    assert '"label": "dueling_ddqn steps=2000 on frozen_lake is_slippery=false"' in plan.read_text()
    folder = tmp_path / "conf" / "sweep"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n"
        "      env.kwargs.sutton_barto_reward: 'true,false'\n      algo.batch_size: '3.2e1,64'\n"
    )
    jobs = typed(f"--config-dir={folder.parent}", "+sweep=mine", "tracking=files", "study=named")
    assert [(job.env.kwargs["sutton_barto_reward"], job.algo.batch_size) for job in jobs] == [
        (True, 32), (True, 64), (False, 32), (False, 64)]  # fmt: skip


def test_a_search_takes_them(tmp_path: Path) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from rlexp.sweeps.search.space import Dimension, split

    args = rewrite(["env.kwargs.x=interval(0,1)", "algo.n_step=range(1e0,1e1)", "hydra.sweeper.num_candidates=1e1"])
    fixed, space = split(OverridesParser.create().parse_overrides(args))
    assert fixed == ["hydra.sweeper.num_candidates=10"]
    assert space == [Dimension("++env.kwargs.x", low=0.0, high=1.0), Dimension("algo.n_step", low=1, high=9, step=1)]


@pytest.mark.parametrize("text", ["1e4", "1E4", "1e+4", "10_000", "1_0e3", "10000.0", "1.0e4", "'1e4'"])
def test_whole_numbers_may_be_written_with_an_exponent(text: str) -> None:
    config = copy.deepcopy(composed(()))
    apply(rewrite([f"budget.steps={text}"]), config)
    found = build(config)
    assert type(found.budget.steps) is int and found.budget.steps == 10000
    assert found.config_id == replace(found, budget=BudgetSettings(steps=10000)).config_id


def test_lists_schedules_and_yaml_have_whole_numbers_too(tmp_path: Path) -> None:
    settings = compose("network.hidden_units=[1e2,6.4e1]", "algo.epsilon.duration=1e4", "checkpoint.every=1_0.5")
    assert settings.network.hidden_units == [100, 64] and all(type(n) is int for n in settings.network.hidden_units)
    assert type(settings.algo.epsilon["duration"]) is int and settings.checkpoint.every == 10.5
    assert settings.config_id == compose("network.hidden_units=[100,64]", "algo.epsilon.duration=10000").config_id
    from omegaconf import OmegaConf

    (tmp_path / "a.yaml").write_text(
        "algo: {name: dqn, replay_size: 5E4, batch_size: 3_2, n_step: '1e0', gamma: 0.9}\n"
        "trials: 1e+1\nbudget: {steps: 1e4}\nnetwork: {hidden_units: [1e2, 64]}\n"
    )
    config = build(OmegaConf.load(tmp_path / "a.yaml"))
    assert (config.algo.replay_size, config.algo.batch_size, config.algo.n_step) == (50000, 32, 1)
    assert (config.trials, config.budget.steps, config.network.hidden_units) == (10, 10000, [100, 64])
    (tmp_path / "a.yaml").write_text("algo: {name: dqn}\ntrials: 1.5\n")
    with pytest.raises(Refusal, match=r"^trials: expected a whole number, received '1\.5'\.$"):
        build(OmegaConf.load(tmp_path / "a.yaml"))


@pytest.mark.parametrize(
    ("arg", "said"),
    [
        ("trials=1.5e0", "trials: expected a whole number, received '1.5e0'."),
        ("budget.steps=1e-3", "budget.steps: expected a whole number or null, received '1e-3'."),
        ("budget.steps=1e999999999", "budget.steps: expected a whole number or null, received '1e999999999'."),
        ("trials=-1e0", "trials: expected a number >= 1 and <= 100000, received -1."),
        ("seed=inf", "seed: expected a whole number, received 'inf'."),
        ("network.hidden_units=[1e1,1.5e0]", "network.hidden_units[1]: expected a whole number, received '1.5e0'."),
        ("exact_trials=1e1", "exact_trials: expected true or false, received '10.0'."),
    ],
)
def test_fractions_are_refused_as_they_were_typed(arg: str, said: str) -> None:
    assert sentence([arg]) == said


def test_a_yaml_of_ones_own_may_leave_keys_out(tmp_path: Path, typed: Any) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine.yaml").write_text("name: mine\nid: CartPole-v1\n")
    (settings,) = typed(f"--config-dir={tmp_path}", "env=mine", "env.max_episode_steps=1e2", "env.kwargs.sutton_barto_reward=true",
                        "env.wrappers=[TimeAwareObservation]")  # fmt: skip
    assert (settings.env.max_episode_steps, settings.env.kwargs) == (100, {"sutton_barto_reward": True})
    assert settings.env.wrappers == [{"name": "TimeAwareObservation"}]


def test_what_was_typed_is_recorded(typed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(command_line.stopping, "raise_if_stopped_late", lambda: None)
    monkeypatch.setattr(command_line, "_refuse", lambda text: 2)

    def task(settings: Settings, **more: Any) -> Any:
        seen.append(written_command())
        raise Refusal("not run")

    monkeypatch.setattr(sys, "argv", ["/x/rlexp/__main__.py", "env.kwargs.sutton_barto_reward=true", "trials=1e0"])
    monkeypatch.setattr(runner, "run_job", task)
    command_line._status()
    assert seen == ["rlexp env.kwargs.sutton_barto_reward=true trials=1e0"]


def test_options_may_stand_anywhere(typed: Any, tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine.yaml").write_text("name: mine\nid: CartPole-v1\n")
    (settings,) = typed("algo=dqn", "--config-dir", str(tmp_path), "env=mine", f"-cd={tmp_path}", "trials=2")
    assert (settings.algo.name, settings.env.name, settings.trials) == ("dqn", "mine", 2)
    assert options_first(["a=1", "--info", "searchpath", "b=2", "-c", "job", "--info"]) == [
        "--info", "searchpath", "-c", "job", "--info", "a=1", "b=2"]  # fmt: skip
    assert len(typed("algo=dqn", "-m", "trials=1,2", "tracking=files")) == 2
