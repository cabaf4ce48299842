"""Closed bundles on their way to the broker: of Event objects, or of rows of an Arrow table."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from akasha_stream.errors import PublishError
from akasha_stream.events.bundles import Format, encode_bundles
from akasha_stream.events.model import Event
from akasha_stream.publish.delivery import Delivery, TableDelivery
from akasha_stream.publish.tables import encode_rows
from akasha_stream.publish.traces import distinct
from akasha_stream.telemetry.tracing import SpanContext, current


class Receipt(Protocol):
    """Whoever wants to know what became of an event; `slot` is the caller's own number for it."""

    def delivered(self, slot: int, delivery: Delivery) -> None: ...
    def failed(self, slot: int, error: PublishError) -> None: ...


class FutureReceipt:
    """One event, one future. A cancelled future is left alone; its event is sent all the same."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Delivery]) -> None:
        self.future = future

    def delivered(self, slot: int, delivery: Delivery) -> None:
        if not self.future.done():
            self.future.set_result(delivery)

    def failed(self, slot: int, error: PublishError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class ListReceipt:
    """Many events, one future: their results in the order of the slots, errors among them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._results: list[Delivery | PublishError | None] = []
        self._missing = 0
        self._complete = False
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()

    def next_slot(self) -> int:
        self._results.append(None)
        self._missing += 1
        return len(self._results) - 1

    def delivered(self, slot: int, delivery: Delivery) -> None:
        self._put(slot, delivery)

    def failed(self, slot: int, error: PublishError) -> None:
        self._put(slot, error)

    def _put(self, slot: int, result: Delivery | PublishError) -> None:
        self._results[slot] = result
        self._missing -= 1
        if self._complete and not self._missing and not self._future.done():
            self._future.set_result(None)

    async def results(self) -> list[Delivery | PublishError]:
        """All results; call it when no further slot is wanted."""
        self._complete = True
        if self._missing:
            await self._future
        return [result for result in self._results if result is not None]


@dataclass(slots=True)
class Entry:
    event: Event
    receipt: Receipt
    slot: int
    trace: SpanContext | None = None
    """Of the span that it was published in."""


class Parcel(ABC):
    """A bundle that is closed and not yet acknowledged."""

    __slots__ = ()
    system: str

    @abstractmethod
    def __len__(self) -> int:
        """Number of events."""

    @abstractmethod
    def halves(self) -> tuple[Parcel, Parcel]:
        """Two parcels with the same events in the same order; only for two events or more."""

    @abstractmethod
    def delivered(self, topic: str, partition: int, offset: int) -> None: ...

    @abstractmethod
    def failed(self, error: PublishError) -> None: ...

    @abstractmethod
    def traces(self) -> list[SpanContext]:
        """The spans that its events were published in, each once."""

    @abstractmethod
    def first_name(self) -> str:
        """Identity of the first event, for messages."""


class EventParcel(Parcel):
    __slots__ = ("entries", "system")

    def __init__(self, system: str, entries: Sequence[Entry]) -> None:
        self.system = system
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def halves(self) -> tuple[EventParcel, EventParcel]:
        middle = len(self.entries) // 2
        return EventParcel(self.system, self.entries[:middle]), EventParcel(self.system, self.entries[middle:])

    def delivered(self, topic: str, partition: int, offset: int) -> None:
        for index, entry in enumerate(self.entries):
            entry.receipt.delivered(entry.slot, Delivery(topic, partition, offset, index))

    def failed(self, error: PublishError) -> None:
        for entry in self.entries:
            entry.receipt.failed(entry.slot, error)

    def traces(self) -> list[SpanContext]:
        return distinct([entry.trace for entry in self.entries])

    def first_name(self) -> str:
        return f"{self.system}/{self.entries[0].event.event_id}"


class TableReceipt:
    """Collects where the rows of one table went."""

    def __init__(self, rows: int, order: NDArray[np.int64] | None, topic: str, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[TableDelivery] = loop.create_future()
        self.trace = current()
        self._topic = topic
        self._order = order
        self._partition = np.full(rows, -1, dtype=np.int32)
        self._offset = np.full(rows, -1, dtype=np.int64)
        self._index = np.zeros(rows, dtype=np.int32)
        self._left = rows
        self._bundles = 0
        self._failed = 0
        self._error: PublishError | None = None
        if not rows:
            self._finish()

    def delivered(self, start: int, count: int, partition: int, offset: int) -> None:
        rows: slice | NDArray[np.int64] = slice(start, start + count)
        if self._order is not None:
            rows = self._order[start : start + count]
        self._partition[rows] = partition
        self._offset[rows] = offset
        self._index[rows] = np.arange(count, dtype=np.int32)
        self._bundles += 1
        self._settle(count)

    def failed(self, count: int, error: PublishError) -> None:
        self._error = self._error or error
        self._failed += count
        self._settle(count)

    def _settle(self, count: int) -> None:
        self._left -= count
        if not self._left:
            self._finish()

    def _finish(self) -> None:
        if self.future.done():
            return
        if self._error is not None:
            error = PublishError(f"{self._failed} of {len(self._offset)} rows were not published: {self._error}")
            error.retriable = self._error.retriable
            error.__cause__ = self._error
            self.future.set_exception(error)
        else:
            self.future.set_result(
                TableDelivery(self._topic, self._partition, self._offset, self._index, self._bundles)
            )


class TableParcel(Parcel):
    """Consecutive rows of a table that is grouped by system."""

    __slots__ = ("receipt", "rows", "start", "system")

    def __init__(self, system: str, rows: pa.RecordBatch, start: int, receipt: TableReceipt) -> None:
        self.system = system
        self.rows = rows
        self.start = start
        self.receipt = receipt

    def __len__(self) -> int:
        return self.rows.num_rows

    def halves(self) -> tuple[TableParcel, TableParcel]:
        middle = len(self) // 2
        return (
            TableParcel(self.system, self.rows.slice(0, middle), self.start, self.receipt),
            TableParcel(self.system, self.rows.slice(middle), self.start + middle, self.receipt),
        )

    def delivered(self, topic: str, partition: int, offset: int) -> None:
        self.receipt.delivered(self.start, len(self), partition, offset)

    def failed(self, error: PublishError) -> None:
        self.receipt.failed(len(self), error)

    def traces(self) -> list[SpanContext]:
        return distinct([self.receipt.trace])

    def first_name(self) -> str:
        return f"{self.system}/{self.rows.column('event_id')[0].as_py()}"


def encode_parcels(parcels: Sequence[Parcel], form: Format) -> list[bytes]:
    """The values of the Kafka records. ValidationError when an event of any of them can't be written."""
    of_events = [parcel for parcel in parcels if isinstance(parcel, EventParcel)]
    encoded = iter(encode_bundles([[entry.event for entry in parcel.entries] for parcel in of_events], form))
    return [encode_rows(parcel.rows, form) if isinstance(parcel, TableParcel) else next(encoded) for parcel in parcels]
