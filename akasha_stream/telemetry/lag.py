"""How far behind the log a worker is, from the log's ends as they were seen every few seconds.

The age of the first unread record follows without reading it: it is there since the first look that found the log's end
behind it. What was there at the very first look is newer than the last record that is stored, whose time is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

import structlog

from akasha_stream.errors import AkashaError

log = structlog.get_logger(__name__)

LOOKS = 720
"""Ends that are remembered of a partition: an hour of them, one every five seconds."""


class Seen(NamedTuple):
    at_s: float
    end: int


class LagHistory:
    """Ends of one partition's log, as they were seen. Pure: the caller says what time it is."""

    def __init__(self) -> None:
        self._seen: deque[Seen] = deque(maxlen=LOOKS)

    def add(self, now_s: float, end: int) -> None:
        if self._seen and end < self._seen[-1].end:
            self._seen.clear()  # the topic was recreated, or has lost its tail
        self._seen.append(Seen(now_s, end))

    @property
    def end(self) -> int | None:
        return self._seen[-1].end if self._seen else None

    def records(self, next_offset: int) -> int:
        """Not read yet. Offsets have gaps (markers of transactions), so it may be a few less."""
        return 0 if self.end is None else max(0, self.end - next_offset)

    def seconds(self, now_s: float, next_offset: int, last_stored_s: float | None) -> float:
        """Age of the first unread record, too low by one look at most; 0 where all is read.

        `last_stored_s`: when the log took the last record that is stored, by the clock of `now_s`.
        """
        first = next((seen for seen in self._seen if seen.end > next_offset), None)
        if first is None:
            return 0.0
        since = first.at_s
        if first is self._seen[0] and last_stored_s is not None:
            since = min(since, last_stored_s)  # it was there before anybody looked
        return max(0.0, now_s - since)


class Reader(Protocol):
    """A shard, as far as this module needs it."""

    @property
    def partition(self) -> int: ...

    @property
    def next_offset(self) -> int: ...


class LagWatch:
    """Looks every `interval_s`. Its figures are read from any thread."""

    def __init__(self, ends: Callable[[], Awaitable[dict[int, int]]], interval_s: float) -> None:
        """`ends`: partition → next offset of its log; raises BrokerError."""
        self._ends = ends
        self._interval_s = interval_s
        self._histories: dict[int, LagHistory] = {}
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look at once: a partition has come. In the event loop."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. A broker that is away leaves the figures as they are."""
        failing = False
        while True:
            try:
                self.look(time.time(), await self._ends())
                failing = False
            except (AkashaError, OSError) as error:
                if not failing:
                    log.warning("lag not measured", error=str(error))
                failing = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._wake.wait()
            self._wake.clear()

    def look(self, now_s: float, ends: dict[int, int]) -> None:
        known = self._histories
        histories = {partition: known.get(partition) or LagHistory() for partition in ends}
        for partition, end in ends.items():
            histories[partition].add(now_s, end)
        self._histories = histories  # as a whole: it is read from other threads

    def records(self, readers: Sequence[Reader]) -> dict[int, int]:
        """By partition, of those that were looked at."""
        known = self._histories
        return {r.partition: known[r.partition].records(r.next_offset) for r in readers if r.partition in known}

    def end(self, partition: int) -> int | None:
        """Of its log, at the last look; None where it was not looked at yet."""
        history = self._histories.get(partition)
        return None if history is None else history.end

    def seconds(self, partition: int, next_offset: int, last_stored_ms: int | None) -> float | None:
        """None where the partition was not looked at yet."""
        history = self._histories.get(partition)
        if history is None:
            return None
        return history.seconds(time.time(), next_offset, None if last_stored_ms is None else last_stored_ms / 1000)
