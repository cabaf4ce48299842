"""The one place that knows the DuckDB schema and the file names of a segment.

    <data_dir>/<topic>/<partition>/
        00-00000000000000000000.growing.duckdb        epoch - first offset; the youngest is written to
        00-00000000000000000000.arrow                 the same rows, memory-mapped by searches (derived)
        00-00000000000000000000.sealed.duckdb         immutable, with its HNSW index; replaces .growing
        00-00000000000000000000.state                 windows and counters as of its end, until it is spilled
        00-00000000000000000000.stub                  it is in the object store; alone, when nothing else is left here
        adopting                                      the rest is from the object store, and not all of it

A growing file keeps vectors as float32 BLOBs: inserting into FLOAT[384] costs more than twice the CPU. All
tables are append-only. Everything else that a shard knows (windows, counters, masks) is a fold over `rows`,
`tombstones` and `dropped` in log order, starting from `snapshot`, so a transaction is few and cheap statements.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from akasha_stream.hot.durable import remove

ADOPTING = "adopting"

FORMAT = 2
"""2: deletes have their times, and there are `forgets`."""

GROWING_TABLES = """
CREATE TABLE segment (
    format INTEGER NOT NULL, topic VARCHAR NOT NULL, partition INTEGER NOT NULL, epoch INTEGER NOT NULL,
    start_offset BIGINT NOT NULL, cluster_id VARCHAR, topic_id VARCHAR, dimensions INTEGER NOT NULL);
CREATE TABLE rows (
    position BIGINT PRIMARY KEY, source_system VARCHAR NOT NULL, event_id VARCHAR NOT NULL,
    content VARCHAR NOT NULL, embedding BLOB NOT NULL, model VARCHAR NOT NULL, metadata VARCHAR NOT NULL,
    created_at BIGINT NOT NULL, appended_at BIGINT NOT NULL, updated BOOLEAN NOT NULL,
    identity_hash UBIGINT NOT NULL, payload_hash UBIGINT NOT NULL, content_hash UBIGINT NOT NULL);
CREATE TABLE tombstones (position BIGINT NOT NULL, by_position BIGINT NOT NULL, deleted BOOLEAN NOT NULL,
    source_system VARCHAR NOT NULL, event_id VARCHAR NOT NULL);
CREATE TABLE dropped (position BIGINT NOT NULL, source_system VARCHAR NOT NULL, created_at BIGINT NOT NULL,
    appended_at BIGINT NOT NULL, outcome UTINYINT NOT NULL);
CREATE TABLE forgets (position BIGINT NOT NULL, system_sha256 VARCHAR NOT NULL, digests_acked BIGINT NOT NULL);
CREATE TABLE commits (next_offset BIGINT NOT NULL, last_offset BIGINT, last_timestamp_ms BIGINT,
    last_fingerprint UBIGINT, first_timestamp_ms BIGINT, events BIGINT NOT NULL, dead_letters BIGINT NOT NULL,
    digests_acked BIGINT NOT NULL);
CREATE TABLE snapshot (kind VARCHAR NOT NULL, key VARCHAR NOT NULL, number BIGINT NOT NULL, state BLOB NOT NULL);
"""

ROW_COLUMNS = (
    "position, source_system, event_id, content, embedding, model, metadata, created_at, appended_at, updated, "
    "identity_hash, payload_hash, content_hash"
)


def row_schema(dimensions: int) -> pa.Schema:
    """Arrow schema of `rows` on their way in and out."""
    fields: list[pa.Field[Any]] = [
        pa.field("position", pa.int64(), False),
        pa.field("source_system", pa.string(), False),
        pa.field("event_id", pa.string(), False),
        pa.field("content", pa.string(), False),
        pa.field("embedding", pa.binary(4 * dimensions), False),
        pa.field("model", pa.string(), False),
        pa.field("metadata", pa.string(), False),
        pa.field("created_at", pa.int64(), False),
        pa.field("appended_at", pa.int64(), False),
        pa.field("updated", pa.bool_(), False),
        pa.field("identity_hash", pa.uint64(), False),
        pa.field("payload_hash", pa.uint64(), False),
        pa.field("content_hash", pa.uint64(), False),
    ]
    return pa.schema(fields)


_TOMBSTONE_FIELDS: list[pa.Field[Any]] = [
    pa.field("position", pa.int64(), False),
    pa.field("by_position", pa.int64(), False),
    pa.field("deleted", pa.bool_(), False),
    pa.field("source_system", pa.string(), False),
    pa.field("event_id", pa.string(), False),
]
TOMBSTONE_SCHEMA = pa.schema(_TOMBSTONE_FIELDS)
_DROPPED_FIELDS: list[pa.Field[Any]] = [
    pa.field("position", pa.int64(), False),
    pa.field("source_system", pa.string(), False),
    pa.field("created_at", pa.int64(), False),
    pa.field("appended_at", pa.int64(), False),
    pa.field("outcome", pa.uint8(), False),
]
DROPPED_SCHEMA = pa.schema(_DROPPED_FIELDS)
_DELETE_FIELDS: list[pa.Field[Any]] = [
    pa.field("position", pa.int64(), False),
    pa.field("source_system", pa.string(), False),
    pa.field("event_id", pa.string(), False),
    pa.field("created_at", pa.int64(), False),
    pa.field("appended_at", pa.int64(), False),
]
DELETE_SCHEMA = pa.schema(_DELETE_FIELDS)
"""Deletes on their way to a spilled segment; times in microseconds since the epoch."""

_NAME = re.compile(r"^(?P<epoch>\d{2,3})-(?P<start>\d{20})\.(?P<kind>growing\.duckdb|sealed\.duckdb|arrow|state|stub)$")


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """A segment of a shard: the epoch of its log and the offset that it starts at."""

    epoch: int
    start: int

    def __str__(self) -> str:
        return f"{self.epoch:02d}-{self.start:020d}"

    def growing(self, folder: Path) -> Path:
        return folder / f"{self}.growing.duckdb"

    def sealed(self, folder: Path) -> Path:
        return folder / f"{self}.sealed.duckdb"

    def arrow(self, folder: Path) -> Path:
        return folder / f"{self}.arrow"

    def state(self, folder: Path) -> Path:
        return folder / f"{self}.state"

    def stub(self, folder: Path) -> Path:
        return folder / f"{self}.stub"

    @classmethod
    def parse(cls, file_name: str) -> tuple[SegmentName, str] | None:
        """(segment, kind of file), or None for a file that is not a segment's."""
        match = _NAME.match(file_name)
        if match is None:
            return None
        return cls(int(match["epoch"]), int(match["start"])), match["kind"]


def remove_growing(folder: Path, name: SegmentName) -> None:
    """Remove a growing file with all that DuckDB put beside it."""
    path = name.growing(folder)
    # The WAL goes last: a file without its WAL would look whole and lack rows, a WAL alone is ignored.
    remove(path)
    remove(path.with_name(f"{path.name}.wal"))
    remove(path.with_name(f"{path.name}.tmp"))


MEMORY_LIMIT_MB = 20
"""What a growing file's DuckDB may keep in memory, for transactions of SMALL_BYTES. A worker has such a file for each
partition. A transaction holds two blocks of nearly every column at once, whatever it inserts, so 14 are too little; 16
take a third more CPU than 20, which take an eighth more than 24. With blocks of half the size 9 would do, but what
DuckDB puts aside of those goes into a file for each block: twice the CPU of all inserting, on ext4 more and more.
"""
SMALL_BYTES = 1_048_576
INDEXED_ROWS = 30_000
"""Entries of the primary key's index that take a megabyte; it never leaves memory."""


def connect_growing(path: Path) -> duckdb.DuckDBPyConnection:
    """Open (or create) a growing file for writing.

    One thread: a transaction of some thousand rows is too small to share out, and the cores are busy. The
    WAL is checkpointed when the segment is sealed, not before: with the default of 16 MB every eighth
    transaction rewrote row groups and the rate halved.
    """
    con = duckdb.connect(str(path), config={"threads": 1})
    con.execute("SET wal_autocheckpoint='64GB'")
    # Closing happens at every shutdown and hand-over, and must not take a second a shard: the WAL is as safe.
    con.execute("PRAGMA disable_checkpoint_on_shutdown")
    return con


def memory_limit_mb(rows: int, transaction_bytes: int) -> int:
    """Megabytes that a transaction of this many bytes needs in a file of this many rows.

    8 MB of rows failed with 16 MB and did not with 24, nor did 20 MB with 40.
    """
    least = MEMORY_LIMIT_MB if transaction_bytes <= SMALL_BYTES else 16 + -(-2 * transaction_bytes // 8_388_608) * 8
    return least + rows // INDEXED_ROWS


def limit_memory(con: duckdb.DuckDBPyConnection, megabytes: int) -> None:
    """Make DuckDB put uncheckpointed rows aside on disk: their searchable copy is the segment's own arrays.

    Without it a growing row takes 2 KB twice. Not while a file is opened: replaying the WAL needs them all.
    """
    con.execute(f"SET memory_limit='{megabytes}MB'")
