"""A report that is being written: its page and the folder of its figures and tables, which all sections share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rlexp.report import drawing
from rlexp.report.page import Page
from rlexp.report.tables import Row, write_rows

MAX_ANIMATIONS = 6 * 2**20  # bytes of all animations in a page


@dataclass(frozen=True)
class Origin:
    """Where a report comes from, besides the jobs.

    Attributes:
        title: of the page.
        command: that made the report.
        logarithmic: keys of configurations whose logarithm was searched.
        has_files: whether the files of the jobs remain, so that the page may link to them.
    """

    title: str
    command: str
    logarithmic: frozenset[str] = frozenset()
    has_files: bool = True


@dataclass
class Draft:
    """A report that is being written.

    Attributes:
        page: the page.
        folder: of the report; figures and tables lie in folders of these names.
        looks: label of a contender -> colour and marker.
        generator: source of the bootstraps.
        origin: of the report.
        baseline: label of the contender that the others are compared with; None for none.
        animation_bytes: of all animations of one environment in the page; the others are links.
    """

    page: Page
    folder: Path
    looks: dict[str, tuple[str, str]]
    generator: np.random.Generator
    origin: Origin
    baseline: str | None = None
    animation_bytes: int = MAX_ANIMATIONS

    def save(self, figure: Figure, name: str) -> Path:
        """Write a figure as PNG and SVG; returns the path of the PNG."""
        return drawing.save(figure, self.folder / "figures" / name)

    def write_rows(self, name: str, kind: type[Row], rows: Iterable[Row]) -> None:
        """Write rows as `tables/<name>.csv`."""
        write_rows(self.table(name), kind, rows)

    def table(self, name: str) -> Path:
        """The path of a table."""
        return self.folder / "tables" / f"{name}.csv"


def file_name(name: str) -> str:
    """A name as a part of a file's name."""
    letters = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)
    return letters[:60].strip("-") or "x"
