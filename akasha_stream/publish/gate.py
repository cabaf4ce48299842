"""Back-pressure: how many events may be unacknowledged at once."""

from __future__ import annotations

import asyncio
from collections import deque

from akasha_stream.errors import PublisherClosed


class Gate:
    """A counting gate, first come first served; one that asks for more than the limit gets in alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._closed = False

    @property
    def inside(self) -> int:
        """Events not yet acknowledged."""
        return self._inside

    def _fits(self, count: int) -> bool:
        return self._inside == 0 or self._inside + count <= self._limit

    def try_enter(self, count: int = 1) -> bool:
        """Enter without waiting; False when the caller would have to wait."""
        if self._closed:
            raise PublisherClosed("the publisher is closed")
        if self._waiting or not self._fits(count):
            return False
        self._inside += count
        return True

    async def enter(self, count: int = 1) -> None:
        """Wait until `count` more events may be sent. PublisherClosed when the gate closes meanwhile."""
        if self.try_enter(count):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave(count)  # admitted in the same moment as cancelled: give the place back
            else:
                self._admit()  # whoever stood behind a large request may fit now
            raise

    def leave(self, count: int) -> None:
        self._inside -= count
        self._admit()

    def close(self) -> None:
        """Refuse whoever waits, and all who come."""
        self._closed = True
        while self._waiting:
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(PublisherClosed("the publisher was closed while this call waited for its turn"))

    def _admit(self) -> None:
        while self._waiting:
            count, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
                continue
            if not self._fits(count):
                return
            self._waiting.popleft()
            self._inside += count
            turn.set_result(None)
