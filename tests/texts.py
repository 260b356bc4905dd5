"""What the tests of README and of the documentation look for in a Markdown text."""

from __future__ import annotations

import re
from pathlib import Path


def inline_commands(text: str) -> list[str]:
    """The words after `rlexp` of each command within a sentence; no outlines, `...` or `<name>`."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return [found for found in re.findall(r"`rlexp ([^`]+)`", text) if not re.search(r"\.\.\.|<", found)]


def missing_links(path: Path) -> list[str]:
    """Relative links of a Markdown file to files that do not exist."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(), flags=re.S)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    return [t for t in targets if t and "://" not in t and not (path.parent / t).exists()]
