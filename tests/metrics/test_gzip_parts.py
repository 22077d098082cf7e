"""Parts that are compressed by themselves are one gzip stream."""

from __future__ import annotations

import gzip
import zlib

from hypothesis import given
from hypothesis import strategies as st

from dcs_task_exporter.metrics.gzip_parts import parts_of, stream


@given(texts=st.lists(st.binary(max_size=3000), max_size=6), rest=st.binary(max_size=300))
def test_one_stream(texts: list[bytes], rest: bytes) -> None:
    """What is unpacked is all parts, then the rest; the checksum is that of the whole."""
    assert gzip.decompress(stream(parts_of(texts), rest)) == b"".join(texts) + rest


@given(texts=st.lists(st.binary(min_size=1, max_size=50), min_size=2, max_size=4))
def test_parts_stand_alone(texts: list[bytes]) -> None:
    """A part can follow any other: it refers to nothing before it."""
    backwards = parts_of(texts)[::-1]

    assert gzip.decompress(stream(backwards, b"")) == b"".join(texts[::-1])


def test_one_member() -> None:
    """It is a single gzip member: some clients read no second one."""
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
    unpack.decompress(stream(parts_of([b"a", b"b"]), b"c"))

    assert unpack.eof
    assert unpack.unused_data == b""
