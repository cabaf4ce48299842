"""Reading a topic as a bystander: in no group, so that no worker's partitions move and nothing is committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from akasha_stream.connections.kafka import client_options, or_hidden
from akasha_stream.embedded.tansu import CLUSTER_ID
from akasha_stream.errors import BrokerError, UsageError
from akasha_stream.events.records import Record
from akasha_stream.settings import BrokerSettings
from akasha_stream.topics.broker import broker_errors, connecting
from akasha_stream.topics.incarnation import incarnation_through

POLL_MS = 200
"""How long a fetch that finds nothing is held: the time until Ctrl-C or the end of a topic is noticed."""
SILENCE_S = 15.0
"""A broker that gives no record for so long, though there are some, is taken for one that is gone."""


class TopicReader:
    """Committed records of one topic. `partitions`: those it has. `embedded`: the broker is Tansu."""

    def __init__(
        self, topic: str, consumer: AIOKafkaConsumer, partitions: Iterable[int], *, embedded: bool = False
    ) -> None:
        self.topic = topic
        self._embedded = embedded
        self.partitions = sorted(partitions)
        self._consumer = consumer

    async def beginnings(self) -> dict[int, int]:
        """Partition → offset of its first record that is still there. Raises BrokerError."""
        with broker_errors(f"first offsets of {self.topic}"):
            found = await self._consumer.beginning_offsets(self._all())
        return {tp.partition: int(offset) for tp, offset in found.items()}

    async def ends(self) -> dict[int, int]:
        """Partition → the offset that its next record gets, open transactions aside. Raises BrokerError."""
        with broker_errors(f"end offsets of {self.topic}"):
            found = await self._consumer.end_offsets(self._all())
        ends = {tp.partition: int(offset) for tp, offset in found.items()}
        return await self._high_watermarks(ends) if self._embedded else ends

    async def _high_watermarks(self, ends: dict[int, int]) -> dict[int, int]:
        """The ends that a fetch tells. Tansu's end_offsets counts a batch of records as one."""
        self._read_from(ends)
        give_up = time.monotonic() + SILENCE_S
        while True:
            await self._fetch()
            found = {tp.partition: self._consumer.highwater(tp) for tp in self._all()}
            if None not in found.values():
                return {partition: max(ends[partition], int(end)) for partition, end in found.items()}
            if time.monotonic() > give_up:
                raise BrokerError(f"end offsets of {self.topic}: did not answer in time")

    async def at_time(self, timestamp_ms: int) -> dict[int, int]:
        """Partition → offset of the first record appended at or after a time; its end where there is none.

        Raises BrokerError.
        """
        ends = await self.ends()
        with broker_errors(f"offsets of {self.topic} by time"):
            found = await self._consumer.offsets_for_times(dict.fromkeys(self._all(), timestamp_ms))
        return {
            tp.partition: ends[tp.partition] if place is None or place.timestamp < 0 else int(place.offset)
            for tp, place in found.items()
        }

    async def between(
        self, starts: Mapping[int, int], ends: Mapping[int, int], *, most_per_partition: int | None = None
    ) -> AsyncGenerator[list[ConsumerRecord]]:
        """The records from `starts` until before `ends`, some of one partition at a time, in the order of its log.

        `most_per_partition`: no more of each. Raises BrokerError; also when records are there and don't come.
        """
        taken = dict.fromkeys(starts, 0)
        left = {partition for partition, start in starts.items() if start < ends[partition]}
        heard = time.monotonic()
        self._read_from({partition: starts[partition] for partition in left})
        while left:
            fetched = await self._fetch()
            for tp, records in fetched.items():
                wanted = [record for record in records if record.offset < ends[tp.partition]]
                if most_per_partition is not None:
                    wanted = wanted[: most_per_partition - taken[tp.partition]]
                taken[tp.partition] += len(wanted)
                if wanted:
                    yield wanted
                    heard = time.monotonic()  # how long the caller took is no silence of the broker's
            done = {
                partition
                for partition in left
                # Offsets have gaps: the end may be reached without a record at the offset before it.
                if await self._position(partition) >= ends[partition] or taken[partition] == most_per_partition
            }
            if done:
                heard = time.monotonic()
                left -= done
                self._consumer.pause(*(TopicPartition(self.topic, partition) for partition in done))
            if time.monotonic() - heard > SILENCE_S:
                behind = ", ".join(f"{self.topic}/{partition}" for partition in sorted(left))
                raise BrokerError(f"no record came in {SILENCE_S:.0f} s, though there are some: {behind}")

    async def follow(self, starts: Mapping[int, int]) -> AsyncGenerator[list[ConsumerRecord]]:
        """The records from `starts` on, for ever, as they come. Raises BrokerError."""
        self._read_from(starts)
        while True:
            for records in (await self._fetch()).values():
                yield list(records)

    async def one(self, partition: int, offset: int) -> ConsumerRecord | None:
        """The record at an offset; None where the log has none there. Raises BrokerError."""
        if partition not in self.partitions:
            return None
        first, end = (await self.beginnings())[partition], (await self.ends())[partition]
        if not first <= offset < end:
            return None
        async for records in self.between({partition: offset}, {partition: offset + 1}):
            return records[0]
        return None

    def _all(self) -> list[TopicPartition]:
        return [TopicPartition(self.topic, partition) for partition in self.partitions]

    def _read_from(self, starts: Mapping[int, int]) -> None:
        """Fetch from these offsets, and no other partition.

        All partitions are assigned once, and paused where they are not wanted: aiokafka 0.14 never stops a consumer
        whose assignment was replaced just before. Its fetcher takes the cancellation for that of the old fetches.
        """
        if not self._consumer.assignment():
            self._consumer.assign(self._all())
        for tp in self._all():
            if tp.partition in starts:
                self._consumer.resume(tp)
                self._consumer.seek(tp, starts[tp.partition])
            else:
                self._consumer.pause(tp)

    async def _fetch(self) -> Mapping[TopicPartition, list[ConsumerRecord]]:
        with broker_errors(f"reading {self.topic}"):
            found: Mapping[TopicPartition, list[ConsumerRecord]] = await self._consumer.getmany(timeout_ms=POLL_MS)
        return found

    async def _position(self, partition: int) -> int:
        with broker_errors(f"reading {self.topic}"):
            return int(await self._consumer.position(TopicPartition(self.topic, partition)))


def as_record(record: ConsumerRecord) -> Record:
    return Record(
        record.partition, record.offset, record.timestamp, record.key, record.value, tuple(record.headers or ())
    )


@asynccontextmanager
async def reading(settings: BrokerSettings, topic: str) -> AsyncIterator[TopicReader]:
    """A reader until the block ends. Raises BrokerError where no broker answers, UsageError where there is no such
    topic."""
    consumer = AIOKafkaConsumer(
        **client_options(settings, "-reader"),
        isolation_level="read_committed",
        # Where retention removed the records before they were read: go on with the first that is there.
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=POLL_MS,
        fetch_max_bytes=16 << 20,
        max_partition_fetch_bytes=4 << 20,
    )
    try:
        async with connecting(settings):
            await consumer.start()
            # Of all topics: asking for one would create it where the broker allows that.
            known = await consumer._client.fetch_all_metadata()
        partitions = known.partitions_for_topic(topic)
        if not partitions:
            raise UsageError(
                f"there is no topic {topic} at {settings.bootstrap_servers}{or_hidden(settings)}; "
                "create it with: akasha-stream topics apply"
            )
        log = await incarnation_through(consumer._client, topic)
        embedded = log.cluster_id == CLUSTER_ID
        yield TopicReader(topic, consumer, partitions, embedded=embedded)
    finally:
        await asyncio.shield(consumer.stop())


async def committed_offsets(settings: BrokerSettings, group: str, topic: str) -> dict[int, int]:
    """Partition → next offset that a group has committed; without those it has committed none of. Joins nothing.

    Raises BrokerError.
    """
    consumer = AIOKafkaConsumer(
        **client_options(settings, "-reader"),
        group_id=group,
        enable_auto_commit=False,
    )
    try:
        async with connecting(settings):
            await consumer.start()
        with broker_errors(f"offsets of group {group}"):
            partitions = (await consumer._client.fetch_all_metadata()).partitions_for_topic(topic) or ()
            assigned = [TopicPartition(topic, partition) for partition in sorted(partitions)]
            if not assigned:
                return {}
            consumer.assign(assigned)
            found = {tp.partition: await consumer.committed(tp) for tp in assigned}
    finally:
        await consumer.stop()
    return {partition: int(offset) for partition, offset in found.items() if offset is not None}
