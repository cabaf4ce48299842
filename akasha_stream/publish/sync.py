"""The publisher for code without an event loop: its own thread and loop behind blocking calls."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from akasha_stream.errors import PublisherClosed, PublishError
from akasha_stream.events.bundles import Format
from akasha_stream.events.model import Event
from akasha_stream.publish.checks import checked_size
from akasha_stream.publish.delivery import Delivery
from akasha_stream.publish.publisher import EventPublisher
from akasha_stream.settings import Settings


class SyncPublisher:
    """EventPublisher for threads. Every method may be called from any thread.

    ```python
    with SyncPublisher(settings) as publisher:
        token = publisher.publish(event).result().token
    ```
    """

    def __init__(self, settings: Settings, *, topic: str | None = None, form: Format | None = None) -> None:
        self._settings = settings
        self._topic = topic
        self._form: Format | None = form
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="akasha-publisher", daemon=True)
        self._publisher: EventPublisher | None = None
        self._handed: deque[tuple[Event, Future[Delivery]]] = deque()
        self._room = threading.BoundedSemaphore(settings.publish.max_in_flight_events)
        self._lock = threading.Lock()
        self._awake = False
        self._closed = False

    def start(self) -> None:
        """Connect. BrokerError: no broker answers, or the topic does not exist."""
        self._thread.start()
        try:
            self._call(self._start())
        except BaseException:
            self._end_loop()
            raise

    def publish(self, event: Event) -> Future[Delivery]:
        """Accept one event, blocking while too many are unacknowledged; `.result()` waits for the broker.

        Raises as `EventPublisher.publish`.
        """
        self._check_open()
        checked_size(event, self._settings.limits)
        self._room.acquire()
        future: Future[Delivery] = Future()
        future.add_done_callback(lambda _: self._room.release())
        with self._lock:
            if self._closed:
                future.set_exception(PublisherClosed("the publisher was closed while this call waited for its turn"))
                return future
            self._handed.append((event, future))
            wake = not self._awake
            self._awake = True
        if wake:
            # One wake-up for all that is handed over meanwhile: it costs more than the event itself.
            self._loop.call_soon_threadsafe(self._start_taking)
        return future

    def publish_many(self, events: Iterable[Event]) -> list[Delivery]:
        """Publish events and wait for all of them; deliveries in the order of the events. Raises the first failure."""
        futures = [self.publish(event) for event in events]
        return [future.result() for future in futures]

    def flush(self) -> None:
        """Wait until everything published so far is acknowledged or failed."""
        self._check_open()
        self._call(self._flush())

    def close(self) -> None:
        """Flush and disconnect."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._thread.is_alive():
            try:
                self._call(self._close())
            finally:
                self._end_loop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # In the loop's thread

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _start(self) -> None:
        publisher = EventPublisher(self._settings, topic=self._topic, form=self._form)
        await publisher.start()
        self._publisher = publisher
        self._taking: asyncio.Task[None] | None = None

    def _start_taking(self) -> None:
        self._taking = self._loop.create_task(self._take())

    async def _take(self) -> None:
        assert self._publisher is not None
        while True:
            with self._lock:
                if not self._handed:
                    self._awake = False
                    return
                event, future = self._handed.popleft()
            try:
                accepted = await self._publisher.publish(event)
            except PublishError as error:
                _fail(future, error)
                continue
            accepted.add_done_callback(lambda done, future=future: _copy(done, future))  # type: ignore[misc]

    async def _flush(self) -> None:
        assert self._publisher is not None
        if self._taking is not None:
            await asyncio.shield(self._taking)
        await self._publisher.flush()

    async def _close(self) -> None:
        await self._flush()
        assert self._publisher is not None
        await self._publisher.close()
        await asyncio.sleep(0)  # the callbacks of the last acknowledgements

    def _call[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _check_open(self) -> None:
        if self._closed or self._publisher is None:
            raise PublisherClosed("the publisher is not open")


def _copy(done: asyncio.Future[Delivery], future: Future[Delivery]) -> None:
    error = done.exception()
    if error is not None:
        _fail(future, error)
    elif future.set_running_or_notify_cancel():
        future.set_result(done.result())


def _fail(future: Future[Delivery], error: BaseException) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(error)
