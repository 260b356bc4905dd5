"""Questions to git about a folder. No program that the repository names is run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_NO_PROGRAMS = (  # switch off settings of a repository that make git run a program
    "core.fsmonitor=false",
    f"core.hooksPath={os.devnull}",
    "core.untrackedCache=false",
    "core.pager=cat",
    "core.sshCommand=false",
    "diff.external=",
    "submodule.recurse=false",
    "status.submoduleSummary=false",
    "safe.bareRepository=explicit",
    "protocol.allow=never",
)


def git_output(folder: Path, *args: str) -> str:
    """The output of a git command in a folder; runs no program that the repository's own settings name.

    Args:
        folder: a folder in a repository.
        *args: the git command and its arguments.

    Raises:
        OSError, subprocess.SubprocessError: if there is no git or no repository, or git fails or takes over 5 seconds.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
    }

    def git(settings: list[str], *args: str, ok: tuple[int, ...] = (0,)) -> str:
        command = ["git", *(word for setting in settings for word in ("-c", setting)), *args]
        done = subprocess.run(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5
        )
        if done.returncode not in ok:
            raise subprocess.CalledProcessError(done.returncode, command)
        return done.stdout.strip()

    settings = list(_NO_PROGRAMS)
    # A repository names its own filters, so they are looked up. Filters of the user's settings, such as Git LFS, stay.
    filters = git(settings, "config", "--show-scope", "--name-only", "--get-regexp", r"^filter\.", ok=(0, 1))
    for line in filters.splitlines():
        scope, _, name = line.partition("\t")
        if scope not in ("global", "system"):
            if "=" in name:  # `-c` cannot switch it off
                raise subprocess.SubprocessError(f"a filter named {name!r}")
            driver = name.rpartition(".")[0]
            settings += [f"{driver}.clean=", f"{driver}.smudge=", f"{driver}.process=", f"{driver}.required=false"]
    return git(settings, *args)
