"""Faust's consumer, changed in six places.

1. Where to start: at the offsets that the shards have stored, not at the group's. Seeking in
   `on_partitions_assigned` has no effect (Faust's recovery seeks afterwards); `seek_to_committed` is what
   recovery itself asks.
2. What a message is: all records of one partition that a fetch returned travel as one Faust message, a `Run`.
   Faust costs 190-300 µs a message, so events in small bundles (100 systems, 5,000 events a second, 20 ms
   linger) would take a core and a half; a run costs the same however many records it has.
3. What is committed to the group: the end of the last acknowledged run. With one agent instance acks come in
   order, and gaps between offsets (transaction markers, compaction) need no bookkeeping.
4. What is read: committed records only. Faust reads uncommitted ones unless it writes in transactions itself,
   and a foreign producer's aborted transaction must not be stored.
5. How long a broker may hold an empty fetch (ingest.fetch_wait_ms). Kafka answers as soon as records come; Tansu
   only when the wait is over, which with Faust's 1.5 s made events searchable after .75 s at the median.
6. How long it looks away when the agent's queue is full. Faust stops asking for the partitions that filled it: it
   waits up to a second for the others, or sleeps one, whatever arrives meanwhile. At 4,000 events a second half of
   the time went by like that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import faust
from aiokafka import ConsumerRecord
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

if TYPE_CHECKING:
    from akasha_stream.stream.app import IngestApp

FULL_QUEUE_POLL_S = 0.01

type StartOffsets = Callable[[set[TP]], Awaitable[dict[TP, int]]]


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive records of one partition, as one fetch returned them. Never empty."""

    topic: str
    partition: int
    records: tuple[ConsumerRecord, ...]
    assignment: int
    """Number of the assignment (`IngestApp.assignment_number`) whose offsets it was fetched from.

    A run of an earlier one may come from a log that was replaced since; its records are fetched again.
    """

    @property
    def bytes(self) -> int:
        return sum(record.serialized_value_size for record in self.records)


class RunSchema(faust.Schema[Any, Any]):
    """Hands a run on as it is: decoding is the ingest agent's, for many bundles at once."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        return None

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        return message.value


class RunConsumerThread(driver.AIOKafkaConsumerThread):
    """Fetches as Faust does, and bundles each partition's records."""

    _assignment = 0

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        if active_partitions is not None and len(active_partitions) < len(self.assignment()):
            timeout = FULL_QUEUE_POLL_S
        return await super().getmany(active_partitions, timeout)

    async def _fetch_records(self, consumer: Any, active_partitions: set[TP], *args: Any, **options: Any) -> Any:
        fetched = await super()._fetch_records(consumer, active_partitions, *args, **options)
        # In the thread that seeks, and no await since the records were taken out of the fetcher's buffers, which a
        # seek empties: what lies behind the seek has its number, and what lay before it has not.
        number = self._assignment
        return {tp: [Run(tp.topic, tp.partition, tuple(records), number)] for tp, records in fetched.items() if records}

    async def _seek_wait(self, consumer: Any, partitions: Mapping[TP, int]) -> None:
        self._assignment = cast("IngestApp", self.app).assignment_number
        await super()._seek_wait(consumer, partitions)

    async def on_thread_stop(self) -> None:
        try:
            await super().on_thread_stop()
        except asyncio.CancelledError:
            # While the broker is away, aiokafka's fetcher cancels its own requests and raises that here. Faust would
            # take it for the end of this thread, and its stop would wait for the rest of the shutdown for ever.
            task = asyncio.current_task()
            if self._consumer is None or (task is not None and task.cancelling()):
                raise
            await self._consumer._client.close()

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust has no setting for it. aiokafka hands it to its fetcher when it starts, which is after this.
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = cast("IngestApp", self.app).fetch_wait_ms
        return consumer


class RunConsumer(driver.Consumer):
    """`start_offsets` is set on the app before it starts."""

    def _new_consumer_thread(self) -> RunConsumerThread:
        return RunConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        app = cast("IngestApp", self.app)
        app.assignment_number += 1
        offsets = await app.start_offsets(set(self.assignment()))
        if offsets:
            await self._thread.seek_wait(offsets)
        return offsets

    async def _wait_next_records(self, timeout: float) -> Any:
        if self.flow_active and not self._get_active_partitions():
            await self.sleep(FULL_QUEUE_POLL_S)
            return {}, set()
        return await super()._wait_next_records(timeout)

    def _to_message(self, tp: TP, record: Run) -> ConsumerMessage:
        last = record.records[-1]
        return ConsumerMessage(
            record.topic,
            record.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            [],
            None,
            cast("bytes", record),  # RunSchema hands it on
            None,
            0,
            record.bytes,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Gaps are the offsets inside a run, or have no record."""

    def _new_offset(self, tp: TP) -> int | None:
        acked = self._acked[tp]
        if not acked:
            return None
        highest: int = max(acked)
        self._acked_index[tp].difference_update(acked)
        acked.clear()
        return highest + 1


class RunTransport(driver.Transport):
    Consumer = RunConsumer
