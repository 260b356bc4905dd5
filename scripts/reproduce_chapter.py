#!/usr/bin/env python
"""Run every `book/` preset and compare our figures with those that the notebook prints.

See `rlexp/book/reproduction.py`. book/pg_lunar_lander needs Box2D (pip install 'rlexp[box2d]'); without it the report
contains all other rows.
"""

from rlexp.book.reproduction import main

if __name__ == "__main__":
    raise SystemExit(main())
