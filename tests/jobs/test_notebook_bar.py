"""The bar of a job in a notebook."""

from __future__ import annotations

from pathlib import Path
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


@pytest.mark.slow
def test_in_a_kernel(tmp_path: Path) -> None:
    """A refusal is its message, an interrupted job stops with its checkpoint, and the kernel lives on."""
    import nbformat
    from nbclient import NotebookClient

    job = (
        "rlexp.run(algo='q_learning', env='cartpole', trials=2, engine='host', workers=1, tracking='files',"
        " budget={'steps': STEPS}, evaluation={'final_episodes': 4, 'candidates': 1})"
    )
    stop = "import os, signal, threading\nthreading.Timer(4, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
    sources = [
        "import rlexp",
        "rlexp.run(algo='ddqm')",
        stop + job.replace("STEPS", "10**7"),
        job.replace("STEPS", "2000"),
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(book, timeout=300, kernel_name="python3", allow_errors=True, resources=place).execute()
    (refused,) = book.cells[1].outputs
    assert refused.ename == "Refusal" and len(refused.traceback) == 2
    assert (
        refused.traceback[0].startswith("refused: algo: expected one of ")
        and refused.traceback[1] == "Did you mean ddqn or dqn?"
    )
    stopped = book.cells[2].outputs
    assert stopped[-1].ename == "Interrupted" and "checkpoint" in "".join(o.get("text", "") for o in stopped)
    done = book.cells[3].outputs
    assert (
        "<Job q_learning on cartpole: done, 2 trials" in done[-1].data["text/plain"]
        and "data:image/png" in done[-1].data["text/html"]
    )
    assert len([o for o in done if "<progress" in o.get("data", {}).get("text/html", "")]) == 1
    assert "\x1b" not in "".join(o.get("text", "") for o in done)
