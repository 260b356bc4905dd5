"""`rlexp ls`: what there is, by study and by job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from rlexp.cli.ls import main


def job(output: Path, study: str, name: str, started: float, summary: dict | None) -> Path:
    folder = output / study / name
    folder.mkdir(parents=True)
    seeds = list(range(len((summary or {}).get("trials", [0, 1]))))
    (folder / "job.json").write_text(json.dumps({"study": study, "name": name, "seeds": seeds, "started": started}))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    job(tmp_path, "ladder", "dqn-cartpole-1", 100.0, {"status": "done", "final/return": {"iqm": 412.34}})
    job(tmp_path, "ladder", "ddqn-cartpole-2", 50.0, {"status": "failed"})
    job(tmp_path, "other", "pg-cartpole-3", 70.0, None)
    return tmp_path


def test_studies(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output-dir", str(outputs)]) == 0
    rows = [line.split()[:6] for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["study", "jobs", "done", "running", "failed", "killed"]
    assert rows[1:] == [["ladder", "2", "1", "-", "1", "-"], ["other", "1", "-", "-", "-", "1"]]


def test_jobs_of_a_study_the_oldest_first(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ladder", "--output-dir", str(outputs)]) == 0
    rows = [line.split()[:4] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [["ddqn-cartpole-2", "failed", "-", "2"], ["dqn-cartpole-1", "done", "412.3", "2"]]


def test_a_study_is_named_by_its_folder_too(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ladder", "--output-dir", str(outputs)]) == 0
    by_name = capsys.readouterr().out
    for folder in (f"{outputs}/ladder", f"{outputs}/ladder/"):
        assert main([folder]) == 0
        assert capsys.readouterr().out == by_name
    assert main([f"{outputs}/lader"]) == 2
    assert "Did you mean ladder?" in capsys.readouterr().err


def test_the_score_of_a_failed_job_says_whose_it_is(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A diverged trial keeps the score of its best weights, a failed one has none."""
    trials = [{"status": status} for status in ("done", "diverged", "failed")]
    job(outputs, "mixed", "dqn-cartpole-5", 80.0,
        {"status": "failed", "final/return": {"iqm": 0.667, "per_trial": [1.0, 0.334, None]}, "trials": trials})  # fmt: skip
    job(outputs, "mixed", "dqn-cartpole-6", 90.0,
        {"status": "failed", "final/return": {"iqm": None, "per_trial": [None]}, "trials": trials[2:]})  # fmt: skip
    assert main(["mixed", "--output-dir", str(outputs)]) == 0
    rows = [line.split("  ")[2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == ["0.667 (2 of 3 trials scored; 1 diverged, 1 failed)", "- (0 of 1 trials scored; 1 failed)"]


def test_a_job_that_a_process_works_on_is_running(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(outputs / "other" / "pg-cartpole-3" / ".lock"):
        assert main(["other", "--output-dir", str(outputs)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1] == "running"


def test_a_pruned_candidate_is_called_so(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job(outputs, "search", "dqn-cartpole-4", 80.0, {"status": "pruned", "pruned_at": 400})
    assert main(["search", "--output-dir", str(outputs)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == ["dqn-cartpole-4", "pruned", "-", "2"]
    assert main(["--output-dir", str(outputs)]) == 0
    (row,) = (line.split()[:7] for line in capsys.readouterr().out.splitlines() if line.startswith("search"))
    assert row == ["search", "1", "-", "-", "-", "-", "1"]


@pytest.mark.parametrize("module", ["rlexp.ls", "rlexp.ui"])
def test_neither_this_nor_the_pages_need_tensorflow(module: str, outputs: Path) -> None:
    """With TensorFlow and Keras as if they were not installed."""
    args = ["--output-dir", str(outputs)] if module == "rlexp.ls" else ["--help"]
    code = (
        "import runpy, sys\nsys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        f"sys.argv = [{module!r}, *{args}]\nrunpy.run_module({module!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ("ladder" if module == "rlexp.ls" else "--no-browser") in done.stdout


def test_nothing_of_that_name(outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["laddr", "--output-dir", str(outputs)]) == 2
    assert capsys.readouterr().err.endswith("received 'laddr'. Did you mean ladder?\n")
    assert main(["--output-dir", str(tmp_path / "nowhere")]) == 2
    assert "no jobs in" in capsys.readouterr().err
