"""An event file of one run, written by TensorFlow's record writer.

TensorBoard shows each folder with an event file as a run, and adds up all event files of a folder. So a file is written
under a name that TensorBoard does not read, gets its name when it is complete, and then replaces those before it.
TensorFlow's `tf.summary` cannot write the past: it gives each point the current time.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlexp.system.backend import quiet_stderr, set_environment
from rlexp.system.text import printable

VERSION = "brain.Event:2"  # of the format, the first record of an event file
NAME = "events.out.tfevents."  # begins the name of each event file
UNFINISHED = ".unfinished-"


class EventFile:
    """Writes the event file of a run.

    Args:
        run: the run's folder; created if it is missing.

    Attributes:
        path: of the file.
    """

    def __init__(self, run: Path) -> None:
        tf = _tensorflow()
        run.mkdir(parents=True, exist_ok=True)
        self._event, self._errors = tf.compat.v1.Event, tf.errors.OpError
        self._run, self._published = run, False
        self.path = run / f"{UNFINISHED}{uuid.uuid4().hex}"
        with self._readable_errors():
            self._writer: Any = tf.io.TFRecordWriter(str(self.path))
            self._writer.write(self._event(wall_time=time.time(), file_version=VERSION).SerializeToString())

    def add(self, values: Mapping[str, float], step: int, seconds: float) -> None:
        """Write points of one step: metric -> value; `seconds` since 1970."""
        event = self._event(wall_time=seconds, step=step)
        for name, value in values.items():
            event.summary.value.add(tag=_tag(name), simple_value=value)
        with self._readable_errors():
            self._writer.write(event.SerializeToString())

    def add_summary(self, summary: Any, seconds: float) -> None:
        """Write a `Summary` of another kind."""
        with self._readable_errors():
            self._writer.write(self._event(wall_time=seconds, summary=summary).SerializeToString())

    def publish(self) -> None:
        """Bring everything to the file, and let TensorBoard read it, in place of the run's other files."""
        with self._readable_errors():
            self._writer.flush()
        if self._published:
            return
        before = [
            path for path in self._run.iterdir() if path != self.path and path.name.startswith((NAME, UNFINISHED))
        ]
        # A new name: TensorBoard goes on reading a file that was replaced by another of its name. Names are read in
        # their order.
        named = self._run / f"{NAME}{time.time_ns() // 1000}.{self.path.name.removeprefix(UNFINISHED)[:8]}"
        self.path = self.path.rename(named)
        self._published = True
        for path in before:
            path.unlink()

    def close(self) -> None:
        """Close the file; one that was not published is removed."""
        with contextlib.suppress(self._errors):  # of a disk that `publish` has met
            self._writer.close()
        if not self._published:
            with contextlib.suppress(OSError):
                self.path.unlink()

    @contextlib.contextmanager
    def _readable_errors(self) -> Any:
        """Turn errors of TensorFlow's into errors of the operating system, with their first line."""
        try:
            yield
        except self._errors as error:
            raise OSError((error.message or type(error).__name__).splitlines()[0]) from error


@functools.cache
def _tag(name: str) -> str:
    return printable(name, newlines=False)


def _tensorflow() -> Any:
    """TensorFlow; where this process has not loaded it, without the lines that it prints then."""
    loaded = "tensorflow" in sys.modules
    if not loaded:
        set_environment()
    with contextlib.nullcontext() if loaded else quiet_stderr():
        import tensorflow  # waits while another thread loads it
    return tensorflow


def event_files(run: Path) -> dict[str, int]:
    """The event files in the folder of a run: name -> bytes."""
    try:
        return {path.name: path.lstat().st_size for path in run.iterdir() if path.name.startswith(NAME)}
    except (FileNotFoundError, NotADirectoryError):
        return {}
