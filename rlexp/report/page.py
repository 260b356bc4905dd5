"""One document, written as self-contained HTML (pictures inside, no scripts, no network) and as Markdown.

All content is plain text: HTML and Markdown in it are escaped, control characters are spelled out, and what looks like
a secret is masked.
"""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlexp.data.checkpoint import write_atomically
from rlexp.system.text import clean

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #222; background: #fff; }
body { max-width: 76rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .6rem 0; } h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p { max-width: 46rem; overflow-wrap: anywhere; }
.lead { font-size: 1.15rem; line-height: 1.45; padding: .7rem 1rem; }
.lead { border-left: .3rem solid #0072b2; background: #f0f6fa; }
.lead, .notice { max-width: 60rem; overflow-wrap: anywhere; margin: 1rem 0; }
.lead p, .notice p { margin: .35rem 0; max-width: none; }
.notice { border-left: .3rem solid #d55e00; background: #fdf3ec; padding: .4rem 1rem; }
.small { font-size: .87rem; color: #555; }
.table { overflow-x: auto; margin: .8rem 0; } table { border-collapse: collapse; font-size: .87rem; line-height: 1.4; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem; border-bottom: 1px solid #e6e6e6; }
td { overflow-wrap: break-word; font-variant-numeric: tabular-nums; } td:first-child { min-width: 8rem; }
td:last-child { min-width: 9rem; }
th { border-bottom: 2px solid #666; } tr.good td:last-child { color: #006b4f; } tr.bad td:last-child { color: #b03a00; }
.figures { display: grid; gap: 1rem; align-items: start; }
.figures { grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { display: inline-block; margin: .6rem 1rem .6rem 0; max-width: 100%; } img { max-width: 100%; height: auto; }
.figures figure { display: block; margin: 0; max-width: 38rem; } .figures img { width: 100%; }
figcaption { font-size: .85rem; color: #555; } code { background: #f4f4f4; padding: 0 .25em; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  .table { overflow-x: visible; } table, tbody, tr, td { display: block; width: 100%; box-sizing: border-box; }
  thead { display: none; } tr { border: 1px solid #ddd; border-radius: .4rem; margin: .5rem 0; padding: .25rem 0; }
  td { border: 0; padding: .12rem .7rem; display: flex; gap: .6rem; overflow-wrap: anywhere; }
  td:first-child { font-weight: 600; }
  td::before { content: attr(data-label); flex: 0 0 42%; color: #666; overflow-wrap: anywhere; }
  td:first-child::before { content: none; } td:first-child, td:last-child { min-width: 0; }
}
@media print {
  @page { margin: 14mm; } body { font-size: 10pt; max-width: none; padding: 0; }
  .lead, .notice, th { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  h2, h3, thead { break-after: avoid; } figure, tr, .lead, .notice { break-inside: avoid; }
  .table { overflow: visible; } table { font-size: 8pt; } th, td { padding: .2rem .4rem; }
  td:first-child, td:last-child { min-width: 0; } .figures { display: block; }
  .figures figure { display: inline-block; width: 48%; margin-right: 1%; vertical-align: top; }
}
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # the page can fetch nothing
TYPES = {".png": "image/png", ".gif": "image/gif"}


@dataclass
class Page:
    """A sequence of blocks, written by `write`.

    Attributes:
        title: the headline.
    """

    title: str
    _blocks: list[str] = field(default_factory=list)
    _markdown: list[tuple[str, Path | None]] = field(default_factory=list)  # text with "{}" for the path, picture

    def heading(self, text: str, level: int = 2) -> None:
        """Start a section."""
        self._blocks.append(f"<h{level}>{_html(text)}</h{level}>")
        self._markdown.append((f"{'#' * level} {_markdown(text)}", None))

    def text(self, text: str, code: str = "", small: bool = False) -> None:
        """Add a paragraph, with a line of code at its end; `small` for details."""
        shown = f" <code>{_html(code)}</code>" if code else ""
        mark = ' class="small"' if small else ""
        self._blocks.append(f"<p{mark}>{_html(text)}{shown}</p>")
        self._markdown.append((_markdown(text) + (f" {_markdown_code(code)}" if code else ""), None))

    def lead(self, sentences: Sequence[str]) -> None:
        """Add a box with the main statements."""
        self._box("lead", sentences)

    def notice(self, sentences: Sequence[str]) -> None:
        """Add a box with warnings."""
        self._box("notice", sentences)

    def _box(self, name: str, sentences: Sequence[str]) -> None:
        inside = "".join(f"<p>{_html(sentence)}</p>" for sentence in sentences)
        self._blocks.append(f'<div class="{name}">{inside}</div>')
        self._markdown.append(("\n>\n".join(f"> {_markdown(sentence)}" for sentence in sentences), None))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], good: Sequence[bool | None] = ()) -> None:
        """Add a table, whose rows are cards on a phone.

        Args:
            header: names of the columns.
            rows: texts.
            good: for each row, the colour of its last cell: True green, False red, None neither.
        """
        marks = list(good) or [None] * len(rows)
        head = "".join(f"<th>{_html(cell)}</th>" for cell in header)
        lines = []
        for row, mark in zip(rows, marks, strict=True):
            name = {True: ' class="good"', False: ' class="bad"', None: ""}[mark]
            cells = "".join(
                f'<td data-label="{_html(label)}">{_html(cell)}</td>' for label, cell in zip(header, row, strict=True)
            )
            lines.append(f"<tr{name}>{cells}</tr>")
        body = "\n".join(lines)
        self._blocks.append(
            f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )
        escaped = [" | ".join(_markdown(cell).replace("\n", " ") for cell in row) for row in (header, *rows)]
        markdown = [f"| {escaped[0]} |", "|" + "---|" * len(header), *(f"| {row} |" for row in escaped[1:])]
        self._markdown.append(("\n".join(markdown), None))

    def picture(self, path: Path, caption: str) -> None:
        """Add a PNG or GIF with a caption; HTML contains the picture itself, Markdown a link to it."""
        self._blocks.append(self._figure(path, caption))

    def pictures(self, captions: Sequence[tuple[Path, str]]) -> None:
        """Add pictures, side by side if there is room."""
        figures = "\n".join(self._figure(path, caption) for path, caption in captions)
        self._blocks.append(f'<div class="figures">{figures}</div>')

    def _figure(self, path: Path, caption: str) -> str:
        data = base64.b64encode(path.read_bytes()).decode()
        image = f'<img src="data:{TYPES[path.suffix]};base64,{data}" alt="{_html(caption)}">'
        self._markdown.append((f"![{_markdown(caption)}]", path))
        return f"<figure>{image}<figcaption>{_html(caption)}</figcaption></figure>"

    def write(self, path: Path) -> None:
        """Write the page to `path` (.html), and its Markdown beside it (.md)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        title = _html(self.title)
        document = "\n".join(
            [
                "<!doctype html>",
                '<html lang="en"><head><meta charset="utf-8">',
                f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{title}</title><style>{STYLE}</style></head><body>",
                f"<h1>{title}</h1>",
                *self._blocks,
                "</body></html>",
            ]
        )
        blocks = [f"# {_markdown(self.title)}"]
        for text, picture in self._markdown:
            relative = os.path.relpath(picture, path.parent).replace(os.sep, "/") if picture else ""
            blocks.append(f"{text}({relative.replace(' ', '%20')})" if picture else text)
        write_atomically(path, lambda file: file.write(document.encode()))
        write_atomically(path.with_suffix(".md"), lambda file: file.write(("\n\n".join(blocks) + "\n").encode()))


def _html(text: str) -> str:
    """Text escaped for HTML."""
    return html.escape(clean(text))


def _markdown(text: str) -> str:
    """Text escaped for Markdown: it makes no tags, links, pictures or table cells."""
    return re.sub(r"([\\`*\[\]|<>&])", r"\\\1", clean(text))


def _markdown_code(code: str) -> str:
    code = clean(code, newlines=False)
    fence = "`" * (1 + max(map(len, re.findall("`+", code)), default=0))
    space = " " if len(fence) > 1 else ""
    return f"{fence}{space}{code}{space}{fence}"
