"""The tracker that has nothing to do: the jobs' folders are all there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rlexp.tracking.base import TrackingResult


class FilesTracker:
    """Says where the files are."""

    def __init__(self, uri: str | None, folders: Sequence[Path], output_dir: Path) -> None:
        self.folders = folders

    def start(self) -> None:
        """Nothing to start."""

    def end(self, folder: Path, status: str) -> None:
        """Nobody to tell."""

    def close(self, timeout: float, say: Callable[[str], None] = print) -> dict[Path, TrackingResult]:
        """The files are in place already, whatever `timeout` is."""
        return {folder: TrackingResult(delivered=True, message=f"Results: {folder}") for folder in self.folders}
