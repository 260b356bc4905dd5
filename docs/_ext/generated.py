"""The reference, written from the code: algorithms, environments, networks, keys, metrics, commands and presets.

`python docs/_ext/generated.py FOLDER` writes the pages without Sphinx.
"""

from __future__ import annotations

import sys
from pathlib import Path

import algorithm_pages
import other_pages
import settings_pages

from rlexp.config import registry


def pages() -> dict[str, str]:
    """Path below `generated/` -> Markdown."""
    return {
        **{f"algorithms/{name}.md": algorithm_pages.algorithm(name) for name in registry.ALGOS},
        "algorithms/index.md": algorithm_pages.index(),
        "schedules.md": algorithm_pages.schedules(),
        "configuration.md": settings_pages.configuration(),
        "environments.md": other_pages.environments(),
        "networks.md": other_pages.networks(),
        "metrics.md": other_pages.metrics(),
        "commands.md": other_pages.commands(),
        "presets.md": other_pages.presets(),
    }


def write(folder: Path) -> None:
    """Write all pages; those that have not changed keep their times, so that Sphinx reads them once."""
    new = {folder / name: text for name, text in pages().items()}
    for path in folder.rglob("*.md"):
        if path not in new:
            path.unlink()
    for path, text in new.items():
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
