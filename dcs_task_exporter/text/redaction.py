"""Taking secrets out of text, in every spelling in which they are known to come back.

A server, a proxy or a library may percent-encode a secret, or escape it for JSON or HTML. None of
these changes letters and digits: a text without the longest run of them does not hold the secret.
Keys and tokens are never sent as base64, so that spelling is not searched for. A proxy's password
is, together with the user: the pair is a secret of its own.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

REDACTED: Final = "[redacted]"

SHORTEST_SECRET: Final = 4
"""Shortest secret in characters: a shorter one would be found in every other word."""

_RUN: Final = re.compile("[0-9A-Za-z]+")
_HIDING_ESCAPE: Final = re.compile(rb"\\u00")
"""The JSON escape that can spell a letter or a digit."""


@dataclass(frozen=True, slots=True)
class Redactor:
    """Takes some secrets out of text and decoded JSON; its `repr` shows none of them."""

    secrets: tuple[tuple[str, str], ...] = field(repr=False)

    @classmethod
    def of(cls, secrets: Iterable[str]) -> Redactor:
        """Return the redactor of these secrets, the longest first: one may hold another."""
        known = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}
        ordered = sorted(known, key=lambda secret: (-len(secret), secret))
        runs = (max(_RUN.findall(secret), key=len, default="") for secret in ordered)
        return cls(tuple(zip(ordered, runs, strict=True)))

    def text(self, text: str) -> str:
        """Return `text` without the secrets."""
        for secret, run in self.secrets:
            if run in text:
                text = _spellings(secret).sub(REDACTED, text)
        return text

    def may_be_in(self, body: bytes) -> bool:
        """Return quickly whether the JSON in `body` may hold a secret; False is never wrong."""
        if b"\x00" in body:  # in UTF-16 or UTF-32 nothing is found; UTF-8 has no such byte
            return True
        found = any(run.encode() in body for _, run in self.secrets)
        return found or (b"\\" in body and _HIDING_ESCAPE.search(body) is not None)

    def json(self, data: object) -> object:
        """Return decoded JSON without the secrets, wherever in it they are."""
        if isinstance(data, dict):
            return {self.text(key): self.json(value) for key, value in data.items()}
        if isinstance(data, list):
            return [self.json(value) for value in data]
        if data is None or isinstance(data, bool):
            return data
        text = str(data)
        redacted = self.text(text)
        return data if redacted == text else redacted


def proxy_secrets(url: str) -> tuple[str, ...]:
    """Return the secrets in a proxy's URL: the password, and the pair that is sent to it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ()
    if not parts.password:
        return ()
    user, password = unquote(parts.username or ""), unquote(parts.password)
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return (parts.password, password, pair)


def _spellings(secret: str) -> re.Pattern[str]:
    ways = (char if char.isalnum() else f"(?:{'|'.join(_ways(char))})" for char in secret)
    return re.compile("".join(ways))


def _ways(char: str) -> Iterator[str]:
    """Yield patterns of the spellings of one character that is no letter or digit."""
    code = f"(?i:{ord(char):02x})"
    yield rf"\\*{re.escape(char)}"
    yield f"%(?:25)*{code}"
    yield rf"\\+u00{code}"
    yield rf"\\+x{code}"
    yield f"&#(?:0*{ord(char)}|[xX]0*{code});"
    if html.escape(char) != char:
        yield re.escape(html.escape(char))
