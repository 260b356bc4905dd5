"""Full disks, read-only folders, damaged files and second processes: one sentence each, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlexp.data import checkpoint, metrics
from rlexp.data.checkpoint import Checkpoints
from rlexp.jobs import plots
from rlexp.system.errors import Failure, Refusal
from rlexp.system.folder_lock import folder_lock
from tests.conftest import records

JOB = ("q_learning", "env=frozen_lake", "trials=2", "budget.steps=60", "evaluation.period=20", "checkpoint.every=0",
       "evaluation.max_steps=20")  # fmt: skip


class Disk:
    """Refuses the n-th write, and those after it; `where` counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        self.left, self.code, self.count = 10**9, code, 0
        real_write, real_record, real_draw = checkpoint.write_atomically, metrics.Recorder.write, plots.learning_curve

        def write(path: Path, fill: Any) -> None:
            def half(file: Any) -> None:
                fill(file)
                self.use(path)

            real_write(path, half)

        def record(recorder: Any, *args: Any) -> None:
            real_record(recorder, *args)
            try:
                self.use(None)
            except OSError:
                recorder._file.truncate(recorder._file.tell() - 5)  # as a full disk leaves it: half a line
                raise

        def draw(data: Any, path: Path, generator: Any) -> None:
            self.use(path)
            real_draw(data, path, generator)

        monkeypatch.setattr(checkpoint, "write_atomically", write)
        monkeypatch.setattr(metrics.Recorder, "write", record)
        monkeypatch.setattr(plots, "learning_curve", draw)

    def use(self, path: Path | None) -> None:
        self.count += 1
        if self.count > self.left:
            raise OSError(self.code, os.strerror(self.code), str(path) if path else None)


def whole_files(folder: Path) -> None:
    """Every file that is there can be read."""
    assert not list(folder.rglob("*.part"))
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())
    for path in folder.rglob("*.npz"):
        with np.load(path) as file:
            assert all(file[name] is not None for name in file.files)
    for path in (folder / "checkpoint").glob("*.npz"):
        checkpoint._check_seal(path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS], ids=["full", "read-only"])
def test_a_full_disk_at_every_write(code: int, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """At each of them: one sentence, whole files, and once there is room the job ends as an undisturbed one."""
    disk = Disk(monkeypatch, code)
    whole = tiny(*JOB, "study=whole")
    writes = disk.count
    assert writes > 20
    sites = [*range(0, writes, 4), writes - 1] if code == errno.ENOSPC else [writes // 2]
    for left in sites:
        disk.count, disk.left = 0, left
        with pytest.raises(Failure) as failed:
            tiny(*JOB, f"study=full{left}")
        assert (
            f"cannot be written ({os.strerror(code)}); everything written before is intact, and the same command"
            in str(failed.value)
        )
        assert len(str(failed.value).splitlines()) == 1
        disk.left = 10**9
        (folder,) = (whole.folder.parents[1] / f"full{left}").iterdir()
        whole_files(folder)
        again = tiny(*JOB, f"study=full{left}")
        assert again["status"] == "done" and records(again.folder) == records(whole.folder)
        assert again["final/return"] == whole["final/return"]


def test_the_command_line_says_it_in_one_sentence(tmp_path: Path) -> None:
    """The kernel's own refusal: no file may grow beyond 2,000 bytes."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "sys.argv[1:] = ['algo=random', 'trials=1', 'tracking=files', 'budget.steps=50', 'evaluation.num_episodes=1']\n"
        "import rlexp.cli.run as m; m.main()"
    )
    # -B: Python would cut the bytecode that it caches, too, and no later import of that module would succeed.
    result = subprocess.run([sys.executable, "-B", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("failed: ") and "cannot be written (File too large)" in line


def test_a_folder_that_cannot_be_made(
    tiny: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdir(path: Path, *args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(Refusal, match=r"^output_dir: expected a folder in which .* \(Read-only file system\)\."):
        tiny(*JOB)
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "job"):
        first = f"process {os.getpid()} on {socket.gethostname()} is at work"
        with pytest.raises(Refusal, match=first), folder_lock(tmp_path / "job"):
            raise AssertionError("two at work")
    with folder_lock(tmp_path / "job"):
        (tmp_path / "job" / "owner.json").unlink()
        with pytest.raises(Refusal, match="where one is at work"), folder_lock(tmp_path / "job"):
            raise AssertionError("two at work")


@pytest.mark.parametrize("seed", range(40))
def test_one_flipped_bit_or_a_cut_anywhere_is_found(seed: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(seed)
    checkpoints = Checkpoints(tmp_path, every=0, keep=2)
    for step in (1, 2):
        checkpoints.save(step, {"step": step, "trials": {"a": np.arange(50)}, "loop": {}})
    newest = checkpoints.paths()[-1]
    content = bytearray(newest.read_bytes())
    place = int(generator.integers(len(content)))
    if seed % 4 == 0:
        content = content[:place]
    else:
        content[place] ^= 1 << int(generator.integers(8))
    newest.write_bytes(content)
    warnings: list[str] = []
    loaded = checkpoints.load(warnings.append)
    assert loaded is not None and loaded["step"] == 1
    said = "its checksum does not match: it is cut short or damaged"
    aside = f"it is set aside as {newest.name}.unusable"
    assert warnings == [f"checkpoint {newest} cannot be used ({said}); {aside}, and the one before it is used"]


def test_a_checkpoint_of_another_job_ends_in_a_sentence(tiny: Callable[..., Any]) -> None:
    job = tiny(*JOB)
    (job.folder / "summary.json").unlink()
    Checkpoints(job.folder / "checkpoint", 0, 2).save(
        10**6, {"trials": {"t": 3, "position": 0, "seconds": 0.0, "active": np.ones(2, bool)}, "loop": {}}
    )
    with pytest.raises(Failure, match="expected a checkpoint of this job, received another's"):
        tiny(*JOB)
