"""Contrast: the marks of figures and the text of the page can be told from what is behind them (WCAG 2.2 AA)."""

from __future__ import annotations

import re

import matplotlib
import numpy as np
import pytest

from rlexp.report import colors, page
from rlexp.report.family_figures import SHADES

ALL = [*colors.COLORS, colors.LIGHT, colors.GREY, *(shade for shades in SHADES.values() for shade in shades)]


def test_contrast_is_that_of_wcag() -> None:
    assert colors.contrast("#000000") == pytest.approx(21)
    assert colors.contrast("#FFFFFF") == pytest.approx(1)
    assert colors.contrast("#777777") == pytest.approx(4.48, abs=0.01)  # the well-known grey that just fails


@pytest.mark.parametrize("color", ALL)
def test_marks_reach_three_on_white_and_so_do_their_pale_ones(color: str) -> None:
    assert colors.contrast(color) >= colors.MARK
    pale = colors.pale(color)
    assert colors.MARK <= colors.contrast(pale) <= colors.contrast(color)


def test_marks_differ() -> None:
    assert len(set(colors.COLORS)) == 7 and all(len(set(shades)) == len(shades) for shades in SHADES.values())


def test_numbers_in_every_cell_of_a_heat_map_can_be_read() -> None:
    cells = matplotlib.colormaps["cividis"](np.linspace(0, 1, 256))
    for cell in cells.tolist():
        background = "#" + "".join(f"{round(255 * c):02X}" for c in cell[:3])
        assert colors.contrast(colors.on(cell), background) >= colors.TEXT


def test_text_colours_of_the_page_reach_four_and_a_half_on_every_background_of_it() -> None:
    rules = re.findall(r"(?<![-\w])(color|background|background-color): ?(#[0-9a-f]{3,6})", page.STYLE)
    text, behind = ({_long(value) for name, value in rules if (name == "color") == wanted} for wanted in (True, False))
    assert len(text) >= 7 and len(behind) >= 4
    for color in text:
        for background in behind:
            assert colors.contrast(color, background) >= colors.TEXT, (color, background)


def _long(color: str) -> str:
    return color if len(color) == 7 else "#" + "".join(2 * letter for letter in color[1:])
