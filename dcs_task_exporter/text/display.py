r"""Text from outside, made fit for a label, a page or a log.

It becomes valid UTF-8 of a bounded length, without characters that a terminal or a browser would
obey: those are shown as Python writes them, ``\x1b`` or ``\u2028``.
"""

from __future__ import annotations

import hashlib
from typing import Final

MAX_LABEL: Final = 256
"""Most characters of a label."""

MAX_TEXT: Final = 1000
"""Most characters of one text in a log line or on a page."""

CUT: Final = "..."
"""The end of a text that was cut."""

_DIGEST_LENGTH: Final = 32
_OBEYED: Final = (
    *((0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x61C, 0x61C), (0x180E, 0x180E)),
    *((0x200B, 0x200B), (0x200E, 0x200F), (0x2028, 0x202E), (0x2060, 0x206F), (0xFEFF, 0xFEFF)),
    *((0xFFF0, 0xFFFB), (0xE0000, 0xE007F)),
)
"""Control characters, ends of lines and paragraphs, invisible ones, and those that turn text
around."""

_HALF_PAIRS: Final = range(0xD800, 0xE000)

_ESCAPES: Final = dict.fromkeys(_HALF_PAIRS, "?") | {
    code: chr(code).encode("unicode_escape").decode("ascii")
    for first, last in _OBEYED
    for code in range(first, last + 1)
}
"""The text that is shown in place of each such character."""


def shown(text: str, limit: int = MAX_TEXT) -> str:
    """Return `text` made fit to show, in at most `limit` characters."""
    if len(text) <= limit and text.isprintable():
        return text
    # Escapes make a text longer, never shorter: the part beyond the limit is not needed.
    cut = text[: limit + 1].translate(_ESCAPES)
    return cut if len(cut) <= limit else cut[: limit - len(CUT)] + CUT


def label(text: str) -> str:
    """Return `text` made fit for the value of a label."""
    return shown(text, MAX_LABEL)


def identifier(text: str) -> str:
    """Return an id made fit to show; two ids that differ still differ.

    An id that has to be changed ends with a digest of the whole.
    """
    if label(text) == text:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    return f"{shown(text, MAX_LABEL - len(digest) - 1)}-{digest}"
