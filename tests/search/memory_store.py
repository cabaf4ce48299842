"""A real HotStore whose segments are numpy arrays: what the search tests run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from akasha_stream.hot.position import pack
from akasha_stream.hot.segment import GONE, NEVER
from akasha_stream.partitioner import partition_of
from akasha_stream.search.segment import NearestIndex, Span, StoredRow, SystemCodes, Tier

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    source_system: str
    event_id: str
    vector: Sequence[float] | NDArray[np.float32]
    content: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime = datetime(2026, 7, 1, tzinfo=UTC)
    model: str = "all-MiniLM-L6-v2"


class ExactIndex:
    """An index that finds what an exact scan would, so that tests see the planner and not HNSW's recall."""

    def __init__(self, unit: NDArray[np.float32], reach: int | None = None) -> None:
        self.unit = unit
        self.reach = reach
        self.asked: list[int] = []

    def nearest(self, query: NDArray[np.float32], n: int, ef: int) -> NDArray[np.int64]:
        self.asked.append(n)
        found: NDArray[np.int64] = np.argsort(-(self.unit @ query), kind="stable")[: min(n, self.reach or n)]
        return found


@dataclass
class MemorySegment:
    name: str
    partition: int
    rows: int
    codes: NDArray[np.uint8]
    live: NDArray[np.bool_]
    systems: NDArray[np.int32]
    created_at: NDArray[np.int64]
    appended_at: NDArray[np.int64]
    inverse_norms: NDArray[np.float32]
    index: NearestIndex | None
    sealed: bool
    data: NDArray[np.float32]
    table: pa.Table
    first_position: int
    on_texts: Callable[[], None] | None = None
    positions: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Empty: from first_position on"""
    texts_asked: int = 0

    def __post_init__(self) -> None:
        if not len(self.positions):
            self.positions = np.arange(self.first_position, self.first_position + self.rows, dtype=np.int64)

    @property
    def tier(self) -> Tier:
        return "local"

    @property
    def ended(self) -> NDArray[np.int64]:
        return np.where(self.live, NEVER, GONE)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        taken: NDArray[np.float32] = self.data[rows]
        return taken

    def texts(self, rows: Sequence[int]) -> list[StoredRow]:
        self.texts_asked += len(rows)
        columns = self.table.take(pa.array(rows, pa.int64())).to_pydict()
        if self.on_texts is not None:
            self.on_texts()
        return [
            StoredRow(
                source_system=columns["source_system"][i],
                event_id=columns["event_id"][i],
                content=columns["content"][i],
                model=columns["model"][i],
                metadata=columns["metadata"][i],
                created_at=EPOCH + timedelta(microseconds=int(self.created_at[row])),
                partition=self.partition,
                offset=self.first_position + row,
                index=0,
                position=int(self.positions[row]),
            )
            for i, row in enumerate(rows)
        ]

    def metadata(self) -> pa.ChunkedArray[pa.StringScalar]:
        column: pa.ChunkedArray[pa.StringScalar] = self.table["metadata"]
        return column


class MemoryStore:
    """Every `add` makes a segment in each partition it touches; older rows of an identity are masked."""

    def __init__(self, partitions: int = 4, owned: Sequence[int] | None = None) -> None:
        self.codes = SystemCodes()
        self.segments: list[MemorySegment] = []
        self._partitions = partitions
        self._owned = list(range(partitions)) if owned is None else list(owned)
        self._place: dict[tuple[str, str], tuple[MemorySegment, int]] = {}
        self._next = dict.fromkeys(range(partitions), 0)
        self._grown = asyncio.Condition()

    def add(self, rows: Sequence[Row], *, indexed: bool = False, mask_old: bool = True) -> None:
        by_partition: dict[int, list[Row]] = {}
        for row in rows:
            by_partition.setdefault(partition_of(row.source_system, self._partitions), []).append(row)
        for partition, mine in by_partition.items():
            data = np.array([r.vector for r in mine], np.float32)
            self.add_segment(
                partition,
                data,
                pa.table(
                    {
                        "source_system": [r.source_system for r in mine],
                        "event_id": [r.event_id for r in mine],
                        "content": [r.content for r in mine],
                        "model": [r.model for r in mine],
                        "metadata": pa.array(
                            [orjson.dumps(r.metadata, option=orjson.OPT_SORT_KEYS).decode() for r in mine], pa.string()
                        ),
                    }
                ),
                np.array([(r.created_at - EPOCH) // timedelta(microseconds=1) for r in mine], np.int64),
                indexed=indexed,
                mask_old=mask_old,
            )

    def add_segment(
        self,
        partition: int,
        data: NDArray[np.float32],
        table: pa.Table,
        created_at: NDArray[np.int64],
        *,
        indexed: bool = False,
        mask_old: bool = True,
    ) -> MemorySegment:
        norms = np.linalg.norm(data, axis=1)
        systems: list[Any] = table["source_system"].to_pylist()
        event_ids: list[Any] = table["event_id"].to_pylist()
        segment = MemorySegment(
            name=f"{self._next[partition]:020d}",  # as in the hot store: unique in a partition only
            partition=partition,
            rows=len(data),
            codes=np.packbits(data > 0, axis=1),
            live=np.ones(len(data), np.bool_),
            systems=np.array([self.codes.code(s) for s in systems], np.int32),
            created_at=created_at,
            appended_at=created_at,
            inverse_norms=(1 / norms).astype(np.float32),
            index=ExactIndex(data / norms[:, None]) if indexed else None,
            sealed=indexed,
            data=data,
            table=table.combine_chunks(),
            first_position=self._next[partition],
        )
        self.segments.append(segment)
        self._next[partition] += len(data)
        for row, identity in enumerate(zip(systems, event_ids, strict=True)):
            if mask_old and (old := self._place.get(identity)) is not None:
                old[0].live[old[1]] = False
            self._place[identity] = segment, row
        return segment

    def delete(self, source_system: str, event_id: str) -> None:
        segment, row = self._place.pop((source_system, event_id))
        segment.live[row] = False

    def views(self, partitions: Sequence[int] | None = None) -> list[MemorySegment]:
        return [
            s for s in self.segments if s.partition in self._owned and (partitions is None or s.partition in partitions)
        ]

    def owned(self) -> list[int]:
        return list(self._owned)

    def partitions(self) -> int:
        return self._partitions

    def spans(self) -> dict[int, Span]:
        return {partition: Span(0, pack(0, self._next[partition], 0)) for partition in self._owned}

    def forgets(self) -> dict[int, list[int]]:
        return {}

    def find(self, source_system: str, event_id: str) -> tuple[MemorySegment, int] | None:
        place = self._place.get((source_system, event_id))
        return None if place is None or place[0].partition not in self._owned else place

    def written_at(self, partition: int, source_system: str, event_id: str) -> int | None:
        times = (
            int(segment.appended_at[row])
            for segment in self.views([partition])
            for row, text in enumerate(segment.texts(range(segment.rows)))
            if (text.source_system, text.event_id) == (source_system, event_id)
        )
        return max(times, default=None)

    def at(self, partition: int, position: int) -> tuple[MemorySegment, int] | None:
        for segment in self.views([partition]):
            row = position - segment.first_position
            if 0 <= row < segment.rows and segment.live[row]:
                return segment, row
        return None

    async def wait_for(self, partition: int, offset: int, timeout_s: float) -> bool:
        async def reached() -> None:
            async with self._grown:
                await self._grown.wait_for(lambda: self._next[partition] > offset)

        try:
            await asyncio.wait_for(reached(), timeout_s)
        except TimeoutError:
            return False
        return True

    def next_offset(self, partition: int) -> int:
        return self._next[partition]

    async def notify(self) -> None:
        """Tell those who wait that rows were added."""
        async with self._grown:
            self._grown.notify_all()
