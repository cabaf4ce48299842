"""How fast a replay reads: at most so many events a second, and not at all while it is paused."""

from __future__ import annotations

import asyncio

STEP_S = 0.1
"""How soon another rate counts."""


class Pace:
    """`rate`: events a second; None: as fast as it goes."""

    def __init__(self, rate: float | None = None) -> None:
        self.rate = rate
        self._free_at = 0.0
        self._going = asyncio.Event()
        self._going.set()

    @property
    def paused(self) -> bool:
        return not self._going.is_set()

    def pause(self) -> None:
        self._going.clear()

    def resume(self) -> None:
        self._going.set()

    def change(self, rate: float | None) -> None:
        """From now on, also for what is being waited for."""
        self.rate, self._free_at = rate, 0.0

    async def took(self, events: int) -> None:
        """After `events` were taken: wait until the next ones may be."""
        clock = asyncio.get_running_loop().time
        if self.rate:
            # What was not used while something else held the replay up is not made good for.
            self._free_at = max(self._free_at, clock()) + events / self.rate
        while (left := self._free_at - clock()) > 0:  # noqa: ASYNC110  as `change` may come meanwhile
            await asyncio.sleep(min(left, STEP_S))
        await self._going.wait()
