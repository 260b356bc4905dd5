"""Pieces of Markdown pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown of one line."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in lines)


def facts(entries: Iterable[tuple[str, str]]) -> str:
    """A list of labels and their values."""
    return "".join(f"- **{label}**: {value}\n" for label, value in entries)


def code(text: str, language: str = "") -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```\n"


def page(*blocks: str) -> str:
    """Blocks with an empty line between them; empty blocks are left out."""
    return "\n\n".join(block.strip("\n") for block in blocks if block) + "\n"


def shown(value: object) -> str:
    """A value as YAML writes it, as code."""
    if value is None or isinstance(value, bool):
        return f"`{ {None: 'null', True: 'true', False: 'false'}[value] }`"
    if isinstance(value, dict):
        inner = ", ".join(f"{key}: {shown(item).strip('`')}" for key, item in value.items())
        return f"`{{{inner}}}`"
    if isinstance(value, list):
        return "`[" + ", ".join(shown(item).strip("`") for item in value) + "]`"
    return f"`{value}`"
