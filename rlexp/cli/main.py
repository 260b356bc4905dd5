"""The command `rlexp`: which word starts what.

    rlexp algo=dqn, rlexp run algo=dqn      train, see `run.py`
    rlexp ls, rlexp report, ...             one of TOOLS, which only read, deliver or show
    rlexp                                   help

Nothing heavy is imported before it is known what is asked for.
"""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rlexp.cli.help import HELP_FLAGS, TOOLS, overview, training
from rlexp.system import search_path
from rlexp.system.errors import Refusal, did_you_mean, refusal
from rlexp.system.stored_files import folders_with
from rlexp.system.text import clean
from rlexp.system.tool import tool
from rlexp.system.version import __version__

SYNONYMS = {  # what people type for a tool when they come from other programs
    "compare": "report",
    "list": "ls",
    "mlflow": "ui",
    "show": "ls",
    "status": "ls",
    "train": "run",
    "version": "--version",
    "watch": "play",
}


def main(alone: str = "help") -> int:
    """Run what `sys.argv` asks for.

    Args:
        alone: the word that is meant where there is none: "help" for `rlexp`, "run" for `python -m rlexp`.

    Returns:
        The exit status. Training ends the process with its own, by SystemExit.
    """
    words = sys.argv[1:] or [alone]
    if search_path.trains(words):
        from rlexp.cli import run

        sys.argv[1:] = words[1:] if words[0] == "run" else words
        run.main()
    first, rest = words[0], words[1:]
    if first in HELP_FLAGS or first == "help":
        return _help(rest)
    if first in TOOLS:
        search_path.note_working_directory()
        return _main_of(first)(rest)
    return _version() if first == "--version" else _refuse(first, rest)


def _version() -> int:
    print(f"rlexp {__version__}")
    return 0


@tool
def _refuse(first: str, rest: Sequence[str]) -> int:
    raise unknown(first, rest)


@tool
def _help(words: Sequence[str]) -> int:
    """Print the page of a tool, of training (`run`), or of all."""
    topic = next((word for word in words if word not in HELP_FLAGS), "help")
    if topic == "help":
        print(overview(), end="")
    elif search_path.trains([topic]):
        print(training(), end="")
    elif topic in TOOLS:
        return _main_of(topic)(["--help"])
    else:
        near = did_you_mean(topic, ["run", *TOOLS])
        raise refusal("help", f"run or one of {', '.join(TOOLS)}", repr(topic), near)
    return 0


def _main_of(name: str) -> Callable[[Sequence[str]], int]:
    main: Callable[[Sequence[str]], int] = importlib.import_module(f"rlexp.cli.{name}").main
    return main


def unknown(word: str, rest: Sequence[str] = ()) -> Refusal:
    """The refusal of a first word that is neither a tool nor an override."""
    return refusal("command line", "a tool or key=value", repr(word), _hint(word, rest))


def _hint(word: str, rest: Sequence[str]) -> str:
    """What was probably meant: exact matches first, then near ones."""
    if word in SYNONYMS:
        return f"Did you mean rlexp {SYNONYMS[word]}?"
    studies = studies_in(Path("outputs"))
    if word in studies:
        name = shlex.quote(clean(word, newlines=False))
        return f"It is a study: rlexp report {name}   rlexp ls {name}   rlexp best {name}"
    if word and (kind := _kind_of_folder(Path(word))):
        return f"It is {kind} {shlex.quote(clean(word, newlines=False))}"
    if override := _override(word, rest):
        return f"Did you mean {override}?"
    if near := did_you_mean(word, TOOLS):
        return near
    if near := did_you_mean(word, studies):
        return f"{near} It is a study: rlexp report <study>   rlexp ls <study>   rlexp best <study>"
    return f"Tools: {', '.join(TOOLS)}   Training: rlexp algo=dueling_ddqn   See: rlexp --help"


def studies_in(output_dir: Path) -> list[str]:
    """The names of the studies in an output folder, sorted."""
    return sorted({folder.parent.name for folder in folders_with(output_dir, "job.json", "*/*")})


def _kind_of_folder(path: Path) -> str:
    """What a folder is and the command that reads it, up to the path; empty for one that holds no jobs."""
    if not os.path.isdir(path):
        return ""
    if folders_with(path, "job.json"):
        return "a job's folder: rlexp play"
    if folders_with(path, "job.json", "*"):
        return "a study's folder: rlexp report"
    return "an output folder: rlexp ls --output-dir" if folders_with(path, "job.json", "*/*") else ""


def _override(word: str, rest: Sequence[str]) -> str:
    """The override that a key without its `=`, or the name of a choice alone, stands for; empty where there is none."""
    from rlexp.config.command_line import GROUPS
    from rlexp.config.messages import known_keys
    from rlexp.config.paths import configured
    from rlexp.config.schema.job import Settings

    if word in GROUPS or word in known_keys(Settings, ""):
        return f"{word}={shlex.quote(clean(rest[0], newlines=False)) if rest else GROUPS.get(word, '...')}"
    for group, plus in (("algo", ""), ("env", ""), ("experiment", "+"), ("sweep", "+")):
        if word in configured(group):
            return f"{plus}{group}={word}"
    return ""
