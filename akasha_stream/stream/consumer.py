"""Faust's consumer, changed in nine places.

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
7. How long records gather (ingest.batch_wait_ms). Kafka answers a fetch with the first record that comes, of one
   partition, and aiokafka hands it out at once: at 5,000 events a second 57 runs came for each batch, 8 records
   each, and half of the worker's CPU went into Faust's handling of them. Now there are two fetches, one before and
   one after the wait.
8. Who hears of heartbeats: the worker's `Group`, which says for how long a partition is certainly ours.
9. What an assignment without partitions does: it asks for the offsets all the same. Faust asks for none, so the shards
   of before stayed open, and a worker that was one too many never was ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import faust
import uvloop
from aiokafka import ConsumerRecord
from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

if TYPE_CHECKING:
    from akasha_stream.stream.app import IngestApp

FULL_QUEUE_POLL_S = 0.01

type StartOffsets = Callable[[set[TP], str], Awaitable[dict[TP, int]]]
"""The partitions and the id of this member of the group, empty where it has none → where each is read from."""


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


@dataclass(frozen=True, slots=True)
class ReadTo:
    """How far a partition's log was read."""

    position: int
    """The offset that the next fetch asks for: behind markers of transactions and what was compacted away, too."""
    last_record: int
    """Offset of the last record that was handed on; -1: none since the assignment."""
    assignment: int
    """Number of the assignment whose offsets it was read from; before the seek a position is the group's, not ours."""


class RunSchema(faust.Schema[Any, Any]):
    """Hands a run on as it is: decoding is the ingest agent's, for many bundles at once."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        return None

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        return message.value


class RunConsumerThread(driver.AIOKafkaConsumerThread):
    """Fetches as Faust does, and bundles each partition's records."""

    _assignment = 0
    _seeking = False

    async def on_start(self) -> None:
        await super().on_start()
        cast("IngestApp", self.app).group.watch(cast("Any", self._consumer)._coordinator)

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        if active_partitions is not None and len(active_partitions) < len(self.assignment()):
            timeout = FULL_QUEUE_POLL_S
        return await super().getmany(active_partitions, timeout)

    async def _fetch_records(self, consumer: Any, active_partitions: set[TP], *args: Any, **options: Any) -> Any:
        fetched = await super()._fetch_records(consumer, active_partitions, *args, **options)
        # In the thread that seeks, and no await since the records were taken out of the fetcher's buffers, which a
        # seek empties: what lies behind the seek has its number, and what lay before it has not.
        number = self._assignment
        self._note_read(consumer, fetched)
        return {tp: [Run(tp.topic, tp.partition, tuple(records), number)] for tp, records in fetched.items() if records}

    def _note_read(self, consumer: Any, fetched: Mapping[TP, list[ConsumerRecord]]) -> None:
        read_to = cast("IngestApp", self.app).read_to
        subscription = consumer._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is None or self._seeking:
            return
        for tp in assignment.tps:
            state = assignment.state_value(tp)
            if state is not None and state.has_valid_position:
                before = read_to.get(tp.partition)
                known = before is not None and before.assignment == self._assignment
                last = fetched[tp][-1].offset if fetched.get(tp) else before.last_record if before and known else -1
                read_to[tp.partition] = ReadTo(state.position, last, self._assignment)

    async def _seek_wait(self, consumer: Any, partitions: Mapping[TP, int]) -> None:
        self._assignment, self._seeking = cast("IngestApp", self.app).assignment_number, True
        try:
            await super()._seek_wait(consumer, partitions)
        finally:
            self._seeking = False

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

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seeking = asyncio.Lock()

    def _new_consumer_thread(self) -> RunConsumerThread:
        thread = RunConsumerThread(self, loop=self.loop, beacon=self.beacon, thread_loop=uvloop.new_event_loop())
        thread._close_thread_loop_on_stop = True  # else it takes the loop for one that its caller goes on using
        return thread

    @property
    def _member_id(self) -> str:
        consumer = self._thread._consumer
        return "" if consumer is None else cast("str", consumer._coordinator.member_id)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        await super().on_partitions_assigned(assigned, generation_id)
        if not assigned:
            await self.seek_to_committed()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        app = cast("IngestApp", self.app)
        # Faust's recovery and its fetcher, which seeks back what it fetched too early, may both be here.
        async with self._seeking:
            while True:
                app.assignment_number += 1
                assigned = set(self.assignment())
                try:
                    generation = app.group.generation()
                    offsets = await app.start_offsets(assigned, self._member_id)
                    app.group.ready(generation, (tp.partition for tp in offsets))
                    if offsets:
                        await self._thread.seek_wait(offsets)
                except Exception as error:
                    # While the shards were opened, the group may have taken a partition again.
                    if isinstance(error, IllegalStateError) and set(self.assignment()) != assigned:
                        continue
                    # Faust may only log it and go on, with runs of an assignment that the agent then drops.
                    await app.crash(error)
                    raise
                return offsets

    async def _wait_next_records(self, timeout: float) -> Any:
        if self.flow_active and not self._get_active_partitions():
            await self.sleep(FULL_QUEUE_POLL_S)
            return {}, set()
        fetched, active = await super()._wait_next_records(timeout)
        if not fetched or not self.flow_active:
            return fetched, active
        active = set(active or ())  # Faust's own changes while we wait, and it drops what is of no active partition
        await self.sleep(cast("IngestApp", self.app).batch_wait_s)
        if not self.flow_active or not self._get_active_partitions():
            return fetched, active
        # What the fetcher has by now; where the flow was stopped meanwhile, this waits until it goes on.
        more, active_now = await super()._wait_next_records(0.0)
        return self._of_this_assignment(fetched, more or {}), active | (active_now or set())

    def _of_this_assignment(self, *fetches: Mapping[TP, list[Run]]) -> dict[TP, list[Run]]:
        """The runs of both fetches that lie behind the latest seek.

        One of before is fetched again, from the offset that its shard has stored. Handed on, it would move Faust's
        read offset: Faust would then drop, as read already, all that comes until there, and the shard never gets it.
        """
        number = cast("IngestApp", self.app).assignment_number
        kept: dict[TP, list[Run]] = {}
        for fetch in fetches:
            for tp, runs in fetch.items():
                if now := [run for run in runs if run.assignment == number]:
                    kept.setdefault(tp, []).extend(now)
        return kept

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
