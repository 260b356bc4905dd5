"""Run the notebooks and keep their outputs: `python scripts/notebooks.py` runs all, with their full budgets.

python scripts/notebooks.py notebooks/tour.ipynb             # one of them
python scripts/notebooks.py --share 0.05 --check             # a quick look; the files stay as they are

Jobs run in a temporary folder, so that the outputs hold no paths of this machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
LARGEST = 1_000_000  # bytes of a notebook with its outputs
CELL_TIMEOUT = 7200  # seconds


def execute(path: Path, folder: Path, share: float) -> Any:
    """Run a notebook from top to bottom.

    Args:
        path: of the notebook.
        folder: where its jobs run.
        share: of the notebook's budgets.

    Returns:
        The notebook with its outputs.

    Raises:
        CellExecutionError: if a cell raises an exception.
    """
    book = nbformat.read(path, as_version=4)
    environment = {
        **os.environ,
        "RLEXP_NOTEBOOK_SHARE": str(share),
        "SDL_VIDEODRIVER": "dummy",  # pictures of environments, without a screen
        "XDG_RUNTIME_DIR": str(folder),  # without it SDL complains
    }
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(book, timeout=CELL_TIMEOUT, kernel_name="python3", resources=place).execute(env=environment)
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # times, which differ in each run
        if "outputs" in cell:
            cell.outputs = _merged(list(_outputs(cell.outputs, f"{folder.resolve()}{os.sep}")))
    return book


def _outputs(outputs: list[Any], place: str) -> Iterator[Any]:
    """The outputs of a cell, with paths that begin where the notebook runs."""
    for output in outputs:
        if output.output_type == "stream":
            output.text = output.text.replace(place, "")
        for kind, data in output.get("data", {}).items():
            if isinstance(data, str) and kind.startswith("text/"):
                output.data[kind] = data.replace(place, "")
        yield output


def _merged(outputs: list[Any]) -> list[Any]:
    """The outputs of a cell, with each stream that continues the one before as one output."""
    found: list[Any] = []
    for output in outputs:
        last = found[-1] if found else None
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            found.append(output)
    return found


def main() -> int:
    """Run the command; exit status 1 if a notebook with its outputs is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all in notebooks/")
    parser.add_argument("--share", type=float, default=1.0, help="of the budgets (default: 1)")
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    status = 0
    for path in args.notebooks or sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory(prefix="rlexp-notebook-") as folder:
            text = nbformat.writes(execute(path, Path(folder), args.share)) + "\n"
        print(f"{path.name}: {len(text) / 1000:,.0f} kB")
        if len(text) > LARGEST:
            print(f"{path}: expected at most {LARGEST:,} bytes, received {len(text):,}", file=sys.stderr)
            status = 1
        elif not args.check:
            path.write_text(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
