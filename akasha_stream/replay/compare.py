"""Two stores, row by row: what one has that the other has not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as _compute
from numpy.typing import NDArray

from akasha_stream.hot.position import MAX_OFFSET
from akasha_stream.hot.shard import Shard
from akasha_stream.replay.selection import Range

pc: Any = _compute
"""Its stubs know neither null_placement nor masks of chunks."""


@dataclass(frozen=True, slots=True)
class RowChanges:
    """Live rows of a shard, told apart by their positions."""

    came: int
    went: int
    changed: int
    """at the same position, with other content"""

    @property
    def total(self) -> int:
        return self.came + self.went + self.changed


def row_changes(old: Shard, new: Shard) -> RowChanges:
    (was, was_payloads), (is_, payloads) = _live(old), _live(new)
    both, at, there = np.intersect1d(was, is_, assume_unique=True, return_indices=True)
    changed = int(np.count_nonzero(was_payloads[at] != payloads[there]))
    return RowChanges(len(is_) - len(both), len(was) - len(both), changed)


def _live(shard: Shard) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """(positions, payload hashes) of the live rows."""
    positions, payloads = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    for segment in shard.segments:
        rows = segment.rows
        live = segment.live[:rows]
        positions.append(segment.positions[:rows][live])
        payloads.append(segment.payload_hashes[:rows][live])
    return np.concatenate(positions), np.concatenate(payloads)


_ROWS_FIELDS: list[pa.Field[Any]] = [
    pa.field("source_system", pa.string(), False),
    pa.field("event_id", pa.string(), False),
    pa.field("position", pa.int64(), False),
    pa.field("payload_hash", pa.uint64(), False),
]
ROWS_SCHEMA = pa.schema(_ROWS_FIELDS)


def live_rows(shard: Shard) -> pa.Table:
    """ROWS_SCHEMA of the live rows of a shard: all that a comparison needs, some 50 bytes each."""
    parts = [ROWS_SCHEMA.empty_table()]
    for segment in shard.segments:
        view = segment.view()
        payloads = {int(view.positions[row]): int(segment.payload_hashes[row]) for row in np.flatnonzero(view.live)}
        found = [each for each in view.identities() if each[2] in payloads]
        parts.append(
            pa.table(
                {
                    "source_system": [system for system, _, _ in found],
                    "event_id": [event_id for _, event_id, _ in found],
                    "position": [position for *_, position in found],
                    "payload_hash": pa.array([payloads[position] for *_, position in found], pa.uint64()),
                },
                ROWS_SCHEMA,
            )
        )
    return pa.concat_tables(parts).combine_chunks()


EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Difference:
    source_system: str
    event_id: str
    kind: Literal["only_in_store", "only_in_side", "changed"]


@dataclass(slots=True)
class Comparison:
    """Live rows of a side store against those of the store, by identity; of the offsets that the side store has."""

    same: int = 0
    changed: int = 0
    """with other content, model, metadata, time or vector"""
    only_in_store: int = 0
    only_in_side: int = 0
    later: int = 0
    """replaced in the store by events after those that the side store has"""
    examples: list[Difference] = field(default_factory=list)
    """of each kind the first EXAMPLES"""

    @property
    def equal(self) -> bool:
        return not (self.changed or self.only_in_store or self.only_in_side)

    def add(self, store: pa.Table, side: pa.Table, wanted: Range, system: str | None) -> None:
        """Count one partition. Both: ROWS_SCHEMA."""
        offsets = store["position"].to_numpy() >> 16 & MAX_OFFSET
        keys = ["source_system", "event_id"]
        store = store.append_column("inside", pa.array((offsets >= wanted.start) & (offsets < wanted.end)))
        store = store.append_column("after", pa.array(offsets >= wanted.end))
        if system is not None:
            store = store.filter(pc.equal(store["source_system"], system))
        joined = store.join(side, keys, join_type="full outer", right_suffix="_side").sort_by(
            [("source_system", "ascending"), ("event_id", "ascending")]
        )
        here, there = pc.is_valid(joined["position"]), pc.is_valid(joined["position_side"])
        both = pc.and_(here, there)
        equal = pc.fill_null(pc.equal(joined["payload_hash"], joined["payload_hash_side"]), False)
        after = pc.fill_null(joined["after"], False)
        self.same += _count(pc.and_(both, equal))
        unequal = pc.and_(both, pc.invert(equal))
        self.later += _count(pc.and_(unequal, after))
        self.changed += self._noted(joined, pc.and_(unequal, pc.invert(after)), "changed")
        only = pc.and_(pc.fill_null(joined["inside"], False), pc.invert(there))
        self.only_in_store += self._noted(joined, only, "only_in_store")
        self.only_in_side += self._noted(joined, pc.invert(here), "only_in_side")

    def _noted(self, joined: pa.Table, mask: Any, kind: Literal["only_in_store", "only_in_side", "changed"]) -> int:
        rows = joined.filter(mask)
        room = EXAMPLES - sum(each.kind == kind for each in self.examples)
        for row in rows.slice(0, room).to_pylist():
            self.examples.append(Difference(row["source_system"], row["event_id"], kind))
        return rows.num_rows


def _count(mask: Any) -> int:
    return int(pc.sum(mask).as_py() or 0)


def dump_rows(rows: pa.Table) -> bytes:
    """As an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ROWS_SCHEMA) as writer:
        writer.write_table(rows)
    return sink.getvalue().to_pybytes()


def parse_rows(data: bytes) -> pa.Table:
    """Raises pyarrow.ArrowException."""
    return pa.ipc.open_stream(data).read_all().cast(ROWS_SCHEMA)
