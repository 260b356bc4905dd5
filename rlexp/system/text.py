"""Texts from outside, as they may be printed or written: no control characters, no secrets.

`mask` is the one place that knows what a secret looks like, `printable` the one that knows what a terminal obeys.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO
from urllib.parse import unquote

MASK = "***"

# Repetitions have bounds, so that no text takes longer than its length. Hydra writes `\:` and `\=` in overrides.
_KEY = (
    r"(?:[\w.\-]{0,200}[_\-.])?(?:password|passwd|passphrase|pwd|token|secret|secret[_-]?key|api[_-]?key"
    r"|access[_-]?key(?:[_-]?id)?|private[_-]?key|credentials?|authorization)"
)
_SECRET_KEY = re.compile(_KEY, re.IGNORECASE)
_VALUE = r"""(?:"[^"]{0,4000}"|'[^']{0,4000}'|(?:\\[^\n]|[^\s&;,"'}\])\\]){1,4000})"""
_ASSIGNED = re.compile(
    rf"""(?<![\w.\-])(?P<key>['"]?[+~]{{0,2}}-{{0,2}}{_KEY}['"]?(?:\s{{0,20}}\\?[=:]\s{{0,20}}|%3D))"""
    rf"""(?P<value>(?:(?:Bearer|Basic)\s{{1,20}})?{_VALUE})""",
    re.IGNORECASE,
)
_OPTION = re.compile(rf"(?P<key>(?<!\S)--{_KEY}\s{{1,20}})(?P<value>{_VALUE})", re.IGNORECASE)
_BEARER = re.compile(r"\b(?P<key>(?:Bearer|Basic)\s{1,20})(?P<value>[\w.~+/=-]{8,4000})")
# User info of an address: all up to the last @ before the path, since passwords hold @ and : that nobody escaped.
# One with / or # in it must follow a colon, and not look like a port.
_USER_INFO = re.compile(
    r"(?P<scheme>(?<![a-z0-9])[a-z][a-z0-9+.\-]{0,40}\\?:/{0,3})"
    r"(?P<info>[^\s/?#'\"<>]{0,300}|(?<=/)[^\s/?#:@'\"<>]{1,200}:(?!\d+(?:[/?#\s]|$))[^\s'\"<>]{0,300})@",
    re.IGNORECASE,
)
_KNOWN = re.compile(  # what GitHub, GitLab, OpenAI, Anthropic, Hugging Face, AWS, Slack, Google, W&B and JWT begin with
    r"\b(?:gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|sk-[\w-]{16,}|hf_\w{16,}|AKIA[0-9A-Z]{16}|dapi[0-9a-f]{32}"
    r"|xox[abprs]-[\w-]{10,}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)


def mask(text: str) -> str:
    """A text in which whatever looks like a secret is `***`; what is masked already stays as it is."""
    if "@" in text:
        text = _USER_INFO.sub(_masked_user_info, text)
    if "=" in text or ":" in text or "%3" in text:
        text = _ASSIGNED.sub(_masked, text)
    if "--" in text:
        text = _OPTION.sub(_masked, text)
    return _KNOWN.sub(MASK, _BEARER.sub(_masked, text))


def _masked(found: re.Match[str]) -> str:
    if found["value"] in ("null", "None", "true", "false", "True", "False", "''", '""'):
        return found[0]
    quote = found["value"][0] if found["value"][0] in "'\"" else ""
    return f"{found['key']}{quote}{MASK}{quote}"


def _masked_user_info(found: re.Match[str]) -> str:
    user, colon = re.split(r"\\?:", found["info"], maxsplit=1)[0], ":" in found["info"]
    web = found["scheme"].lower().startswith("http")  # there, a name alone may be a token
    if not found["scheme"].endswith("/") and not (web and colon):
        return found[0]  # `mail: a@b`
    if not colon and not web:
        return found[0]
    return f"{found['scheme']}{MASK if web else user}{f':{MASK}' if colon else ''}@"


def mask_tree(value: Any) -> Any:
    """A nested value with its texts masked, and all of what stands under a key such as `api_key`."""
    if isinstance(value, Mapping):
        return {
            key: MASK if _is_secret(key) and item not in (None, "", True, False) else mask_tree(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [mask_tree(item) for item in value]
    return mask(value) if isinstance(value, str) else value


def _is_secret(key: Any) -> bool:
    return isinstance(key, str) and _SECRET_KEY.fullmatch(key) is not None


def same_address(stored: str, uri: str) -> bool:
    """Whether an address as a folder has it, perhaps masked, is `uri`."""
    return stored in (uri, mask(uri))


def user_info(uri: str) -> bool:
    """Whether an http(s) address holds a user's name, a password or a token."""
    scheme, _, rest = uri.strip().partition(":")
    if not scheme.lower().startswith("http"):
        return False
    place = re.split(r"[/?#]", rest.lstrip("/\\"), maxsplit=1)[0]
    return "@" in unquote(place) or _USER_INFO.search(uri) is not None


USER_INFO_HINT = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, instead."

# C0 but for tab and newline, DEL, C1; line separators; marks that turn the direction of writing; surrogates.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def printable(text: str, newlines: bool = True) -> str:
    r"""A text that a terminal shows and does not obey: control characters as `\x1b`; newlines too, unless allowed."""
    if not newlines:
        text = text.replace("\n", "\\n").replace("\t", "\\t")
    return _CONTROLS.sub(lambda found: _escape(found[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def printable_tree(value: Any) -> Any:
    """A nested value whose texts, those of keys as well, are `printable` and of one line."""
    if isinstance(value, dict):
        return {printable_tree(key): printable_tree(item) for key, item in value.items()}
    if isinstance(value, list):
        return [printable_tree(item) for item in value]
    return printable(value, newlines=False) if isinstance(value, str) else value


def clean(text: Any, newlines: bool = True) -> str:
    """`mask` and `printable` together: what may be said of whatever it is."""
    return printable(mask(str(text)), newlines)


class _Clean:
    """A text stream in which everything that is written is clean."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(clean(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def clean_output() -> Iterator[None]:
    """Within it, what is printed of files, names and errors is clean, whoever prints it.

    For the commands that read folders and servers; a job that trains draws a bar, which is control characters itself.
    """
    out, error = sys.stdout, sys.stderr
    if not isinstance(out, _Clean):
        sys.stdout = _Clean(out)
    if not isinstance(error, _Clean):
        sys.stderr = _Clean(error)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, error
