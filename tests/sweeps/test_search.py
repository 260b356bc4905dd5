"""Searches: they find the best, prune, outlive failures and kills, and refuse wrong options."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from rlexp.cli import best
from rlexp.cli import run as cli
from rlexp.jobs import plots, runner
from rlexp.jobs.results import load_job
from rlexp.sweeps.outcome import Outcome
from rlexp.sweeps.search.objective import Objective

# Every episode returns 1 - |height - 0.7|, whatever is done.
ENV = textwrap.dedent("""
    import os, signal
    from pathlib import Path
    import gymnasium as gym, numpy as np
    class Hill(gym.Env):
        observation_space = gym.spaces.Discrete(2)
        action_space = gym.spaces.Discrete(2)
        def __init__(self, height=0.0, way="good"):
            self.reward, self.way = 1 - abs(height - 0.7), way
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return 0, {}
        def step(self, action):
            if self.way == "raise": raise ValueError("the sensor fell off")
            jobs = len(list(Path("outputs/default").glob("q_learning-*"))) if self.way == "kill" else 0
            if jobs == 4 and not Path("killed").exists():
                Path("killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return 1, self.reward, True, False, {}
    gym.register("Hill-v0", Hill)
""")
JOB = (
    "algo=q_learning",
    "env.id=Hill-v0",
    "env.imports=[hill_env]",
    "trials=2",
    "budget.steps=80",
    "evaluation.period=20",
    "evaluation.num_episodes=1",
    "evaluation.final_episodes=1",
    "evaluation.candidates=1",
    "animation.enabled=false",
)
SEARCH = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.startup=3")
HEIGHT = "+env.kwargs.height=interval(0,1)"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hill_env.py").write_text(ENV)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plots, "learning_curve", lambda *args: None)  # most of the time of a job of 80 steps


def search(*args: str, tracking: str = "files") -> int:
    """Run a search in this process; returns its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["rlexp", *SEARCH, *JOB, f"tracking={tracking}", *args])
        return cli._status()


def record() -> Any:
    (path,) = Path().glob("outputs/*/sweeps/*/sweep.json")
    return json.loads(path.read_text())


def heights() -> list[str]:
    """The height of each candidate."""
    return [next(o for o in job["overrides"] if "height" in o) for job in record()["jobs"]]


@pytest.mark.slow
def test_a_search_finds_prunes_and_continues_and_its_best_is_reproduced(capsys: pytest.CaptureFixture[str]) -> None:
    assert search(HEIGHT, "hydra.sweeper.num_candidates=5") == 0
    first = heights()
    assert len(first) == 5
    assert search(HEIGHT, "hydra.sweeper.num_candidates=11") == 0
    said = capsys.readouterr().out
    assert "5 candidates from earlier starts, 0 of them unfinished" in said
    assert heights()[:5] == first and len(heights()) == 11
    found = record()
    assert found["status"] == "done" and found["name"] == "search"
    statuses = [job["status"] for job in found["jobs"]]
    assert set(statuses[:3]) == {"done"} and statuses.count("pruned") >= 1 and statuses.count("done") >= 4
    for job, score, height in zip(found["jobs"], found["scores"], heights(), strict=True):
        folder = Path(job["folder"])
        expected = 1 - abs(float(height.split("=")[1]) - 0.7)
        steps = load_job(folder).curves["eval/return"].steps
        if job["status"] == "pruned":  # a quarter of the budget, the warm-up
            assert score is None and steps.tolist() == [20] and job["error"] == "pruned at env step 20"
            assert json.loads((folder / "summary.json").read_text())["pruned_at"] == 20
        else:
            assert score == pytest.approx(expected) and steps.tolist() == [20, 40, 60, 80]
    assert "pruned at env step 20" in said

    top = max((s, h) for s, h in zip(found["scores"], heights(), strict=True) if s is not None)[1]
    assert best.main(["default"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("rlexp algo=q_learning") and line.endswith(top)
    overrides = shlex.split(line)[1:]
    settings = runner.compose(*overrides)
    done = next(job for job in found["jobs"] if top in job["overrides"])
    assert runner.resolve(settings)[0].folder == Path(done["folder"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["rlexp", *overrides])
        assert cli._status() == 0
    assert "already done, nothing was run" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_search_continues_as_if_it_had_never_stopped() -> None:
    """The fourth candidate kills its process once: not if the file `killed` exists."""
    space = (HEIGHT, "+env.kwargs.way=kill", "hydra.sweeper.num_candidates=6")
    command = [sys.executable, "-m", "rlexp", *SEARCH, *JOB, "tracking=files", *space]
    alone = {**os.environ, "RLEXP_SUPERVISE": "0"}  # a supervisor would start the candidate again
    assert subprocess.run(command, capture_output=True, timeout=300, env=alone).returncode == -signal.SIGKILL
    assert record()["status"] == "running"
    assert search(*space) == 0
    resumed, scores = heights(), record()["scores"]
    (path,) = Path().glob("outputs/*/sweeps/*")
    assert search(*space, "rerun=true") == 0
    assert list(Path().glob("outputs/*/sweeps/*")) == [path]
    assert heights() == resumed and record()["scores"] == scores and len(set(resumed)) == 6


def test_failing_and_refused_candidates_do_not_end_a_search() -> None:
    space = ("+env.kwargs.way=good,raise", "algo.gamma=0.5,0.9", "hydra.sweeper.num_candidates=6")
    assert search(*space, "hydra.sweeper.prune=false") == 1
    found = record()
    statuses = ["failed" if "+env.kwargs.way=raise" in job["overrides"] else "done" for job in found["jobs"]]
    assert [job["status"] for job in found["jobs"]] == statuses and set(statuses) == {"done", "failed"}
    assert [score is None for score in found["scores"]] == [status == "failed" for status in statuses]


class FakeSweep:
    """A sweep whose jobs are finished: final returns, and those of the second look."""

    def __init__(self, folder: Path, jobs: list[tuple[str, list[float | None], list[float | None]]]) -> None:
        self.folder = folder
        for number, (status, final, second_look) in enumerate(jobs):
            place = folder / f"job-{number}"
            place.mkdir()
            (place / "job.json").write_text(json.dumps({"seeds": list(range(len(final)))}))
            summary: dict[str, Any] = {"status": status, "selection": "eval"}
            if status != "killed":
                summary["trials"] = [{"candidate_return": value} for value in second_look]
                summary["final/return"] = {"per_trial": final, "iqm": 1.0}
            (place / "summary.json").write_text(json.dumps(summary))
            Outcome("done" if status == "done" else "failed", folder=str(place)).write(self.job_folder(number))

    def job_folder(self, number: int) -> Path:
        return self.folder / "jobs" / str(number)


class FakeCandidates:
    def __init__(self) -> None:
        self.told: dict[int, tuple[str, float]] = {}

    def tell(self, number: int, status: str, score: float) -> None:
        self.told[number] = (status, score)

    def scores(self) -> list[float | None]:
        return [self.told[n][1] if self.told.get(n, ("",))[0] == "done" else None for n in range(4)]


def test_a_search_chooses_by_the_second_look_and_keeps_what_partly_diverged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trial without a score counts as the worst of all candidates so far, as in a report; nothing else is lost."""
    from rlexp.sweeps.search_sweeper import Search  # Hydra brings its own at first

    sweep: Any = FakeSweep(
        tmp_path,
        [
            ("done", [9.0, 9.0], [5.0, 3.0]),
            ("failed", [7.0, None], [8.0, None]),
            ("failed", [None, None], [None, None]),
            ("killed", [None], [None]),
        ],
    )
    search, candidates = Search.__new__(Search), FakeCandidates()
    search._objective = Objective("final")
    assert all(search._settle(sweep, candidates, number) for number in range(4))  # type: ignore[arg-type]
    told = {number: (status, score) for number, (status, score) in candidates.told.items() if score == score}
    assert told == {0: ("done", 4.0), 1: ("done", 5.5)}  # (8 + 3) / 2
    assert [candidates.told[n][0] for n in (2, 3)] == ["failed", "failed"]
    assert capsys.readouterr().out.splitlines()[:2] == [
        "candidate 0: return in the second look at the best weights 4; final return 1 (IQM over trials)",
        "candidate 1: return in the second look at the best weights 5.5; final return 1 (IQM over trials)",
    ]
    again = FakeCandidates()  # after a kill: the score of 1 depends on 0, which is run again first
    assert not search._settle(sweep, again, 1, missing=[0])  # type: ignore[arg-type]
    assert search._settle(sweep, again, 0) and search._settle(sweep, again, 1)  # type: ignore[arg-type]
    assert again.told == {n: candidates.told[n] for n in (0, 1)}


@pytest.mark.slow
def test_equal_candidates_of_a_batch_are_not_run_at_once_and_fewer_steps_are_better() -> None:
    space = ("algo.gamma=0.5,0.9", "hydra.sweeper.num_candidates=5", "hydra.sweeper.batch_size=4")
    objective = ("hydra.sweeper.objective=steps_to_threshold", "hydra.sweeper.threshold=0.2")
    assert search(*space, *objective) == 0
    assert [job["status"] for job in record()["jobs"]] == ["done"] * 5
    assert record()["scores"] == [20.0] * 5  # the first evaluation


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((HEIGHT, "hydra.sweeper.num_candidates=0"), "hydra.sweeper.num_candidates: expected a whole number >= 1, received 0."),
        ((HEIGHT, "hydra.sweeper.prune=3"), "hydra.sweeper.prune: expected true or false, received 3."),
        ((HEIGHT, "hydra.sweeper.warmup=2"), "hydra.sweeper.warmup: expected a number >= 0 and <= 1, received 2."),
        ((HEIGHT, "hydra.sweeper.objective=finl"), "objective: expected one of final, area, steps_to_threshold, received 'finl'."),
        (("algo.gamma=0.5",), "a search: expected keys with several values, received none."),
        (("algo.gamma=interval(0.5,1.5)",), "the candidate algo.gamma=1.5: algo.gamma: expected a number >= 0 and <= 1, received 1.5."),
        (("algo.gama=0.5,0.9",), "algo.gama: expected a key of the configuration, received an unknown one."),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_before_anything_runs(
    args: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(*args) == 2
    assert capsys.readouterr().err.startswith(f"refused: {words}")
    assert not Path("outputs").exists()


def test_the_ready_spaces_compose(capsys: pytest.CaptureFixture[str]) -> None:
    for name, algo, more in (
        ("search_dqn", "dueling_ddqn", "algo=ddqn"),
        ("search_policy_gradients", "ppo", "algo.gae_lambda=0.9"),
    ):
        for extra in ((), (more,)):
            with pytest.MonkeyPatch.context() as patch:  # one key more than there may be: all else is checked before
                patch.setattr(sys, "argv", ["rlexp", f"+sweep={name}", *extra, "seed=-1"])
                assert cli._status() == 2
            said = capsys.readouterr().err
            assert said.count("seed: expected a number >= 0") == 1 and "the candidate algo.optimizer.lr=" in said
        assert runner.compose(f"+sweep={name}").algo.name == algo
