"""Whether trials are dealt out, and to how many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlexp.engines import costs
from rlexp.engines.workers import choice
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose
from rlexp.system import cores
from rlexp.system.errors import Refusal


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores, a hundred GiB, and everything pays off."""
    monkeypatch.setattr(cores, "usable", lambda: 8)
    monkeypatch.setattr(cores, "gpus", lambda: [])
    monkeypatch.setattr(choice, "free_memory", lambda: 100.0 * 2**30)
    monkeypatch.setattr(costs, "best_workers", lambda settings, info, most: most)
    monkeypatch.delenv(cores.OF_A_JOB, raising=False)


def number(*overrides: str) -> int:
    return choice.num_workers(*resolve(compose("tracking=files", *overrides)))


def test_auto_takes_the_cores_but_no_more_than_trials() -> None:
    assert number("algo=q_learning", "env=frozen_lake", "trials=10", "engine=host") == 8
    assert number("algo=q_learning", "env=frozen_lake", "trials=3", "engine=host") == 3
    assert number("algo=q_learning", "env=frozen_lake", "trials=1", "engine=host") == 1


def test_a_number_is_taken_but_no_more_than_trials() -> None:
    assert number("algo=ddqn", "trials=10", "workers=20") == 10
    assert number("algo=ddqn", "trials=10", "workers=1") == 1


def test_planning_is_done_once() -> None:
    assert number("algo=q_value_iteration", "env=three_state_mdp", "trials=4", "workers=4") == 1


def test_beside_other_jobs_one_process_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cores.OF_A_JOB, "1")
    assert number("algo=ddqn", "trials=10", "engine=host") == 1


def test_networks_on_a_gpu_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "gpus", lambda: ["0"])
    assert number("algo=ddqn", "trials=10", "engine=host") == 1
    assert number("algo=ddqn", "trials=10", "engine=host", "device=cpu") == 8
    assert number("algo=q_learning", "env=frozen_lake", "trials=10", "engine=host") == 8


def test_convolutions_of_large_images_use_the_cores_themselves() -> None:
    options = ("algo=ddqn", "env=space_invaders", "trials=10", "algo.replay_size=1000")
    assert number(*options, "network=dueling_cnn") == 1
    assert number(*options, "network=dueling_cnn", "workers=3") == 3


def test_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "free_memory", lambda: 3.5 * 2**30)
    assert number("algo=ddqn", "trials=10", "engine=host", "algo.replay_size=1000") == 3
    assert number("algo=ddqn", "trials=10", "engine=host", "algo.replay_size=4000000") == 1
    assert number("algo=q_learning", "env=frozen_lake", "trials=10", "engine=host") == 8


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0", "workers: expected a number >= 1 and <= 256, received 0."),
        ("two", "workers: expected auto or a whole number, received 'two'.\nauto uses the cores, where that pays."),
        ("-1", "workers: expected a number >= 1 and <= 256, received -1."),
        ("1.5", "workers: expected auto or a whole number, received 1.5.\nauto uses the cores, where that pays."),
        ("null", "workers: expected auto or a whole number, received None.\nauto uses the cores, where that pays."),
    ],
)
def test_other_values_are_refused(value: str, said: str) -> None:
    with pytest.raises(Refusal) as refused:
        compose(f"workers={value}")
    assert str(refused.value) == said


def test_the_number_is_no_part_of_a_jobs_name() -> None:
    folders = {compose(f"workers={value}").folder for value in ("auto", "1", "3")}
    assert len(folders) == 1


def test_cores_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    quota: Any = tmp_path / "cpu.max"
    monkeypatch.setattr(cores, "_QUOTA", quota)
    whole = cores.usable()
    for text, expected in (("max 100000", whole), ("50000 100000", 1), ("100000000 100000", whole)):
        quota.write_text(text)
        assert cores.usable() == expected


def test_the_cores_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    own = cores.of_a_worker(3)
    assert own == {"RLEXP_CORES": "2", **dict.fromkeys(cores.THREADS, "2")}
    assert cores.of_a_worker(20)["RLEXP_CORES"] == "1"
    assert cores.of_a_worker(2, limits_threads=False) == {"RLEXP_CORES": "4"}
