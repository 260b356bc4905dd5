"""The origin of a job: the command that started it, and the code, libraries and machine that it runs with."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rlexp.config import arguments
from rlexp.jobs import provenance
from rlexp.system.git import git_output

LIBRARIES = ("rlexp", "tensorflow", "keras", "gymnasium", "numpy", "hydra-core", "mlflow")


def command_line() -> str:
    """The command that started this process, as a person would type it; "a notebook" for its kernel."""
    args, program = arguments.as_typed(sys.argv[1:]), Path(sys.argv[0])
    if program.name == "ipykernel_launcher.py":
        return "a notebook"
    return " ".join(["rlexp" if program.parent.name == "rlexp" else program.name, *args])


def tags(device: str, engine: str) -> dict[str, str]:
    """The tags of a job in job.json and MLflow.

    Args:
        device: where its tensors are.
        engine: the engine that runs it.
    """
    return {
        **_versions(),
        **provenance.tags(),
        **git_tags(),
        "device": device,
        "engine": engine,
        "cpus": str(os.cpu_count()),
        "machine": platform.platform(),
    }


def git_tags() -> dict[str, str]:
    """Commit and dirty flag of the repository that the command was started in, if any."""
    here = Path.cwd()
    try:
        dirty = bool(git_output(here, "status", "--porcelain", "--ignore-submodules=all"))
        return {"git.commit": git_output(here, "rev-parse", "HEAD"), "git.dirty": str(dirty).lower()}
    except (OSError, subprocess.SubprocessError):
        return {}


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return {f"version.{name}": text for name, text in found.items()}
