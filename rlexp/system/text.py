"""Cleaning of text from outside before it is printed or written: no secrets, no control characters.

`mask` alone decides what looks like a secret, `printable` alone which characters control a terminal.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO
from urllib.parse import unquote

MASK = "***"

# Bounded repetitions keep matching linear in the length of the text. Hydra writes `\:` and `\=` in overrides.
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
# The user info of an address extends to the last @ before the path, since passwords may contain unescaped @ and :.
# A password with / or # must follow a colon and not look like a port.
_USER_INFO = re.compile(
    r"(?P<scheme>(?<![a-z0-9])[a-z][a-z0-9+.\-]{0,40}\\?:/{0,3})"
    r"(?P<info>[^\s/?#'\"<>]{0,300}|(?<=/)[^\s/?#:@'\"<>]{1,200}:(?!\d+(?:[/?#\s]|$))[^\s'\"<>]{0,300})@",
    re.IGNORECASE,
)
_KNOWN = re.compile(  # tokens of well-known services and JWT, recognised by their prefixes
    r"\b(?:gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|sk-[\w-]{16,}|hf_\w{16,}|AKIA[0-9A-Z]{16}|dapi[0-9a-f]{32}"
    r"|xox[abprs]-[\w-]{10,}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)


def mask(text: str) -> str:
    """The text with everything that looks like a secret replaced by `***`. Masking twice changes nothing more."""
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
    web = found["scheme"].lower().startswith("http")  # in web addresses a user name alone may be a token
    if not found["scheme"].endswith("/") and not (web and colon):
        return found[0]  # `mail: a@b`
    if not colon and not web:
        return found[0]
    return f"{found['scheme']}{MASK if web else user}{f':{MASK}' if colon else ''}@"


def mask_tree(value: Any) -> Any:
    """A nested value with its strings masked, and with every value under a key such as `api_key` replaced."""
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
    """Whether a stored address, perhaps masked, is `uri`."""
    return stored in (uri, mask(uri))


def user_info(uri: str) -> bool:
    """Whether an http(s) address contains a user name, a password or a token."""
    scheme, _, rest = uri.strip().partition(":")
    if not scheme.lower().startswith("http"):
        return False
    place = re.split(r"[/?#]", rest.lstrip("/\\"), maxsplit=1)[0]
    return "@" in unquote(place) or _USER_INFO.search(uri) is not None


USER_INFO_HINT = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, instead."

# C0 except tab and newline, DEL, C1; line separators; marks of writing direction; surrogates.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def printable(text: str, newlines: bool = True) -> str:
    r"""The text with control characters escaped as in `\x1b`; newlines and tabs too, unless `newlines` is true."""
    if not newlines:
        text = text.replace("\n", "\\n").replace("\t", "\\t")
    return _CONTROLS.sub(lambda found: _escape(found[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def printable_tree(value: Any) -> Any:
    """A nested value whose strings and keys are `printable` and have one line."""
    if isinstance(value, dict):
        return {printable_tree(key): printable_tree(item) for key, item in value.items()}
    if isinstance(value, list):
        return [printable_tree(item) for item in value]
    return printable(value, newlines=False) if isinstance(value, str) else value


def clean(text: Any, newlines: bool = True) -> str:
    """`str(text)`, masked and printable; fit for a message."""
    return printable(mask(str(text)), newlines)


class _CleanStream:
    """A text stream that cleans everything that is written to it."""

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
    """Within it everything printed to stdout and stderr is clean, whichever code prints it.

    For commands that read folders and servers. A training job must not use it: its progress bar is control characters.
    """
    out, error = sys.stdout, sys.stderr
    if not isinstance(out, _CleanStream):
        sys.stdout = _CleanStream(out)
    if not isinstance(error, _CleanStream):
        sys.stderr = _CleanStream(error)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, error
