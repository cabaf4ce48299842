"""A segment in memory: what dedupe and search read, whether the file behind it is growing or sealed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from akasha_stream.hot.hashes import strings
from akasha_stream.hot.schema import SegmentName
from akasha_stream.search.segment import NearestIndex, SegmentView, StoredRow, SystemCodes, Tier

TEXT_COLUMNS = ("source_system", "event_id", "content", "model", "metadata")
_TEXT_FIELDS: list[pa.Field[Any]] = [pa.field(name, pa.string(), False) for name in TEXT_COLUMNS]
TEXT_SCHEMA = pa.schema(_TEXT_FIELDS)


def binary_codes(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(n, d / 8) sign bit of each dimension; 48 bytes for 384 dimensions."""
    return np.packbits(vectors > 0, axis=1)


def inverse_norms(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) 1 / |v|, from float64 sums so that a vector's similarity to itself is 1 to 6 digits."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    inverted: NDArray[np.float32] = (1.0 / norms).astype(np.float32)
    return inverted


def whole(column: pa.ChunkedArray[Any]) -> pa.Array[Any]:
    """A column as one array; without a copy where it has one chunk."""
    chunks = column.chunks
    array: pa.Array[Any] = chunks[0] if len(chunks) == 1 else pa.concat_arrays([*chunks, pa.array([], column.type)])
    return array


def fixed_binary(values: NDArray[np.float32] | NDArray[np.uint8]) -> pa.Array[Any]:
    """(n, w), C-contiguous, as n binary values of w * itemsize bytes, without a copy."""
    width = values.shape[1] * values.itemsize
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(values), [None, pa.py_buffer(values)])


def matrix[T: np.generic](column: pa.ChunkedArray[Any], dtype: np.dtype[T], width: int) -> NDArray[T]:
    """A column of `fixed_binary` as (n, width); without a copy where it has one chunk."""
    array = whole(column)
    values = array.buffers()[1]
    if values is None or not len(array):
        return np.empty((0, width), dtype)
    flat = np.frombuffer(values, dtype, count=(array.offset + len(array)) * width)
    return flat[array.offset * width :].reshape(len(array), width)


def lists_matrix(column: pa.ChunkedArray[Any], width: int) -> NDArray[np.float32]:
    """A column of FLOAT[width] as (n, width)."""
    lists = whole(column)
    flat = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(flat, np.float32).reshape(len(lists), width)


def system_codes(systems: pa.Array[Any], codes: SystemCodes) -> NDArray[np.int32]:
    """(n,) the code of each source system."""
    names = systems.dictionary_encode()
    of_names = np.array([codes.code(name) for name in strings(names.dictionary)], np.int32)
    result: NDArray[np.int32] = of_names[names.indices.to_numpy()]
    return result


NEVER = int(np.iinfo(np.int64).max)
"""`ended` of a row that lives."""
GONE = 0
"""`ended` of a row that is forgotten: it lived at no time that anybody may ask for."""


class Segment(Protocol):
    """Rows [0, rows) of one offset range, in log order. Only the shard's writer changes it."""

    name: SegmentName
    partition: int
    live: NDArray[np.bool_]
    ended: NDArray[np.int64]
    """(rows,) position of the event that replaced or deleted the row; NEVER while it lives. `live` is this in short."""
    positions: NDArray[np.int64]
    created_at: NDArray[np.int64]
    systems: NDArray[np.int32]
    payload_hashes: NDArray[np.uint64]

    @property
    def rows(self) -> int: ...

    def with_identity(self, key: str, identity_hash: int) -> Iterable[int]:
        """Rows of this identity, of all its versions, confirmed by the stored strings."""
        ...

    def count_contents(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) how many rows, masked ones too, have this content hash."""
        ...

    def with_content(self, content_hash: int) -> Iterable[int]:
        """Rows that may have this content (by hash), to be confirmed by the caller."""
        ...

    def content(self, row: int) -> str | None:
        """None: it is not local, and whoever asks must not wait for it."""
        ...

    def view(self) -> SegmentView: ...


def end_rows(segment: Segment, rows: int | NDArray[np.int64] | NDArray[np.bool_], by: int | NDArray[np.int64]) -> None:
    """Mask rows. `by`: the positions of what replaced or deleted them, or GONE."""
    segment.ended[rows] = by  # first: whoever sees the mask sees since when
    segment.live[rows] = False


@dataclass(slots=True)
class View:
    """A LocalView: fixed number of rows over the segment's own arrays."""

    name: str
    partition: int
    rows: int
    codes: NDArray[np.uint8]
    live: NDArray[np.bool_]
    ended: NDArray[np.int64]
    systems: NDArray[np.int32]
    created_at: NDArray[np.int64]
    appended_at: NDArray[np.int64]
    inverse_norms: NDArray[np.float32]
    index: NearestIndex | None
    sealed: bool
    positions: NDArray[np.int64]
    _vectors: NDArray[np.float32]
    _chunks: tuple[tuple[int, pa.RecordBatch], ...]
    _starts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self._starts = np.fromiter((start for start, _ in self._chunks), np.int64, len(self._chunks))

    @property
    def tier(self) -> Tier:
        return "local"

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(rows), dimensions)"""
        return self._vectors[rows]

    def texts(self, rows: Sequence[int]) -> list[StoredRow]:
        return [self._text(int(row)) for row in rows]

    def _text(self, row: int) -> StoredRow:
        start, batch = self._chunks[int(np.searchsorted(self._starts, row, "right")) - 1]
        at = row - start
        system, event_id, content, model, metadata = (batch.column(i)[at].as_py() for i in range(5))
        return StoredRow.at(
            (system, event_id),
            (content, model, metadata),
            partition=self.partition,
            position=int(self.positions[row]),
            created_at=int(self.created_at[row]),
        )

    def metadata(self) -> pa.ChunkedArray[pa.StringScalar]:
        """(rows,) canonical JSON"""
        column: pa.ChunkedArray[pa.StringScalar] = pa.chunked_array(
            [batch.column(4) for _, batch in self._chunks], pa.string()
        )
        return column.slice(0, self.rows)

    def identities(self) -> Iterator[tuple[str, str, int]]:
        """(source system, event id, position) of every live row."""
        for start, batch in self._chunks:
            # A growing segment may have merged later rows into the batch since the view was made.
            alive = np.flatnonzero(self.live[start : start + len(batch)])
            systems, ids = strings(batch.column(0)), strings(batch.column(1))
            for at in alive.tolist():
                yield systems[at], ids[at], int(self.positions[start + at])


def find_position(positions: NDArray[np.int64], position: int) -> int | None:
    """Row of a position in a segment's ascending positions."""
    row = int(np.searchsorted(positions, position))
    return row if row < len(positions) and int(positions[row]) == position else None
