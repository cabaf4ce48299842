"""A shard: one partition's segments, and the transaction that takes a batch of its log in."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from akasha_stream.errors import ShardError, ShardWriteError
from akasha_stream.events.batch import EventBatch
from akasha_stream.events.forget import forgets
from akasha_stream.events.records import Record
from akasha_stream.hot.cutter import SegmentCutter
from akasha_stream.hot.dedupe import Deduper, Fresh, Verdict
from akasha_stream.hot.durable import passed, remove, write_bytes
from akasha_stream.hot.end_state import EndState, pack_state
from akasha_stream.hot.growing import GrowingSegment
from akasha_stream.hot.hashes import Hashed, hash_batch, identity_hash, identity_key, strings
from akasha_stream.hot.known import ShardKnown
from akasha_stream.hot.position import MAX_EPOCH, pack, pack_many
from akasha_stream.hot.schema import DROPPED_SCHEMA, TOMBSTONE_SCHEMA, SegmentName, remove_growing, row_schema
from akasha_stream.hot.sealed import SealedSegment
from akasha_stream.hot.segment import GONE, NEVER, View, end_rows, find_position
from akasha_stream.hot.segment_file import SegmentFile
from akasha_stream.hot.segment_tables import Forgets, Progress
from akasha_stream.hot.state import OUTCOMES, ShardState
from akasha_stream.incarnation import Incarnation
from akasha_stream.search.segment import Span, SystemCodes
from akasha_stream.settings import Settings
from akasha_stream.stream.digests import Digest
from akasha_stream.telemetry.following import TracedRecords
from akasha_stream.tiers.forgotten import system_hash
from akasha_stream.tiers.spilled import SpilledSegment, SpilledView

type AnySegment = GrowingSegment | SealedSegment | SpilledSegment
type AnyView = View | SpilledView

TABLE_ID = "table-id"
FOLD_EVENTS = 2_048
"""Windows are brought up to date at least so often: until then the events' vectors are kept, 3 MB."""


@dataclass(slots=True)
class Applied:
    """What a committed batch changed, for the lookups and the figures."""

    partition: int
    epoch: int
    previous_offset: int
    next_offset: int
    stored: dict[str, dict[str, int]]
    """source system → event id → position of its live row"""
    deleted: dict[str, list[str]]
    """source system → identities that have no live row any more"""
    counters: dict[str, NDArray[np.int64]]
    """source system → its counters after the batch, by Outcome; absolute, so writing them twice does no harm"""
    outcomes: NDArray[np.int64]
    """(len(Outcome),) events of the batch by outcome"""
    forgotten: list[str] = field(default_factory=list)
    """source systems of which nothing stays"""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A batch's transaction, and what it changes in memory once it is committed."""

    batch: EventBatch
    hashed: Hashed
    verdict: Verdict
    positions: NDArray[np.int64]
    rows: pa.Table
    vectors: NDArray[np.float32]
    progress: Progress
    forgets: Forgets | None


@dataclass(frozen=True, slots=True, eq=False)
class ClosedSegment:
    """A segment that takes no more rows: the sealer's work."""

    shard: Shard
    segment: GrowingSegment | SealedSegment
    file: SegmentFile | None
    """None: the segment is finished, and may have something of a forgotten system."""
    end: int

    def let_go(self) -> None:
        if self.file is not None:
            self.file.close()


class Shard:
    """The only writer of one partition's data. `lock` guards the segments; searches take views without it.

    Everything in memory changes after COMMIT only, so a batch that failed can simply be applied again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        topic: str,
        partition: int,
        settings: Settings,
        codes: SystemCodes,
        on_closed: Callable[[ClosedSegment], None],
        segments: Sequence[AnySegment],
        file: SegmentFile,
        state: ShardState,
        progress: Progress,
        incarnation: Incarnation,
    ) -> None:
        self.folder = folder
        self.topic = topic
        self.partition = partition
        self.lock = threading.RLock()
        self.incarnation = incarnation
        self._settings = settings
        self._codes = codes
        self._on_closed = on_closed
        self._segments: tuple[AnySegment, ...] = tuple(segments)
        self._file: SegmentFile | None = file
        self._state = state
        self._progress = progress
        self._unlimited = False
        self._in_doubt: _Prepared | None = None
        self._found_committed: list[Applied] = []
        self.forgets: tuple[Forgets, ...] = ()
        """Control messages of the local segments, in log order."""
        self._ends_here = False
        """The growing segment's last record forgets a system: the next one begins a new segment."""
        self._cutter = SegmentCutter(settings.hot.seal_rows, int(settings.hot.seal_age_s * 1000))
        self._deduper = Deduper(settings.dedupe)
        self._rows = row_schema(settings.limits.dimensions)
        self.closed = False
        self.traced = TracedRecords()
        self.table_id = _table_id(folder)
        """Random name of this copy of the shard: the lookups in Redis belong to it."""

    @property
    def epoch(self) -> int:
        return self._growing.name.epoch

    @property
    def next_offset(self) -> int:
        """Offset of the first record that is not stored: where reading goes on."""
        return self._progress.next_offset

    @property
    def progress(self) -> Progress:
        return self._progress

    @property
    def segments(self) -> tuple[AnySegment, ...]:
        return self._segments

    @property
    def counters(self) -> dict[str, NDArray[np.int64]]:
        return self._state.counters

    @property
    def _growing(self) -> GrowingSegment:
        last = self._segments[-1]
        assert isinstance(last, GrowingSegment)
        return last

    def knows_other(self, record: Record) -> bool:
        """Whether the shard's last record has this one's offset and other bytes: then it is another log."""
        progress = self._progress
        return record.offset == progress.last_offset and fingerprint(record) != progress.last_fingerprint

    def span(self) -> Span:
        """What it has of the log."""
        first = self._segments[0].name
        return Span(pack(first.epoch, first.start, 0), pack(self.epoch, self.next_offset, 0))

    def views(self) -> list[AnyView]:
        return [segment.view() for segment in self._segments]

    def find(self, source_system: str, event_id: str) -> tuple[AnyView, int] | None:
        """The live row of an identity."""
        key = identity_key(source_system, event_id)
        hashed = identity_hash(key)
        for _ in range(3):
            masked = False
            for segment in reversed(self._segments):
                for row in segment.with_identity(key, hashed):
                    if segment.live[row] and row < segment.rows:
                        return segment.view(), row
                    masked = True
            if not masked:
                break
            # Deleted, or replaced since it was looked up; a row is masked only after its replacement is there.
        return None

    def written_at(self, source_system: str, event_id: str) -> int | None:
        """When the log took the newest version of an identity that is known here, deleted ones too; microseconds."""
        key = identity_key(source_system, event_id)
        hashed = identity_hash(key)
        times = (
            int(segment.appended_at[row])
            for segment in self._segments
            for row in segment.with_identity(key, hashed)
            if row < segment.rows
        )
        return max(times, default=None)

    def at(self, position: int) -> tuple[AnyView, int] | None:
        """The live row at a position."""
        for segment in reversed(self._segments):
            row = find_position(segment.positions[: segment.rows], position)
            if row is not None:
                return (segment.view(), row) if segment.live[row] else None
        return None

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, records: Sequence[Record], batch: EventBatch, dead_letters: Sequence[int] = ()) -> list[Applied]:
        """Commit records of this partition, in log order, and the events they hold; once each.

        `dead_letters`: offset of the record of each dead letter. Records below `next_offset` are skipped:
        they are stored already. One transaction a segment that the records fall into, so mostly one.

        Raises ShardWriteError when a transaction did not happen (disk full …): what came before it is
        stored, nothing after, and the same call may be made again; it then returns what the failed one stored too.
        """
        with self.lock:
            if self.closed:
                raise ShardError(f"shard {self.partition} of {self.topic} is closed")
            self._reopen_if_broken()
            if self._ends_here:
                self._roll(self.epoch, self.next_offset, self.incarnation)
            fresh = [record for record in records if record.offset >= self.next_offset]
            for part in self._parts(fresh, batch):
                self._found_committed.append(self._commit(part, _between(batch, part), _count_in(dead_letters, part)))
                if self._ends_here:
                    self._roll(self.epoch, self.next_offset, self.incarnation)
            applied, self._found_committed = self._found_committed, []
            return applied

    def _parts(self, records: Sequence[Record], batch: EventBatch) -> Iterator[Sequence[Record]]:
        """The records cut at segment ends. Rolls to the next segment between two parts.

        A record that forgets a system is a part of its own, and the last one of its segment.
        """
        events = _events_of(records, batch)
        progress = self._progress
        rows, first = progress.events, progress.first_timestamp_ms
        start = 0
        for i, record in enumerate(records):
            if forgets(record) is not None:
                if i > start:
                    yield records[start:i]
                yield records[i : i + 1]
                rows, first, start = 0, None, i + 1
                continue
            if self._cutter.cut_before(rows, first, events[i], record.timestamp_ms):
                if i > start:
                    yield records[start:i]
                self._roll(self.epoch, self.next_offset, self.incarnation)
                rows, first, start = 0, None, i
            rows += events[i]
            if first is None:
                first = record.timestamp_ms
        if len(records) > start:
            yield records[start:]

    def _commit(self, records: Sequence[Record], batch: EventBatch, dead_letters: int) -> Applied:
        if self._state.unfolded >= FOLD_EVENTS:
            self._state.fold()
        hashed = hash_batch(batch)
        verdict = self._deduper.judge(batch, hashed, ShardKnown(self._segments, batch, hashed, self._codes))
        positions = pack_many(self.epoch, batch.offset, batch.index)
        keep = np.array(verdict.store, np.int64)
        rows, vectors = self._new_rows(batch, hashed, verdict, positions, keep)
        tombstones = self._tombstones(batch, verdict, positions)
        dropped = _dropped(batch, verdict, positions)
        before, last = self._progress, records[-1]
        progress = Progress(
            next_offset=last.offset + 1,
            last_offset=last.offset,
            last_timestamp_ms=last.timestamp_ms,
            last_fingerprint=fingerprint(last),
            first_timestamp_ms=records[0].timestamp_ms
            if before.first_timestamp_ms is None
            else before.first_timestamp_ms,
            events=before.events + len(batch),
            dead_letters=before.dead_letters + dead_letters,
            digests_acked=self._state.digests_acked,
        )
        hashed_name = forgets(last)
        forgotten = None
        if hashed_name is not None:
            forgotten = Forgets(pack(self.epoch, last.offset, 0), hashed_name, self._state.digests_acked)
        prepared = _Prepared(batch, hashed, verdict, positions, rows, vectors, progress, forgotten)
        self._write(prepared, {"rows": rows, "tombstones": tombstones, "dropped": dropped})
        passed("committed")
        return self._take_in(prepared)

    def _take_in(self, prepared: _Prepared) -> Applied:
        """Change memory as a committed transaction says. Nothing in it may fail."""
        batch, hashed, verdict = prepared.batch, prepared.hashed, prepared.verdict
        growing, before = self._growing, self._progress
        first_row = growing.rows
        growing.append(prepared.rows, prepared.vectors)
        ordinal = {event: first_row + i for i, event in enumerate(verdict.store)}
        for row, event, _ in verdict.masks:
            by = int(prepared.positions[event])
            if isinstance(row, Fresh):
                end_rows(growing, ordinal[row.event], by)
            else:
                end_rows(self._segments[row.segment], row.row, by)
        self._progress = prepared.progress
        counters = self._state.take(hashed.systems, batch.created_at, verdict.outcome, batch.embedding, batch.offset)
        stored, deleted = _final(batch, hashed, verdict, prepared.positions)
        forgotten: list[str] = []
        if prepared.forgets is not None:
            forgotten = self._forget(prepared.forgets)
            counters = {}
        return Applied(
            partition=self.partition,
            epoch=self.epoch,
            previous_offset=before.next_offset,
            next_offset=prepared.progress.next_offset,
            stored=stored,
            deleted=deleted,
            counters=counters,
            outcomes=np.bincount(verdict.outcome, minlength=OUTCOMES),
            forgotten=forgotten,
        )

    def reopened(self, forgets: Sequence[Forgets], *, ends_here: bool) -> None:
        """For whoever opens the shard: the control messages of its segments, and whether one ends the growing one."""
        self.forgets, self._ends_here = tuple(forgets), ends_here

    def _forget(self, forgets: Forgets) -> list[str]:
        """Mask the rows of a system, and drop what else is known of it; its name, where there is anything."""
        self._ends_here = True
        self.forgets = (*self.forgets, forgets)
        mask_forgotten(self._segments, forgets, self._codes)
        if not self._settings.tiers.enabled:  # else the object store takes the segments over, without these rows
            for segment in self._segments:
                if isinstance(segment, SealedSegment):
                    self._on_closed(ClosedSegment(self, segment, None, segment.end))
        return self._state.forget(forgets.system_sha256)

    def _new_rows(
        self,
        batch: EventBatch,
        hashed: Hashed,
        verdict: Verdict,
        positions: NDArray[np.int64],
        keep: NDArray[np.int64],
    ) -> tuple[pa.Table, NDArray[np.float32]]:
        """The rows to insert (schema.row_schema) and their vectors, (n, dimensions)."""
        everything = len(keep) == len(batch)
        vectors = np.ascontiguousarray(batch.embedding if everything else batch.embedding[keep])
        taken = _numbers(keep)

        def text(column: pa.StringArray) -> pa.Array[Any]:
            return column if everything else column.take(taken)

        def numbers(values: NDArray[Any]) -> pa.Array[Any]:
            array: pa.Array[Any] = pa.array(values if everything else values[keep])
            return array

        embedding = pa.FixedSizeBinaryArray.from_buffers(
            self._rows.field("embedding").type, len(keep), [None, pa.py_buffer(vectors)]
        )
        columns = [
            numbers(positions),
            text(batch.source_system),
            text(batch.event_id),
            text(batch.content),
            embedding,
            text(batch.model),
            text(batch.metadata),
            numbers(batch.created_at),
            numbers(batch.appended_at),
            numbers(verdict.outcome == 1),
            numbers(hashed.identity),
            numbers(hashed.payload),
            numbers(hashed.content),
        ]
        return pa.Table.from_arrays(columns, schema=self._rows), vectors

    def _tombstones(self, batch: EventBatch, verdict: Verdict, positions: NDArray[np.int64]) -> pa.Table | None:
        if not verdict.masks:
            return None
        by = [event for _, event, _ in verdict.masks]
        taken = _numbers(np.array(by, np.int64))
        masked = [
            int(positions[row.event]) if isinstance(row, Fresh) else int(self._segments[row.segment].positions[row.row])
            for row, _, _ in verdict.masks
        ]
        return pa.Table.from_arrays(
            [
                pa.array(masked, pa.int64()),
                pa.array(positions[by]),
                pa.array([deleted for _, _, deleted in verdict.masks]),
                batch.source_system.take(taken),
                batch.event_id.take(taken),
            ],
            schema=TOMBSTONE_SCHEMA,
        )

    def _write(self, prepared: _Prepared, tables: dict[str, pa.Table | None]) -> None:
        file = self._file
        if file is None:
            raise ShardWriteError(f"shard {self.partition} of {self.topic} has no open file")
        try:
            with file.transaction(sum(table.nbytes for table in tables.values() if table is not None)):
                for name, table in tables.items():
                    if table is not None and table.num_rows:
                        file.insert(name, table)
                if prepared.forgets is not None:
                    file.insert_forgets(prepared.forgets)
                file.insert_progress(prepared.progress)
                passed("before commit")
        except ShardWriteError:
            # A failed COMMIT is in doubt, and DuckDB may refuse all that follows: only the file, read
            # anew, says whether the batch is in it. Where it can't be read yet, the next call does it.
            self._file, self._in_doubt = None, prepared
            with contextlib.suppress(Exception):
                file.close()
            raise
        if self._unlimited:
            file.limit_memory()
            self._unlimited = False

    def _reopen_if_broken(self) -> None:
        """After a failed transaction: open the file again, and take in what was committed after all."""
        if self._file is not None:
            return
        # Until the next commit with all the memory that it wants: a transaction too large for the limit
        # would fail for ever.
        file = SegmentFile.open(self._growing.name.growing(self.folder), dimensions=self._settings.limits.dimensions)
        if file is None:
            raise ShardWriteError(f"shard {self.partition} of {self.topic}: its growing segment is gone")
        try:
            stored = file.progress().next_offset
        except BaseException:
            file.close()
            raise
        self._file, self._unlimited = file, True
        prepared, self._in_doubt = self._in_doubt, None
        if prepared is not None and stored == prepared.progress.next_offset:
            self._found_committed.append(self._take_in(prepared))

    # ── segments ─────────────────────────────────────────────────────────────────────────────────────────

    def _roll(self, epoch: int, start: int, incarnation: Incarnation) -> None:
        """Open the next segment, then hand the one before to the sealer: its checkpoint takes a second."""
        growing, file, before = self._growing, self._file, self._progress
        if file is None:
            raise ShardWriteError(f"shard {self.partition} of {self.topic} has no open file")
        same_log = epoch == growing.name.epoch
        progress = Progress(
            next_offset=start,
            last_offset=before.last_offset if same_log else None,
            last_timestamp_ms=before.last_timestamp_ms if same_log else None,
            last_fingerprint=before.last_fingerprint if same_log else None,
            dead_letters=before.dead_letters,
        )
        name = SegmentName(epoch, start)
        snapshot = self._state.snapshot()
        write_bytes(growing.name.state(self.folder), pack_state(EndState.of(before, snapshot)))
        passed("state written")
        new = SegmentFile.create(
            self.folder,
            name,
            topic=self.topic,
            partition=self.partition,
            dimensions=self._settings.limits.dimensions,
            incarnation=incarnation,
            progress=progress,
            snapshot=snapshot,
        )
        following = new_growing(name, self.partition, self._settings, self._codes)
        passed("next segment created")
        self._state.digests_acked = 0
        self._unlimited = self._ends_here = False
        self._file = new
        self._progress = progress
        self.incarnation = incarnation
        self._segments = (*self._segments, following)
        self._on_closed(ClosedSegment(self, growing, file, before.next_offset))

    def due(self, now_ms: int) -> bool:
        """Whether the growing segment is old enough to seal, if the log has no more records."""
        return not self.closed and self._cutter.due(self._progress.first_timestamp_ms, now_ms)

    def seal_if_due(self, now_ms: int, end_offset: int) -> bool:
        """Seal a segment that is old enough, though no record came to cut it.

        Only at the end of the log (`end_offset`: its next offset): a worker that catches up on old records
        would cut a tiny segment each time it is asked, and another one would cut elsewhere.
        """
        with self.lock:
            if self.closed:
                return False
            self._reopen_if_broken()
            if self.next_offset < end_offset or not self.due(now_ms):
                return False
            self._roll(self.epoch, self.next_offset, self.incarnation)
            return True

    def seal(self) -> bool:
        """Seal what the growing segment has, now."""
        with self.lock:
            if self.closed:
                return False
            self._reopen_if_broken()
            if self._progress.first_timestamp_ms is None:
                return False
            self._roll(self.epoch, self.next_offset, self.incarnation)
            return True

    def begin_log(self, incarnation: Incarnation, start: int = 0) -> None:
        """The topic was recreated: what is stored stays, and offsets count anew from `start`."""
        with self.lock:
            if self.epoch == MAX_EPOCH:
                raise ShardError(f"{self.topic} was recreated {MAX_EPOCH} times; rebuild the shard to go on")
            self._reopen_if_broken()
            self._roll(self.epoch + 1, start, incarnation.named())

    def replace_segment(self, old: AnySegment, new: SealedSegment) -> None:
        """Put a finished segment in the place of an earlier form of it; masks made meanwhile come along.

        It may lack rows, of forgotten systems.
        """
        with self.lock:
            _take_masks([old], new)
            for message in self.forgets:
                mask_forgotten([new], message, self._codes)
            self._segments = tuple(new if segment is old else segment for segment in self._segments)

    def unspilled(self) -> list[SealedSegment]:
        """Finished segments that the object store does not have, in log order; later ones wait for earlier ones."""
        found: list[SealedSegment] = []
        for segment in self._segments:
            if isinstance(segment, GrowingSegment):
                break
            if isinstance(segment, SealedSegment) and not segment.spilled and segment.end > segment.name.start:
                found.append(segment)
        return found

    @property
    def has_forgotten(self) -> bool:
        """Whether rows of a forgotten system are in local files that the object store could take over."""
        return any(isinstance(s, SealedSegment) and s.spilled and s.has_forgotten for s in self._segments)

    @property
    def forgetting(self) -> int:
        """Segments whose local files have rows of a forgotten system: they are rewritten, or left to the store."""
        return sum(not isinstance(s, SpilledSegment) and s.has_forgotten for s in self._segments)

    def oldest_local(self) -> SealedSegment | None:
        """The oldest segment that is still here as a whole, if the object store has it too.

        What is left to the object store is always the beginning of the shard: its masks come of its own rows.
        """
        for segment in self._segments:
            if isinstance(segment, SealedSegment) and segment.end > segment.name.start:
                return segment if segment.spilled else None
        return None

    def leave_to_store(self, new: SpilledSegment) -> bool:
        """Search a segment in the object store in the place of those here that it covers, and remove those.

        It takes over their masks; it may have fewer rows: the store leaves out what counts no more. False where they
        are not all here, or not all in the store, or the shard was closed meanwhile: then nothing is changed.
        """
        with self.lock:
            if self.closed:
                return False
            covered = [s for s in self._segments if s.name.epoch == new.name.epoch and _covers(new, s)]
            if not covered or covered[0].name.start != new.name.start or _end(covered[-1]) != new.end:
                return False
            _take_masks(covered, new)
            first = self._segments.index(covered[0])
            self._segments = (*self._segments[:first], new, *self._segments[first + len(covered) :])
        passed("left to the store")
        for old in covered:
            if isinstance(old, SealedSegment) and old.index is not None:
                old.index.close()
            # What has its tombstones first: recovery takes the segment for whole as long as it finds those.
            remove(old.name.sealed(self.folder))
            passed("sealed removed")
            remove_growing(self.folder, old.name)
            remove(old.name.arrow(self.folder))
            if old.name != new.name:
                remove(old.name.stub(self.folder))
        return True

    def fold_windows(self) -> None:
        """Bring the windows up to what is committed; to be called every second or so, or digests wait for events."""
        with self.lock:
            self._state.fold()

    # ── digests ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def has_pending_digests(self) -> bool:
        return bool(self._state.pending)

    @property
    def digests_waiting(self) -> int:
        """Closed windows whose digest Kafka has not acknowledged."""
        return len(self._state.pending)

    @property
    def open_windows(self) -> int:
        return self._state.windows.open_count

    def pending_digests(self, count: int) -> list[Digest]:
        """Up to `count` digests of closed windows that Kafka has not acknowledged, oldest first.

        Without the lock, so that the event loop never waits for a commit: `pending` is only appended to, and
        only the caller takes from its front.
        """
        return self._state.pending[:count]

    def digests_acknowledged(self, count: int) -> None:
        """Kafka has the oldest `count`; becomes durable with the next batch, until then they may be sent again."""
        with self.lock:
            self._state.acknowledged(count)

    def close(self) -> None:
        """Let go of the files; committed rows are safe in the WAL, a checkpoint would only delay a shutdown.

        Views that searches still hold stay good.
        """
        with self.lock:
            self.closed = True
            if self._file is not None:
                with contextlib.suppress(ShardWriteError):
                    if self._state.digests_acked != self._progress.digests_acked:
                        with self._file.transaction(0):
                            self._file.insert_progress(replace(self._progress, digests_acked=self._state.digests_acked))
                self._file.close()
                self._file = None
            for segment in self._segments:
                if segment.index is not None:
                    segment.index.close()


def mask_forgotten(segments: Sequence[AnySegment], forgets: Forgets, codes: SystemCodes) -> None:
    """Mask the rows of a system before the control message. Nothing unmasks them."""
    for name in codes.names():
        if system_hash(name) != forgets.system_sha256:
            continue
        code = codes.code(name)
        for segment in segments:
            rows = segment.rows
            gone = (segment.systems[:rows] == code) & (segment.positions[:rows] < forgets.position)
            if gone.any():
                end_rows(segment, np.flatnonzero(gone), GONE)
                segment.has_forgotten = True


def _take_masks(covered: Sequence[AnySegment], new: SealedSegment | SpilledSegment) -> None:
    """Of a segment's rows those live that are in the ones whose place it takes; it may have fewer than they."""
    new.ended[:] = GONE
    for old in covered if new.rows else ():
        places = old.positions[: old.rows]
        at = np.minimum(np.searchsorted(new.positions, places), new.rows - 1)
        here = new.positions[at] == places
        new.ended[at[here]] = old.ended[: old.rows][here]
    new.live[:] = new.ended == NEVER


def _covers(new: SpilledSegment, other: AnySegment) -> bool:
    if isinstance(other, GrowingSegment) or (isinstance(other, SealedSegment) and not other.spilled):
        return False
    return new.name.start <= other.name.start and other.end <= new.end


def _end(segment: AnySegment) -> int:
    assert not isinstance(segment, GrowingSegment)
    return segment.end


def new_growing(
    name: SegmentName, partition: int, settings: Settings, codes: SystemCodes, *, least: int = 0
) -> GrowingSegment:
    """`least`: rows that it must hold, having been written with other settings."""
    # One record may hold more events than a segment is meant to: it must fit all the same.
    capacity = max(settings.hot.seal_rows, settings.limits.bundle_events, least)
    return GrowingSegment(name, partition, capacity, settings.limits.dimensions, codes)


def _table_id(folder: Path) -> str:
    path = folder / TABLE_ID
    if not path.exists():
        write_bytes(path, uuid.uuid4().hex.encode())
    return path.read_text()


def fingerprint(record: Record) -> int:
    """xxh3-64 of a record's time and bytes, as a signed 64-bit integer is not: 0 … 2⁶⁴ - 1."""
    head = f"{record.timestamp_ms}\x00".encode()
    return xxh3_64_intdigest(head + (record.key or b"") + b"\x00" + (record.value or b""))


def _events_of(records: Sequence[Record], batch: EventBatch) -> list[int]:
    """Events of each record."""
    offsets = np.fromiter((record.offset for record in records), np.int64, len(records))
    left = np.searchsorted(batch.offset, offsets, "left")
    counts: list[int] = (np.searchsorted(batch.offset, offsets, "right") - left).tolist()
    return counts


def _count_in(offsets: Sequence[int], records: Sequence[Record]) -> int:
    first, last = records[0].offset, records[-1].offset
    return sum(first <= offset <= last for offset in offsets)


def _between(batch: EventBatch, records: Sequence[Record]) -> EventBatch:
    """The events of a run of records."""
    left = int(np.searchsorted(batch.offset, records[0].offset, "left"))
    right = int(np.searchsorted(batch.offset, records[-1].offset, "right"))
    if left == 0 and right == len(batch):
        return batch
    return batch[left:right]


def _dropped(batch: EventBatch, verdict: Verdict, positions: NDArray[np.int64]) -> pa.Table | None:
    """Events that became no row: deletes and duplicates. Windows and counters are folded over them too."""
    gone = np.flatnonzero(verdict.outcome > 1)
    if not len(gone):
        return None
    return pa.Table.from_arrays(
        [
            pa.array(positions[gone]),
            batch.source_system.take(_numbers(gone)),
            pa.array(batch.created_at[gone]),
            pa.array(batch.appended_at[gone]),
            pa.array(verdict.outcome[gone]),
        ],
        schema=DROPPED_SCHEMA,
    )


def _numbers(values: NDArray[np.int64]) -> pa.Int64Array:
    array: pa.Int64Array = pa.array(values, pa.int64())
    return array


def _final(
    batch: EventBatch, hashed: Hashed, verdict: Verdict, positions: NDArray[np.int64]
) -> tuple[dict[str, dict[str, int]], dict[str, list[str]]]:
    """Where each identity that the batch touched stands after it."""
    ids = strings(batch.event_id)
    where = positions.tolist()
    stored: dict[str, dict[str, int]] = {}
    for event in verdict.store:
        stored.setdefault(hashed.systems[event], {})[ids[event]] = where[event]
    deleted: dict[str, list[str]] = {}
    for _, event, by_delete in verdict.masks:
        if by_delete:
            system, event_id = hashed.systems[event], ids[event]
            now = stored.get(system, {})
            if now.get(event_id, -1) < where[event]:
                now.pop(event_id, None)
                deleted.setdefault(system, []).append(event_id)
    return stored, deleted
