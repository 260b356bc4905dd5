"""What a built page must not contain: assets of other sites. (Links that a reader may follow are no assets.)"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

OUTSIDE = r"""(?:https?:)?//[^"'\s)>]+"""
IN_HTML = re.compile(
    rf"""<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?\b(?:src|data)\s*=\s*["']?({OUTSIDE})"""
    rf"""|<link\b[^>]*?\bhref\s*=\s*["']?({OUTSIDE})""",
    re.IGNORECASE,
)
IN_CSS = re.compile(rf"""(?:url\(\s*|@import\s+)["']?({OUTSIDE})""", re.IGNORECASE)


def outside(folder: Path) -> list[str]:
    """`<file>: <address>` for each asset of another site in the pages and style sheets of a folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        patterns = {".html": (IN_HTML, IN_CSS), ".css": (IN_CSS,)}.get(path.suffix, ())
        text = path.read_text(errors="replace") if patterns else ""
        for match in (match for pattern in patterns for match in pattern.finditer(text)):
            found.append(f"{path.relative_to(folder)}: {next(filter(None, match.groups()))}")
    return found


def check(app: Any, exception: Exception | None) -> None:
    """Fail a build whose pages load something from elsewhere."""
    from sphinx.errors import ExtensionError

    found = [] if exception else outside(Path(app.outdir))
    if found:
        raise ExtensionError("assets of other sites:\n" + "\n".join(found))
