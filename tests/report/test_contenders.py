"""Jobs become contenders: replications are pooled, configurations told apart, environments kept apart."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from rlexp.config.study_names import MISSING, short_keys, varied
from rlexp.jobs.results import load_study
from rlexp.report import references
from rlexp.report.contenders import Task
from rlexp.report.grouping import tasks
from rlexp.report.references import REFERENCES
from tests.studies import make_job

NAN = float("nan")
LINEAR = {"kind": "linear", "initial": 1.0, "final": 0.1, "duration": 1000, "unit": "step"}


def load(folder: Path) -> list[Task]:
    return tasks(load_study(folder).jobs)


def labels(folder: Path) -> list[str]:
    return sorted(c.label for task in load(folder) for c in task.contenders)


def test_jobs_that_differ_in_seeds_alone_are_one_contender(tmp_path: Path) -> None:
    make_job(tmp_path, "dqn", [1.0, 2.0], steps=100, points=2)
    make_job(tmp_path, "dqn", [NAN, 4.0, 5.0], first_seed=1, steps=100, points=4)  # seed 1 is there twice
    (task,) = load(tmp_path)
    (contender,) = task.contenders
    assert (contender.label, contender.seeds) == ("dqn", [0, 1, 2, 3])
    np.testing.assert_array_equal(contender.final, [1, 2, 4, 5])
    steps, values = contender.curves["eval/return"]
    assert steps.tolist() == [25, 50, 75, 100]
    np.testing.assert_array_equal(np.isfinite(values[0]), [False, False, True, True])
    assert (contender.status, contender.steps, contender.wall_seconds) == ("done", 100, 25.0)
    assert contender.steps_per_second == 500 / 20  # both jobs


def test_one_algorithm_is_told_apart_by_what_differs(tmp_path: Path) -> None:
    for lr in (0.001, 1e-05):
        make_job(tmp_path, "dqn", [1.0], config={"optimizer": {"lr": lr, "name": "adam"}, "gamma": 0.9})
    make_job(tmp_path, "ddqn", [1.0], config={"optimizer": {"lr": 0.5, "name": "adam"}, "gamma": 0.9})
    assert labels(tmp_path) == ["ddqn", "dqn lr=0.001", "dqn lr=1e-05"]


def test_schedules_are_one_phrase_or_the_part_that_differs(tmp_path: Path) -> None:
    for duration in (1000, 2000):
        make_job(tmp_path / "a", "dqn", [1.0], config={"epsilon": {**LINEAR, "duration": duration}})
    assert labels(tmp_path / "a") == ["dqn duration=1000", "dqn duration=2000"]
    for epsilon in (0.1, LINEAR):
        make_job(tmp_path / "b", "dqn", [1.0], config={"epsilon": epsilon})
    assert labels(tmp_path / "b") == ["dqn epsilon=0.1", "dqn epsilon=linear 1 to 0.1 in 1000 steps"]


def test_long_labels_become_numbers(tmp_path: Path) -> None:
    for k in range(2):
        make_job(tmp_path, "dqn", [1.0], config={f"key{i}": f"value number {k}" for i in range(4)})
    assert labels(tmp_path) == ["dqn #1", "dqn #2"]


def test_labels_are_the_same_on_all_environments(tmp_path: Path) -> None:
    for env, env_id in (("cartpole", "CartPole-v1"), ("acrobot", "Acrobot-v1")):
        for lr in (0.1, 0.2):
            make_job(tmp_path, "dqn", [1.0], config={"lr": lr}, env=env, env_id=env_id)
        make_job(tmp_path, "ddqn", [1.0], config={"lr": len(env)}, env=env, env_id=env_id)  # tuned for each
    acrobot, cartpole = load(tmp_path)
    assert [task.name for task in (acrobot, cartpole)] == ["acrobot", "cartpole"]
    names = {c.label for c in acrobot.contenders}
    assert names == {c.label for c in cartpole.contenders} == {"dqn lr=0.1", "dqn lr=0.2", "ddqn"}


def test_versions_that_cannot_be_told_apart_by_their_configuration(tmp_path: Path) -> None:
    for k in range(2):
        folder = make_job(tmp_path / "s", "dqn", [1.0], first_seed=k)
        job = json.loads((folder / "job.json").read_text())
        (folder / "job.json").write_text(json.dumps({**job, "group_id": f"group{k}", "config_id": f"id{k}"}))
    assert labels(tmp_path / "s") == ["dqn (id0)", "dqn (id1)"]


def test_environments_of_one_name_are_told_apart(tmp_path: Path) -> None:
    make_job(tmp_path, "dqn", [1.0])
    make_job(tmp_path, "ddqn", [1.0], env_config={"max_episode_steps": 200})
    first, second = load(tmp_path)
    assert (first.name, second.name) == ("cartpole max_episode_steps=200", "cartpole max_episode_steps=null")
    assert first.reference is None and second.reference is REFERENCES["CartPole-v1", None]


def test_ranking_and_missing_trials(tmp_path: Path) -> None:
    make_job(tmp_path, "dqn", [3.0, NAN, 5.0], status="failed")
    make_job(tmp_path, "ddqn", [4.5, 4.5, 4.5])
    make_job(tmp_path, "pg", None, status="killed")
    make_job(tmp_path, "sarsa", None, status="")
    (task,) = load(tmp_path)
    assert [c.label for c in task.contenders] == ["ddqn", "dqn", "pg", "sarsa"]
    assert [c.label for c in task.finished] == ["ddqn", "dqn"]
    np.testing.assert_array_equal(task.contenders[1].scores, [3, 3, 5])  # the worst trial of all stands in
    assert [c.status for c in task.contenders] == ["done", "2 done, 1 diverged", "killed", "unfinished"]


def test_scores_without_a_reference(tmp_path: Path) -> None:
    make_job(tmp_path, "dqn", [3.0, 5.0], env="own", env_id="Own-v0")
    (task,) = load(tmp_path)
    assert task.scale == (3, 5, "0: the worst trial of this study, 1: its best trial")
    make_job(tmp_path, "random", [1.0, 2.0], env="own", env_id="Own-v0")
    assert load(tmp_path)[0].scale == (1.5, 5, "0: random play of this study, 1: its best trial")


def test_what_differs(tmp_path: Path) -> None:
    make_job(tmp_path, "dqn", [1.0], config={"a": 1, "b": {"c": [1, 2]}, "d": 0})
    make_job(tmp_path, "dqn", [2.0], config={"a": 1, "b": {"c": [1, 3]}}, first_seed=5)
    (task,) = load(tmp_path)
    assert varied([c.config for c in task.contenders]) == {"algo.b.c": [[1, 3], [1, 2]], "algo.d": [MISSING, 0]}
    assert short_keys(["algo.b.c", "algo.d", "network.d"]) == {"algo.b.c": "c", "algo.d": "d", "network.d": "network.d"}


@pytest.mark.parametrize("key", REFERENCES, ids=str)
def test_references_are_gymnasiums(key: tuple[str, int | None]) -> None:
    reference = REFERENCES[key]
    threshold = gym.spec(key[0]).reward_threshold
    if threshold is None:
        assert reference.why.startswith("the return of ")  # the shortest path, or a published agent
    else:
        assert reference.solved == threshold and reference.why == "Gymnasium's reward_threshold"
    assert reference.random < reference.solved


def test_references_are_for_the_environment_as_it_is() -> None:
    assert references.find("CartPole-v1", None, changed=False) is REFERENCES["CartPole-v1", None]
    assert references.find("CartPole-v1", None, changed=True) is None
    assert references.find("CartPole-v1", 200, changed=False) is None
    assert references.find("Own-v0", None, changed=False) is None


def test_random_play_on_cartpole_is_as_recorded() -> None:
    env = gym.make("CartPole-v1")
    generator, returns = np.random.default_rng(1), []
    for episode in range(400):
        env.reset(seed=episode)
        length, over = 0, False
        while not over:
            *_, terminated, truncated, _ = env.step(int(generator.integers(2)))
            length, over = length + 1, terminated or truncated
        returns.append(length)
    assert np.mean(returns) == pytest.approx(REFERENCES["CartPole-v1", None].random, abs=2)
