"""Shared code of benchmark.py and soak.py: rows of targets and figures, their table and JSON, the choice of parts."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median


@dataclass
class Row:
    """One line of the table."""

    what: str
    target: str
    measured: str
    met: bool


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """The median, the smallest and the largest value: `1.5 (1.2 to 1.9)`."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


Parts = Mapping[str, Callable[[Path], list[Row]]]  # name -> function that measures in the given folder


def parser(doc: str | None, parts: Parts, json_file: Path) -> argparse.ArgumentParser:
    """The command-line parser of a script with parts; pass its `parts` and `json` to `measure`."""

    def part(name: str) -> str:
        if name not in parts:
            raise argparse.ArgumentTypeError(f"unknown part {name!r}: choose from {', '.join(parts)}")
        return name

    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("parts", nargs="*", type=part, metavar="part", help=f"of: {', '.join(parts)} (default: all)")
    made.add_argument("--json", type=Path, default=json_file, help="where to write the rows")
    return made


def measure(parts: Parts, chosen: Iterable[str], json_file: Path) -> int:
    """Run the chosen parts, or all, and print their table; returns exit status 1 if a target is missed.

    The JSON is written after each part, so that a part that fails does not lose the rows of the others.
    """
    rows: list[Row] = []
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    json_file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as output:
        for part in chosen or parts:
            print(f"measuring {part} ...", file=sys.stderr, flush=True)
            rows += parts[part](Path(output))
            json_file.write_text(
                json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=2) + "\n"
            )
    print("| what | target | measured | met |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.target} | {row.measured} | {'yes' if row.met else 'no'} |")
    return 0 if all(row.met for row in rows) else 1
