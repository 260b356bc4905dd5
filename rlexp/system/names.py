"""What a server says, before it becomes a path, a filter or a number: checked here, whatever it is."""

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
    """A seed from a run's tag: digits, and one of the job's; raises ValueError."""
    if not isinstance(text, str) or not re.fullmatch(r"0|[1-9][0-9]{0,9}", text, re.ASCII):
        raise ValueError(f"expected the digits of a seed in the tag rlexp.seed, received {shown(text)}")
    if allowed is not None and int(text) not in allowed:
        raise ValueError(f"expected one of the job's seeds in the tag rlexp.seed, received {text}")
    return int(text)


def run_id(text: Any) -> str:
    """A run's id: 32 hexadecimal digits; raises ValueError."""
    if not isinstance(text, str) or not _RUN_ID.fullmatch(text):
        raise ValueError(f"expected a run's id of 32 hexadecimal digits, received {shown(text)}")
    return text


def folder(name: Any, taken: set[str]) -> str:
    """The name of a folder for what a server calls `name`: its own where it can be one, and no other's.

    Args:
        name: anything.
        taken: names that are in use, lower case, since some file systems do not tell them apart; the new one is added.
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
    """A tag that every run of rlexp's has; raises ValueError where it is missing."""
    value = tags.get(key)
    if not isinstance(value, str):
        raise ValueError(f"expected a run of rlexp's, received one without the tag {key}")
    return value


def shown(value: Any) -> str:
    """What was received, short enough for a sentence."""
    text = clean(repr(value), newlines=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
