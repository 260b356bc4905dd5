"""Checkpoints: whole or not at all, data only, and a resumed job equals an undisturbed one bit for bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rlexp.data.checkpoint import Checkpoints
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
    assert warnings == [
        f"checkpoint {newest} cannot be used (its checksum does not match: it is cut short or damaged); it is set aside as "
        "000000000002.npz.unusable, and the one before it is used"
    ]


def test_nothing_that_could_run_code_is_written_or_read(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every=0, keep=2)
    with pytest.raises(TypeError, match="a checkpoint holds arrays, numbers and texts, not function"):
        checkpoints.save(1, {"f": lambda: 0})
    np.savez(tmp_path / "000000000009.npz", tree=np.array([{"dict": {}}], dtype=object))
    warnings: list[str] = []
    assert checkpoints.load(warnings.append) is None
    assert warnings[0].endswith(
        "(its checksum does not match: it is cut short or damaged); it is set aside as 000000000009.npz.unusable, and the job "
        "starts afresh"
    )


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


def test_what_it_takes_to_collect_the_state_counts_as_its_cost(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes 1 s, collecting the state 3 s, bringing records to the disk 1 s: due each 80 s, not each 10."""
    from rlexp.data import checkpoint
    from rlexp.data.metrics import Recorder
    from rlexp.engines.bookkeeping import Trials

    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: clock.now))
    real_housekeeping, real_sync, real_save = Trials.housekeeping, Recorder.sync, Checkpoints.save
    saved: list[tuple[int, float]] = []

    def housekeeping(self: Trials, policy: Any, params: Any, scalars: Any, get_state: Callable[[], Any]) -> None:
        def slowly() -> Any:
            clock.now += 3.0
            return get_state()

        clock.now += 1.0
        real_housekeeping(self, policy, params, scalars, slowly)

    def sync(self: Recorder) -> int:
        clock.now += 1.0
        return real_sync(self)

    def save(self: Checkpoints, step: int, state: Any) -> Path:
        saved.append((step, clock.now))
        return real_save(self, step, state)

    monkeypatch.setattr(Trials, "housekeeping", housekeeping)
    monkeypatch.setattr(Recorder, "sync", sync)
    monkeypatch.setattr(Checkpoints, "save", save)
    tiny("q_learning", "env=frozen_lake", "trials=1", "evaluation.max_steps=5", "checkpoint.every=10")
    assert saved[:-1] == [(10, 14.0), (90, 98.0), (170, 182.0), (250, 266.0)]  # the last one is the job's end
    assert sum(4.0 for _ in saved[1:-1]) <= checkpoint.MAX_SHARE * (saved[-2][1] - saved[0][1])


def holding(folder: Path, keep: int = 1, **job: Any) -> Checkpoints:
    return Checkpoints(folder, every=0, keep=keep, job=job or None)


STATE: dict[str, Any] = {"trials": {}, "loop": {}}


@pytest.mark.parametrize("what", ["damaged", "foreign", "a folder", "beyond the budget"])
def test_what_cannot_be_used_does_not_push_new_checkpoints_out(what: str, tmp_path: Path) -> None:
    """One of a higher step, with keep=1: it is set aside, and what is written stays."""
    ours, late = holding(tmp_path, config_id="1a2b"), tmp_path / "000000009999.npz"
    ours.save(5, {**STATE, "step": 5})
    if what == "damaged":
        late.write_bytes(b"no checkpoint")
    elif what == "a folder":
        (late / "inside").mkdir(parents=True)
    else:
        other = holding(tmp_path / "other", config_id="ffff" if what == "foreign" else "1a2b")
        other.save(9999, {**STATE, "step": 9999}).replace(late)

    def check(state: Any) -> None:
        if state["step"] > 500:
            raise ValueError("it is of env step 9,999, beyond the budget of 500")

    why = {
        "damaged": "its checksum does not match: it is cut short or damaged",
        "foreign": "it is another job's",
        "a folder": "it is not a file",
        "beyond the budget": "it is of env step 9,999, beyond the budget of 500",
    }[what]
    warnings: list[str] = []
    loaded = ours.load(warnings.append, check)
    assert loaded == {**STATE, "step": 5}
    assert warnings == [
        f"checkpoint {late} cannot be used ({why}); it is set aside as 000000009999.npz.unusable, and the one before it is "
        "used"
    ]
    ours.save(6, {**STATE, "step": 6})
    assert [path.name for path in ours.paths()] == ["000000000006.npz"]


def test_a_later_checkpoint_that_comes_while_a_job_runs_is_set_aside(tmp_path: Path) -> None:
    ours = holding(tmp_path)
    ours.save(1, STATE)
    for step in (8, 9):
        holding(tmp_path / "other").save(step, STATE).replace(tmp_path / f"{step:012d}.npz")
    ours.save(2, STATE)
    assert [path.name for path in ours.paths()] == ["000000000002.npz"]
    assert sorted(path.name for path in tmp_path.glob("*.unusable")) == [f"{n:012d}.npz.unusable" for n in (8, 9)]


def test_only_the_last_few_that_cannot_be_used_are_kept(tmp_path: Path) -> None:
    for step in (5, 4, 3, 2, 1):
        (tmp_path / f"{step:012d}.npz").write_bytes(b"")
        warnings: list[str] = []
        assert holding(tmp_path).load(warnings.append) is None
        assert warnings[0].endswith("and the job starts afresh")
        time.sleep(0.02)  # the system's clock for files is coarse
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n:012d}.npz.unusable" for n in (1, 2)]


def test_one_that_cannot_be_read_now_is_not_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory, no file handles: that says nothing of what is in it."""
    ours = holding(tmp_path)
    ours.save(1, STATE)
    for error in (MemoryError(), OSError(24, "Too many open files")):
        monkeypatch.setattr(Checkpoints, "_read", lambda self, path, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(type(error)):
            ours.load(pytest.fail)
    monkeypatch.undo()
    assert ours.load(pytest.fail) == STATE


def test_checkpoints_of_earlier_versions_do_not_say_whose_they_are(tmp_path: Path) -> None:
    holding(tmp_path).save(1, STATE)
    assert holding(tmp_path, config_id="1a2b").load(pytest.fail) == STATE


TABLE = ("env=frozen_lake", "trials=2", "evaluation.max_steps=20", "checkpoint.every=0", "checkpoint.keep=3",
         "budget.steps=60", "evaluation.period=20")  # fmt: skip


def break_off(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, study: Path) -> Path:
    """A job that a signal has stopped at step 50; its folder, whose last checkpoint is of that step."""
    from rlexp.engines.bookkeeping import Interrupted, Trials

    real = Trials.housekeeping

    def stop(self: Trials, *args: Any) -> None:
        self.services.stop = lambda: signal.SIGTERM if self.t == 50 else None
        real(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Trials, "housekeeping", stop)
        with pytest.raises(Interrupted):
            tiny("q_learning", *TABLE, f"study={study.name}")
    (folder,) = study.glob("q_learning-*")
    return folder


def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a person is warned of from here on."""
    from rlexp.jobs.console import JobConsole

    texts: list[str] = []
    monkeypatch.setattr(JobConsole, "warn", lambda self, text: texts.append(text))
    return texts


@pytest.mark.parametrize("what", ["cut", "cut by a line", "emptied", "removed", "changed"])
def test_records_that_are_not_those_of_a_checkpoint(
    what: str, tiny: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint before is used, or the job starts afresh: in either case to the records of the undisturbed job."""
    whole = tiny("q_learning", *TABLE, "study=whole")
    folder = break_off(tiny, monkeypatch, tmp_path / "parts")
    path = folder / "metrics.jsonl"
    content = path.read_bytes()
    left = {
        "cut": content[:-7],
        "cut by a line": b"".join(content.splitlines(keepends=True)[:-1]),
        "changed": content.replace(b"train/return", b"train/retorn", 1),
    }.get(what, b"")
    path.write_bytes(left)
    if what == "removed":
        path.unlink()
    if what in ("changed", "emptied"):  # there is no checkpoint before
        for other in Checkpoints(folder / "checkpoint", 0, 1).paths()[:-1]:
            other.unlink()
    texts = warned(monkeypatch)
    again = tiny("q_learning", *TABLE, "study=parts")
    assert again["status"] == "done" and records(again.folder) == records(whole.folder)
    assert again["final/return"] == whole["final/return"]
    size = f"{len(content):,}"
    why = f"metrics.jsonl has {len(left):,} bytes, and had {size} then"
    if what == "changed":
        why = f"the first {size} bytes of metrics.jsonl have changed since"
    assert texts[0].startswith(
        f"checkpoint {folder / 'checkpoint' / '000000000050.npz'} cannot be used ({why}); it is set aside as "
        "000000000050.npz.unusable, and "
    )
    if what in ("changed", "emptied"):
        assert texts[0].endswith("and the job starts afresh")
        assert texts[1] == f"{path}: {why}; it is kept as metrics.jsonl.damaged"
        assert (folder / "metrics.jsonl.damaged").read_bytes() == left


def test_a_checkpoint_of_an_earlier_version_knows_the_length_of_its_records(
    tiny: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny("q_learning", *TABLE, "study=whole")
    folder = break_off(tiny, monkeypatch, tmp_path / "parts")
    ours = Checkpoints(folder / "checkpoint", 0, 1)
    state = ours.load(pytest.fail)
    assert state is not None
    del state["trials"]["digest"]
    ours.save(50, state)
    texts = warned(monkeypatch)
    again = tiny("q_learning", *TABLE, "study=parts")
    assert texts == [] and records(again.folder) == records(whole.folder)


def test_a_checkpoint_of_another_job_is_set_aside(
    tiny: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of as many trials and the same environment, but another learning rate, and a later step."""
    other = tiny("q_learning", *TABLE, "algo.alpha=0.01", "study=other")
    folder = break_off(tiny, monkeypatch, tmp_path / "parts")
    foreign = sorted((other.folder / "checkpoint").glob("*.npz"))[-1]
    (folder / "checkpoint" / foreign.name).write_bytes(foreign.read_bytes())
    texts = warned(monkeypatch)
    again = tiny("q_learning", *TABLE, "study=parts")
    assert texts == [
        f"checkpoint {folder / 'checkpoint' / foreign.name} cannot be used (it is another job's); it is set aside as "
        f"{foreign.name}.unusable, and the one before it is used"
    ]
    assert again["status"] == "done"


COMMANDS = {
    "ddqn": [*TINY_DQN, "algo=ddqn", "budget.steps=1500"],
    "ppo": ["algo=ppo", "algo.num_envs=4", "algo.batch_size=64", "algo.normalize_observations=true", "network.hidden_units=[8]",
            "algo.normalize_rewards=true", "env=pendulum", "engine=host", "budget.steps=12000"],
    "sac": ["algo=sac", "env=pendulum", "engine=host", "network.hidden_units=[8]", "algo.batch_size=32", "budget.steps=1500"],
}  # fmt: skip


def start(output: Path, algo: str) -> subprocess.Popen[bytes]:
    args = [o for o in TINY if o != "budget.steps=300"]
    args += [*COMMANDS[algo], "trials=2", "checkpoint.every=0.05"]
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
@pytest.mark.parametrize("algo", list(COMMANDS))
def test_killed_and_interrupted_jobs_continue_to_the_same_bits(algo: str, tmp_path: Path) -> None:
    """SIGKILL, then Ctrl-C, then to the end: equal to a run that nothing disturbed."""
    undisturbed = start(tmp_path / "a", algo)
    assert undisturbed.wait(timeout=200) == 0

    killed = start(tmp_path / "b", algo)
    wait_for_checkpoint(tmp_path / "b", killed)
    time.sleep(0.3)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (folder_of(tmp_path / "b") / "summary.json").exists()

    interrupted = start(tmp_path / "b", algo)
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

    last = start(tmp_path / "b", algo)
    output, errors = last.communicate(timeout=200)
    assert last.returncode == 0, errors.decode()
    assert b"continuing from env step " in output
    assert results(folder_of(tmp_path / "a")) == results(folder_of(tmp_path / "b"))


@pytest.mark.parametrize(("algo", "options"), [
    ("dueling_ddqn", []),
    pytest.param("dueling_ddqn", ["env.frame_stack=3"], marks=pytest.mark.slow),
    pytest.param("rainbow", [], marks=pytest.mark.slow),
    pytest.param("iqn", ["algo.replay=prioritized", "env.frame_stack=3"], marks=pytest.mark.slow),
    pytest.param("pg", ["evaluation.policy=sampled"], marks=pytest.mark.slow),
    pytest.param("ppo", ["algo.batch_unit=step", "algo.batch_size=60", "algo.num_minibatches=4"], marks=pytest.mark.slow),
])  # fmt: skip
def test_resume_in_process_equals_undisturbed(
    algo: str, options: list[str], tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop at a given step, continue, and compare every array of the last checkpoint."""
    from rlexp.engines.bookkeeping import Interrupted, Trials

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
    assert [trial["restarted_episodes"] for trial in parts["trials"]] == [0, 0, 0]


@pytest.mark.parametrize(("algo", "fault", "options"), [
    ("random", "unseeded observation", []),
    ("random", "unseeded reward", []),
    ("sarsa", "shorter again", ["+env.kwargs.states=true"]),
    pytest.param("dqn", "unseeded observation", ["algo.n_step=3", "algo.learn_start=9"], marks=pytest.mark.slow),
    pytest.param("pg_baseline", "shorter again", ["algo.batch_unit=step", "algo.batch_size=15"], marks=pytest.mark.slow),
])  # fmt: skip
def test_where_an_environment_is_not_deterministic_the_episode_starts_again(
    algo: str, fault: str, options: list[str], tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trial 1's first episode does not come back, trial 0's does and goes on as if nothing had been."""
    from rlexp.data import seeding
    from rlexp.engines.bookkeeping import Interrupted, Trials
    from rlexp.jobs.console import JobConsole
    from tests.probes import misbehaving

    bad = seeding.episode_seed(1, 0)
    job = ["env.id=probes/Misbehaving-v0", "env.imports=[tests.probes.misbehaving]", "env.name=bad", "trials=2",
           f"+env.kwargs.fault='{fault}'", f"+env.kwargs.modulus={2**31}", f"+env.kwargs.remainder={bad % 2**31}",
           "+env.kwargs.train_only=true", "budget.steps=30", "evaluation.period=10", *options]  # fmt: skip
    said: list[str] = []
    monkeypatch.setattr(JobConsole, "say", lambda self, text: said.append(text))
    whole = tiny(algo, *job, "study=whole")
    misbehaving.PLAYED.clear()
    real = Trials.housekeeping

    def stop_at_7(self: Trials, *args: Any) -> None:
        self.services.stop = lambda: signal.SIGTERM if self.t == 7 else None
        real(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Trials, "housekeeping", stop_at_7)
        with pytest.raises(Interrupted):
            tiny(algo, *job, "study=parts")
    parts = tiny(algo, *job, "study=parts")
    assert [text for text in said if "not deterministic" in text] == [
        "probes/Misbehaving-v0 is not deterministic: the episodes under way in trials seed=1 were different "
        "when they were replayed, and start again; results will differ from those of an uninterrupted job"
    ]
    assert parts["status"] == "done" and [trial["restarted_episodes"] for trial in parts["trials"]] == [0, 1]
    with np.load(parts.folder / "episodes.npz") as file:
        ends = {k: file["step"][file["trial"] == k].tolist() for k in (0, 1)}
        lengths = file["length"][file["trial"] == 1].tolist()
    assert ends[0] == [10, 20, 30]
    # seven steps of the episode that was lost, then a whole one (which may be the short one), then good ones
    assert ends[1][0] == 7 + lengths[0] and lengths[0] == (3 if fault == "shorter again" else 10)
    assert lengths[1:] == [10] * (len(lengths) - 1)
    first = [
        {
            (record["step"], name): values[0]
            for record in records(job.folder)
            for name, values in record["metrics"].items()
            if values[0] is not None
        }
        for job in (whole, parts)
    ]
    assert first[0] == first[1]
