r"""Text from outside: what it may look like before it reaches a label, a page or a log.

Valid UTF-8, of a bounded length, and without characters that a terminal or a browser would obey:
those are shown as Python writes them, ``\x1b`` or ``\u2028``.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

MAX_LABEL: Final = 256
"""Most characters of a label."""

MAX_TEXT: Final = 1000
"""Most characters of one text in a log line or on a page."""

CUT: Final = "..."
"""How a text ends that was longer."""

_DIGEST_LENGTH: Final = 32
_OBEYED: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff0-\ufffb\U000e0000-\U000e007f]"
)
"""Control characters, ends of lines and paragraphs, and what is invisible or turns text around."""

_HALF_PAIR: Final = re.compile("[\ud800-\udfff]")


def shown(text: str, limit: int = MAX_TEXT) -> str:
    """Return `text` as it may be shown, in at most `limit` characters."""
    if len(text) <= limit and text.isprintable():
        return text
    # What is escaped gets longer, never shorter: what is beyond the limit need not be looked at.
    cut = _OBEYED.sub(_escape, _HALF_PAIR.sub("?", text[: limit + 1]))
    return cut if len(cut) <= limit else cut[: limit - len(CUT)] + CUT


def label(text: str) -> str:
    """Return `text` as the value of a label may be."""
    return shown(text, MAX_LABEL)


def identifier(text: str) -> str:
    """Return an id as it may be shown; two ids that differ still differ.

    Where it has to be changed, it ends with a digest of the whole.
    """
    told = label(text)
    if told == text:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    return f"{shown(text, MAX_LABEL - len(digest) - 1)}-{digest}"


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
