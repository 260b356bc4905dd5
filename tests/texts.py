"""What the tests of README and of the documentation look for in a Markdown text."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path

from rlexp.jobs.runner import compose


def inline_commands(text: str) -> list[str]:
    """The overrides of each training command within a sentence."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return [
        found for found in re.findall(r"`rlexp ((?:-m )?\S*=[^`]*)`", text) if "<" not in found and "..." not in found
    ]


def compose_all(found: Iterable[str]) -> None:
    """Compose each command; of several values for a key the first is taken, and spaces of a search are left out."""
    for command in found:
        words = [quoted or plain for quoted, plain in re.findall(r"'([^']+)'|(\S+)", command)]
        sweeps = "-m" in words or any(word.startswith("+sweep=") for word in words)
        words = [word for word in words if "hydra" not in word and word != "-m"]
        if sweeps:
            words = [word for word in words if not re.search(r"=(?:tag|interval|range|int)\(", word)]
            words = [word if re.search(r"=[\[{]", word) else word.split(",")[0] for word in words]
        _composed(tuple(words))


@functools.cache  # texts show the same commands
def _composed(words: tuple[str, ...]) -> None:
    compose(*words)


def missing_links(path: Path) -> list[str]:
    """Relative links of a Markdown file to files that do not exist."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(), flags=re.S)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    return [t for t in targets if t and "://" not in t and not (path.parent / t).exists()]
