"""The way of one partition: bundles leave in order, one record batch at a time."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    RecordListTooLargeError,
    UnknownProducerId,
)

from akasha_stream.errors import BrokerError, PublishError, ValidationError
from akasha_stream.events.bundles import Format, headers
from akasha_stream.publish import traces
from akasha_stream.publish.connection import Connection
from akasha_stream.publish.parcels import Parcel, encode_parcels
from akasha_stream.telemetry.tracing import Span

log = structlog.get_logger(__name__)

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
NOT_APPENDED = (OutOfOrderSequenceNumber, UnknownProducerId, InvalidProducerEpoch, InvalidProducerIdMapping)
"""The broker says that it did not append the batch, because of the producer's own state: a new one may send it."""
RECORD_OVERHEAD = 512
"""Bytes that key, headers and framing add to a bundle's value, at most, besides the name of the system."""
RECONNECT_S = 0.25
BEHIND_BUNDLES = 16
SEALED_EVENTS = 256
"""About so many events are encoded by one call."""
ENDED = "the publisher ended before the broker acknowledged it"


@dataclass(slots=True)
class Sealed:
    """An encoded parcel: the same bytes in every attempt."""

    parcel: Parcel
    value: bytes
    headers: list[tuple[str, bytes]]
    span: Span


class Lane:
    """Sends the parcels of one partition.

    One record batch is under way at a time and the next is built when its answer is there, so a batch that
    fails or has to be split is dealt with before anything that came after it: the order of a source system
    holds across retries. Bundles that arrive meanwhile share the next batch, so waiting costs no throughput.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        connection: Connection,
        *,
        form: Format,
        max_bytes: int,
        delivery_timeout_s: float,
        settled: Callable[[int], None],
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._form = form
        self._connection = connection
        self._max_bytes = max_bytes
        self._timeout_s = delivery_timeout_s
        self._settled = settled
        self._traces = traces.BundleTraces(topic, partition)
        self._queue: deque[Parcel] = deque()
        self._sealed: deque[Sealed] = deque()
        self._batch: list[Sealed] = []
        self._ended = False
        self._arrived = asyncio.Event()
        self._deadline = 0.0
        self.bundles = 0
        """Bundles acknowledged so far."""

    def put(self, parcel: Parcel) -> None:
        if self._ended:
            self._fail(parcel, ENDED, None, retriable=True)
            return
        self._queue.append(parcel)
        self._arrived.set()

    @property
    def is_behind(self) -> bool:
        """Whether more bundles wait than the next record batch is likely to take."""
        return len(self._queue) + len(self._sealed) > BEHIND_BUNDLES

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            while not self._queue and not self._sealed:
                self._arrived.clear()
                await self._arrived.wait()
            self._deadline = time.monotonic() + self._timeout_s
            self._take_batch(self._batch)
            if self._batch:
                await self._send(self._batch)
            await asyncio.sleep(0)

    def end(self, error: BaseException | None) -> None:
        """Fail what is left, and all that comes. To be called when `run` is over, however it ended."""
        self._ended = True
        for sealed in (*self._batch, *self._sealed):
            traces.failed(sealed.span, ENDED)
        left = [sealed.parcel for sealed in (*self._batch, *self._sealed)] + list(self._queue)
        self._batch.clear()
        self._sealed.clear()
        self._queue.clear()
        for parcel in left:
            self._fail(parcel, ENDED, error, retriable=True)

    def _take_batch(self, batch: list[Sealed]) -> None:
        """Encode parcels until a record batch is full. Too large ones are split, hopeless ones fail here."""
        room = self._max_bytes
        while self._sealed or self._queue:
            if not self._sealed:
                self._seal()
                continue
            size = len(self._sealed[0].value) + len(self._sealed[0].parcel.system) * 4 + RECORD_OVERHEAD
            if batch and size > room:
                break
            batch.append(self._sealed.popleft())
            room -= size

    def _seal(self) -> None:
        """Encode the next parcels, small ones together."""
        parcels = [self._queue.popleft()]
        events = len(parcels[0])
        while self._queue and (events := events + len(self._queue[0])) <= SEALED_EVENTS:
            parcels.append(self._queue.popleft())
        while True:
            try:
                values = encode_parcels(parcels, self._form)
                break
            except ValidationError as error:
                # One event that can't be written must not take the others with it.
                if len(parcels) > 1:
                    middle = len(parcels) // 2
                    self._queue.extendleft(reversed(parcels[middle:]))
                    parcels = parcels[:middle]
                    continue
                if len(parcels[0]) > 1:
                    self._queue.extendleft(reversed(parcels[0].halves()))
                else:
                    self._fail(parcels[0], str(error), error, retriable=False)
                return
            except BaseException:
                self._queue.extendleft(reversed(parcels))  # where `end` finds them
                raise
        for place, (parcel, value) in enumerate(zip(parcels, values, strict=True)):
            if len(value) > self._max_bytes and len(parcel) > 1:
                self._queue.extendleft(reversed([*parcel.halves(), *parcels[place + 1 :]]))
                return
            self._sealed.append(self._with_headers(parcel, value))

    def _with_headers(self, parcel: Parcel, value: bytes) -> Sealed:
        bundle_id = str(uuid.uuid4())
        span = self._traces.start(parcel.traces(), events=len(parcel), bundle_id=bundle_id, size=len(value))
        found = headers(self._form, parcel.system, bundle_id) + traces.headers_of(span)
        return Sealed(parcel, value, found, span)

    async def _send(self, batch: list[Sealed]) -> None:
        """One record batch to its end: acknowledged, failed, or put back in smaller pieces. It is empty then."""
        while True:
            try:
                producer = await self._connection.borrow()
            except BrokerError as error:
                if time.monotonic() > self._deadline:
                    self._fail_all(batch, str(error), error, retriable=True)
                    return
                await asyncio.sleep(RECONNECT_S)
                continue
            broken = True
            try:
                offset = await self._attempt(producer, batch)
                broken = False
                self._acknowledge(batch, offset)
                return
            except TOO_LARGE as error:
                self._put_back_smaller(batch, error)
                return
            except NOT_APPENDED as error:
                if time.monotonic() > self._deadline:
                    self._fail_all(batch, f"the broker refused it: {error!r}", error, retriable=True)
                    return
                log.info("publisher_producer_renewed", partition=self._partition, reason=repr(error))
                continue
            except TimeoutError as error:
                reason = f"the broker did not acknowledge it in {self._timeout_s:g} s; it may or may not be in the log"
                self._fail_all(batch, reason, error, retriable=True)
                return
            except KafkaError as error:
                # Without idempotence a retriable error comes here after aiokafka's own retries have expired.
                reason = f"the broker did not take it: {error!r}"
                self._fail_all(batch, reason, error, retriable=bool(error.retriable))
                return
            finally:
                await self._connection.give_back(producer, broken=broken)

    async def _attempt(self, producer: AIOKafkaProducer, batch: list[Sealed]) -> int:
        """Send one record batch; the offset of its first record. TimeoutError at the delivery deadline."""
        builder = producer.create_batch()
        for sealed in batch:
            # No timestamp: the time of publishing. A record with an old one (created_at, say) would be
            # deleted by retention within half a minute, however new it is.
            appended = builder.append(
                timestamp=None, key=sealed.parcel.system.encode(), value=sealed.value, headers=sealed.headers
            )
            if appended is None:
                # The estimate of the overhead was short; what doesn't fit goes first into the next batch.
                place = batch.index(sealed)
                self._sealed.extendleft(reversed(batch[place:]))
                del batch[place:]
                break
        builder.close()
        async with asyncio.timeout(max(0.0, self._deadline - time.monotonic())):
            while True:
                try:
                    future = await producer.send_batch(builder, self._topic, partition=self._partition)
                    break
                except KafkaTimeoutError:
                    continue  # nothing was handed over yet
            record = await future
        return int(record.offset) if record is not None else -1

    def _put_back_smaller(self, batch: list[Sealed], error: KafkaError) -> None:
        """The broker's limit is lower than ours: halve the batch, else the bundle, else give up on the event."""
        if len(batch) > 1:
            size = sum(len(sealed.value) + RECORD_OVERHEAD for sealed in batch)
            self._max_bytes = max(1024, min(self._max_bytes, size) // 2)
            log.warning("publisher_limit_lowered", partition=self._partition, bytes=self._max_bytes)
            self._sealed.extendleft(reversed(batch))
            batch.clear()
            return
        parcel, size = batch[0].parcel, len(batch[0].value)
        traces.failed(batch[0].span, f"{size} bytes are more than the broker takes")
        batch.clear()
        if len(parcel) == 1:
            reason = f"one event of {size} bytes is larger than the broker takes (max.message.bytes)"
            self._fail(parcel, reason, error, retriable=False)
            return
        self._max_bytes = max(1024, min(self._max_bytes, size) // 2)
        log.warning("publisher_limit_lowered", partition=self._partition, bytes=self._max_bytes)
        # What is sealed already goes back too: it stands behind this parcel.
        behind = [sealed.parcel for sealed in self._sealed]
        for sealed in self._sealed:
            traces.failed(sealed.span, "encoded anew, behind a bundle that is split")
        self._sealed.clear()
        self._queue.extendleft(reversed([*parcel.halves(), *behind]))

    def _acknowledge(self, batch: list[Sealed], offset: int) -> None:
        self.bundles += len(batch)
        for place, sealed in enumerate(batch):
            at = offset + place if offset >= 0 else -1
            traces.acknowledged(sealed.span, at)
            sealed.parcel.delivered(self._topic, self._partition, at)
            self._settled(len(sealed.parcel))
        batch.clear()

    def _fail_all(self, batch: list[Sealed], reason: str, cause: BaseException | None, *, retriable: bool) -> None:
        for sealed in batch:
            traces.failed(sealed.span, reason)
            self._fail(sealed.parcel, reason, cause, retriable=retriable)
        batch.clear()

    def _fail(self, parcel: Parcel, reason: str, cause: BaseException | None, *, retriable: bool) -> None:
        others = f" and {len(parcel) - 1} more of its bundle" if len(parcel) > 1 else ""
        error = PublishError(f"{parcel.first_name()}{others}: {reason}")
        error.retriable = retriable
        error.__cause__ = cause
        log.warning("publish_failed", partition=self._partition, events=len(parcel), reason=reason)
        parcel.failed(error)
        self._settled(len(parcel))
