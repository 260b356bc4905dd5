"""The code that a job ran with: the version of rlexp and, if the package is in a git checkout, the commit."""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlexp.system.git import git_output
from rlexp.system.stored_files import read_json
from rlexp.system.stored_schemas import JOB, SWEEP
from rlexp.system.version import __version__

PACKAGE = Path(__file__).resolve().parents[1]
VERSION, COMMIT, DIRTY = "version.rlexp", "code.commit", "code.dirty"  # tags of a job


@functools.cache
def tags() -> dict[str, str]:
    """The tags of the code that runs; without a commit if the package is not tracked in a git checkout."""
    found = {VERSION: __version__}
    try:  # a virtual environment may lie inside a repository: the package must be tracked there
        git_output(PACKAGE, "ls-files", "--error-unmatch", "__init__.py")
        found[COMMIT] = git_output(PACKAGE, "rev-parse", "HEAD")
        changed = git_output(PACKAGE, "status", "--porcelain", "--untracked-files=no", "--", ".", "../conf")
        found[DIRTY] = str(bool(changed)).lower()
    except (OSError, subprocess.SubprocessError):
        return {VERSION: __version__}
    return found


def name(own: Mapping[str, Any]) -> str:
    """The code that a job's tags name, in words: `rlexp 0.1.0 (commit 0123abc, changed)`."""
    commit = _plain(own[COMMIT])[:7] if COMMIT in own else ""
    changed = ", changed" if own.get(DIRTY) == "true" else ""
    return f"rlexp {_plain(own.get(VERSION, '?'))}" + (f" (commit {commit}{changed})" if commit else "")


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two jobs' tags name the same code, as far as both have the tags."""
    return all(a[key] == b[key] for key in (VERSION, COMMIT, DIRTY) if key in a and key in b)


def other_version(folder: Path) -> str | None:
    """A sentence on a job that ran with other code than this process; None if it did not, or if that is not known."""
    try:
        own = read_json(folder / "job.json", JOB, "tags")["tags"]
    except (OSError, ValueError):
        return None
    return None if same(own, tags()) else f"it was trained by {name(own)}; this is {name(tags())}"


def warnings(where: str, jobs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Sentences on jobs that are compared or pooled although different code has trained them.

    Args:
        where: the environment.
        jobs: contender -> the `job.json` of each of its jobs, whose trials are pooled.
    """
    sentences: list[str] = []
    every: dict[str, Mapping[str, Any]] = {}
    for label, pooled in jobs.items():
        known = [own for own in (job.get("tags") for job in pooled) if isinstance(own, Mapping) and VERSION in own]
        own = _different(known)
        every |= {label: known[0]} if known else {}
        if len(own) > 1:
            pooled_code = f"{label} on {where} pools trials of different code ({', '.join(own)})"
            sentences.append(f"{pooled_code}: rerun=true trains them with one.")
    between = _different(list(every.values()))
    if len(between) > 1 and not sentences:
        sentences.append(f"On {where} the contenders were trained by different code ({', '.join(between)}).")
    return sentences


def _different(known: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the different codes among some tags."""
    kept: list[Mapping[str, Any]] = []
    for own in known:
        if not any(same(own, other) for other in kept):
            kept.append(own)
    return [name(own) for own in kept]


def _plain(text: Any) -> str:
    """A word from a file, made safe for printing."""
    return re.sub(r"[^\w.+-]", "?", str(text)[:40])


def identity(folder: Path) -> dict[str, Any]:
    """The part of a sweep's plan that its jobs keep, so that each of them can create the sweep's run in MLflow."""
    names = ("id", "local_id", "name", "command", "started")
    plan = read_json(folder / "sweep.json", SWEEP, *names)
    return {name: plan[name] for name in names}
