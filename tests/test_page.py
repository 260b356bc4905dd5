"""The document builder: what is written is escaped, complete and self-contained."""

from __future__ import annotations

import base64
from pathlib import Path

from rlexp.report.page import Page


def test_html_and_markdown_of_one_page(tmp_path: Path) -> None:
    picture = tmp_path / "job one" / "curve.png"
    picture.parent.mkdir()
    picture.write_bytes(b"\x89PNG")
    page = Page("A <b> & c")
    page.heading("Part")
    page.text("Made by", code="python -m rlexp 'a<b'")
    page.table(["what", "value"], [["x | y", "1 < 2"], ["z", "3"]], [True, None])
    page.picture(picture, "A curve")
    page.write(tmp_path / "report" / "index.html")
    text = (tmp_path / "report" / "index.html").read_text()
    assert "<title>A &lt;b&gt; &amp; c</title>" in text and "<h2>Part</h2>" in text
    assert "<p>Made by <code>python -m rlexp &#x27;a&lt;b&#x27;</code></p>" in text
    assert '<tr class="good"><td>x | y</td><td>1 &lt; 2</td></tr>\n<tr><td>z</td><td>3</td></tr>' in text
    assert f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}" in text
    assert "http" not in text and "<script" not in text
    assert (tmp_path / "report" / "index.md").read_text() == (
        "# A <b> & c\n\n## Part\n\nMade by `python -m rlexp 'a<b'`\n\n"
        "| what | value |\n|---|---|\n| x \\| y | 1 < 2 |\n| z | 3 |\n\n![A curve](../job%20one/curve.png)\n"
    )
