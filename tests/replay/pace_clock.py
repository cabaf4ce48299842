"""A clock for akasha_stream.replay.pace that goes on only as a pace sleeps: waits are added up, and take no time."""

from __future__ import annotations

import asyncio
from typing import Self

import pytest

from akasha_stream.replay import pace


class PaceClock:
    """Stands where pace.py has `asyncio`. `slept`: seconds, of all paces together."""

    Event = asyncio.Event

    def __init__(self) -> None:
        self.now = 0.0
        self.slept = 0.0

    @classmethod
    def put(cls, patch: pytest.MonkeyPatch) -> PaceClock:
        clock = cls()
        patch.setattr(pace, "asyncio", clock)
        return clock

    def get_running_loop(self) -> Self:
        return self

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds
        await asyncio.sleep(0)  # others get their turn, as in any sleep
