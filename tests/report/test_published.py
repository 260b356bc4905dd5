"""Published results stand beside the algorithm that they belong to, with their protocol."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlexp.config import registry
from rlexp.jobs.results import load_study
from rlexp.report.contenders import Task
from rlexp.report.grouping import tasks
from rlexp.report.page import Page
from rlexp.report.references import OURS, REFERENCES, differences
from rlexp.report.sections import published
from tests.studies import make_job


@pytest.fixture
def task(tmp_path: Path) -> Task:
    own = {"target": "none", "n_step": 10}
    make_job(tmp_path / "s", "dqn", [450.0] * 5, config=own)
    make_job(tmp_path / "s", "fixed_dqn", [480.0] * 5, config={"target": "hard", "n_step": 10})
    make_job(tmp_path / "s", "ddqn", [490.0] * 5, config={"target": "hard", "n_step": 1})
    (found,) = tasks(load_study(tmp_path / "s").jobs)
    return found


def test_our_names_of_published_algorithms_exist() -> None:
    assert OURS["DQN"] == "fixed_dqn" and OURS["C51"] == "c51" and OURS["QR-DQN"] == "qr_dqn"
    for name in OURS.values():
        registry.algo(name)  # or it is refused


def test_every_published_result_tells_its_protocol() -> None:
    every = [(key[0], p) for key, reference in REFERENCES.items() for p in reference.published]
    assert len(every) > 40
    for _, p in every:
        assert "steps" in p.note and ("seeds" in p.note or "one run" in p.note)
    old = [p for env, p in every if env == "LunarLander-v3" and p.source != "SLM-Lab"]
    assert old and all(p.note.endswith("LunarLander-v2") for p in old)


@pytest.mark.parametrize(
    ("env", "source", "algo", "steps", "why"),
    [
        ("Acrobot-v1", "rl-baselines3-zoo", "QR-DQN", 100_000, ["one run"]),
        ("Acrobot-v1", "rl-baselines3-zoo", "PPO", 100_000, ["other steps", "one run"]),
        ("Acrobot-v1", "CleanRL", "C51", 500_000, ["training returns"]),
        ("Acrobot-v1", "SLM-Lab", "DQN", 100_000, ["other steps", "training returns"]),
        ("Acrobot-v1", "sb3-contrib", "DQN", 100_000, ["steps not stated", "kind of return not stated"]),
        ("CartPole-v1", "Jaxplorer", "DQN", 100_000, ["chosen after the measurement"]),
        ("LunarLander-v3", "rl-baselines3-zoo", "DQN", 100_000, ["one run", "LunarLander-v2"]),
    ],
)
def test_why_a_published_result_cannot_be_compared(
    env: str, source: str, algo: str, steps: int, why: list[str]
) -> None:
    (found,) = [p for p in REFERENCES[env, None].published if (p.source, p.algo) == (source, algo)]
    assert found.unlike([50_000, steps]) == why


def test_differences_from_the_published_algorithm_are_told() -> None:
    chapters = {"algo.target": "none", "algo.n_step": 10}
    assert differences("dqn", chapters) == ["no target network, unlike fixed_dqn", "10-step returns"]
    assert differences("fixed_dqn", {"algo.target": "hard", "algo.n_step": 1}) == []
    assert differences("ppo", {}) == []
    assert differences("c51", {"algo.replay": "prioritized", "algo.n_step": 3}) == [
        "3-step returns",
        "prioritised replay",
    ]


def test_dqn_of_the_books_stands_beside_fixed_dqn(task: Task, tmp_path: Path) -> None:
    assert published.marks(task) == {"fixed_dqn": {"rl-baselines3-zoo": 500.0, "CleanRL": 488.7}}
    page = Page("T")
    published.add_published(page, task)
    page.write(tmp_path / "index.html")
    lines = (tmp_path / "index.md").read_text().splitlines()
    assert (
        "| DQN (here fixed_dqn) | fixed_dqn: 480 at 20k steps, with 10-step returns | rl-baselines3-zoo | 500 | 50k steps, one run, "
        "greedy evaluation |"
    ) in lines
    assert (
        "| double DQN (here ddqn) | ddqn: 490 at 20k steps | Jaxplorer | 478 | 100k steps, mean of 5 seeds, the best learning rate "
        "of a sweep, test return |"
    ) in lines
    rows = [line for line in lines if line.startswith("| ")][1:]
    assert [row.split(" | ")[1] for row in rows].index("not among the contenders") == 6  # ours first
    assert rows[-1].split(" | ")[1] == "no algorithm of this name"
    (text,) = (line for line in lines if line.startswith("Each figure"))
    assert text.endswith(
        "dqn is the chapter's DQN, not the published one (no target network, unlike fixed_dqn; 10-step returns), so none belongs to it."
    )


def test_an_environment_without_published_results_has_no_section(tmp_path: Path) -> None:
    make_job(tmp_path / "s", "dqn", [1.0], env="own", env_id="Own-v0")
    (task,) = tasks(load_study(tmp_path / "s").jobs)
    page = Page("T")
    published.add_published(page, task)
    page.write(tmp_path / "index.html")
    assert (tmp_path / "index.md").read_text() == "# T\n" and published.marks(task) == {}
