"""A shard made again from nothing but the object store and Kafka, whatever became of its files.

It is made beside the old one, in `replays/<partition>` as a replay's (replay/beside.py), and takes its place when it
has all that Kafka holds. Killed before that: the old shard as it was, and the next rebuild begins anew. Killed while
it takes the place: whoever opens the folder next finishes (hot/store.py, finish_replacing).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from akasha_stream.errors import SegmentCorrupt, UsageError
from akasha_stream.events.decode import Decoder
from akasha_stream.hot.durable import remove
from akasha_stream.hot.sealed import SealedSegment
from akasha_stream.hot.shard import Shard
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.rebuild.directory import DataDirectory
from akasha_stream.replay.compare import RowChanges, row_changes
from akasha_stream.replay.job import read_state, state_path
from akasha_stream.settings import Settings
from akasha_stream.tiers.adopt import adopt, segments_of
from akasha_stream.tiers.keys import LogId
from akasha_stream.tiers.segment_store import SegmentStore
from akasha_stream.tiers.spilled import SpilledSegment
from akasha_stream.topics.reader import TopicReader, as_record

type Report = Callable[[str, int, int], None]
"""(what is done, how much, of how much)"""


@dataclass(slots=True)
class ShardRebuild:
    """What a partition's shard is made of. Offsets are of the topic's log as it is now."""

    partition: int
    segments: int
    """In the object store, of all lives of the topic."""
    stored_rows: int
    """In them."""
    start: int
    """Offset of the first record that is read from Kafka."""
    end: int
    """Where Kafka's log ended when it was begun."""
    only_here: list[str] = field(default_factory=list)
    """What neither the object store nor Kafka has, in words: the old files are its only copy."""
    removed: int = 0
    """Offsets after the object store's end that Kafka's retention has removed already."""
    unreadable: str | None = None
    """Why the old shard can't be opened; then it is not known what only it has."""
    records: int = 0
    events: int = 0
    live_rows: int | None = None
    """None: nothing was made."""
    changed: RowChanges | None = None
    """Live rows of the new shard against those of the old one; None where that could not be read."""


async def plan(directory: DataDirectory, reader: TopicReader, partition: int, now: Incarnation) -> ShardRebuild:
    """Open the old shard, if it can be, and say what a new one would be made of.

    Raises UsageError where the topic has no such partition, or its shard has a replay under way; BrokerError.
    """
    if partition not in reader.partitions:
        raise UsageError(f"{reader.topic} has no partition {partition}, it has {len(reader.partitions)}")
    state = read_state(directory.store, partition)
    if state is not None and not state.final:
        raise UsageError(
            f"partition {partition} has a replay under way ({state.phase}): start the worker and let it finish, or end "
            "it with: akasha-stream replay cancel"
        )
    segments = directory.segments
    stored = [] if segments is None else [each for _, each in segments_of(segments, reader.topic, partition)]
    beginning, end = (await reader.beginnings())[partition], (await reader.ends())[partition]
    spilled = _spilled_end(segments, LogId(reader.topic, now, partition))
    found = ShardRebuild(
        partition, len(stored), sum(s.footer.rows for s in stored), min(max(spilled, beginning), end), end
    )
    found.removed = max(0, beginning - spilled)
    if directory.store.shard_folder(partition).is_dir():
        try:
            old = await asyncio.to_thread(directory.store.open, partition, now)
        except SegmentCorrupt as error:
            found.unreadable = str(error)
        else:
            found.only_here = _only_here(old, segments, now, beginning)
    return found


def _spilled_end(segments: SegmentStore | None, log: LogId) -> int:
    return 0 if segments is None else segments.catalog.end(log) or 0


def _only_here(shard: Shard, segments: SegmentStore | None, now: Incarnation, beginning: int) -> list[str]:
    found = []
    for segment in shard.segments:
        if isinstance(segment, SpilledSegment):
            continue
        log = segment.incarnation if isinstance(segment, SealedSegment) else shard.incarnation
        end = segment.end if isinstance(segment, SealedSegment) else shard.next_offset
        start = max(segment.name.start, _spilled_end(segments, LogId(shard.topic, log, shard.partition)))
        if log.differs_from(now):
            if start < end:
                found.append(f"offsets [{start}, {end}) of the topic before it was created anew")
        elif start < min(end, beginning):
            found.append(f"offsets [{start}, {min(end, beginning)}), which Kafka's retention has removed")
    return found


async def rebuild(
    settings: Settings,
    directory: DataDirectory,
    reader: TopicReader,
    found: ShardRebuild,
    now: Incarnation,
    *,
    report: Report = lambda _what, _done, _of: None,
) -> None:
    """Make the shard of `found`, which a plan made, and put it in the old one's place.

    Raises BrokerError, StorageError, SegmentCorrupt, ShardWriteError; the old shard stays then.
    """
    store, partition = directory.store, found.partition
    folder = store.replay_folder(partition)
    remove(folder)
    new_folder = folder / reader.topic / store.shard_folder(partition).name
    new_folder.mkdir(parents=True)
    side = await asyncio.to_thread(store.beside, folder)
    try:
        if directory.segments is not None:
            await adopt(new_folder, reader.topic, partition, directory.segments)
        shard = await asyncio.to_thread(_opened, side, found, now)
        await _take(Decoder.of(settings), reader, found, shard, report)
        found.live_rows = sum(int(np.count_nonzero(s.live[: s.rows])) for s in shard.segments)
        old = store.shard(partition)
        if old is not None:
            found.changed = await asyncio.to_thread(row_changes, old, shard)
    finally:
        await asyncio.to_thread(side.close_all)
    store.shard_folder(partition).mkdir(exist_ok=True)
    await asyncio.to_thread(store.replace, partition, now)
    remove(state_path(store, partition))  # of a replay of the shard that is no more


def _opened(side: ShardStore, found: ShardRebuild, now: Incarnation) -> Shard:
    shard = side.open(found.partition, now, found.start)
    if shard.incarnation.differs_from(now):
        shard.begin_log(now)
    return shard


async def _take(decoder: Decoder, reader: TopicReader, found: ShardRebuild, shard: Shard, report: Report) -> None:
    what, total = f"partition {found.partition}", found.end - found.start
    async for fetched in reader.between({found.partition: found.start}, {found.partition: found.end}):
        records = [as_record(record) for record in fetched]
        decoded = await asyncio.to_thread(decoder.decode, records)
        dead = [letter.record.offset for letter in decoded.dead]
        await asyncio.to_thread(shard.apply, records, decoded.batch, dead)
        found.records += len(records)
        found.events += len(decoded.batch)
        report(what, records[-1].offset + 1 - found.start, total)
    report(what, total, total)
