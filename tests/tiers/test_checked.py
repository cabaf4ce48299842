from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.tiers.checked import checked_stream
from akasha_stream.tiers.segment_reader import open_footer
from tests.tiers.segments import Change, spilled

DATA = spilled([Change(o, 0, f"s{o % 3}", str(o), f"text {o}", o, o) for o in range(30)], 0, 30).data
EMPTY = spilled([], 0, 30).data


class InPieces:
    """The one method of an adapter that is used."""

    def __init__(self, data: bytes, size: int) -> None:
        self.data, self.size = data, size

    async def download_stream(self, bucket: str, path: str) -> AsyncIterator[bytes]:
        for at in range(0, len(self.data), self.size):
            yield self.data[at : at + self.size]


async def through(whole: bytes, passing: bytes, size: int) -> list[bytes]:
    adapter: Any = InPieces(passing, size)
    return [piece async for piece in checked_stream(adapter, "bucket", open_footer(whole, len(whole), "the path"))]


@given(st.integers(1, len(DATA) + 1))
async def test_what_passes_is_what_was_written(size: int) -> None:
    assert b"".join(await through(DATA, DATA, size)) == DATA
    assert b"".join(await through(EMPTY, EMPTY, size)) == EMPTY


@given(st.integers(4, len(DATA) - 1), st.integers(0, 7), st.integers(1, len(DATA)))
async def test_any_flipped_bit_is_found(at: int, bit: int, size: int) -> None:
    """But for the four bytes at the start that say Parquet."""
    damaged = bytearray(DATA)
    damaged[at] ^= 1 << bit
    with pytest.raises(SegmentCorrupt, match="the path"):
        await through(DATA, bytes(damaged), size)


@given(st.integers(0, len(DATA) - 1), st.integers(1, len(DATA)))
async def test_cut_off_or_longer_is_found(length: int, size: int) -> None:
    for passing in (DATA[:length], DATA + DATA[: length + 1]):
        with pytest.raises(SegmentCorrupt, match="the path"):
            await through(DATA, passing, size)


async def test_the_last_piece_comes_after_the_last_check() -> None:
    """So that a put of what passes fails as a whole."""
    damaged = bytearray(DATA)
    damaged[-20] ^= 1
    adapter: Any = InPieces(bytes(damaged), len(DATA))
    with pytest.raises(SegmentCorrupt):
        await anext(checked_stream(adapter, "bucket", open_footer(DATA, len(DATA), "the path")))
