"""README is one page, and what it says is true."""

from __future__ import annotations

import re
from pathlib import Path

from tests.texts import missing_links

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_it_is_one_page() -> None:
    assert len(README.split()) <= 900


def test_the_two_commands_are_there_with_their_times() -> None:
    assert "\npip install -c constraints.txt -e . && rlexp algo=dueling_ddqn\n" in README
    assert "\npip install -c constraints.txt -e '.[dev]' && pytest\n" in README
    assert "a minute on" in README and "about five minutes on two quiet cores" in README


def test_there_are_six_examples() -> None:
    """`tests/test_snippets.py` composes and runs them."""
    assert len(re.findall("^```", README.split("## Six examples")[1].split("\n## ")[0], re.M)) == 2 * 6


def test_links_and_pictures_are_files() -> None:
    assert missing_links(ROOT / "README.md") == []
    pictures = re.findall(r"!\[.*\]\((.+)\)", README)
    assert pictures and all((ROOT / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)
