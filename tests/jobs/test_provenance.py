"""Which code trained a job: said of one that is already done, and where a report pools or compares different code."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlexp import __version__
from rlexp.jobs import provenance


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with the package in it; the process works in another one."""
    for name in ("rlexp", "user"):
        package = tmp_path / name / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("1")
        git = ["git", "-C", str(tmp_path / name), "-c", "user.name=n", "-c", "user.email=e"]
        for args in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", name]):
            subprocess.run([*git, *args], check=True)
    monkeypatch.chdir(tmp_path / "user")
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "rlexp" / "rlexp")
    provenance.tags.cache_clear()
    yield tmp_path / "rlexp"  # type: ignore[misc]
    provenance.tags.cache_clear()


def head(folder: Path) -> str:
    done = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_the_package(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"version.rlexp": __version__, "code.commit": head(checkout), "code.dirty": "false"}
    assert expected["code.commit"] != head(checkout.parent / "user")
    monkeypatch.setenv("GIT_DIR", str(checkout.parent / "user" / ".git"))  # as in a hook of the user's
    assert provenance.tags() == expected
    provenance.tags.cache_clear()
    (checkout / "rlexp" / "__init__.py").write_text("2")
    assert provenance.tags() == {**expected, "code.dirty": "true"}


def test_an_installed_package_inside_a_repository_of_the_user_has_no_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = checkout / "venv" / "rlexp"
    inside.mkdir(parents=True)
    (inside / "__init__.py").write_text("1")
    monkeypatch.setattr(provenance, "PACKAGE", inside)
    assert provenance.tags() == {"version.rlexp": __version__}


@pytest.mark.usefixtures("checkout")
def test_a_repository_runs_no_program_of_its_own(checkout: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    subprocess.run(["git", "-C", str(checkout), "config", "core.fsmonitor", str(hook)], check=True)
    assert "code.commit" in provenance.tags() and not ran.exists()


def test_a_finished_job_of_other_code_is_skipped_and_that_is_said(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlexp.jobs.console import JobConsole

    said: list[str] = []
    monkeypatch.setattr(JobConsole, "say", lambda self, text: said.append(text))
    options = ("env=frozen_lake", "trials=1", "evaluation.max_steps=20")
    folder = tiny("q_learning", *options).folder
    job = json.loads((folder / "job.json").read_text())
    del job["digest"]  # what follows changes it by hand
    assert job["tags"].items() >= provenance.tags().items()

    def once_more(**tags: str) -> list[str]:
        said.clear()
        (folder / "job.json").write_text(json.dumps({**job, "tags": {**job["tags"], **tags}}))
        tiny("q_learning", *options)
        return [text for text in said if "trained by" in text]

    assert once_more() == []
    monkeypatch.setattr(
        provenance, "tags", lambda: {"version.rlexp": "2.0", "code.commit": "b" * 40, "code.dirty": "true"}
    )
    assert once_more(**{"version.rlexp": "1.0\x1b[2J", "code.commit": "a" * 40, "code.dirty": "false"}) == [
        "it was trained by rlexp 1.0?x1b?2J (commit aaaaaaa); this is rlexp 2.0 (commit bbbbbbb, changed); rerun=true runs it "
        "with this one"
    ]
    job["tags"] = {"device": "cpu"}  # of an earlier version, which did not say
    assert once_more() == []


def test_a_report_says_what_it_pools_and_what_it_compares() -> None:
    def job(version: str, commit: str | None = None) -> dict[str, Any]:
        return {"tags": {"version.rlexp": version, **({"code.commit": commit * 40} if commit else {})}}

    same = {"dqn": [job("1", "a"), job("1", "a")], "ddqn": [job("1", "a"), {"tags": {}}, {}]}
    assert provenance.warnings("cartpole", same) == []
    assert provenance.warnings("cartpole", {"dqn": [job("1", "a"), job("1")]}) == []  # nobody knows
    assert provenance.warnings("cartpole", {"dqn": [job("1", "a"), job("1", "b")], "ddqn": [job("1", "b")]}) == [
        "dqn on cartpole pools trials of different code (rlexp 1 (commit aaaaaaa), rlexp 1 (commit bbbbbbb)): rerun=true "
        "trains them with one."
    ]
    assert provenance.warnings("cartpole", {"dqn": [job("1", "a")], "ddqn": [job("2", "b")]}) == [
        "On cartpole the contenders were trained by different code (rlexp 1 (commit aaaaaaa), rlexp 2 (commit bbbbbbb))."
    ]
