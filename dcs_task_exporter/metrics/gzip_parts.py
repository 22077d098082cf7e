"""A gzip stream out of parts that are compressed by themselves, so that they can be kept.

Each part ends at a full flush: nothing after it refers to what is before it (RFC 1951). The
checksum of the whole (RFC 1952) is made of those of the parts, the way that zlib's
``crc32_combine`` does, which Python's module does not offer.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

HEAD: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""The head of a stream without name and time (RFC 1952, 2.3)."""

LEVEL: Final = 1
"""Higher levels take three times as long and save a few bytes: each line is much like the last."""

POLYNOMIAL: Final = 0xEDB88320
"""The polynomial of the checksum, its highest power in the lowest bit."""

ONE: Final = 1 << 31
"""The polynomial 1 in that order of bits."""


@dataclass(frozen=True, slots=True)
class Part:
    """A compressed part, with the checksum and the size of what is in it.

    `shift` is what the checksum of what is before it is multiplied by.
    """

    data: bytes
    checksum: int
    size: int
    shift: int


def parts_of(texts: Iterable[bytes]) -> tuple[Part, ...]:
    """Compress each text by itself."""
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return tuple(_part(text, deflate) for text in texts)


def _part(text: bytes, deflate: zlib._Compress) -> Part:
    data = deflate.compress(text) + deflate.flush(zlib.Z_FULL_FLUSH)
    return Part(data, zlib.crc32(text), len(text), _shift(len(text)))


def stream(parts: Sequence[Part], rest: bytes) -> bytes:
    """Return the gzip stream of these parts, and of the rest of the body after them."""
    checksum, size = 0, 0
    for part in parts:
        checksum = _product(part.shift, checksum) ^ part.checksum
        size += part.size
    checksum = zlib.crc32(rest, checksum)
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    end = struct.pack("<LL", checksum, (size + len(rest)) & 0xFFFFFFFF)
    data = (part.data for part in parts)
    return b"".join((HEAD, *data, deflate.compress(rest), deflate.flush(), end))


def _shift(size: int) -> int:
    """Return the polynomial by which `size` bytes move the checksum of what is before them."""
    result, power = ONE, 1 << 23  # x to the 8th: one byte
    while size:
        if size & 1:
            result = _product(power, result)
        power = _product(power, power)
        size >>= 1
    return result


def _product(one: int, other: int) -> int:
    """Multiply two polynomials modulo the checksum's."""
    result, bit = 0, ONE
    while one:
        if one & bit:
            result ^= other
            one ^= bit
        bit >>= 1
        other = other >> 1 ^ (POLYNOMIAL if other & 1 else 0)
    return result
