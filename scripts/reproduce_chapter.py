#!/usr/bin/env python
"""Run every `book/` preset and put the notebook's printed figures beside ours: see `rlexp/report/chapter.py`."""

from rlexp.report.chapter import main

if __name__ == "__main__":
    raise SystemExit(main())
