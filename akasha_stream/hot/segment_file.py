"""A growing DuckDB file: created, written in transactions, checkpointed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from akasha_stream.errors import SegmentCorrupt, ShardLocked, ShardWriteError
from akasha_stream.hot.durable import sync_folder
from akasha_stream.hot.schema import (
    FORMAT,
    GROWING_TABLES,
    SegmentName,
    connect_growing,
    limit_memory,
    memory_limit_mb,
    remove_growing,
)
from akasha_stream.hot.segment_tables import SNAPSHOT_SCHEMA, Forgets, Progress, SegmentTables, SnapshotRow
from akasha_stream.incarnation import Incarnation

__all__ = ["Progress", "SegmentFile", "SnapshotRow"]


HEADERS_BYTES = 3 * 4_096
"""What DuckDB writes when it creates a file, before anything can be committed to it."""


class SegmentFile:
    """One connection to one growing file. Used by one thread at a time."""

    def __init__(self, path: Path, con: duckdb.DuckDBPyConnection) -> None:
        self.path = path
        self.wal = path.with_name(f"{path.name}.wal")
        """What is committed since the last checkpoint; it need not be there."""
        self._con = con
        self._closed = self._checkpointed = False
        self._limit_mb = 0  # none
        self._events = 0

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
        # An earlier try may have left it, whole (its COMMIT in doubt) or in part, or only its WAL.
        remove_growing(folder, name)
        self = cls(path, _connect(path))
        try:
            with self.transaction(0):  # without a limit yet
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
                    self.insert("snapshot", pa.Table.from_pylist(rows, SNAPSHOT_SCHEMA))
                self.insert_progress(progress)
            sync_folder(folder)
        except BaseException:
            self.close()
            raise
        self.limit_memory()
        return self

    @classmethod
    def open(cls, path: Path, *, dimensions: int) -> SegmentFile | None:
        """Open a file for writing, replaying its WAL. None where it was never finished being created."""
        wal = path.with_name(f"{path.name}.wal")
        if path.stat().st_size < HEADERS_BYTES and not (wal.exists() and wal.stat().st_size):
            # Killed before DuckDB had written its headers, which it then does not take for a database.
            return None
        self = cls(path, _connect(path))
        try:
            found = self._con.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'segment'").fetchone()
            if found == (0,):
                # Killed between creating the file and the transaction that fills it: it holds nothing.
                self.close()
                return None
            self.tables().check(dimensions)
            self._events = self.progress().events
        except BaseException:
            self.close()
            raise
        return self

    @contextlib.contextmanager
    def transaction(self, nbytes: int) -> Iterator[None]:
        """COMMIT at the end, ROLLBACK on an error. Raises ShardWriteError for what DuckDB refuses.

        `nbytes`: of all that is inserted; the memory that DuckDB may keep goes by it.
        """
        try:
            if self._limit_mb:
                self.limit_memory(nbytes)
            self._con.execute("BEGIN TRANSACTION")
            yield
            self._con.execute("COMMIT")
        except BaseException as exc:
            with contextlib.suppress(duckdb.Error):
                self._con.execute("ROLLBACK")
            if isinstance(exc, (duckdb.Error, OSError, MemoryError)):
                raise ShardWriteError(f"{self.path}: {exc}") from exc
            raise

    def insert(self, table: str, rows: pa.Table) -> None:
        # Columns by place, as the Arrow schemas have them: .4 ms less than a view over them and a SELECT.
        self._con.from_arrow(rows).insert_into(table)

    def insert_progress(self, progress: Progress) -> None:
        self._events = progress.events
        # Numbers written out: binding eight parameters costs .4 ms of each commit, most of it looking for pandas.
        values = (
            progress.next_offset,
            progress.last_offset,
            progress.last_timestamp_ms,
            progress.last_fingerprint,
            progress.first_timestamp_ms,
            progress.events,
            progress.dead_letters,
            progress.digests_acked,
        )
        numbers = ", ".join("NULL" if value is None else str(int(value)) for value in values)
        self._con.execute(f"INSERT INTO commits VALUES ({numbers})")  # noqa: S608

    def insert_forgets(self, forgets: Forgets) -> None:
        values = [forgets.position, forgets.system_sha256, forgets.digests_acked]
        self._con.execute("INSERT INTO forgets VALUES (?, ?, ?)", values)

    def progress(self) -> Progress:
        return self.tables().progress()

    def tables(self) -> SegmentTables:
        """What is committed."""
        return SegmentTables(self._con, self.path)

    def limit_memory(self, transaction_bytes: int = 0) -> None:
        """Call when everything that opening needs was read, and before a transaction."""
        wanted = memory_limit_mb(self._events, transaction_bytes)
        if wanted == self._limit_mb:
            return
        with contextlib.suppress(duckdb.OutOfMemoryException):  # more is in use: DuckDB lets go of it later
            limit_memory(self._con, wanted)
            self._limit_mb = wanted

    def checkpoint_and_close(self) -> None:
        """Fold the WAL into the file, about a second per 100,000 rows, and let go of it.

        Does nothing when that is done. Raises ShardWriteError; the same call may be made again.
        """
        if self._checkpointed:
            return
        try:
            if self._closed:  # after a failed CHECKPOINT DuckDB refuses everything on that connection
                self._con, self._closed = _connect(self.path), False
            self._con.execute("RESET memory_limit")
            self._con.execute("CHECKPOINT")
        except duckdb.Error as exc:
            with contextlib.suppress(duckdb.Error):
                self.close()
            raise ShardWriteError(f"{self.path}: {exc}") from exc
        self._checkpointed = True
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
        if "not a valid DuckDB" in str(exc) or "not read enough bytes" in str(exc):
            raise SegmentCorrupt(f"{path}: {exc}") from exc
        raise ShardWriteError(f"{path}: {exc}") from exc
    except duckdb.Error as exc:
        raise SegmentCorrupt(f"{path}: {exc}") from exc
