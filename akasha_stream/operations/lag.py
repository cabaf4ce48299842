"""How far behind the log its reader is: in records, events, bytes and seconds, and when it will be through.

A partition's reader is the worker that owns it, which knows its stored offset to the record. Where none answers, the
offset that the group has committed stands in for it: that one is written after the fact and may be older.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aiokafka import ConsumerRecord

from akasha_stream.errors import BrokerError
from akasha_stream.events.decode import Decoder
from akasha_stream.operations.workers import Workers, find_workers
from akasha_stream.settings import Settings
from akasha_stream.topics.reader import TopicReader, as_record, committed_offsets, reading

SAMPLE = 32
"""So many unread records of a partition are looked into; more than these, and the events are an estimate."""

type Source = Literal["worker", "group", "none"]


@dataclass(frozen=True, slots=True)
class Reached:
    """How far reading was at a moment (`at_s`, of a monotonic clock)."""

    at_s: float
    next_offset: int
    end: int


@dataclass(frozen=True, slots=True)
class Unread:
    """The first unread records of a partition: how many were looked at, what they hold, when the first was appended."""

    records: int = 0
    events: int = 0
    first_timestamp_ms: int | None = None
    first_offset: int | None = None
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class PartitionLag:
    partition: int
    first_offset: int
    """Of the log: what is below it, retention has removed."""
    end_offset: int
    next_offset: int | None
    """The reader's next record; None where there is no reader."""
    source: Source
    records_behind: int
    """Bundles. Offsets have gaps (transaction markers), so it may be a few less."""
    events_behind: int
    bytes_behind: int
    """Of keys and values as producers made them, whatever is compressed on the way."""
    events_exact: bool
    """False: these and the bytes are from the mean of the first SAMPLE records."""
    seconds_behind: float
    """Since the first unread record was appended; 0 where all is read."""
    lost: int
    """Offsets that retention removed before they were read."""
    read_per_s: float | None = None
    """Records, measured between two looks; None after one."""
    appended_per_s: float | None = None
    clear_s: float | None = None
    """Until all is read at these rates; None where that is not known, or never."""


def partition_lag(
    partition: int,
    first: int,
    now: Reached,
    source: Source,
    unread: Unread,
    *,
    now_ms: int,
    before: Reached | None = None,
) -> PartitionLag:
    """The figures of one partition from what was seen of it. `now.next_offset` < 0: it has no reader."""
    known = source != "none"
    position = max(now.next_offset, first) if known else first
    # The first unread record may lie further on: markers of transactions are no records.
    position = max(position, unread.first_offset or position)
    behind = max(0, now.end - position) if unread.records else 0
    exact = unread.records >= behind
    factor = 1.0 if exact else behind / unread.records
    read = appended = clear = None
    if known and before is not None and now.at_s > before.at_s:
        passed = now.at_s - before.at_s
        read = max(0.0, (now.next_offset - before.next_offset) / passed)
        appended = max(0.0, (now.end - before.end) / passed)
        if read > appended:
            clear = behind / (read - appended)
    if known and not behind:
        clear = 0.0
    seconds = 0.0 if unread.first_timestamp_ms is None else max(0.0, (now_ms - unread.first_timestamp_ms) / 1000)
    return PartitionLag(
        partition,
        first_offset=first,
        end_offset=now.end,
        next_offset=now.next_offset if known else None,
        source=source,
        records_behind=behind,
        events_behind=round(unread.events * factor),
        bytes_behind=round(unread.bytes * factor),
        events_exact=exact,
        seconds_behind=round(seconds, 3) if behind else 0.0,
        lost=max(0, first - now.next_offset) if known and now.next_offset else 0,
        read_per_s=_rounded(read),
        appended_per_s=_rounded(appended),
        clear_s=_rounded(clear),
    )


@dataclass(frozen=True, slots=True)
class Totals:
    records_behind: int
    events_behind: int
    bytes_behind: int
    events_exact: bool
    seconds_behind: float
    """Of the partition that is furthest behind."""
    lost: int
    read_per_s: float | None
    appended_per_s: float | None
    clear_s: float | None
    """Of the partition that takes longest; None where one of them is not known, or never ends."""


def totals(lags: Sequence[PartitionLag]) -> Totals:
    read = [each.read_per_s for each in lags if each.read_per_s is not None]
    appended = [each.appended_per_s for each in lags if each.appended_per_s is not None]
    clear = [each.clear_s for each in lags if each.clear_s is not None]
    return Totals(
        records_behind=sum(each.records_behind for each in lags),
        events_behind=sum(each.events_behind for each in lags),
        bytes_behind=sum(each.bytes_behind for each in lags),
        events_exact=all(each.events_exact for each in lags),
        seconds_behind=max((each.seconds_behind for each in lags), default=0.0),
        lost=sum(each.lost for each in lags),
        read_per_s=_rounded(sum(read)) if read else None,
        appended_per_s=_rounded(sum(appended)) if appended else None,
        clear_s=max(clear) if clear and len(clear) == len(lags) else None,
    )


@dataclass(frozen=True, slots=True)
class Lag:
    topic: str
    group: str
    partitions: tuple[PartitionLag, ...]
    totals: Totals
    notes: tuple[str, ...]


class LagMeter:
    """Looks again and again: each look gives the rates since the one before. Belongs to one event loop."""

    def __init__(self, settings: Settings, urls: Sequence[str] = ()) -> None:
        self._settings = settings
        self._urls = urls
        self._decoder = Decoder(settings.limits, None)
        self._before: dict[int, Reached] = {}

    async def look(self, reader: TopicReader, workers: Workers | None = None) -> Lag:
        """`workers`: those that were found a moment ago. Raises BrokerError."""
        settings = self._settings
        if workers is None:
            workers = await find_workers(settings, self._urls)
        notes = list(workers.notes)
        positions, sources = await self._positions(workers, reader.partitions, notes)
        firsts, ends = await reader.beginnings(), await reader.ends()
        at_s = time.monotonic()
        unread = await _unread(reader, self._decoder, positions, firsts, ends)
        now_ms = int(time.time() * 1000)
        lags = []
        for partition in reader.partitions:
            now = Reached(at_s, positions.get(partition, -1), max(ends[partition], positions.get(partition, 0)))
            before = self._before.get(partition)
            lags.append(
                partition_lag(
                    partition,
                    firsts[partition],
                    now,
                    sources[partition],
                    unread.get(partition, Unread()),
                    now_ms=now_ms,
                    before=before,
                )
            )
            if sources[partition] == "none":
                self._before.pop(partition, None)
            else:
                self._before[partition] = now
        notes += [
            f"worker {each.name} at {each.url} {each.error}" for each in workers.workers if each.error is not None
        ]
        # Those that did not answer have them too, by their last heartbeat.
        owned = {partition for each in workers.workers for partition in each.owned}
        if unowned := [each.partition for each in lags if each.source == "none" and each.partition not in owned]:
            notes.append(
                f"partitions without a reader: {', '.join(map(str, unowned))}; start one: akasha-stream worker"
            )
        if lost := sum(each.lost for each in lags):
            notes.append(
                f"{lost} records were removed by retention before they were read; raise retention.ms of {reader.topic}"
            )
        return Lag(reader.topic, settings.ingest.group, tuple(lags), totals(lags), tuple(notes))

    async def _positions(
        self, workers: Workers, partitions: Sequence[int], notes: list[str]
    ) -> tuple[dict[int, int], dict[int, Source]]:
        positions = workers.next_offsets()
        sources: dict[int, Source] = dict.fromkeys(partitions, "none")
        sources |= dict.fromkeys(positions, "worker")
        missing = [partition for partition in partitions if partition not in positions]
        if missing:
            group = self._settings.ingest.group
            try:
                committed = await committed_offsets(self._settings.broker, group, self._settings.topics.embeddings)
            except BrokerError as error:
                notes.append(str(error))
                committed = {}
            for partition in missing:
                if partition in committed:
                    positions[partition], sources[partition] = committed[partition], "group"
        return positions, sources


async def measure(settings: Settings, urls: Sequence[str] = (), *, over_s: float = 1.0) -> Lag:
    """Two looks, `over_s` apart: the second one, with rates; 0: one look, without. Raises BrokerError, UsageError."""
    meter = LagMeter(settings, urls)
    async with reading(settings.broker, settings.topics.embeddings) as reader:
        first = await meter.look(reader)
        if not over_s:
            return first
        await asyncio.sleep(over_s)
        return await meter.look(reader)


async def _unread(
    reader: TopicReader,
    decoder: Decoder,
    positions: Mapping[int, int],
    firsts: Mapping[int, int],
    ends: Mapping[int, int],
) -> dict[int, Unread]:
    """The first unread records of each partition that has some."""
    starts = {
        partition: max(positions.get(partition, 0), firsts[partition])
        for partition in reader.partitions
        if max(positions.get(partition, 0), firsts[partition]) < ends[partition]
    }
    found: dict[int, list[ConsumerRecord]] = {}
    async for records in reader.between(starts, ends, most_per_partition=SAMPLE):
        found.setdefault(records[0].partition, []).extend(records)
    return {
        partition: Unread(
            len(records),
            _events(decoder, records),
            records[0].timestamp,
            records[0].offset,
            sum(len(record.key or b"") + len(record.value or b"") for record in records),
        )
        for partition, records in found.items()
    }


def _events(decoder: Decoder, records: Sequence[ConsumerRecord]) -> int:
    decoded = decoder.decode([as_record(record) for record in records])
    return len(decoded.batch) + sum(letter.events for letter in decoded.dead)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
