"""The part of NumPy that the rules of tabular algorithms use, without the functions that NumPy wraps around it.

For the values of a few trials, a wrapper takes longer than what it calls. Other names are looked up in `numpy`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

argmax = np.ndarray.argmax
max = np.maximum.reduce
sum = np.add.reduce


def __getattr__(name: str) -> Any:
    return getattr(np, name)
