"""Shared fixtures: tiny jobs in a temporary folder."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # exact equality is promised for one machine's CPU
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type="
)  # see backend.prepare: tests may use XLA before it
os.environ.pop("MLFLOW_TRACKING_URI", None)  # keeps test jobs off a developer's own server
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # started in the background of a shell: child processes would ignore SIGINT too
    signal.signal(signal.SIGINT, signal.default_int_handler)

import rlexp
import rlexp.jobs.runner
from rlexp.config import registry
from tests import browser as browsers

TINY = (
    "engine=host",
    "tracking=files",
    "animation.enabled=false",
    "network.hidden_units=[8,8]",
    "budget.steps=300",
    "evaluation.period=100",
    "evaluation.num_episodes=2",
    "evaluation.candidate_episodes=2",
    "evaluation.final_episodes=4",
    "log.points=10",
)
TINY_DQN = ("algo.learn_start=50", "algo.batch_size=8", "algo.replay_size=200", "algo.target_period=20")
TINY_FAMILY = {"replay": TINY_DQN, "rollout": ("algo.batch_unit=episode", "algo.batch_size=2")}
TINY_ALGO = {"pqn": ("algo.num_minibatches=1",)}  # no more than a batch has rows
TINY_TABLE = {"tabular": ("+discretizer=cartpole",), "planning": ("env=three_state_mdp",)}


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Restore the environment variables that `mlflow.set_tracking_uri` and the command line set."""
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS")
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.pop("TF_NUM_INTRAOP_THREADS", None)
    if threads is not None:
        os.environ["TF_NUM_INTRAOP_THREADS"] = threads


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., rlexp.jobs.runner.Job]:
    """A function that runs a job of a few hundred steps; overrides replace its defaults.

    It draws no learning curve, which takes half a second per job and is tested elsewhere.
    """
    monkeypatch.setattr("rlexp.jobs.plots.learning_curve", lambda *args: None)

    def run(algo: str, *overrides: str) -> Any:
        family = registry.algo(algo).family
        chosen = {o.split("=")[0] for o in overrides}
        own_env = {"env", "env.id"} & chosen  # TINY_TABLE is for the default environment
        learning = (
            TINY_FAMILY.get(family, ()) if own_env else (*TINY_FAMILY.get(family, ()), *TINY_TABLE.get(family, ()))
        )
        if not own_env and "discrete" not in registry.algo(algo).actions:
            learning = (*learning, "env=pendulum")
        if "budget.episodes" in chosen:
            chosen.add("budget.steps")
        learning = (*learning, *TINY_ALGO.get(algo, ()))
        defaults = [o for o in (*TINY, *learning) if o.split("=")[0] not in chosen]
        return rlexp.run(f"algo={algo}", f"output_dir={tmp_path}", *defaults, *overrides, quiet=True)

    return run


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsers.Chromium]:
    """One headless Chromium for all browser tests of a process.

    Where there is none, its tests are skipped, or fail if RLEXP_BROWSER=required.
    """
    started = browsers.Chromium(browsers.program(), tmp_path_factory.mktemp("chromium"))
    yield started
    started.close()


@pytest.fixture
def browser(chromium: browsers.Chromium) -> Iterator[browsers.Browser]:
    """A page of its own in Chromium; mark such tests `browser`."""
    page = browsers.Browser(chromium)
    yield page
    page.close()


def records(folder: Path) -> list[dict[str, Any]]:
    """The lines of a job's metrics.jsonl without their times and checksums."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("time", "sum")} for line in lines]
