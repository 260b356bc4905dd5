"""Which code a job ran with: rlexp's version and, where the package lies in a checkout of its own, the commit."""

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
    """Of the code that runs; the commit is missing where the package is not a tracked part of a git checkout."""
    found = {VERSION: __version__}
    try:  # an environment may lie inside somebody's repository: the package must be in it, not only below it
        git_output(PACKAGE, "ls-files", "--error-unmatch", "__init__.py")
        found[COMMIT] = git_output(PACKAGE, "rev-parse", "HEAD")
        changed = git_output(PACKAGE, "status", "--porcelain", "--untracked-files=no", "--", ".", "../conf")
        found[DIRTY] = str(bool(changed)).lower()
    except (OSError, subprocess.SubprocessError):
        return {VERSION: __version__}
    return found


def name(own: Mapping[str, Any]) -> str:
    """What a person calls the code that a job's tags tell of: `rlexp 0.1.0 (commit 0123abc, changed)`."""
    commit = _plain(own[COMMIT])[:7] if COMMIT in own else ""
    changed = ", changed" if own.get(DIRTY) == "true" else ""
    return f"rlexp {_plain(own.get(VERSION, '?'))}" + (f" (commit {commit}{changed})" if commit else "")


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two jobs' tags tell of the same code, as far as both know theirs."""
    return all(a[key] == b[key] for key in (VERSION, COMMIT, DIRTY) if key in a and key in b)


def other_version(folder: Path) -> str | None:
    """A sentence on a job that ran with other code than this process; None where it did not, or nobody knows."""
    try:
        own = read_json(folder / "job.json", JOB, "tags")["tags"]
    except (OSError, ValueError):
        return None
    return None if same(own, tags()) else f"it was trained by {name(own)}; this is {name(tags())}"


def warnings(where: str, jobs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Sentences on jobs that are compared, or pooled, though different code has trained them.

    Args:
        where: the environment.
        jobs: contender -> the `job.json` of its jobs, whose trials are pooled.
    """
    told: list[str] = []
    every: dict[str, Mapping[str, Any]] = {}
    for label, pooled in jobs.items():
        known = [own for own in (job.get("tags") for job in pooled) if isinstance(own, Mapping) and VERSION in own]
        own = _different(known)
        every |= {label: known[0]} if known else {}
        if len(own) > 1:
            told.append(f"{label} on {where} pools trials of different code ({', '.join(own)}): rerun=true trains them "
                        "with one.")  # fmt: skip
    between = _different(list(every.values()))
    if len(between) > 1 and not told:
        told.append(f"On {where} the contenders were trained by different code ({', '.join(between)}).")
    return told


def _different(known: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of those that are not the same code as an earlier one; the first included."""
    kept: list[Mapping[str, Any]] = []
    for own in known:
        if not any(same(own, other) for other in kept):
            kept.append(own)
    return [name(own) for own in kept]


def _plain(text: Any) -> str:
    """A word of a file, fit to be printed."""
    return re.sub(r"[^\w.+-]", "?", str(text)[:40])


def identity(folder: Path) -> dict[str, Any]:
    """What a sweep's job keeps of it, so that either can make the sweep's run in MLflow."""
    names = ("id", "local_id", "name", "command", "started")
    plan = read_json(folder / "sweep.json", SWEEP, *names)
    return {name: plan[name] for name in names}
