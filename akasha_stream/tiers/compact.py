"""Compaction of whole logs, with a worker beside it or without one: plan, rewrite, clean up."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from akasha_stream.errors import SegmentCorrupt, StorageError
from akasha_stream.hot.position import pack
from akasha_stream.settings import Settings
from akasha_stream.storage.settings import TierName
from akasha_stream.tiers.changelog import UPSERT
from akasha_stream.tiers.clean_up import Cleaned, clean_up
from akasha_stream.tiers.compact_group import Compacted, compact_group
from akasha_stream.tiers.compaction_plan import Group, Place, Reason, Waste, plan_compaction
from akasha_stream.tiers.forgotten import Forgotten, load_forgotten
from akasha_stream.tiers.identities import Keys, identity_keys, superseded
from akasha_stream.tiers.keys import LogId, SegmentKey
from akasha_stream.tiers.merging import DECIDING, NO_POSITIONS, Earlier
from akasha_stream.tiers.names import read_names
from akasha_stream.tiers.retention import OVERDUE, Retention
from akasha_stream.tiers.stored_segment import StoredSegment

if TYPE_CHECKING:
    from akasha_stream.tiers.segment_store import SegmentStore

Masked = Mapping[LogId, NDArray[np.int64]]
"""Positions of rows that are replaced or deleted by rows that are spilled themselves."""


@dataclass(frozen=True, slots=True)
class GroupReport:
    """A group that was rewritten, or would be. `new` None: it was not, `why` says for what reason ("" in a dry run)."""

    log: LogId
    tier: TierName
    reason: Reason
    old: tuple[str, ...]
    new: str | None
    rows: int
    rows_left: int
    bytes: int
    bytes_left: int
    why: str = ""


@dataclass(slots=True)
class CompactReport:
    """`problems`: what could not be read, and what follows from it."""

    dry_run: bool
    groups: list[GroupReport] = field(default_factory=list)
    cleaned: Cleaned = field(default_factory=Cleaned)
    problems: list[str] = field(default_factory=list)


async def compact_logs(
    store: SegmentStore,
    logs: Collection[LogId] | None = None,
    *,
    dry_run: bool,
    settings: Settings,
    masked: Masked | None = None,
    on_progress: Callable[[GroupReport], None] | None = None,
) -> CompactReport:
    """Compact logs (None: all that the tiers hold), one group after another, then delete what has been superseded.

    Loads the catalog itself. `settings.compaction` and `settings.retention` say what is done. `masked`: what a worker
    knows of its logs; of the others it is told from the segments, whose names are read (some 50 bytes a row).
    `on_progress`: called after each group. Safe beside running workers and a second call elsewhere, and wherever it
    ends: the next call goes on.

    Raises:
        StorageError: a tier could not be read or written where that can't be passed over.
        SegmentCorrupt: the ledger of forgotten systems is damaged.
    """
    topics = {log.topic for log in logs or ()}
    await store.load(topics.pop() if len(topics) == 1 else None)
    now = datetime.now(UTC)
    report = CompactReport(dry_run)
    report.problems += [f"tier {tier} can't be read: {why}" for tier, why in store.unreachable.items()]
    report.problems += list(store.corrupt.values())
    report.problems += [str(problem) for problem in store.catalog.problems]
    chosen = list(store.catalog.logs if logs is None else logs)
    by_partition: dict[tuple[str, int], list[LogId]] = defaultdict(list)
    for log in store.catalog.logs:
        by_partition[log.topic, log.partition].append(log)
    forgotten, retention = await load_forgotten(store), Retention(settings.retention, now)
    for lives in by_partition.values():
        wanted = [log for log in lives if log in chosen]
        if not wanted:
            continue
        partition = Partition(store, lives, masked or {}, forgotten, retention)
        await partition.read()
        report.problems += partition.problems
        for log in wanted:
            for group in plan_compaction(store.catalog.current(log), settings.compaction, partition.waste):
                done = None if dry_run else await partition.compact(group)
                made = _report(log, group, done, partition.waste)
                report.groups.append(made)
                if on_progress is not None:
                    on_progress(made)
    report.cleaned = await clean_up(store, chosen, settings.compaction.grace_s, datetime.now(UTC), dry_run=dry_run)
    return report


def _report(log: LogId, group: Group, done: Compacted | None, waste: Mapping[Place, Waste]) -> GroupReport:
    """Of one that was not made, an estimate: rows without waste, bytes by the share of rows."""
    new = None if done is None else done.new
    wasted = [waste.get(segment.place, Waste()) for segment in group.segments]
    left = group.rows - sum(each.dropped + each.forgotten for each in wasted)
    return GroupReport(
        log=log,
        tier=group.segments[0].tier,
        reason=group.reason,
        old=tuple(segment.path for segment in group.segments),
        new=None if new is None else new.path,
        rows=group.rows,
        rows_left=left if new is None else new.footer.rows,
        bytes=group.bytes,
        bytes_left=group.bytes * left // max(group.rows, 1) if new is None else new.size,
        why="" if done is None else done.why,
    )


@dataclass(frozen=True, slots=True)
class _Names:
    """`keys` None: not read."""

    positions: NDArray[np.int64]
    keys: Keys | None
    forgotten: NDArray[np.bool_]
    expired: NDArray[np.bool_]
    overdue: int


class Partition:
    """What compaction has to know of all segments of a partition, whatever life of the topic they are of."""

    def __init__(
        self, store: SegmentStore, lives: Collection[LogId], masked: Masked, forgotten: Forgotten, retention: Retention
    ) -> None:
        self.waste: dict[Place, Waste] = {}
        self.problems: list[str] = []
        self._store = store
        self._masked = dict(masked)
        self._forgotten = forgotten
        self._retention = retention
        self._segments = [segment for log in lives for segment in store.catalog.current(log)]
        self._segments.sort(key=lambda segment: (segment.footer.epoch, segment.key.start))
        self._names: dict[Place, _Names] = {}
        self._replaced: dict[Place, NDArray[np.bool_]] = {}
        """Rows that have a newer version or a delete somewhere, told from names."""
        epochs = {(segment.footer.epoch, segment.key.log) for segment in self._segments}
        self._comparable = len({epoch for epoch, _ in epochs}) == len(epochs)
        """Whether a position tells which of two lives of the topic a row is of."""
        self._complete = not store.unreachable and not self._hidden(lives)

    def _hidden(self, lives: Collection[LogId]) -> bool:
        """Whether there are segments of the partition of which nothing is known."""
        partitions = {(log.topic, log.partition) for log in lives}
        for tier, path in (*self._store.corrupt, *self._store.archived):
            key = SegmentKey.parse(path, self._store.tiers.settings.tier(tier).prefix)
            if key is None or (key.log.topic, key.log.partition) in partitions:
                return True
        return False

    async def read(self) -> None:
        """Read the names that are needed, else the positions (2 bytes a row), and tell `waste` from them."""
        for segment in self._segments:
            columns = DECIDING if self._needed(segment) else ("position",)
            try:
                table = await read_names(self._store, segment, columns)
            except (StorageError, SegmentCorrupt) as error:
                self._complete = False
                self.problems.append(f"rows that {segment.path} replaces or deletes are kept: {error}")
            else:
                self._names[segment.place] = await asyncio.to_thread(self._known, segment, table)
        if not self._comparable:
            self.problems.append("two lives of a topic have the same epoch: rows of one don't replace the other's")
        await asyncio.to_thread(self._tell)

    def _needed(self, segment: StoredSegment) -> bool:
        if segment.key.log not in self._masked:
            return True
        systems = segment.footer.systems
        of_forgotten = self._forgotten.may_touch(segment.key.log, systems, segment.key.start)
        return of_forgotten or self._retention.applies_to(systems)

    def _known(self, segment: StoredSegment, table: pa.Table) -> _Names:
        positions = table["position"].to_numpy()
        if table.num_columns == 1:
            return _Names(positions, None, np.zeros(len(positions), np.bool_), np.zeros(len(positions), np.bool_), 0)
        systems = table["source_system"]
        upserts = pc.equal(table["op"], pa.scalar(UPSERT)).to_numpy()
        appended = table["appended_at"].cast(pa.int64()).to_numpy()
        whole = segment.key.log not in self._masked
        return _Names(
            positions=positions,
            keys=identity_keys(systems, table["event_id"]) if whole else None,
            forgotten=self._forgotten.masks(segment.key.log, systems, positions),
            expired=upserts & self._retention.expired(systems, appended),
            overdue=int((upserts & self._retention.expired(systems, appended, OVERDUE)).sum()),
        )

    def _tell(self) -> None:
        scopes: dict[LogId | None, list[tuple[Place, _Names, Keys]]] = defaultdict(list)
        for segment in self._segments:
            names = self._names.get(segment.place)
            if names is not None and names.keys is not None:
                scope = None if self._comparable else segment.key.log
                scopes[scope].append((segment.place, names, names.keys))
        replaced = self._replaced
        for each in scopes.values():
            masks = superseded([keys for _, _, keys in each], [names.positions for _, names, _ in each])
            replaced |= {place: mask for (place, _, _), mask in zip(each, masks, strict=True)}
        for segment in self._segments:
            place, names = segment.place, self._names.get(segment.place)
            if names is None:
                continue
            given = np.isin(names.positions, self._of(segment))
            gone = (replaced.get(place, given) | given | names.expired) & ~names.forgotten
            self.waste[place] = Waste(int(gone.sum()), int(names.forgotten.sum()), names.overdue)

    def _of(self, segment: StoredSegment) -> NDArray[np.int64]:
        """What a worker says is masked, of a segment."""
        masked = self._masked.get(segment.key.log, NO_POSITIONS)
        epoch, key = segment.footer.epoch, segment.key
        return masked[(masked >= pack(epoch, key.start, 0)) & (masked < pack(epoch, key.end, 0))]

    async def compact(self, group: Group) -> Compacted:
        """Raises as compact_group(); what damage there is in a segment is a reason, not an error."""
        masked = [self._of(segment) for segment in group.segments]
        for segment in group.segments:
            if segment.place in self._replaced:
                masked.append(self._names[segment.place].positions[self._replaced[segment.place]])
        try:
            return await compact_group(
                self._store,
                group.segments,
                masked=np.concatenate(masked),
                forgotten=self._forgotten,
                retention=self._retention,
                earlier=await asyncio.to_thread(self._earlier, group),
            )
        except SegmentCorrupt as error:
            return Compacted(group.segments, None, why=str(error))

    def _earlier(self, group: Group) -> Earlier:
        first = group.segments[0]
        before = [
            segment
            for segment in self._segments
            if segment.key.log != first.key.log or segment.key.start < first.key.start
            if not self._comparable or segment.footer.epoch <= first.footer.epoch
        ]
        nothing = self._complete and not before
        systems = {system for segment in group.segments for system in segment.footer.systems}
        if nothing or not self._complete or not self._retention.applies_to(systems):
            return Earlier(nothing)
        keys = [names.keys for segment in before if (names := self._names.get(segment.place))]
        if len(keys) < len(before) or any(each is None for each in keys):
            return Earlier(nothing)
        return Earlier(nothing, np.unique(np.concatenate([each for each in keys if each is not None])))
