"""The README says what is true."""

from __future__ import annotations

import re
from pathlib import Path

from rlexp.config import registry
from rlexp.data.metrics import METRICS

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def test_the_metrics_table_is_the_codes_own() -> None:
    rows = re.findall(r"^\| `([a-z]+/[a-z_]+)` \| (.+) \|$", README, re.M)
    assert dict(rows) == METRICS


def test_every_algorithm_is_named() -> None:
    table = README.split("## Algorithms")[1].split("\n\n")[1]
    assert set(re.findall(r"`(\w+)`", table)) >= set(registry.ALGOS)


def test_the_pictures_are_there() -> None:
    pictures = re.findall(r"!\[.*\]\((.+)\)", README)
    assert len(pictures) == 3
    for picture in pictures:
        assert (Path(__file__).resolve().parents[1] / picture).read_bytes().startswith(b"\x89PNG")
