"""Read a spilled segment: its footer in one or two range requests, then only the row groups and columns wanted."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.storage.adapter import StorageAdapter
from akasha_stream.tiers.changelog import changelog_schema
from akasha_stream.tiers.footer import FOOTER_KEY, SegmentFooter, parse_footer
from akasha_stream.tiers.ranges import FetchedFile, Span, fetch
from akasha_stream.tiers.seal import PARQUET, SHORTEST, chunk_ranges, open_seal, tail_bytes

TAIL_BYTES = 64 << 10
"""The first request. Footer and seal of 100,000 rows of 100 systems have 23 KB."""

SEAL_BYTES = 16 << 10
"""Added to the second request: how long the seal is, is known when its end is here. This covers a million rows."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One column of one row group, as it lies in the object."""

    group: int
    column: str
    start: int
    length: int
    checksum: int


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """A segment whose footer has been read. `created_at`: (row groups, 2) least and greatest, deletes included."""

    path: str
    size: int
    footer: SegmentFooter
    group_rows: NDArray[np.int64]
    created_at: NDArray[np.int64]
    chunks: tuple[Chunk, ...]
    metadata: Any = field(repr=False)
    """pyarrow's FileMetaData"""

    @property
    def row_groups(self) -> int:
        return len(self.group_rows)

    def groups_between(self, since: int | None, until: int | None) -> list[int]:
        """Row groups that may have rows with since <= created_at < until (microseconds)."""
        wanted = np.ones(self.row_groups, np.bool_)
        if since is not None:
            wanted &= self.created_at[:, 1] >= since
        if until is not None:
            wanted &= self.created_at[:, 0] < until
        return np.flatnonzero(wanted).tolist()


async def read_footer(
    adapter: StorageAdapter, bucket: str, path: str, size: int, tail: int = TAIL_BYTES
) -> OpenSegment:
    """Open the segment at `path`, whose size (bytes) a listing or stat() has told.

    Raises:
        SegmentCorrupt: it is damaged, cut, or not one; names the path.
        StorageError: it could not be read.
    """
    if size < SHORTEST:
        raise SegmentCorrupt(f"{path}: is not a whole Parquet object: it has {size} bytes")
    data = b""
    needed = min(tail, size)
    while len(data) < needed:
        missing = needed - len(data)
        more = await adapter.download_range(bucket, path, size - needed, missing)
        if len(more) != missing:
            raise SegmentCorrupt(f"{path}: is shorter than {size} bytes")
        data = more + data
        known = tail_bytes(data, path)
        if known > size:
            raise SegmentCorrupt(f"{path}: its footer is longer than the object")
        if known > needed:
            needed = min(known + SEAL_BYTES, size)
    return open_footer(data, size, path)


def open_footer(tail: bytes, size: int, path: str) -> OpenSegment:
    """The same from the object's last bytes (seal.tail_bytes() or more; all of it will do)."""
    if len(tail) < SHORTEST or tail_bytes(tail, path) > len(tail):
        raise SegmentCorrupt(f"{path}: is not a whole Parquet object")
    parquet_footer, checksums = open_seal(tail, path)
    try:
        metadata: Any = pq.read_metadata(io.BytesIO(PARQUET + parquet_footer))
        text = (metadata.metadata or {})[FOOTER_KEY.encode()]
        ranges = list(chunk_ranges(metadata))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise SegmentCorrupt(f"{path}: its footer can't be read: {error}") from error
    footer = parse_footer(text, path)
    if len(ranges) != len(checksums) or metadata.num_rows != footer.rows:
        raise SegmentCorrupt(f"{path}: its parts don't agree")
    chunks = tuple(
        Chunk(group, column, start, length, int(checksum))
        for (group, start, length, column), checksum in zip(ranges, checksums, strict=True)
    )
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    at = footer_column(metadata, "created_at")
    limits = [(s.min_raw, s.max_raw) for s in (group.column(at).statistics for group in groups)]
    return OpenSegment(
        path,
        size,
        footer,
        np.fromiter((group.num_rows for group in groups), np.int64, len(groups)),
        np.array(limits, np.int64).reshape(-1, 2),
        chunks,
        metadata,
    )


def footer_column(metadata: Any, name: str) -> int:
    return next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == name)


async def read_columns(adapter: StorageAdapter, bucket: str, segment: OpenSegment, columns: Sequence[str]) -> pa.Table:
    """These columns of all rows, in the segment's order. Raises as read_row_groups."""
    return await read_row_groups(adapter, bucket, segment, range(segment.row_groups), columns)


async def read_row_groups(
    adapter: StorageAdapter,
    bucket: str,
    segment: OpenSegment,
    groups: Iterable[int],
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """These row groups, in the order asked for, of these columns (None: all); neighbours in one request.

    Raises:
        SegmentCorrupt: what was read is not what was written; names the path.
        StorageError: it could not be read.
    """
    groups = list(groups)
    names = list(changelog_schema(segment.footer.dimensions).names if columns is None else columns)
    chosen = set(groups)
    wanted = [chunk for chunk in segment.chunks if chunk.group in chosen and chunk.column in names]
    spans: list[Span] = [(chunk.start, chunk.length) for chunk in wanted]
    file = await fetch(adapter, bucket, segment.path, segment.size, spans)
    return await asyncio.to_thread(_decode, segment, file, wanted, groups, names)


def read_whole(data: bytes, path: str) -> tuple[OpenSegment, pa.Table]:
    """A segment that is in memory: compaction and tests. Raises SegmentCorrupt."""
    segment = open_footer(data, len(data), path)
    file = FetchedFile(len(data))
    file.add(0, data)
    names = changelog_schema(segment.footer.dimensions).names
    return segment, _decode(segment, file, segment.chunks, list(range(segment.row_groups)), names)


def _decode(
    segment: OpenSegment, file: FetchedFile, chunks: Sequence[Chunk], groups: list[int], names: list[str]
) -> pa.Table:
    full = changelog_schema(segment.footer.dimensions)
    schema = pa.schema([full.field(name) for name in names])
    for chunk in chunks:
        if xxh3_64_intdigest(file.piece(chunk.start, chunk.length)) != chunk.checksum:
            raise SegmentCorrupt(
                f"{segment.path}: column {chunk.column} of row group {chunk.group} was changed after it was written"
            )
    if not groups:
        return schema.empty_table()
    source: Any = file  # a file, if not an IO[bytes] by its bases
    try:
        reader = pq.ParquetFile(source, metadata=segment.metadata, pre_buffer=False)
        # Without threads: they would take turns at a Python file, and the caller chose how much runs at once.
        return reader.read_row_groups(groups, columns=names, use_threads=False).select(names).cast(schema)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SegmentCorrupt(f"{segment.path}: can't be decoded: {error}") from error
