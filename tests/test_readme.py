"""The README says what is true."""

from __future__ import annotations

import re
from pathlib import Path

from rlexp.config import registry
from rlexp.data.metrics import METRICS
from rlexp.jobs.runner import compose

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def test_the_metrics_table_is_the_codes_own() -> None:
    rows = re.findall(r"^\| `([a-z]+/[a-z_]+)` \| (.+) \|$", README, re.M)
    assert dict(rows) == METRICS


def test_every_algorithm_is_named() -> None:
    table = README.split("## Algorithms")[1].split("\n\n")[1]
    assert set(re.findall(r"`(\w+)`", table)) >= set(registry.ALGOS)


def test_every_command_with_overrides_composes() -> None:
    """Of several values for a key the first is taken: the others are other jobs."""
    commands = re.findall(r"^rlexp (?=[^-\s]\S*=)(.*?)(?: {2,}#.*)?$", README, re.M)
    assert len(commands) >= 10
    for command in commands:
        overrides = [quoted or plain for quoted, plain in re.findall(r"'([^']+)'|(\S+)", command)]
        sweeps = any(override.startswith("+sweep=") for override in overrides)
        compose(*(override.split(",")[0] if sweeps else override for override in overrides))


def test_the_pictures_are_there() -> None:
    pictures = re.findall(r"!\[.*\]\((.+)\)", README)
    assert len(pictures) == 3
    for picture in pictures:
        assert (Path(__file__).resolve().parents[1] / picture).read_bytes().startswith(b"\x89PNG")
