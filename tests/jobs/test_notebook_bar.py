"""The bar of a job in a notebook."""

from __future__ import annotations

from typing import Any

import IPython.display
import numpy as np
import pytest

from rlexp.jobs import console, notebook_bar
from rlexp.jobs.console import JobConsole


class Shown:
    """What a notebook shows: one output, and how often it was drawn."""

    def __init__(self) -> None:
        self.content: dict[str, str] = {}
        self.drawn = self.outputs = 0

    def display(self, content: dict[str, str], raw: bool, display_id: bool) -> Any:
        assert raw and display_id
        self.outputs += 1
        self.update(content, raw)
        return self

    def update(self, content: dict[str, str], raw: bool) -> None:
        self.content, self.drawn = content, self.drawn + 1


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    found = Shown()
    monkeypatch.setattr(IPython.display, "display", found.display)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    return found


def test_the_bar_is_one_output(
    shown: Shown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is drawn a few times per second, and stays in its last state; what is said beside it is plain text."""
    monkeypatch.setattr(console, "BAR_PERIOD", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as notebooks have it
    job = JobConsole(num_trials=2)
    job.start()
    assert shown.content["text/plain"] == "  0%  compiling ..."
    for step in range(1, 2001):
        job.update(step / 2000, step, np.array([1.0, 2.0]))
    job.say("a line")
    job.stop()
    assert shown.outputs == 1 and shown.drawn < 20
    assert shown.content["text/plain"].startswith("100%  step 2,000  ")
    assert shown.content["text/plain"].endswith("eval return 1.5")
    assert '<progress value="1.0000" max="1"' in shown.content["text/html"]
    assert capsys.readouterr().out == "a line\n"


def test_a_quiet_job_shows_none(shown: Shown) -> None:
    job = JobConsole(num_trials=2, quiet=True)
    job.start()
    job.update(1.0, 10, np.array([1.0]))
    job.stop()
    assert shown.outputs == 0


def test_texts_are_escaped(shown: Shown) -> None:
    bar = notebook_bar.NotebookBar()
    task = bar.add_task("", total=1.0, text="<b>", heading="[1/2] <i>")
    bar.start()
    bar.update(task, completed=1.0, text="done <b>")
    bar.stop()
    assert shown.content["text/plain"] == "[1/2] <i>: 100%  done <b>"
    assert "<code>[1/2] &lt;i&gt;: 100%  done &lt;b&gt;</code>" in shown.content["text/html"]
