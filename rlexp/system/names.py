"""Checks of values from a server before they become a path, a filter or a number."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from rlexp.system.text import clean

MAX_NAME = 120  # characters of a folder's name

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_RUN_ID = re.compile(r"[0-9a-f]{32}")


def seed(text: Any, allowed: Iterable[int] | None = None) -> int:
    """The seed in a run's tag; raises ValueError unless it is digits, and one of `allowed` if that is given."""
    if not isinstance(text, str) or not re.fullmatch(r"0|[1-9][0-9]{0,9}", text, re.ASCII):
        raise ValueError(f"expected the digits of a seed in the tag rlexp.seed, received {shown(text)}")
    if allowed is not None and int(text) not in allowed:
        raise ValueError(f"expected one of the job's seeds in the tag rlexp.seed, received {text}")
    return int(text)


def run_id(text: Any) -> str:
    """A run's id; raises ValueError unless it is 32 hexadecimal digits."""
    if not isinstance(text, str) or not _RUN_ID.fullmatch(text):
        raise ValueError(f"expected a run's id of 32 hexadecimal digits, received {shown(text)}")
    return text


def folder(name: Any, taken: set[str]) -> str:
    """A folder name for a server's `name`: the name itself if it is safe, else a cleaned one with a digest.

    Args:
        name: any value.
        taken: the names in use, in lower case because some file systems ignore case; the new name is added.
    """
    text = str(name)
    plain = text if _FOLDER.fullmatch(text) and len(text) <= MAX_NAME else ""
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    stem = plain or (re.sub(r"[^A-Za-z0-9_+-]+", "_", text)[:MAX_NAME].strip("_+-") or "run") + f"-{digest}"
    candidate, number = stem, 1
    while candidate.lower() in taken:
        number += 1
        candidate = f"{stem}-{number}"
    taken.add(candidate.lower())
    return candidate


def tag(tags: Any, key: str) -> str:
    """The value of a tag that every run of rlexp has; raises ValueError if it is missing."""
    value = tags.get(key)
    if not isinstance(value, str):
        raise ValueError(f"expected a run of rlexp, received one without the tag {key}")
    return value


def shown(value: Any) -> str:
    """A received value, at most 80 characters, for a message."""
    text = clean(repr(value), newlines=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
