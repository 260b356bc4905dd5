"""Checkpoints: whole or not at all, data only, and a resumed job equals an undisturbed one bit for bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlexp.checkpoint import Checkpoints
from tests.conftest import TINY, TINY_DQN, records


def test_round_trip_and_keeping_the_last(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every=0, keep=2)
    state = {
        "trials": {},
        "loop": {},
        "a": np.arange(3),
        "b": [{"c": 1, "d": None}, "text", 2.5],
        "e": {"f": np.zeros((2, 0), np.float32)},
    }
    for step in (1, 2, 3):
        checkpoints.save(step, {**state, "step": step})
    assert [p.name for p in checkpoints.paths()] == ["000000000002.npz", "000000000003.npz"]
    loaded = checkpoints.load(pytest.fail)
    assert loaded is not None and loaded["step"] == 3 and loaded["b"] == state["b"]
    assert loaded["a"].tolist() == [0, 1, 2] and loaded["e"]["f"].dtype == np.float32


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path, every=0, keep=2)
    for step in (1, 2):
        checkpoints.save(step, {"step": step, "a": np.arange(1000), "trials": {}, "loop": {}})
    newest = checkpoints.paths()[-1]
    content = bytearray(newest.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    warnings: list[str] = []
    loaded = checkpoints.load(warnings.append)
    assert loaded is not None and loaded["step"] == 1
    assert len(warnings) == 1 and warnings[0].startswith(f"checkpoint {newest} cannot be read (")


def test_nothing_that_could_run_code_is_written_or_read(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every=0, keep=2)
    with pytest.raises(TypeError, match="a checkpoint holds arrays, numbers and texts, not function"):
        checkpoints.save(1, {"f": lambda: 0})
    np.savez(tmp_path / "000000000009.npz", tree=np.array([{"dict": {}}], dtype=object))
    warnings: list[str] = []
    assert checkpoints.load(warnings.append) is None
    assert warnings[0].endswith("(its checksum does not match: it is cut short or damaged); the one before it is used")


def test_what_a_killed_process_was_writing_is_removed(tiny: Callable[..., Any]) -> None:
    options = ("env=frozen_lake", "trials=1", "evaluation.max_steps=20")
    folder = tiny("q_learning", *options).folder
    for name in ("checkpoint/.000000000007.npz.part", ".summary.json.part", "trials/0/.part-best.keras"):
        (folder / name).write_bytes(b"half of it")
    tiny("q_learning", *options, "rerun=true")
    assert not list(folder.rglob(".*part*"))
    for name in ("checkpoint/.000000000007.npz.part", ".summary.json.part"):
        (folder / name).write_bytes(b"half of it")
    (folder / "summary.json").unlink()
    tiny("q_learning", *options)  # goes on from the last checkpoint
    assert not list(folder.rglob(".*part*"))


COMMAND = [*TINY, *TINY_DQN, "algo=ddqn", "trials=2", "budget.steps=1500", "checkpoint.every=0.05"]


def start(output: Path) -> subprocess.Popen[bytes]:
    args = [o for o in COMMAND if o != "budget.steps=300"]
    return subprocess.Popen(
        [sys.executable, "-m", "rlexp", *args, f"output_dir={output}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def folder_of(output: Path) -> Path:
    return next(output.glob("default/*"))


def wait_for_checkpoint(output: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not list(output.glob("default/*/checkpoint/*.npz")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def results(folder: Path) -> tuple[Any, dict[str, Any], Any]:
    last = sorted((folder / "checkpoint").glob("*.npz"))[-1]
    with np.load(last) as file:
        arrays = {name: file[name].tobytes() for name in file.files if name != "tree"}
    return records(folder), arrays, json.loads((folder / "summary.json").read_text())["final/return"]


@pytest.mark.slow
def test_killed_and_interrupted_jobs_continue_to_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL, then Ctrl-C, then to the end: equal to a run that nothing disturbed."""
    undisturbed = start(tmp_path / "a")
    assert undisturbed.wait(timeout=200) == 0

    killed = start(tmp_path / "b")
    wait_for_checkpoint(tmp_path / "b", killed)
    time.sleep(0.3)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (folder_of(tmp_path / "b") / "summary.json").exists()

    interrupted = start(tmp_path / "b")
    lock = folder_of(tmp_path / "b") / "job.json"
    before = lock.stat().st_mtime_ns
    while lock.stat().st_mtime_ns == before and interrupted.poll() is None:
        time.sleep(0.01)
    time.sleep(0.5)
    interrupted.send_signal(signal.SIGINT)
    output, _ = interrupted.communicate(timeout=120)
    assert interrupted.returncode == 130
    assert b"the same command continues from the checkpoint" in output
    summary = json.loads((folder_of(tmp_path / "b") / "summary.json").read_text())
    assert summary["status"] == "killed"

    last = start(tmp_path / "b")
    output, errors = last.communicate(timeout=200)
    assert last.returncode == 0, errors.decode()
    assert b"continuing from env step " in output
    assert results(folder_of(tmp_path / "a")) == results(folder_of(tmp_path / "b"))


@pytest.mark.parametrize(("algo", "options"), [
    ("dueling_ddqn", []),
    pytest.param("dueling_ddqn", ["env.frame_stack=3"], marks=pytest.mark.slow),
    pytest.param("pg", ["evaluation.policy=sampled"], marks=pytest.mark.slow),
    pytest.param("pg_baseline", ["algo.batch_unit=step", "algo.batch_size=60", "algo.num_minibatches=4"], marks=pytest.mark.slow),
])  # fmt: skip
def test_resume_in_process_equals_undisturbed(
    algo: str, options: list[str], tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop at a given step, continue, and compare every array of the last checkpoint."""
    from rlexp.engines.trials import Interrupted, Trials

    whole = tiny(algo, "trials=3", "study=whole", *options)
    real = Trials.housekeeping

    def stop_at_170(self: Trials, *args: Any) -> None:
        self.services.stop = lambda: signal.SIGTERM if self.t == 170 else None
        real(self, *args)

    monkeypatch.setattr(Trials, "housekeeping", stop_at_170)
    with pytest.raises(Interrupted):
        tiny(algo, "trials=3", "study=parts", *options)
    monkeypatch.undo()
    parts = tiny(algo, "trials=3", "study=parts", *options)
    assert records(whole.folder) == records(parts.folder)

    assert results(whole.folder) == results(parts.folder)
