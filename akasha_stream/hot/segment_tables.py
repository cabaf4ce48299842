"""What a segment's DuckDB file holds beside its index, growing or sealed: the same tables, read the same way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.hot.schema import DELETE_SCHEMA, FORMAT, ROW_COLUMNS, row_schema
from akasha_stream.hot.segment import fixed_binary, lists_matrix
from akasha_stream.incarnation import Incarnation

READ_ROWS = 8_192
"""Rows a piece when a file is read: 12 MB of vectors. A whole segment at once was in memory three times over."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a segment is: the newest row of `commits`."""

    next_offset: int
    last_offset: int | None = None
    last_timestamp_ms: int | None = None
    last_fingerprint: int | None = None
    """xxh3-64 of the last record: tells this log from another one with the same name."""
    first_timestamp_ms: int | None = None
    """Of the segment's first record."""
    events: int = 0
    """Events of the segment as they stand in the log, dropped ones included."""
    dead_letters: int = 0
    """In all of the shard's life."""
    digests_acked: int = 0
    """How many digests, in the order they closed since the segment began, Kafka has acknowledged."""


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """State that a segment begins with: (kind, key, number, bytes)."""

    kind: str
    key: str
    number: int
    state: bytes


_SNAPSHOT_FIELDS: list[tuple[str, pa.DataType]] = [
    ("kind", pa.string()),
    ("key", pa.string()),
    ("number", pa.int64()),
    ("state", pa.binary()),
]
SNAPSHOT_SCHEMA = pa.schema(_SNAPSHOT_FIELDS)


@dataclass(frozen=True, slots=True)
class Forgets:
    """A control message that forgets a source system, the last record of its segment (events/forget.py)."""

    position: int
    """Rows of the system before this one are forgotten, in this segment and all older ones."""
    system_sha256: str
    digests_acked: int
    """As Progress.digests_acked, at that moment."""


@dataclass(frozen=True, slots=True)
class Masked:
    """n rows that are masked."""

    positions: NDArray[np.int64]
    by: NDArray[np.int64]
    """Positions of the events that replaced or deleted them."""


class SegmentTables:
    """The tables of one file. `catalog`: the name that it is attached by, where it is.

    Each call raises SegmentCorrupt, naming the file, where DuckDB can't read it.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, path: Path, catalog: str | None = None) -> None:
        self._con = con
        self._path = path
        self._prefix = "" if catalog is None else f"{catalog}."

    def check(self, dimensions: int) -> None:
        """Raises SegmentCorrupt where this release or these settings can't use the file."""
        found = self._all("SELECT format, dimensions FROM {}segment")
        if not found:
            raise SegmentCorrupt(f"{self._path}: does not say what it holds")
        if found[0][0] != FORMAT:
            raise SegmentCorrupt(f"{self._path}: on-disk format {found[0][0]}, this release reads {FORMAT}")
        if found[0][1] != dimensions:
            raise SegmentCorrupt(
                f"{self._path}: holds vectors of {found[0][1]} dimensions, limits.dimensions is {dimensions}"
            )

    def progress(self) -> Progress:
        found = self._all("SELECT * FROM {}commits ORDER BY rowid DESC LIMIT 1")
        if not found:
            raise SegmentCorrupt(f"{self._path}: has no progress")
        return Progress(*found[0])

    def incarnation(self) -> Incarnation:
        found = self._all("SELECT cluster_id, topic_id FROM {}segment")
        return Incarnation(*found[0]) if found else Incarnation()

    def snapshot(self) -> list[SnapshotRow]:
        return [
            SnapshotRow(*row) for row in self._all("SELECT kind, key, number, state FROM {}snapshot ORDER BY rowid")
        ]

    def rows(self, dimensions: int) -> pa.Table:
        """All rows by position, schema.row_schema, each column one chunk; FLOAT[d] comes as its 4 * d bytes."""
        return pa.concat_tables([row_schema(dimensions).empty_table(), *self.pieces(dimensions)]).combine_chunks()

    def pieces(self, dimensions: int) -> Iterator[pa.Table]:
        """`rows`, some READ_ROWS at a time. Until the last one is there, nothing else may be asked of the file."""
        try:
            query = f"SELECT {ROW_COLUMNS} FROM {self._prefix}rows ORDER BY position"  # noqa: S608
            for batch in self._con.execute(query).to_arrow_reader(READ_ROWS):
                table = pa.Table.from_batches([batch])
                at = table.schema.get_field_index("embedding")
                if pa.types.is_fixed_size_list(table.schema.field(at).type):
                    table = table.set_column(at, "embedding", fixed_binary(lists_matrix(table.column(at), dimensions)))
                yield table.cast(row_schema(dimensions))
        except (duckdb.Error, pa.ArrowException, OSError) as exc:
            raise SegmentCorrupt(f"{self._path}: {exc}") from exc

    def masked(self) -> Masked:
        """The rows, of this segment and older ones, that its tombstones mask."""
        table = self._arrow("SELECT position, by_position FROM {}tombstones")
        return Masked(table["position"].to_numpy(), table["by_position"].to_numpy())

    def deletes(self) -> pa.Table:
        """Deletes that masked a row, by position; schema.DELETE_SCHEMA."""
        table = self._arrow(
            "SELECT DISTINCT t.by_position AS position, t.source_system, t.event_id, d.created_at, d.appended_at "
            "FROM {0}tombstones t JOIN {0}dropped d ON d.position = t.by_position WHERE t.deleted ORDER BY position"
        )
        return table.cast(DELETE_SCHEMA).combine_chunks()

    def forgets(self) -> list[Forgets]:
        rows = self._all("SELECT position, system_sha256, digests_acked FROM {}forgets ORDER BY position")
        return [Forgets(*row) for row in rows]

    def systems(self) -> set[str]:
        """Source systems that the tables beside `rows` name."""
        found = self._all(
            "SELECT source_system FROM {0}tombstones UNION SELECT source_system FROM {0}dropped "
            "UNION SELECT key FROM {0}snapshot WHERE kind <> 'digest'"
        )
        return {name for (name,) in found}

    def dropped(self) -> pa.Table:
        """Events that became no row, by position."""
        return self._arrow("SELECT * FROM {}dropped ORDER BY position")

    def _all(self, query: str) -> list[tuple[Any, ...]]:
        try:
            return self._con.execute(query.format(self._prefix)).fetchall()
        except duckdb.Error as exc:
            raise SegmentCorrupt(f"{self._path}: {exc}") from exc

    def _arrow(self, query: str) -> pa.Table:
        try:
            return self._con.execute(query.format(self._prefix)).to_arrow_table()
        except duckdb.Error as exc:
            raise SegmentCorrupt(f"{self._path}: {exc}") from exc
