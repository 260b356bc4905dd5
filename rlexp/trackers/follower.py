"""The MLflow tracker as the training process sees it: a child process that follows the job's folder.

Importing MLflow (3 s), creating its schema (2.7 s) and waiting for a server (up to minutes) all happen in the
child, `python -m rlexp.sync --follow <folder>`. Its output goes to `<folder>/tracking.log`.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import rlexp
from rlexp.trackers.base import TrackingResult, resolve_uri, ui_command


class MLflowTracker:
    """Starts the child, tells it how the job ended, and waits for it within limits."""

    def __init__(self, uri: str | None, folder: Path, output_dir: Path) -> None:
        self.folder = folder
        self.uri = resolve_uri(uri, output_dir)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the child in a session of its own, so that Ctrl-C does not reach it."""
        package_dir = str(Path(rlexp.__file__).parents[1])
        search_path = [package_dir, *filter(None, [os.environ.get("PYTHONPATH")])]
        try:
            with (self.folder / "tracking.log").open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "rlexp.sync", "--follow", str(self.folder)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(search_path)},
                )
        except OSError as error:  # no memory or no file handle left: training goes on
            self._log(f"The tracking process did not start: {error}")

    def close(self, status: str, timeout: float = 60.0) -> TrackingResult:
        """Tell the child how the job ended and wait at most `timeout` seconds; then the child is stopped."""
        if self.process is None or not self._finish(self.process, status, timeout):
            return TrackingResult(delivered=False, message=self._warning(), ui_command=ui_command(self.uri))
        run_id = json.loads((self.folder / "tracking.json").read_text())["run_id"]
        message = f"MLflow: run {run_id} is in {self.uri}"
        return TrackingResult(True, message, ui_command(self.uri), run_id)

    def _finish(self, process: subprocess.Popen[bytes], status: str, timeout: float) -> bool:
        try:
            process.communicate(f"{status}\n".encode(), timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()  # safe at any moment: what it has delivered is in tracking.json
            process.wait()
            self._log(f"Stopped: not finished {timeout:g} s after the end of the job.")
        except OSError as error:
            self._log(f"The tracking process is gone: {error}")
        return process.wait() == 0

    def _warning(self) -> str:
        log = self.folder / "tracking.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        reason = lines[-1] if lines else f"no {log.name}"
        return (
            f"Warning: MLflow has not received all of this job ({reason}).\n"
            "Nothing is lost; this delivers the rest:\n"
            f"  python -m rlexp.sync {shlex.quote(str(self.folder))}"
        )

    def _log(self, line: str) -> None:
        with (self.folder / "tracking.log").open("a") as log:
            log.write(f"{line}\n")
