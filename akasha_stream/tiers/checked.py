"""A segment's bytes, checked against its seal while they pass: what is copied is what was written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from xxhash import xxh3_64

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.storage.adapter import StorageAdapter
from akasha_stream.tiers.segment_reader import Chunk, OpenSegment, open_footer


async def checked_stream(adapter: StorageAdapter, bucket: str, opened: OpenSegment) -> AsyncIterator[bytes]:
    """The whole object in pieces, a few MB in memory. The last piece comes once every checksum was right.

    Raises:
        SegmentCorrupt: a byte differs from what was written, or the object is longer or shorter; names the path.
        StorageError: it could not be read (ObjectArchived, ObjectNotFound, ObjectChanged …).
    """
    check = _Check(opened)
    held = b""
    async for piece in adapter.download_stream(bucket, opened.path):
        if held:
            yield held
        check.take(piece)
        held = piece
    check.end()
    yield held


class _Check:
    """Column chunks lie one after another, with nothing or a few bytes between; footer and seal come last."""

    def __init__(self, opened: OpenSegment) -> None:
        self._opened = opened
        self._chunks: Iterator[Chunk] = iter(sorted(opened.chunks, key=lambda chunk: chunk.start))
        self._chunk = next(self._chunks, None)
        self._hash = xxh3_64()
        self._at = 0
        self._tail = bytearray()

    def take(self, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            chunk = self._chunk
            if chunk is None:
                self._tail += view
                self._at += len(view)
                return
            if self._at < chunk.start:
                step = min(chunk.start - self._at, len(view))
            else:
                step = min(chunk.start + chunk.length - self._at, len(view))
                self._hash.update(view[:step])
            self._at += step
            view = view[step:]
            if self._at == chunk.start + chunk.length:
                if self._hash.intdigest() != chunk.checksum:
                    raise SegmentCorrupt(
                        f"{self._opened.path}: column {chunk.column} of row group {chunk.group} was changed after it "
                        "was written"
                    )
                self._hash = xxh3_64()
                self._chunk = next(self._chunks, None)

    def end(self) -> None:
        opened = self._opened
        if self._chunk is not None or self._at != opened.size:
            raise SegmentCorrupt(f"{opened.path}: has {self._at} bytes, and not {opened.size}")
        if open_footer(bytes(self._tail), opened.size, opened.path).footer != opened.footer:
            raise SegmentCorrupt(f"{opened.path}: its footer was changed while it was read")
