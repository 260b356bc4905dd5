"""One document, written as self-contained HTML (pictures inside, no scripts, no network) and as Markdown."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlexp.checkpoint import write_atomically

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: .87rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem; border-bottom: 1px solid #e6e6e6; }
td:last-child { min-width: 12rem; }
th { border-bottom: 2px solid #666; } tr.good td:last-child { color: #006b4f; } tr.bad td:last-child { color: #b03a00; }
figure { display: inline-block; margin: .6rem 1rem .6rem 0; max-width: 100%; } img { max-width: 100%; height: auto; }
figcaption { font-size: .85rem; color: #666; } code { background: #f4f4f4; padding: 0 .25em; }
"""
TYPES = {".png": "image/png", ".gif": "image/gif"}


@dataclass
class Page:
    """Blocks in order; `write` brings them to the disk.

    Attributes:
        title: the headline.
    """

    title: str
    _html: list[str] = field(default_factory=list)
    _markdown: list[tuple[str, Path | None]] = field(default_factory=list)  # text with "{}" for the path, picture

    def heading(self, text: str) -> None:
        """A section starts."""
        self._html.append(f"<h2>{html.escape(text)}</h2>")
        self._markdown.append((f"## {text}", None))

    def text(self, text: str, code: str = "") -> None:
        """A paragraph, and a line of code at its end."""
        shown = f" <code>{html.escape(code)}</code>" if code else ""
        self._html.append(f"<p>{html.escape(text)}{shown}</p>")
        self._markdown.append((text + (f" `{code}`" if code else ""), None))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], good: Sequence[bool | None] = ()) -> None:
        """A table of texts; `good` colours a row's last cell: True, False, or None for neither."""
        marks = list(good) or [None] * len(rows)
        cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        lines = [f"<tr>{cells}</tr>"]
        for row, mark in zip(rows, marks, strict=True):
            name = {True: ' class="good"', False: ' class="bad"', None: ""}[mark]
            lines.append(f"<tr{name}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>")
        self._html.append('<div class="table"><table>' + "\n".join(lines) + "</table></div>")
        escaped = [" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in (header, *rows)]
        markdown = [f"| {escaped[0]} |", "|" + "---|" * len(header), *(f"| {row} |" for row in escaped[1:])]
        self._markdown.append(("\n".join(markdown), None))

    def picture(self, path: Path, caption: str) -> None:
        """A PNG or GIF with a caption; HTML holds the picture itself, Markdown the way to it."""
        data = base64.b64encode(path.read_bytes()).decode()
        image = f'<img src="data:{TYPES[path.suffix]};base64,{data}" alt="{html.escape(caption)}">'
        self._html.append(f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>")
        self._markdown.append((f"![{caption}]({{}})", path))

    def write(self, path: Path) -> None:
        """Write `path` (.html), and the Markdown beside it (.md)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        title = html.escape(self.title)
        document = "\n".join(
            [
                "<!doctype html>",
                '<html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width">',
                f"<title>{title}</title><style>{STYLE}</style></head><body>",
                f"<h1>{title}</h1>",
                *self._html,
                "</body></html>",
            ]
        )
        blocks = [f"# {self.title}"]
        for text, picture in self._markdown:
            relative = os.path.relpath(picture, path.parent).replace(os.sep, "/") if picture else ""
            blocks.append(text.replace("({})", f"({relative.replace(' ', '%20')})") if picture else text)
        write_atomically(path, lambda file: file.write(document.encode()))
        write_atomically(path.with_suffix(".md"), lambda file: file.write(("\n\n".join(blocks) + "\n").encode()))
