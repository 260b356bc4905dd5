"""The README says what is true."""

from __future__ import annotations

import re
from pathlib import Path

from rlexp import registry
from rlexp.metrics import METRICS
from rlexp.runner import compose

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def test_the_metrics_table_is_the_codes_own() -> None:
    rows = re.findall(r"^\| `([a-z]+/[a-z_]+)` \| (.+) \|$", README, re.M)
    assert dict(rows) == METRICS


def test_every_algorithm_is_named() -> None:
    table = README.split("## Algorithms")[1].split("\n\n")[1]
    assert set(re.findall(r"`(\w+)`", table)) >= set(registry.ALGOS)


def test_every_command_with_overrides_composes() -> None:
    commands = re.findall(r"^python -m rlexp (?!-)(.*?)(?: {2,}#.*)?$", README, re.M)
    assert len(commands) >= 4
    for command in commands:
        compose(
            *re.findall(r"'([^']+)'|(\S+)", command) and [a or b for a, b in re.findall(r"'([^']+)'|(\S+)", command)]
        )


def test_the_picture_is_there() -> None:
    (picture,) = re.findall(r"!\[.*\]\((.+)\)", README)
    assert (Path(__file__).resolve().parents[1] / picture).read_bytes().startswith(b"\x89PNG")
