"""The bar of a job in a notebook: one output of its cell, drawn again in place."""

from __future__ import annotations

import time
from html import escape
from typing import Any

PERIOD = 0.25  # seconds between drawings


class NotebookBar:
    """Progress of one task, with the methods of `rich.progress.Progress` that the console uses.

    Rich draws its own bars in notebooks by a widget, whose package many do not have; HTML is shown by all of them, and
    stays in a saved notebook.
    """

    def __init__(self) -> None:
        self._done, self._fields = 0.0, {"heading": "", "text": ""}
        self._shown = 0.0
        self._handle: Any = None

    def add_task(self, description: str, total: float = 1.0, **fields: str) -> int:
        """Set the texts of the task; `fields`: `heading` and `text`."""
        self._fields |= fields
        return 0

    def start(self) -> None:
        """Show the bar."""
        from IPython.display import display

        self._handle = display(self._content(), raw=True, display_id=True)
        self._shown = time.monotonic()

    def update(self, task: int, completed: float | None = None, **fields: str) -> None:
        """Change the progress or the texts; `completed`: the share that is done."""
        self._done = self._done if completed is None else completed
        self._fields |= fields
        if self._done >= 1.0 or time.monotonic() - self._shown >= PERIOD:
            self._draw()

    def stop(self) -> None:
        """Draw the last state, which stays."""
        self._draw()
        self._handle = None

    def _draw(self) -> None:
        if self._handle is not None:
            self._handle.update(self._content(), raw=True)
            self._shown = time.monotonic()

    def _content(self) -> dict[str, str]:
        heading, text = self._fields["heading"], self._fields["text"]
        words = f"{heading + ': ' if heading else ''}{self._done:4.0%}  {text}"
        bar = f'<progress value="{self._done:.4f}" max="1" style="vertical-align: middle"></progress>'
        return {"text/plain": words, "text/html": f"<div>{bar} <code>{escape(words)}</code></div>"}
