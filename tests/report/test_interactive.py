"""The page in a browser: curves that can be read and toggled, commands that can be copied, any width, any contrast."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlexp.report import interactive
from rlexp.report.colors import COLORS, LIGHT
from rlexp.report.drawing import Line
from rlexp.report.page import Animation, Card, Page
from tests.browser import Browser

HASH = "0123456789abcdef" * 4
COMMAND = f"rlexp algo=ddqn env=cartpole 'algo.epsilon={{kind: linear}}' study={'long' * 30} seed=1"
CONTRASTS = r"""
[...document.querySelectorAll("body *")].filter(e => e.checkVisibility() && !e.closest("svg")
    && [...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim())).map(e => {
  const rgb = text => text.match(/[\d.]+/g).map(Number);
  let behind = e;
  while (behind && (rgb(getComputedStyle(behind).backgroundColor)[3] ?? 1) == 0) behind = behind.parentElement;
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const both = [rgb(getComputedStyle(e).color), behind ? rgb(getComputedStyle(behind).backgroundColor) : [255, 255, 255]].map(light);
  return [(Math.max(...both) + .05) / (Math.min(...both) + .05), e.tagName + ": " + e.textContent.slice(0, 40)];
})
"""


def line(label: str, color: str, level: float, steps: int = 10) -> Line:
    middle = level + np.arange(steps, dtype=float)
    return Line(
        label, color, "o", 1000 * np.arange(1, steps + 1), np.stack([middle - 1, middle + 1], axis=1), middle,
        np.stack([middle - 1.25, middle + 2]), np.array([level]), level, (level - 1, level + 1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all that pages have, and long words in each."""
    folder = tmp_path_factory.mktemp("page")
    Image.new("RGB", (896, 500), "white").save(folder / "wide.png")
    gif = io.BytesIO()
    Image.new("P", (320, 200)).save(gif, "GIF")
    made = Page(f"Study {HASH}")
    made.lead([f"On {HASH} nothing won."])
    made.notice([f"{HASH} failed."])
    made.heading("Results")
    lines = [line("ddqn", COLORS[0], 400), line("fixed_dqn", COLORS[1], 100), line(HASH, LIGHT, 50, steps=5)]
    made.interactive(
        interactive.learning_curves(lines, {"solved 475": 475.0}, "return", "Curves."), folder / "wide.png", "Curves."
    )
    made.pictures([(folder / "wide.png", name) for name in ("one", "two", "three", HASH, "five")])
    made.table(["what", *"abcdefgh"], [[HASH, *[f"cell {HASH}"] * 8]] * 2, [True, False])
    made.heading("Contenders", 3)
    made.cards(
        [
            Card("ddqn", ["Good."], [COMMAND], [Animation("animation", gif.getvalue())]),
            Card(HASH, ["Bad."], [COMMAND], [Animation("animation", link="../x/animation.gif")]),
        ]
    )
    made.heading("Where it comes from")
    made.text("Made by", HASH, small=True)
    made.write(folder / "index.html")
    return folder / "index.html"


def test_curves_hold_their_numbers_and_escape_names() -> None:
    odd = line("<i>$x$ & 'y'", COLORS[0], 400)
    odd.middle[3] = np.nan
    markup = interactive.learning_curves([odd], {"<b>": 1.0}, "<u>", "<s>")
    assert not re.search("<[ibus]>", markup) and "&lt;i&gt;$x$ &amp; &#x27;y&#x27;" in markup
    (values,) = re.findall('data-values="(.*?)"', markup)
    found = json.loads(values.replace("&quot;", '"'))
    assert found["steps"][:2] == [1000, 2000] and found["middle"][:5] == [400, 401, 402, None, 404]
    assert found["low"][0] == 398.75 and found["high"][0] == 402
    (drawn,) = re.findall('class="middle" [^>]* d="(.*?)"', markup)
    assert drawn.count("M") == 2  # the line is broken where a value is missing


def test_a_hundred_curves_stay_small() -> None:
    g = np.random.default_rng(0)
    lines = []
    for k in range(100):
        values = g.normal(300 + k, 50, (500, 10))
        band = np.stack([values.min(axis=1), values.max(axis=1)])
        lines.append(
            Line(f"dqn {k}", LIGHT, ".", np.arange(500), values, values.mean(axis=1), band, values[-1], 1.0, (0.0, 2.0))
        )
    assert len(interactive.learning_curves(lines, {}, "return", "Curves.")) < 2e6


@pytest.mark.browser
@pytest.mark.parametrize(("width", "script"), [(320, True), (390, True), (390, False), (700, True), (1200, True)])
def test_nothing_is_wider_than_the_page(page: Path, width: int, script: bool, browser: Browser) -> None:
    browser.open(page.as_uri(), width, script=script)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    outside = "e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.table')"
    assert (
        browser.evaluate(
            f"[...document.querySelectorAll('main *')].filter({outside}).map(e => e.outerHTML.slice(0, 80))"
        )
        == []
    )
    assert browser.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert browser.problems == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1200])
def test_all_text_has_the_contrast_of_aa(page: Path, width: int, browser: Browser) -> None:
    browser.open(page.as_uri(), width)
    browser.evaluate("document.querySelector('.area').focus()")
    browser.press("ArrowRight")  # so that the values are shown, too
    measured = browser.evaluate(CONTRASTS)
    assert len(measured) > 60 and [each for each in measured if each[0] < 4.5] == []


@pytest.mark.browser
def test_contents_stand_at_the_side_or_fold_above(page: Path, browser: Browser) -> None:
    shown = "document.querySelector('.contents ol').checkVisibility()"
    top = "document.querySelector('.contents').getBoundingClientRect().top"
    browser.open(page.as_uri(), 1200)
    assert browser.evaluate(shown) and browser.evaluate("scrollTo(0, 1500), scrollY") > 1000
    assert browser.evaluate(top) == 0  # it stays
    links = browser.evaluate("[...document.querySelectorAll('.contents a')].map(a => [a.textContent, a.hash])")
    assert links == [
        ["Results", "#results"],
        ["Contenders", "#contenders"],
        ["Where it comes from", "#where-it-comes-from"],
    ]
    assert browser.evaluate(
        "document.querySelectorAll('.contents a').length == document.querySelectorAll('h2, h3').length"
    )
    browser.open(page.as_uri(), 390, script=False)
    assert not browser.evaluate(shown)
    assert browser.evaluate("document.querySelector('.lead').getBoundingClientRect().top") < 350  # below a long title
    browser.click(".contents label")
    assert browser.evaluate(shown)


@pytest.mark.browser
def test_no_place_in_the_grid_of_pictures_is_empty(page: Path, browser: Browser) -> None:
    browser.open(page.as_uri(), 1200)
    boxes = "[...document.querySelectorAll('.figures figure')].map(f => [f.getBoundingClientRect().x, f.getBoundingClientRect().y])"
    (_, y0), (x1, y1), (x2, y2), (x3, y3), (x4, y4) = browser.evaluate(boxes)
    assert y0 < y1 == y2 < y3 == y4 and x1 == x3 < x2 == x4


@pytest.mark.browser
def test_pointing_at_a_curve_shows_step_value_and_interval(page: Path, browser: Browser) -> None:
    browser.open(page.as_uri(), 1200)
    browser.evaluate("document.querySelector('.area').scrollIntoView({block: 'center', behavior: 'instant'})")
    x, y, width, height = browser.evaluate(
        "(r => [r.x, r.y, r.width, r.height])(document.querySelector('.area').getBoundingClientRect())"
    )
    browser.hover(x + width * 0.52, y + height / 2)

    def read() -> list[str]:
        return list(
            browser.evaluate("[...document.querySelectorAll('.readout:not([hidden]) > *')].map(e => e.textContent)")
        )

    assert read() == [
        "env step 5,000", "ddqn: 404 [402.8, 406]", "fixed_dqn: 104 [102.8, 106]", f"{HASH}: 54 [52.8, 56]",
    ]  # fmt: skip
    browser.hover(x + width * 0.99, y + height / 2)
    assert read()[0] == "env step 10,000" and read()[3].endswith("54 [52.8, 56] (step 5,000)")
    browser.hover(5, 5)
    assert read() == []
    browser.evaluate("document.querySelector('.area').focus()")  # the same from the keyboard
    browser.press("End")
    assert read()[0] == "env step 10,000"
    browser.press("ArrowLeft")
    assert read()[:2] == ["env step 9,000", "ddqn: 408 [406.8, 410]"]
    browser.press("Escape")
    assert read() == [] and browser.problems == []


@pytest.mark.browser
def test_contenders_are_toggled_by_mouse_and_keyboard_and_the_axis_follows(page: Path, browser: Browser) -> None:
    browser.open(page.as_uri(), 390)

    def seen() -> list[bool]:
        width = "document.querySelector(`[data-curve='${k}'] .middle`).getBoundingClientRect().width"
        return list(browser.evaluate(f"[0, 1, 2].map(k => {width} > 0)"))

    def ticks() -> list[float]:
        return list(browser.evaluate("[...document.querySelectorAll('.ys span')].map(e => Number(e.textContent))"))

    assert seen() == [True, True, True] and min(ticks()) <= 100
    browser.click(".legend label:nth-of-type(2) span")
    assert seen() == [True, False, True]
    browser.evaluate("document.querySelectorAll('.legend input')[2].focus()")
    browser.press(" ", " ")
    assert seen() == [True, False, False]
    assert min(ticks()) >= 390 and max(ticks()) <= 480  # ddqn and the threshold
    browser.click("[data-show=none]")
    assert seen() == [False, False, False]
    browser.click("[data-show=all]")
    assert seen() == [True, True, True] and min(ticks()) <= 100 and browser.problems == []


@pytest.mark.browser
def test_a_command_is_copied(page: Path, browser: Browser) -> None:
    browser.open(page.as_uri(), 1200)
    browser.evaluate("document.addEventListener('copy', () => { window.copied = String(getSelection()); })")
    browser.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined}) && 0")  # as on http://
    browser.click(".copy")
    assert browser.until("window.copied") == COMMAND
    assert browser.evaluate("document.querySelector('.copy').textContent") == "Copied"


@pytest.mark.browser
def test_without_script_all_is_there_and_nothing_pretends(page: Path, browser: Browser) -> None:
    browser.open(page.as_uri(), 1200, script=False)
    assert browser.evaluate("document.querySelectorAll('.curves .middle').length") == 3
    visible = "[...document.querySelectorAll('{}')].some(e => e.checkVisibility())"
    for what in (".legend input", "button", ".readout", ".cursor"):
        assert not browser.evaluate(visible.format(what)), what
    assert browser.evaluate("document.querySelector('.command code').textContent") == COMMAND
    assert browser.evaluate("[...document.querySelectorAll('.legend span')].map(e => e.textContent).join()").startswith(
        "ddqn,fixed_dqn"
    )


@pytest.mark.browser
def test_values_stay_after_a_touch(page: Path, browser: Browser) -> None:
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
    browser.open(page.as_uri(), 390)
    browser.evaluate("document.querySelector('.area').scrollIntoView({block: 'center', behavior: 'instant'})")
    x, y = browser.evaluate(
        "(r => [r.x + r.width / 2, r.y + 50])(document.querySelector('.area').getBoundingClientRect())"
    )
    browser.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert browser.evaluate("document.querySelector('.readout b').textContent") == "env step 5,000"
    assert browser.evaluate("document.querySelector('.readout').checkVisibility()")
