"""What a segment's DuckDB file holds beside its index, growing or sealed: the same tables, read the same way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.hot.schema import FORMAT, ROW_COLUMNS, row_schema
from akasha_stream.hot.segment import fixed_binary, lists_matrix


@dataclass(frozen=True, slots=True)
class Incarnation:
    """Which log a shard's offsets belong to; None where the broker does not say."""

    cluster_id: str | None = None
    topic_id: str | None = None

    def differs_from(self, other: Incarnation) -> bool:
        """True only where both know: an unknown incarnation never throws stored offsets away."""
        return (
            self.topic_id is not None
            and other.topic_id is not None
            and (self.topic_id != other.topic_id or self.cluster_id != other.cluster_id)
        )


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
        table = self._arrow(f"SELECT {ROW_COLUMNS} FROM {{}}rows ORDER BY position")  # noqa: S608
        at = table.schema.get_field_index("embedding")
        if pa.types.is_fixed_size_list(table.schema.field(at).type):
            table = table.set_column(at, "embedding", fixed_binary(lists_matrix(table.column(at), dimensions)))
        return table.cast(row_schema(dimensions)).combine_chunks()

    def tombstones(self) -> list[tuple[int, int]]:
        """(masked position, position that masks it)"""
        rows = self._all("SELECT position, by_position FROM {}tombstones")
        return [(int(a), int(b)) for a, b in rows]

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
