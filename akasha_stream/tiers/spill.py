"""Spilling: finished segments go to the object store, in log order, behind ingest and never in its way.

The steps for one segment, in this order, and what a crash after each leaves:

    1. `<end>.state` is put          a small object that the same spill, made again, finds in its place
    2. the segment is put            it is stored; made again, the put finds it and goes on
    3. the stub is written here      this worker knows that the segment is stored
    4. local state file and the store's older state are removed

After a while (tiers.keep_local_*) what is here of the segment is removed, and searches go to the object store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import structlog

from akasha_stream.errors import AkashaError, SegmentTaken, StorageError
from akasha_stream.hot.durable import passed, remove
from akasha_stream.hot.position import unpack
from akasha_stream.hot.sealed import SealedSegment
from akasha_stream.hot.segment_tables import Forgets
from akasha_stream.hot.shard import Shard
from akasha_stream.hot.store import ShardStore
from akasha_stream.settings import Settings
from akasha_stream.storage.settings import TierName
from akasha_stream.telemetry.tracing import linked_span
from akasha_stream.tiers.bodies import SegmentBodies
from akasha_stream.tiers.changelog import changelog
from akasha_stream.tiers.forgotten import system_hash
from akasha_stream.tiers.keys import STATE_SUFFIX, LogId, SegmentKey
from akasha_stream.tiers.parquet_segment import EncodedSegment, write_changelog
from akasha_stream.tiers.retention import by_system
from akasha_stream.tiers.segment_store import SegmentStore
from akasha_stream.tiers.spilled import SpilledSegment
from akasha_stream.tiers.stored_segment import StoredSegment
from akasha_stream.tiers.stub import Stub, make_stub, open_stub, write_stub

log = structlog.get_logger(__name__)

CHECK_S = 1.0
RETRY_S = (1.0, 60.0)


@dataclass(frozen=True, slots=True)
class SpillBacklog:
    """What waits to be spilled."""

    segments: int
    rows: int
    error: str | None
    """Why the last try failed; None: it did not."""


@dataclass(slots=True)
class SpillTotals:
    """Since the start of the process."""

    segments: int = 0
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0
    """In which segments were encoded and put."""
    errors: int = 0
    """Tries that failed."""


class Spiller:
    """Spills the segments of this worker's shards, one at a time. `run()` is one task of the event loop.

    The store that is slow, failing or full delays the spill: `backlog()` grows, and nothing else waits.
    """

    def __init__(
        self,
        shards: ShardStore,
        segments: SegmentStore,
        bodies: SegmentBodies,
        settings: Settings,
        *,
        on_taken: Callable[[int], Awaitable[None]],
        on_forgotten: Callable[[str, dict[LogId, int]], Awaitable[None]],
        holds: Callable[[int], bool] = lambda _partition: True,
    ) -> None:
        """`on_taken`: this worker's part of a partition's log was spilled by another, cut otherwise.

        `on_forgotten`: a segment that is about to be spilled forgets the system with this hash, up to these offsets;
        its message goes with the local file, so the ledger must have it before.

        `holds`: whether a partition is certainly still this worker's; the segments of others wait.
        """
        self._on_forgotten = on_forgotten
        self._shards = shards
        self._segments = segments
        self._bodies = bodies
        self._settings = settings
        self._on_taken = on_taken
        self._holds = holds
        self._error: str | None = None
        self.totals = SpillTotals()

    def backlog(self) -> SpillBacklog:
        waiting = [segment for shard in self._shards.shards() for segment in shard.unspilled()]
        return SpillBacklog(len(waiting), sum(segment.rows for segment in waiting), self._error)

    async def run(self) -> None:
        """Until cancelled."""
        shortest, longest = RETRY_S
        pause = CHECK_S
        while True:
            await asyncio.sleep(pause)
            try:
                await self.spill()
                await self.leave_to_store()
                pause = CHECK_S
            except (AkashaError, OSError) as error:
                self.totals.errors += 1
                if self._error is None:
                    log.warning("segments not spilled, will try again", error=str(error))
                    pause = shortest
                else:
                    pause = min(longest, pause * 2)
                self._error = str(error)

    async def spill(self) -> int:
        """Spill what is finished; the number of segments. Raises StorageError, OSError."""
        spilled = 0
        for shard in self._shards.shards():
            for segment in shard.unspilled():
                if shard.closed or not self._holds(shard.partition):
                    break
                try:
                    await self._spill(shard, segment)
                except SegmentTaken as error:
                    log.warning("spilled by another worker, cut otherwise: opening it from the store", error=str(error))
                    await self._on_taken(shard.partition)
                    break
                self._error = None
                spilled += 1
        self._error = None
        return spilled

    async def _spill(self, shard: Shard, segment: SealedSegment) -> None:
        key = segment_key(shard, segment)
        follows = shard.traced.between(segment.name.epoch, key.start, key.end)
        with linked_span("spill", follows, partition=shard.partition, rows=segment.rows):
            await self._put(shard, segment, key)

    async def _put(self, shard: Shard, segment: SealedSegment, key: SegmentKey) -> None:
        started = time.monotonic()
        older_states = await self._check_taken(key)
        await self._note_forgotten(shard, key)
        made, stub = await asyncio.to_thread(self._encode, shard, key, segment)
        passed("spill encoded")
        await self._put_state(shard, segment, key)
        passed("state put")
        stored = await self._segments.put(made)
        passed("segment put")
        stub = Stub(stored.footer, stub.rows)  # where another was first, its footer is the object's
        await asyncio.to_thread(write_stub, segment.name.stub(shard.folder), stub)
        passed("stub written")
        segment.spilled = True
        remove(segment.name.state(shard.folder))
        await self._remove(older_states)
        passed("older states removed")
        seconds = time.monotonic() - started
        self.totals.segments += 1
        self.totals.rows += made.footer.rows
        self.totals.bytes += stored.size
        self.totals.seconds += seconds
        log.info(
            "segment spilled",
            partition=shard.partition,
            segment=stored.path,
            rows=made.footer.rows,
            bytes=stored.size,
            seconds=round(seconds, 2),
        )

    async def _note_forgotten(self, shard: Shard, key: SegmentKey) -> None:
        for each in _forgets_in(shard, key.start, key.end):
            ends = {log: self._segments.catalog.end(log) or 0 for log in self._logs(shard.partition)}
            ends[key.log] = unpack(each.position).offset
            await self._on_forgotten(each.system_sha256, ends)

    def _logs(self, partition: int) -> list[LogId]:
        topic = self._settings.topics.embeddings
        return [log for log in self._segments.catalog.logs if (log.topic, log.partition) == (topic, partition)]

    def _encode(self, shard: Shard, key: SegmentKey, segment: SealedSegment) -> tuple[EncodedSegment, Stub]:
        dimensions, precision = self._settings.limits.dimensions, self._settings.tiers.precision
        table = self._changelog(shard, segment)
        made = write_changelog(key, segment.name.epoch, table, dimensions, precision)
        return made, make_stub(made.footer, table)

    def _changelog(self, shard: Shard, segment: SealedSegment) -> pa.Table:
        """What of a segment is spilled: everything but the rows of a system that the segment itself forgets.

        Not what a later one forgets: which of them is known here depends on when it is spilled, and the same offsets
        must make the same object whenever that is. Compaction rewrites it then.
        """
        dimensions, precision = self._settings.limits.dimensions, self._settings.tiers.precision
        rows, deletes = segment.table(), segment.deletes
        for each in _forgets_in(shard, segment.name.start, segment.end):
            rows, deletes = _without(rows, each), _without(deletes, each)
        return changelog(rows, deletes, segment.partition, dimensions, precision)

    async def _check_taken(self, key: SegmentKey) -> list[tuple[TierName, str]]:
        """The states that are in the store so far, which this segment's makes superfluous.

        Raises SegmentTaken where the store has a part of these offsets under another key.

        A worker that lost its partition without knowing, and cut otherwise, stops here. One that stands still between
        this look and its put leaves an overlap: the same rows twice, which readers take for one (live.py), and which
        compaction removes.
        """
        states = await self._segments.refresh(key.log)
        for other in self._segments.catalog.current(key.log):
            if other.key.start < key.end and key.start < other.key.end and other.key != key:
                raise SegmentTaken(f"{other.path} has offsets of [{key.start}, {key.end})")
        mine = f"{key.end:020d}{STATE_SUFFIX}"
        return [(tier, path) for tier, path in states if path.rpartition("/")[2] < mine]

    async def _put_state(self, shard: Shard, segment: SealedSegment, key: SegmentKey) -> None:
        path = segment.name.state(shard.folder)
        try:
            state = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            log.warning("spilled without its windows and counters: their file is gone", segment=str(segment.name))
            return
        await self._segments.put_state(key.log, key.end, state)

    async def _remove(self, states: list[tuple[TierName, str]]) -> None:
        try:
            await self._segments.delete_states(states)
        except StorageError as error:  # the next clean-up finds it
            log.info("older state not removed", error=str(error))

    async def leave_to_store(self) -> int:
        """Remove the local copy of what is spilled and old, or more than is to be kept; the number of segments."""
        left = 0
        while (found := self._next_to_leave()) is not None:
            shard, segment = found
            stored = self._segments.catalog.find(segment_key(shard, segment))
            if stored is None:
                break  # the store could not be listed yet
            if not await asyncio.to_thread(self._leave, shard, segment, stored):
                break
            left += 1
        return left

    def _next_to_leave(self) -> tuple[Shard, SealedSegment] | None:
        tiers = self._settings.tiers
        local = [s for shard in self._shards.shards() for s in shard.segments if isinstance(s, SealedSegment)]
        rows = sum(segment.rows for segment in local if segment.spilled)
        ready = [
            (shard, segment)
            for shard in self._shards.shards()
            if (segment := shard.oldest_local()) is not None and not self._shards.is_sealing(segment)
        ]
        if not ready:
            return None
        shard, segment = min(ready, key=lambda each: _appended(each[1]))
        old = _appended(segment) < (time.time() - tiers.keep_local_s) * 1e6
        if old or rows > tiers.keep_local_rows:
            return shard, segment
        return next((each for each in ready if each[0].has_forgotten), None)

    def _leave(self, shard: Shard, segment: SealedSegment, stored: StoredSegment) -> bool:
        stub = open_stub(segment.name.stub(shard.folder))
        spilled = SpilledSegment(stub, stored, self._shards.codes, self._bodies)
        # While its rows are at hand: the first search would fetch them again.
        if spilled.rows == segment.rows:
            self._bodies.seed(spilled, self._changelog(shard, segment))
        return shard.leave_to_store(spilled)


def segment_key(shard: Shard, segment: SealedSegment) -> SegmentKey:
    return SegmentKey(LogId(shard.topic, segment.incarnation, shard.partition), segment.name.start, segment.end)


def _forgets_in(shard: Shard, start: int, end: int) -> list[Forgets]:
    """The control messages of these offsets of the shard's current log."""
    places = [(unpack(each.position), each) for each in shard.forgets]
    return [each for place, each in places if place.epoch == shard.epoch and start <= place.offset < end]


def _without(table: pa.Table, forgets: Forgets) -> pa.Table:
    """Less the rows of a system before the message that forgets it."""
    gone = by_system(table["source_system"], lambda system: system_hash(system) == forgets.system_sha256)
    return table.filter(pa.array((gone == 0) | (table["position"].to_numpy() >= forgets.position)))


def _appended(segment: SealedSegment) -> float:
    """When its last row was appended to the log, microseconds; a segment without rows can go at once."""
    return float(np.max(segment.appended_at)) if segment.rows else 0.0
