"""The notebooks run from top to bottom, and are committed with small outputs that name no machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scripts.notebooks import FOLDER, LARGEST, execute

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def outputs(book: Any) -> list[Any]:
    return [output for cell in book["cells"] for output in cell.get("outputs", [])]


def test_there_are_two() -> None:
    assert [path.name for path in NOTEBOOKS] == ["acrobot_components.ipynb", "tour.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs(path: Path) -> None:
    """Each cell has run, in order; all is small; and no path says on which machine."""
    text = path.read_text()
    book = json.loads(text)
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert len(text) < LARGEST and book["metadata"]["kernelspec"]["name"] == "python3"
    assert not [output for output in outputs(book) if output["output_type"] == "error"]
    pictures = [output for output in outputs(book) if {"image/png", "text/html"} & output.get("data", {}).keys()]
    assert len(pictures) >= 3
    assert not re.search(r"/(?:tmp|home|root|Users|mnt|work)/\w", re.sub(r"base64,[\w+/=]+", "", text))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    """With a hundredth of the budgets; a bar is one output of its cell, however often it was drawn."""
    book = execute(path, tmp_path, share=0.01)
    found = outputs(book)
    assert not [output for output in found if output.output_type == "error"]
    bars = [output for output in found if "<progress" in output.get("data", {}).get("text/html", "")]
    lines = sum(output.text.count("\n") for output in found if output.output_type == "stream")
    assert 4 <= len(bars) <= 20 and lines < 600
    assert str(tmp_path) not in json.dumps(book)
