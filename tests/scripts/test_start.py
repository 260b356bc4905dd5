"""scripts/start.py: how the seconds of a start are shared out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_shortest_open_span_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import start

    waiting, calling = ("call", 2.0, 9.0), ("call", 2.0, 8.5)  # two threads; the tracing of one stops both
    spans = [("all", 0.0, 10.0), ("import", 0.5, 1.5), waiting, calling, ("trace", 3.0, 4.0), ("trace", 6.0, 6.5)]
    seconds = start.shares(spans)
    assert seconds == pytest.approx({"all": 2.0, "import": 1.0, "call": 5.5, "trace": 1.5})
    assert list(seconds) == ["all", "import", "call", "trace"]  # in the order in which they begin
    assert sum(seconds.values()) == pytest.approx(10.0)
    del sys.modules["start"]
