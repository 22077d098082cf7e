"""The SDK-HMAC-SHA256 signature of Huawei Cloud, as pure functions of text.

The scheme is the one of the page *AK/SK Signing and Authentication Algorithm* and of the official
SDK's ``signer.py``. The client signs with it and the simulated cloud checks with it; the official
SDK, run against both, is the judge of whether it is right.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, unquote

ALGORITHM: Final = "SDK-HMAC-SHA256"
DATE_FORMAT: Final = "%Y%m%dT%H%M%SZ"

_PLAIN: Final = re.compile(r"[A-Za-z0-9._~-]*")
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9._~/-]*")
"""Text that needs no encoding: nearly all that is ever signed."""


def canonical_query(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the query string that is signed and sent: encoded, sorted by key, then value."""
    return "&".join(f"{_encode(key)}={_encode(value)}" for key, value in sorted(pairs))


def canonical_request(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes = b"",
) -> str:
    """Return the text whose hash is signed.

    `query` comes from `canonical_query`; `headers` are those to sign, in upper or lower case.
    """
    lines = {name.lower(): value.strip() for name, value in headers.items()}
    names = sorted(lines)
    return "\n".join(
        (
            method.upper(),
            _canonical_path(path),
            query,
            *(f"{name}:{lines[name]}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(body).hexdigest(),
        )
    )


def signature(secret_key: str, date: str, canonical: str) -> str:
    """Return the signature, 64 hexadecimal digits, of a canonical request made at `date`."""
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"{ALGORITHM}\n{date}\n{digest}"
    return hmac.digest(secret_key.encode(), to_sign.encode(), "sha256").hex()


def authorization(access_key: str, signed_headers: Iterable[str], signed: str) -> str:
    """Return the value of the ``Authorization`` header."""
    names = ";".join(sorted(name.lower() for name in signed_headers))
    return f"{ALGORITHM} Access={access_key}, SignedHeaders={names}, Signature={signed}"


def _encode(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else quote(text, safe="~")


def _canonical_path(path: str) -> str:
    if not _PLAIN_PATH.fullmatch(path):
        path = "/".join(_encode(unquote(segment)) for segment in path.split("/"))
    return path if path.endswith("/") else f"{path}/"
