"""What git says of a folder; nothing that a repository names is run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_NO_PROGRAMS = (  # settings of a repository that git would run something for
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


def ask(folder: Path, *args: str) -> str:
    """What git says of the repository that a folder is in; nothing that the repository's own settings name is run.

    Raises:
        OSError, subprocess.SubprocessError: where there is no git, no repository or no answer.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
    }

    def git(settings: list[str], *args: str, fine: tuple[int, ...] = (0,)) -> str:
        command = ["git", *(word for setting in settings for word in ("-c", setting)), *args]
        done = subprocess.run(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5
        )
        if done.returncode not in fine:
            raise subprocess.CalledProcessError(done.returncode, command)
        return done.stdout.strip()

    settings = list(_NO_PROGRAMS)
    # A filter's name is the repository's choice. Those of the user's own settings, such as Git LFS, stay.
    filters = git(settings, "config", "--show-scope", "--name-only", "--get-regexp", r"^filter\.", fine=(0, 1))
    for line in filters.splitlines():
        scope, _, name = line.partition("\t")
        if scope not in ("global", "system"):
            if "=" in name:  # which `-c` would not switch off
                raise subprocess.SubprocessError(f"a filter named {name!r}")
            driver = name.rpartition(".")[0]
            settings += [f"{driver}.clean=", f"{driver}.smudge=", f"{driver}.process=", f"{driver}.required=false"]
    return git(settings, *args)
