"""From a source to the log: pace, progress, checkpoints, and a summary of what was done."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from akasha_stream.publish.delivery import TableDelivery, join_token
from akasha_stream.publish.publisher import EventPublisher
from akasha_stream.publish.sources.source import Chunk, Source

SAVE_S = 1.0
"""Pause between two checkpoints: what a crash may publish twice."""
AHEAD_CHUNKS = 4
"""Chunks under way at once. Each holds some 8,192 rows, 13 MB of vectors."""


@dataclass(slots=True)
class Progress:
    """What a run has done so far."""

    read: int = 0
    published: int = 0
    bundles: int = 0
    tops: dict[int, int] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def token(self) -> str:
        return join_token(self.tops)

    @property
    def events_per_s(self) -> float:
        return self.published / self.seconds if self.seconds > 0 else 0.0

    def add(self, chunk: Chunk, delivery: TableDelivery | None) -> None:
        self.read += chunk.read
        self.seconds = time.monotonic() - self.started
        if delivery is None:
            return
        self.published += len(delivery)
        self.bundles += delivery.bundles
        for partition, offset in delivery.tops().items():
            self.tops[partition] = max(offset, self.tops.get(partition, -1))


async def publish_source(
    source: Source,
    publisher: EventPublisher | None,
    *,
    rate: float | None = None,
    stop: asyncio.Event | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Publish what a source holds. A chunk counts, and moves the checkpoint, when all before it count.

    publisher: None for a dry run: everything is read and checked, nothing is sent or remembered.
    rate: at most so many events a second.
    stop: when set, nothing further is read; what is under way is waited for, and `interrupted` says so.
    Raises SourceError and PublishError, with the checkpoint at what is acknowledged until then.
    """
    progress = Progress()
    stop = stop or asyncio.Event()
    under_way: deque[tuple[Chunk, Awaitable[TableDelivery]]] = deque()
    saved = time.monotonic()
    sent = 0
    chunks = source.chunks()

    async def settle_first() -> None:
        nonlocal saved
        chunk, delivery = under_way[0]
        progress.add(chunk, await delivery)
        under_way.popleft()
        source.acknowledge(chunk)
        report(progress)
        if time.monotonic() - saved > SAVE_S:
            source.save(progress.token)
            saved = time.monotonic()

    try:
        while not stop.is_set():
            chunk = await asyncio.to_thread(_next, chunks)
            if chunk is None:
                break
            if publisher is None:
                progress.add(chunk, None)
                progress.published += chunk.rows.num_rows
                report(progress)
                continue
            if rate is not None and not await _wait_turn(progress.started + sent / rate, stop):
                break
            under_way.append((chunk, await publisher.submit_rows(chunk.rows)))
            sent += chunk.rows.num_rows
            while under_way and (len(under_way) >= AHEAD_CHUNKS or _is_done(under_way[0][1])):
                await settle_first()
        while under_way:
            await settle_first()
    finally:
        progress.interrupted = stop.is_set()
        progress.seconds = time.monotonic() - progress.started
        if publisher is not None:
            source.save(progress.token)
        for _, delivery in under_way:
            # They fail for the same reason as the one that is being raised.
            if isinstance(delivery, asyncio.Future):
                delivery.add_done_callback(lambda done: done.cancelled() or done.exception())
    return progress


def _next(chunks: Iterator[Chunk]) -> Chunk | None:
    return next(chunks, None)


def _is_done(delivery: Awaitable[TableDelivery]) -> bool:
    return isinstance(delivery, asyncio.Future) and delivery.done()


async def _wait_turn(moment: float, stop: asyncio.Event) -> bool:
    """Sleep until `moment`; False when stopped meanwhile."""
    pause = moment - time.monotonic()
    if pause > 0:
        try:
            async with asyncio.timeout(pause):
                await stop.wait()
        except TimeoutError:
            pass
    return not stop.is_set()
