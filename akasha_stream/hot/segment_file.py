"""A growing DuckDB file: created, written in transactions, read back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from akasha_stream.errors import SegmentCorrupt, ShardLocked, ShardWriteError
from akasha_stream.hot.durable import sync_folder
from akasha_stream.hot.schema import (
    FORMAT,
    GROWING_TABLES,
    ROW_COLUMNS,
    SegmentName,
    connect_growing,
    limit_memory,
    row_schema,
)


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


_SNAPSHOT_SCHEMA = pa.schema(
    [("kind", pa.string()), ("key", pa.string()), ("number", pa.int64()), ("state", pa.binary())]
)


class SegmentFile:
    """One connection to one growing file. Used by one thread at a time."""

    def __init__(self, path: Path, con: duckdb.DuckDBPyConnection) -> None:
        self.path = path
        self._con = con
        self._closed = False

    @classmethod
    def create(
        cls,
        folder: Path,
        name: SegmentName,
        *,
        topic: str,
        partition: int,
        dimensions: int,
        incarnation: Incarnation,
        progress: Progress,
        snapshot: list[SnapshotRow],
    ) -> SegmentFile:
        """Create a segment's file with the state that it begins with, in one transaction."""
        path = name.growing(folder)
        self = cls(path, _connect(path))
        with self.transaction():
            self._con.execute(GROWING_TABLES)
            self._con.execute(
                "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    FORMAT,
                    topic,
                    partition,
                    name.epoch,
                    name.start,
                    incarnation.cluster_id,
                    incarnation.topic_id,
                    dimensions,
                ],
            )
            if snapshot:
                rows = [{"kind": r.kind, "key": r.key, "number": r.number, "state": r.state} for r in snapshot]
                self.insert("snapshot", pa.Table.from_pylist(rows, _SNAPSHOT_SCHEMA))
            self.insert_progress(progress)
        sync_folder(folder)
        limit_memory(self._con)
        return self

    @classmethod
    def open(cls, path: Path, *, dimensions: int) -> SegmentFile | None:
        """Open a file for writing, replaying its WAL. None where it was never finished being created."""
        self = cls(path, _connect(path))
        try:
            found = self._con.execute("SELECT format, dimensions FROM segment").fetchone()
        except duckdb.CatalogException:
            found = None
        if found is None:
            # Killed between creating the file and the transaction that fills it: it holds nothing.
            self.close()
            return None
        if found[0] != FORMAT:
            self.close()
            raise SegmentCorrupt(f"{path}: on-disk format {found[0]}, this release reads {FORMAT}")
        if found[1] != dimensions:
            self.close()
            raise SegmentCorrupt(f"{path}: holds vectors of {found[1]} dimensions, limits.dimensions is {dimensions}")
        return self

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """COMMIT at the end, ROLLBACK on an error. Raises ShardWriteError for what DuckDB refuses."""
        try:
            self._con.execute("BEGIN TRANSACTION")
            yield
            self._con.execute("COMMIT")
        except (duckdb.Error, OSError, MemoryError) as exc:
            with contextlib.suppress(duckdb.Error):
                self._con.execute("ROLLBACK")
            raise ShardWriteError(f"{self.path}: {exc}") from exc

    def insert(self, table: str, rows: pa.Table) -> None:
        self._con.register("incoming", rows)
        try:
            columns = ROW_COLUMNS if table == "rows" else "*"
            self._con.execute(f"INSERT INTO {table} SELECT {columns} FROM incoming")  # noqa: S608
        finally:
            self._con.unregister("incoming")

    def insert_progress(self, progress: Progress) -> None:
        self._con.execute(
            "INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                progress.next_offset,
                progress.last_offset,
                progress.last_timestamp_ms,
                progress.last_fingerprint,
                progress.first_timestamp_ms,
                progress.events,
                progress.dead_letters,
                progress.digests_acked,
            ],
        )

    def progress(self) -> Progress:
        row = self._con.execute("SELECT * FROM commits ORDER BY rowid DESC LIMIT 1").fetchone()
        if row is None:
            raise SegmentCorrupt(f"{self.path}: has no progress")
        return Progress(*row)

    def incarnation(self) -> Incarnation:
        row = self._con.execute("SELECT cluster_id, topic_id FROM segment").fetchone()
        return Incarnation() if row is None else Incarnation(*row)

    def snapshot(self) -> list[SnapshotRow]:
        rows = self._con.execute("SELECT kind, key, number, state FROM snapshot ORDER BY rowid").fetchall()
        return [SnapshotRow(*row) for row in rows]

    def rows(self, dimensions: int) -> pa.Table:
        """All rows by position, schema.row_schema, each column one chunk."""
        table = self._con.execute(f"SELECT {ROW_COLUMNS} FROM rows ORDER BY position").to_arrow_table()  # noqa: S608
        return table.cast(row_schema(dimensions)).combine_chunks()

    def tombstones(self) -> list[tuple[int, int]]:
        rows = self._con.execute("SELECT position, by_position FROM tombstones").fetchall()
        return [(int(a), int(b)) for a, b in rows]

    def dropped(self) -> pa.Table:
        return self._con.execute("SELECT * FROM dropped ORDER BY position").to_arrow_table()

    def read_back_done(self) -> None:
        """Call when everything that opening needs was read."""
        limit_memory(self._con)

    def checkpoint_and_close(self) -> None:
        """Fold the WAL into the file, about a second per 100,000 rows, and let go of it. Does nothing when closed."""
        if self._closed:
            return
        try:
            self._con.execute("RESET memory_limit")
            self._con.execute("CHECKPOINT")
        except duckdb.Error as exc:
            raise ShardWriteError(f"{self.path}: {exc}") from exc
        self.close()

    def close(self) -> None:
        """Without a checkpoint: committed rows are in the WAL."""
        if not self._closed:
            self._closed = True
            self._con.close()


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        return connect_growing(path)
    except duckdb.IOException as exc:
        if "lock" in str(exc).lower():
            raise ShardLocked(
                f"{path} is open in another process; stop the other worker or give this one its own hot.data_dir"
            ) from exc
        raise ShardWriteError(f"{path}: {exc}") from exc
    except duckdb.Error as exc:
        raise SegmentCorrupt(f"{path}: {exc}") from exc
