#!/usr/bin/env python
"""Run the presets `+experiment=tuned/*` with fresh seeds and tabulate what they reach, beside published figures.

See `rlexp/book/tuned_results.py`.
"""

from pathlib import Path

from rlexp.book.tuned_results import main

if __name__ == "__main__":
    raise SystemExit(main(root=Path(__file__).resolve().parents[1]))
