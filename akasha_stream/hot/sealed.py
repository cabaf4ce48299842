"""A finished segment: its rows in an Arrow file that is memory-mapped, its index in an immutable DuckDB file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.hot.durable import write_whole
from akasha_stream.hot.hashes import identity_key
from akasha_stream.hot.hnsw import SegmentIndex
from akasha_stream.hot.schema import FORMAT, SegmentName
from akasha_stream.hot.segment import (
    NEVER,
    TEXT_COLUMNS,
    View,
    binary_codes,
    fixed_binary,
    inverse_norms,
    matrix,
    system_codes,
)
from akasha_stream.hot.sorted_hashes import SortedHashes
from akasha_stream.incarnation import Incarnation
from akasha_stream.search.segment import SystemCodes


def write_arrow(path: Path, table: pa.Table, *, dimensions: int, end: int) -> None:
    """Write a segment's Arrow file; `end`: the offset after its last record."""
    marks = {"akasha.format": str(FORMAT), "akasha.dimensions": str(dimensions), "akasha.end": str(end)}
    table = table.replace_schema_metadata(marks).combine_chunks()

    def write(temporary: Path) -> None:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(table.num_rows, 1))

    write_whole(path, write)


def with_search_columns(rows: pa.Table, dimensions: int) -> pa.Table:
    """Add bit codes and inverse norms to rows of schema.row_schema."""
    vectors = row_vectors(rows, dimensions)
    codes = binary_codes(vectors)
    return rows.append_column("code", fixed_binary(codes)).append_column(
        "inverse_norm", pa.array(inverse_norms(vectors))
    )


def row_vectors(rows: pa.Table, dimensions: int) -> NDArray[np.float32]:
    """(n, dimensions) of the embedding column of rows of schema.row_schema."""
    return matrix(rows["embedding"], np.dtype(np.float32), dimensions)


class SealedSegment:
    """Rows of a finished segment. Everything but masks and hash order is the page cache's memory."""

    def __init__(
        self,
        name: SegmentName,
        partition: int,
        arrow: Path,
        dimensions: int,
        codes: SystemCodes,
        *,
        deletes: pa.Table,
        incarnation: Incarnation,
    ) -> None:
        """`deletes`: schema.DELETE_SCHEMA; `incarnation`: of the log that its offsets belong to."""
        self.name = name
        self.partition = partition
        self.path = arrow
        self.deletes = deletes
        self.incarnation = incarnation
        self.spilled = False
        """Whether the object store has it."""
        self.has_forgotten = False
        """Whether rows of a forgotten system are in its files."""
        try:
            with pa.memory_map(str(arrow)) as source:
                table = pa.ipc.open_file(source).read_all()
            marks = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
            self.end = int(marks["akasha.end"])
            found = int(marks["akasha.dimensions"])
            self._build(table, dimensions, codes)
        except (pa.ArrowException, KeyError, ValueError, IndexError, OSError) as exc:
            raise SegmentCorrupt(
                f"{arrow}: not a readable segment: {exc}. It is derived: delete it, and it is made again"
            ) from exc
        if found != dimensions:
            raise SegmentCorrupt(f"{arrow}: holds vectors of {found} dimensions, limits.dimensions is {dimensions}")
        self.index: SegmentIndex | None = None

    def _build(self, table: pa.Table, dimensions: int, codes: SystemCodes) -> None:
        self._rows = table.num_rows
        self._batch = (
            table.select(list(TEXT_COLUMNS)).to_batches()[0]
            if self._rows
            else pa.RecordBatch.from_pylist([], table.select(list(TEXT_COLUMNS)).schema)
        )

        def numbers(name: str) -> NDArray[np.generic]:
            column = table[name]
            return column.chunk(0).to_numpy() if self._rows else np.empty(0, column.type.to_pandas_dtype())

        self.positions = numbers("position").astype(np.int64, copy=False)
        self.created_at = numbers("created_at").astype(np.int64, copy=False)
        self.appended_at = numbers("appended_at").astype(np.int64, copy=False)
        self.payload_hashes = numbers("payload_hash").astype(np.uint64, copy=False)
        self._inverse_norms = numbers("inverse_norm").astype(np.float32, copy=False)
        self._vectors = matrix(table["embedding"], np.dtype(np.float32), dimensions)
        self._bits = matrix(table["code"], np.dtype(np.uint8), dimensions // 8)
        self.live = np.ones(self._rows, np.bool_)
        self.ended = np.full(self._rows, NEVER, np.int64)
        self.systems = system_codes(self._batch.column(0), codes)
        self._by_identity = SortedHashes(numbers("identity_hash").astype(np.uint64, copy=False))
        self._by_content = SortedHashes(numbers("content_hash").astype(np.uint64, copy=False))
        self.first_created_at = int(self.created_at.min()) if self._rows else 0
        self.last_created_at = int(self.created_at.max()) if self._rows else -1

    @property
    def rows(self) -> int:
        return self._rows

    def table(self) -> pa.Table:
        """All rows, masked ones too, with at least the columns of schema.row_schema, by position."""
        with pa.memory_map(str(self.path)) as source:
            return pa.ipc.open_file(source).read_all()

    def has_identities(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """(n,) whether a row with this identity hash is here: one vectorised look for a whole batch."""
        return self._by_identity.contain(hashes)

    def has_contents(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        return self._by_content.contain(hashes)

    def count_contents(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) how many rows, masked ones too, have this content hash."""
        return self._by_content.count(hashes)

    def with_identity(self, key: str, identity_hash: int) -> Iterable[int]:
        systems, ids = self._batch.column(0), self._batch.column(1)
        for row in self._by_identity.rows(identity_hash):
            if identity_key(systems[row].as_py(), ids[row].as_py()) == key:
                yield row

    def with_content(self, content_hash: int) -> Iterable[int]:
        return self._by_content.rows(content_hash)

    def content(self, row: int) -> str:
        text: str = self._batch.column(2)[row].as_py()
        return text

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._vectors[rows]

    def view(self) -> View:
        return View(
            name=str(self.name),
            partition=self.partition,
            rows=self._rows,
            codes=self._bits,
            live=self.live,
            ended=self.ended,
            systems=self.systems,
            created_at=self.created_at,
            appended_at=self.appended_at,
            inverse_norms=self._inverse_norms,
            index=self.index,
            sealed=True,
            positions=self.positions,
            _vectors=self._vectors,
            _chunks=((0, self._batch),),
        )
