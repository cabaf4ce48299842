"""EventPublisher: events in, bundles out, a delivery for each event."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterable, Awaitable, Iterable, Sequence
from types import TracebackType
from typing import Self

import pyarrow as pa
import structlog

from akasha_stream.errors import PublisherClosed, PublishError, ValidationError
from akasha_stream.events.bundles import Format
from akasha_stream.events.model import Event
from akasha_stream.partitioner import partition_of
from akasha_stream.publish.bundler import Bundler, OpenBundle
from akasha_stream.publish.checks import checked_size
from akasha_stream.publish.connection import Connection
from akasha_stream.publish.delivery import Delivery, TableDelivery
from akasha_stream.publish.gate import Gate
from akasha_stream.publish.lane import Lane
from akasha_stream.publish.parcels import (
    Entry,
    EventParcel,
    FutureReceipt,
    ListReceipt,
    Receipt,
    TableParcel,
    TableReceipt,
)
from akasha_stream.publish.tables import bad_rows, group, runs, to_wire
from akasha_stream.settings import Settings
from akasha_stream.telemetry import tracing

log = structlog.get_logger(__name__)

BREATH_EVENTS = 256
"""publish_many lets the lanes run after this many events (some ms of work)."""


class EventPublisher:
    """Publishes events, bundled by source system.

    ```python
    async with EventPublisher(settings) as publisher:
        delivery = await publisher.publish(event)  # waits for room: a future
        token = (await delivery).token  # waits for the broker: the freshness token
    ```

    Events of one source system arrive in the order they were given, retries included. With Kafka's
    idempotent producer each is appended once for each time it is published; where the broker has none, a
    notice is logged at start and a retry may append an event twice, which ingest drops.
    """

    def __init__(self, settings: Settings, *, topic: str | None = None, form: Format | None = None) -> None:
        self._settings = settings
        self._limits = settings.limits
        self._topic = topic or settings.topics.embeddings
        self._form: Format = form or settings.publish.format
        self._max_bytes = min(settings.publish.bundle_bytes, settings.limits.bundle_bytes)
        self._max_events = min(settings.publish.bundle_events, settings.limits.bundle_events)
        # A float32 takes 4 bytes in Arrow and up to 15 characters in JSON ("-1.2345679e-05,").
        self._event_bytes = settings.limits.dimensions * (4 if self._form == "arrow" else 15) + 160
        self._bundler: Bundler[Entry] = Bundler(self._max_events, self._max_bytes, settings.publish.linger_ms / 1000)
        self._gate = Gate(settings.publish.max_in_flight_events)
        self._connection = Connection(settings, self._topic)
        self._partitions: dict[str, int] = {}
        self._lanes: dict[int, Lane] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._unsettled = 0
        self._timer: asyncio.TimerHandle | None = None
        self._open = False
        self._closing: asyncio.Task[None] | None = None

    # Life

    async def start(self) -> None:
        """Connect. BrokerError: no broker answers, or the topic does not exist."""
        if self._open or self._closing:
            raise PublisherClosed("a publisher is started once; make a new one")
        await self._connection.start()
        self._loop = asyncio.get_running_loop()
        self._traced = tracing.is_on()
        self._open = True

    async def flush(self) -> None:
        """Send what lingers, and wait until everything published so far is acknowledged or failed."""
        for bundle in self._bundler.drain():
            self._dispatch(bundle)
        await self._idle.wait()

    def abandon(self) -> None:
        """Give up at once: what is not acknowledged yet fails with PublishError. `close` is still due."""
        self._gate.close()
        for bundle in self._bundler.drain():
            self._dispatch(bundle)
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Flush, then disconnect. Whoever waits for room, or publishes from now on, gets PublisherClosed."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._gate.close()
        if self._open:
            await self.flush()
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Publishing

    async def publish(self, event: Event) -> asyncio.Future[Delivery]:
        """Accept one event, waiting while too many are unacknowledged; the future is its delivery.

        Raises:
            ValidationError: the event breaks a limit; nothing is sent.
            PublisherClosed: after close().
        The future raises PublishError (`retriable` says whether the same event may succeed later).
        """
        if not self._open:
            raise PublisherClosed("the publisher is not open")
        size = checked_size(event, self._limits)
        if not self._gate.try_enter():
            await self._gate.enter()
        future: asyncio.Future[Delivery] = self._loop.create_future()
        self._accept(event, size, FutureReceipt(future), 0)
        return future

    async def publish_many(self, events: Iterable[Event] | AsyncIterable[Event]) -> list[Delivery]:
        """Publish events and wait for all of them; deliveries in the order of the events.

        Raises:
            ValidationError: an event breaks a limit. With a list or tuple nothing is sent then; with a
                stream, what came before it is, and is waited for.
            PublishError: the first failure, after every event is acknowledged or failed. To learn the
                fate of each event, use `publish`.
        """
        if not self._open:
            raise PublisherClosed("the publisher is not open")
        receipt = ListReceipt(asyncio.get_running_loop())
        refused: ValidationError | None = None
        try:
            if isinstance(events, AsyncIterable):
                async for event in events:
                    await self._accept_one_of_many(event, checked_size(event, self._limits), receipt)
            elif isinstance(events, Sequence):
                sizes = [checked_size(event, self._limits) for event in events]
                for place, (event, size) in enumerate(zip(events, sizes, strict=True), 1):
                    await self._accept_one_of_many(event, size, receipt)
                    if not place % BREATH_EVENTS:
                        await asyncio.sleep(0)
            else:
                for place, event in enumerate(events, 1):
                    await self._accept_one_of_many(event, checked_size(event, self._limits), receipt)
                    if not place % BREATH_EVENTS:
                        await asyncio.sleep(0)
        except ValidationError as error:
            refused = error
        results = await receipt.results()
        if refused is not None:
            raise refused
        deliveries = [result for result in results if isinstance(result, Delivery)]
        if len(deliveries) < len(results):
            raise next(result for result in results if isinstance(result, PublishError))
        return deliveries

    async def publish_table(self, table: pa.Table) -> TableDelivery:
        """Publish the rows of a table and wait for all of them. See `submit_table`."""
        return await (await self.submit_table(table))

    async def submit_table(self, table: pa.Table) -> Awaitable[TableDelivery]:
        """Accept the rows of a table, waiting for room; what is returned is awaited for their deliveries.

        Columns: event_id, source_system, content, embedding; model, metadata (JSON), created_at, op have
        defaults. Rows are not turned into Python objects: some µs a row.

        Raises:
            ValidationError: a column is missing, or a row breaks a limit (the first is named); nothing is sent.
        """
        wire = to_wire(table, self._limits.dimensions)
        bad = bad_rows(wire, self._limits)
        if bad:
            more = f" (and {len(bad) - 1} more rows)" if len(bad) > 1 else ""
            raise ValidationError(bad[0].reason, f"row {bad[0].row}: {bad[0].detail}{more}")
        return await self.submit_rows(wire.rows)

    async def submit_rows(self, rows: pa.RecordBatch) -> Awaitable[TableDelivery]:
        """As `submit_table`, for rows that are in the wire's columns and were checked."""
        if not self._open:
            raise PublisherClosed("the publisher is not open")
        grouped, order = group(rows)
        receipt = TableReceipt(rows.num_rows, order, self._topic, asyncio.get_running_loop())
        for run in runs(grouped, self._max_events, self._max_bytes, self._event_bytes):
            count = run.stop - run.start
            if not self._gate.try_enter(count):
                await self._gate.enter(count)
            lingering = self._bundler.close(run.system)
            if lingering is not None:
                self._dispatch(lingering)
            parcel = TableParcel(run.system, grouped.slice(run.start, count), run.start, receipt)
            self._count_in(count)
            self._lane(run.system).put(parcel)
        return receipt.future

    @property
    def in_flight(self) -> int:
        """Events accepted and not yet acknowledged."""
        return self._gate.inside

    @property
    def bundles(self) -> int:
        """Bundles acknowledged so far."""
        return sum(lane.bundles for lane in self._lanes.values())

    @property
    def idempotent(self) -> bool:
        """Whether the broker has idempotent producers."""
        return self._connection.idempotent

    # Inside

    async def _accept_one_of_many(self, event: Event, size: int, receipt: ListReceipt) -> None:
        if not self._gate.try_enter():
            await self._gate.enter()
        self._accept(event, size, receipt, receipt.next_slot())

    def _accept(self, event: Event, size: int, receipt: Receipt, slot: int) -> None:
        """Bundle an event that has passed the checks and the gate. size: of its content and metadata, in bytes."""
        self._count_in(1)
        entry = Entry(event, receipt, slot, tracing.current() if self._traced else None)
        size += self._event_bytes
        for bundle in self._bundler.add(event.source_system, entry, size, self._loop.time()):
            self._dispatch(bundle)
        if self._timer is None:
            self._set_timer()

    def _count_in(self, count: int) -> None:
        self._unsettled += count
        self._idle.clear()

    def _settled(self, count: int) -> None:
        self._unsettled -= count
        if not self._unsettled:
            self._idle.set()
        self._gate.leave(count)

    def _dispatch(self, bundle: OpenBundle[Entry]) -> None:
        self._lane(bundle.system).put(EventParcel(bundle.system, bundle.items))

    def _lane(self, system: str) -> Lane:
        partition = self._partitions.get(system)
        if partition is None:
            partition = self._partitions[system] = partition_of(system, self._connection.partitions)
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = Lane(
                self._topic,
                partition,
                self._connection,
                form=self._form,
                max_bytes=self._max_bytes,
                delivery_timeout_s=self._settings.publish.delivery_timeout_s,
                settled=self._settled,
            )
            task = self._loop.create_task(lane.run(), name=f"publish {self._topic}/{partition}")
            task.add_done_callback(functools.partial(self._lane_ended, lane))
            self._tasks.append(task)
        return lane

    def _is_behind(self, system: str) -> bool:
        lane = self._lanes.get(self._partitions.get(system, -1))
        return lane is not None and lane.is_behind

    def _lane_ended(self, lane: Lane, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("publisher_lane_ended", error=repr(error))
            self._gate.close()
        lane.end(error)

    def _set_timer(self) -> None:
        deadline = self._bundler.next_deadline
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._linger_over)

    def _linger_over(self) -> None:
        for bundle in self._bundler.expired(self._loop.time(), self._is_behind):
            self._dispatch(bundle)
        self._set_timer()
