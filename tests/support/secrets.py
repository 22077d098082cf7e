"""Secrets for tests: each holds a mark that occurs nowhere else, so that a leak can be found."""

from __future__ import annotations

import base64
from typing import Final

MARK: Final = "QX7VZ4KW9J"
"""Letters and digits only: escaping and quoting leave it as it is."""


def secret(begins: str) -> str:
    """Return a secret with this beginning, which `secret_watch.py` finds wherever it goes."""
    return f"{begins}{MARK}"


def spellings(text: str) -> tuple[str, ...]:
    """Return how a text can be spelled: as it is, in lower case, in hexadecimal, in base64.

    What base64 makes of a text depends on where in a group of three bytes it begins: there are
    three spellings, each without the ends that depend on what is beside the text.
    """
    data = text.encode()
    shifted = (
        base64.b64encode(bytes(shift) + data)[-(-8 * shift // 6) : (8 * (shift + len(data))) // 6]
        for shift in range(3)
    )
    return (text, text.lower(), data.hex(), *(part.decode() for part in shifted))
