"""Byte ranges of an object: few requests, and a file for pyarrow that holds nothing but what was fetched."""

from __future__ import annotations

import asyncio
import bisect
import io
from collections.abc import Iterable, Sequence

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.storage.adapter import StorageAdapter

NEIGHBOURS_BYTES = 128 << 10
"""Ranges this close are one request: on a store 20 ms away those bytes take less time than another request."""

CONCURRENCY = 4
"""Requests at once for one segment."""

Span = tuple[int, int]
"""First byte, number of bytes."""


def coalesced(spans: Iterable[Span], gap: int = NEIGHBOURS_BYTES) -> list[Span]:
    """The fewest requests that cover all spans, where up to `gap` bytes between two may be read for nothing."""
    requests: list[Span] = []
    for start, length in sorted(spans):
        if requests and start <= sum(requests[-1]) + gap:
            first = requests[-1][0]
            requests[-1] = (first, max(sum(requests[-1]), start + length) - first)
        else:
            requests.append((start, length))
    return requests


class FetchedFile(io.RawIOBase):
    """A read-only file of `size` bytes of which some are here. Reading others raises OSError."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self._at = 0
        self._starts: list[int] = []
        self._pieces: list[bytes] = []

    def add(self, start: int, data: bytes) -> None:
        """In any order; pieces don't overlap."""
        at = bisect.bisect(self._starts, start)
        self._starts.insert(at, start)
        self._pieces.insert(at, data)

    def piece(self, start: int, length: int) -> memoryview:
        at = bisect.bisect(self._starts, start) - 1
        if at >= 0 and start + length <= self._starts[at] + len(self._pieces[at]):
            skip = start - self._starts[at]
            return memoryview(self._pieces[at])[skip : skip + length]
        raise OSError(f"bytes [{start}, {start + length}) were not fetched")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self.size)[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        length = self.size - self._at if size < 0 else min(size, self.size - self._at)
        data = bytes(self.piece(self._at, length)) if length else b""
        self._at += length
        return data


async def fetch(adapter: StorageAdapter, bucket: str, path: str, size: int, spans: Sequence[Span]) -> FetchedFile:
    """Fetch spans of an object of `size` bytes.

    Raises StorageError, SegmentCorrupt where the object is shorter than it should be.
    """
    file = FetchedFile(size)
    limit = asyncio.Semaphore(CONCURRENCY)

    async def one(start: int, length: int) -> None:
        async with limit:
            data = await adapter.download_range(bucket, path, start, length)
        if len(data) != length:
            raise SegmentCorrupt(f"{path}: ends before byte {start + length}")
        file.add(start, data)

    # Not a TaskGroup: callers expect the error itself, not a group of one.
    tasks = [asyncio.ensure_future(one(*request)) for request in coalesced(spans)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return file
