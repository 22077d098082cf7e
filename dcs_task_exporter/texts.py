"""The one gate for texts from outside: valid, bounded, visible, and without secrets.

What becomes a label passes it where it is parsed; what becomes a log line, a page or a line on a
terminal passes it where it is written. Secrets are taken out before anything is cut, so that no
part of one is left.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus, unquote, urlsplit

MOST_IN_LABEL: Final = 256
"""Characters of a label's value."""

MOST_IN_TEXT: Final = 1000
"""Characters of one text in a log, on a page, or on a terminal."""

REDACTED: Final = "[redacted]"

SHORTEST_SECRET: Final = 4
"""Characters of the shortest text that is redacted: a shorter one is in any text by chance."""

_CUT: Final = "..."
_DIGEST_LENGTH: Final = 32
_NAMED_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def shown(text: str, most: int = MOST_IN_TEXT) -> str:
    r"""Return `text` as valid Unicode of at most `most` characters, what is invisible escaped.

    Half a surrogate pair becomes ``?``; control characters, line ends, and marks that turn the
    direction of writing become ``\x1b``, ``\n``, ``\u202e`` and so on.
    """
    if len(text) <= most and text.isprintable():  # nearly always
        return text
    # No escape makes a text shorter, so that no more than these characters can be in the result.
    visible = "".join(map(_visible, text[: most + 1]))
    return visible if len(visible) <= most else f"{visible[: most - len(_CUT)]}{_CUT}"


def shown_lines(text: str, most: int = 100) -> str:
    """Return the last lines of a text of our own making, such as a traceback, each one `shown`."""
    return "\n".join(map(shown, text.split("\n")[-most:]))


def label(text: str) -> str:
    """Return what a label shows of `text`."""
    return shown(text, MOST_IN_LABEL)


def identity(text: str) -> str:
    """Return an id that a label can hold, and that no other id has.

    One that cannot stay as it is ends in a digest of the whole: merely cut, two tasks could become
    one.
    """
    if len(text) <= MOST_IN_LABEL and text.isprintable():
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    return f"{shown(text, MOST_IN_LABEL - _DIGEST_LENGTH - 1)}~{digest}"


def _visible(char: str) -> str:
    if char.isprintable():
        return char
    kind = unicodedata.category(char)
    if kind == "Cs":
        return "?"
    if kind == "Zs":
        return char  # a blank of some width
    code = ord(char)
    if code < 0x100:  # noqa: PLR2004 - two digits of hexadecimal
        return _NAMED_ESCAPES.get(char, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - four


class Redactor:
    """Takes some secrets out of texts and of decoded JSON.

    It finds a secret as it is, in upper and lower case, and as JSON, a URL, a form and HTML write
    it. It does not decode base64, nor does it find a part of a secret, or one that is written
    backwards: nobody who echoes what was sent does that.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {
            spelling.lower()
            for secret in secrets
            if len(secret) >= SHORTEST_SECRET
            for spelling in _spellings(secret)
        }
        longest_first = sorted(found, key=lambda text: (-len(text), text))
        self._spellings = tuple(longest_first)
        self._bytes = tuple(text.encode().lower() for text in longest_first)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)

    def __call__(self, text: str) -> str:
        """Return `text` without the secrets."""
        lower = text.lower()
        if not any(spelling in lower for spelling in self._spellings):
            return text
        return self._pattern.sub(REDACTED, text)

    def json(self, body: bytes) -> object:
        """Return the decoded JSON without the secrets; raises what `json.loads` does."""
        data: object = json.loads(body)
        return self._walked(data) if self._may_hold_one(body) else data

    def _may_hold_one(self, body: bytes) -> bool:
        """Whether a search of each value is worth its time: hardly ever."""
        if not self._bytes:
            return False
        if b"\\" in body or b"\0" in body:
            return True  # JSON's escapes, or UTF-16: they can spell a secret in many ways
        lower = body.lower()
        return any(spelling in lower for spelling in self._bytes)

    def _walked(self, data: object) -> object:
        if isinstance(data, str):
            return self(data)
        if isinstance(data, dict):
            return {self(key): self._walked(value) for key, value in data.items()}
        if isinstance(data, list):
            return [self._walked(value) for value in data]
        if data is None or isinstance(data, bool):
            return data
        digits = str(data)
        return data if self(digits) == digits else REDACTED


def proxy_secrets(url: str) -> tuple[str, ...]:
    """Return what is secret in a proxy's URL: its password, also as the proxy is told it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ()
    if not parts.password:
        return ()
    user, password = unquote(parts.username or ""), unquote(parts.password)
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return (parts.password, password, pair)


def _spellings(secret: str) -> Iterable[str]:
    """Yield how a secret may be written where it is echoed, in any case."""
    for text in (secret, json.dumps(secret)[1:-1], html.escape(secret)):
        yield text
        yield text.replace("/", "\\/")
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield html.escape(secret, quote=False)
