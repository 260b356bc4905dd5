"""The document builder: what is written is escaped, complete and self-contained."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from rlexp.report.page import Page


def test_html_and_markdown_of_one_page(tmp_path: Path) -> None:
    picture = tmp_path / "job one" / "curve.png"
    picture.parent.mkdir()
    picture.write_bytes(b"\x89PNG")
    page = Page("A <b> & c")
    page.heading("Part")
    page.text("Made by", code="rlexp 'a<b'")
    page.table(["what", "value"], [["x | y", "1 < 2"], ["z", "3"]], [True, None])
    page.picture(picture, "A curve")
    page.write(tmp_path / "report" / "index.html")
    text = (tmp_path / "report" / "index.html").read_text()
    assert "<title>A &lt;b&gt; &amp; c</title>" in text and '<h2 id="part">Part</h2>' in text
    assert "<p>Made by <code>rlexp &#x27;a&lt;b&#x27;</code></p>" in text
    assert (
        "<thead><tr><th>what</th><th>value</th></tr></thead><tbody>"
        '<tr class="good"><td data-label="what">x | y</td><td data-label="value">1 &lt; 2</td></tr>\n'
        '<tr><td data-label="what">z</td><td data-label="value">3</td></tr></tbody>'
    ) in text
    assert f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}" in text
    assert "http:" not in text and "https:" not in text and text.count("<script") == 1
    assert (tmp_path / "report" / "index.md").read_text() == (
        "# A \\<b\\> \\& c\n\n## Part\n\nMade by `rlexp 'a<b'`\n\n"
        "| what | value |\n|---|---|\n| x \\| y | 1 \\< 2 |\n| z | 3 |\n\n![A curve](../job%20one/curve.png)\n"
    )


def test_a_column_of_a_table_may_hold_code(tmp_path: Path) -> None:
    page = Page("T")
    page.table(["what", "command"], [["a_b", "rlexp 'x[<1>]' | cat"]], code=["command"])
    page.write(tmp_path / "index.html")
    assert (
        '<td data-label="command"><code>rlexp &#x27;x[&lt;1&gt;]&#x27; | cat</code></td>'
        in (tmp_path / "index.html").read_text()
    )
    assert page.markdown(tmp_path) == "| what | command |\n|---|---|\n| a_b | `rlexp 'x[<1>]' \\| cat` |\n"


def test_boxes_pictures_and_levels(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(name.encode())
    page = Page("Title")
    page.lead(["One <i>won</i>.", "It is certain."])
    page.notice(["A job failed."])
    page.heading("Small", 3)
    page.text("aside", small=True)
    page.pictures([(tmp_path / "a.png", "A"), (tmp_path / "b.png", "B")])
    page.write(tmp_path / "index.html")
    text, markdown = ((tmp_path / name).read_text() for name in ("index.html", "index.md"))
    assert '<div class="lead"><p>One &lt;i&gt;won&lt;/i&gt;.</p><p>It is certain.</p></div>' in text
    assert (
        '<div class="notice"><p>A job failed.</p></div>\n<h3 id="small">Small</h3>\n<p class="small">aside</p>' in text
    )
    assert text.count("<figure><img") == 2 and '<div class="figures">' in text
    assert markdown == (
        "# Title\n\n> One \\<i\\>won\\</i\\>.\n>\n> It is certain.\n\n> A job failed.\n\n### Small\n\naside\n\n"
        "![A](a.png)\n\n![B](b.png)\n"
    )


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("![x](http://e.org/x.png)", r"!\[x\](http://e.org/x.png)"),
        ("<script>", r"\<script\>"),
        ("a|b*c`d\\", r"a\|b\*c\`d\\"),
        ("dueling_ddqn lr=1e-3", "dueling_ddqn lr=1e-3"),
    ],
)
def test_text_stays_text_in_markdown(text: str, markdown: str, tmp_path: Path) -> None:
    page = Page("T")
    page.text(text, code="a ` b")
    page.write(tmp_path / "index.html")
    assert (tmp_path / "index.md").read_text() == f"# T\n\n{markdown} `` a ` b ``\n"


def test_the_page_forbids_itself_to_fetch_anything_and_names_its_script_by_hash(tmp_path: Path) -> None:
    Page("T").write(tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in text
