"""One document, written as self-contained HTML (pictures inside, no network) and as Markdown.

The HTML has its contents at the side, and one script of its own (`page.js`), which the page's policy names by its hash.
Without it nothing is missing but copying of commands, toggling of curves, and reading of their values.

All content is plain text: HTML and Markdown in it are escaped, control characters are spelled out, and what looks like
a secret is masked.
"""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlexp.data.checkpoint import write_atomically
from rlexp.system.text import clean

STYLE, SCRIPT = (Path(__file__).with_name(name).read_text() for name in ("page.css", "page.js"))
SCRIPT_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
# The page can fetch nothing, and runs no script but its own.
POLICY = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{SCRIPT_HASH}'"
TYPES = {".png": "image/png", ".gif": "image/gif"}


@dataclass(frozen=True)
class Animation:
    """An animation of a card.

    Attributes:
        what: it shows, in words; "animation" for the environment alone.
        data: the content of a GIF that HTML contains; None for none.
        link: address of its file, to which Markdown, and HTML without `data`, link; "" for none.
    """

    what: str
    data: bytes | None = None
    link: str = ""


@dataclass(frozen=True)
class Card:
    """What a page shows of one contender.

    Attributes:
        title: its name.
        lines: sentences about it.
        commands: that train it, each with a button that copies it.
        animations: of it.
    """

    title: str
    lines: Sequence[str]
    commands: Sequence[str] = ()
    animations: Sequence[Animation] = ()


@dataclass
class Page:
    """A sequence of blocks, written by `write`.

    Attributes:
        title: the headline.
    """

    title: str
    _blocks: list[str] = field(default_factory=list)
    _markdown: list[tuple[str, Path | None]] = field(default_factory=list)  # text before a path, and the path
    _headings: list[tuple[int, str, str]] = field(default_factory=list)  # level, text, anchor

    def heading(self, text: str, level: int = 2) -> None:
        """Start a section, which the contents list if its level is 2 or 3."""
        words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "part"
        anchors = {anchor for _, _, anchor in self._headings}
        numbered = (words if number == 1 else f"{words}-{number}" for number in itertools.count(1))
        anchor = next(name for name in numbered if name not in anchors)
        self._headings.append((level, text, anchor))
        self._blocks.append(f'<h{level} id="{anchor}">{_html(text)}</h{level}>')
        self._markdown.append((f"{'#' * level} {_markdown(text)}", None))

    def text(self, text: str, code: str = "", small: bool = False) -> None:
        """Add a paragraph, with a line of code at its end; `small` for details."""
        shown = f" {_html_code(code)}" if code else ""
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

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        good: Sequence[bool | None] = (),
        code: Sequence[str] = (),
    ) -> None:
        """Add a table, whose rows are cards on a phone.

        Args:
            header: names of the columns.
            rows: texts.
            good: for each row, the colour of its last cell: True green, False red, None neither.
            code: names of the columns that hold code.
        """
        marks = list(good) or [None] * len(rows)
        head = "".join(f"<th>{_html(cell)}</th>" for cell in header)
        lines = []
        for row, mark in zip(rows, marks, strict=True):
            name = {True: ' class="good"', False: ' class="bad"', None: ""}[mark]
            cells = "".join(
                f'<td data-label="{_html(label)}">{_html_code(cell) if label in code else _html(cell)}</td>'
                for label, cell in zip(header, row, strict=True)
            )
            lines.append(f"<tr{name}>{cells}</tr>")
        body = "\n".join(lines)
        self._blocks.append(
            f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )
        escaped = [
            " | ".join(
                _markdown_code(cell).replace("|", "\\|") if label in code else _markdown(cell).replace("\n", " ")
                for label, cell in zip(header, row, strict=True)
            )
            for row in rows
        ]
        titles = " | ".join(map(_markdown, header))
        markdown = [f"| {titles} |", "|" + "---|" * len(header), *(f"| {row} |" for row in escaped)]
        self._markdown.append(("\n".join(markdown), None))

    def command(self, text: str) -> None:
        """Add a command, with a button that copies it."""
        self._blocks.append(_command(text))
        self._markdown.append((_markdown_code(text), None))

    def cards(self, cards: Sequence[Card]) -> None:
        """Add cards, side by side if there is room."""
        self._blocks.append(f'<div class="cards">{"".join(map(_card, cards))}</div>')
        for card in cards:
            self._markdown.append((f"#### {_markdown(card.title)}", None))
            self._markdown += [(_markdown(line), None) for line in card.lines]
            self._markdown += [(_markdown_code(command), None) for command in card.commands]
            self._markdown += [(f"[{_capital(a.what)}]({a.link})", None) for a in card.animations if a.link]

    def interactive(self, markup: str, picture: Path, caption: str) -> None:
        """Add a figure as HTML; Markdown links to a picture of it.

        Args:
            markup: HTML in which all text is escaped.
            picture: the same as PNG.
            caption: of both.
        """
        self._blocks.append(f'<figure class="curves">{markup}<figcaption>{_html(caption)}</figcaption></figure>')
        self._markdown.append((f"![{_markdown(caption)}]", picture))

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
                self._contents(),
                f"<main><h1>{title}</h1>",
                *self._blocks,
                f"</main><script>{SCRIPT}</script></body></html>",
            ]
        )
        markdown = "\n\n".join([f"# {_markdown(self.title)}", *self._linked(path.parent)]) + "\n"
        write_atomically(path, lambda file: file.write(document.encode()))
        write_atomically(path.with_suffix(".md"), lambda file: file.write(markdown.encode()))

    def markdown(self, folder: Path) -> str:
        """The blocks as Markdown, without the headline; `folder` is where the links to pictures start."""
        return "\n\n".join(self._linked(folder)) + "\n"

    def _linked(self, folder: Path) -> list[str]:
        """The blocks as Markdown; links to pictures start at `folder`."""
        blocks = []
        for text, picture in self._markdown:
            relative = os.path.relpath(picture, folder).replace(os.sep, "/") if picture else ""
            blocks.append(f"{text}({relative.replace(' ', '%20')})" if picture else text)
        return blocks

    def _contents(self) -> str:
        """Links to the headings of levels 2 and 3; a list within the list for level 3."""
        entries: list[str] = []
        inner = False
        for level, text, anchor in self._headings:
            if level > 3:
                continue
            nested = level == 3 and bool(entries)
            if nested != inner:
                entries.append("<ol>" if nested else "</ol></li>")
            elif entries and not nested:
                entries.append("</li>")
            entries.append(f'<li><a href="#{anchor}">{_html(text)}</a>' + ("</li>" if nested else ""))
            inner = nested
        end = "</ol></li>" if inner else "</li>" if entries else ""
        return (
            '<nav class="contents" aria-label="Contents"><input type="checkbox" id="show-contents">'
            f'<label for="show-contents">Contents</label><ol>{"".join(entries)}{end}</ol></nav>'
        )


def _card(card: Card) -> str:
    title = _html(card.title)
    lines = "".join(f"<p>{_html(line)}</p>" for line in card.lines)
    animations = "".join(_animation(shown, f"{_html(_capital(shown.what))} of {title}") for shown in card.animations)
    commands = "".join(map(_command, card.commands))
    return f'<article class="card"><h4>{title}</h4>{lines}{animations}{commands}</article>'


def _animation(shown: Animation, name: str) -> str:
    if shown.data is not None:
        return f'<img src="data:image/gif;base64,{base64.b64encode(shown.data).decode()}" alt="{name}">'
    return f'<p><a href="{_html(shown.link)}">{name}</a></p>' if shown.link else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _command(text: str) -> str:
    return f'<div class="command">{_html_code(text)}<button type="button" class="copy" hidden>Copy</button></div>'


def _html(text: str) -> str:
    """Text escaped for HTML."""
    return html.escape(clean(text))


def _html_code(code: str) -> str:
    return f"<code>{_html(code)}</code>"


def _markdown(text: str) -> str:
    """Text escaped for Markdown: it makes no tags, links, pictures or table cells."""
    return re.sub(r"([\\`*\[\]|<>&])", r"\\\1", clean(text))


def _markdown_code(code: str) -> str:
    code = clean(code, newlines=False)
    fence = "`" * (1 + max(map(len, re.findall("`+", code)), default=0))
    space = " " if len(fence) > 1 else ""
    return f"{fence}{space}{code}{space}{fence}"
