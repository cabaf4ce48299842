"""What a shard knows as of the end of a segment, beside its rows: the state that the next segment begins with.

It goes to the object store with the segment, so that a new owner has windows and counters without the log before them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.hot.segment_tables import SNAPSHOT_SCHEMA, Progress, SnapshotRow

_PROGRESS = b"akasha.progress"
_FORMAT = b"akasha.format"
FORMAT = b"1"


@dataclass(frozen=True, slots=True)
class EndState:
    """`progress`: how far the log was read; counts of the segment itself are 0, as in a segment that begins."""

    progress: Progress
    snapshot: list[SnapshotRow]

    @classmethod
    def of(cls, progress: Progress, snapshot: list[SnapshotRow]) -> EndState:
        return cls(beginning(progress), snapshot)


def beginning(progress: Progress) -> Progress:
    """As a segment after this progress begins."""
    return replace(progress, first_timestamp_ms=None, events=0, digests_acked=0)


def pack_state(state: EndState) -> bytes:
    """Arrow IPC, zstd; the progress in the schema's metadata."""
    rows = [asdict(row) for row in state.snapshot]
    marks = {_FORMAT: FORMAT, _PROGRESS: json.dumps(asdict(state.progress)).encode()}
    return _packed(pa.Table.from_pylist(rows, SNAPSHOT_SCHEMA).replace_schema_metadata(marks))


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unpack_state(data: bytes, name: str) -> EndState:
    """Raises SegmentCorrupt, naming `name`."""
    try:
        table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
        marks: Any = table.schema.metadata or {}
        if marks[_FORMAT] != FORMAT:
            raise SegmentCorrupt(f"{name}: format {marks[_FORMAT].decode()}, this release reads {FORMAT.decode()}")
        progress = Progress(**json.loads(marks[_PROGRESS]))
        return EndState(progress, [SnapshotRow(**row) for row in table.cast(SNAPSHOT_SCHEMA).to_pylist()])
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
        raise SegmentCorrupt(f"{name}: is no state of a shard: {error}") from error


def state_without(state: bytes, system: str, path: str) -> bytes | None:
    """A shard's state without a system's windows, counters and digests; None where it has none.

    Each is a row, whose `key` is the system. Raises SegmentCorrupt, naming `path`.
    """
    try:
        table = pa.ipc.open_file(pa.BufferReader(state)).read_all()
        others: Any = pc.not_equal(table["key"], pa.scalar(system))
    except (pa.ArrowException, KeyError, OSError) as error:
        raise SegmentCorrupt(f"{path}: is no state of a shard: {error}") from error
    left = table.filter(others)
    return None if left.num_rows == table.num_rows else _packed(left)
