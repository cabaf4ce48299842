"""How long a pace waits, on a clock of its own."""

from __future__ import annotations

import asyncio
from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.replay.pace import Pace
from tests.replay.pace_clock import PaceClock

rates = st.floats(20, 10_000)
takings = st.lists(st.tuples(st.integers(0, 300), st.floats(0, 20)), min_size=1, max_size=8)
"""(events, seconds that something else held the replay up before them)"""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PaceClock:
    return PaceClock.put(monkeypatch)


@given(rate=rates, taken=takings)
def test_no_stretch_of_a_replay_is_faster_than_the_rate(rate: float, taken: list[tuple[int, float]]) -> None:
    """So nothing is made good for after a time in which less was taken."""
    began, ended = [], []

    async def take(clock: PaceClock) -> None:
        pace = Pace(rate)
        for events, held_up_s in taken:
            clock.now += held_up_s
            began.append(clock.now)
            await pace.took(events)
            ended.append(clock.now)

    with pytest.MonkeyPatch.context() as patch:
        asyncio.run(take(PaceClock.put(patch)))
    for first, last in combinations_with_replacement(range(len(taken)), 2):
        events = sum(count for count, _ in taken[first : last + 1])
        assert ended[last] - began[first] >= events / rate - 1e-6


async def test_without_a_rate_nothing_is_waited_for(clock: PaceClock) -> None:
    pace = Pace()
    for _ in range(3):
        await pace.took(1_000_000)
    assert clock.slept == 0


async def test_another_rate_counts_for_what_is_being_waited_for(clock: PaceClock) -> None:
    pace = Pace(1)
    waiting = asyncio.create_task(pace.took(1000))
    while clock.now < 5:
        await asyncio.sleep(0)
        assert not waiting.done()
    pace.change(100)
    await waiting
    assert clock.now < 1000
    changed = clock.now
    await pace.took(1000)
    assert clock.now - changed >= 10 - 1e-6


@pytest.mark.parametrize("rate", [None, 5.0])
async def test_paused_it_waits_for_ever_whatever_the_rate(clock: PaceClock, rate: float | None) -> None:
    pace = Pace(rate)
    pace.pause()
    waiting = asyncio.create_task(pace.took(10))
    for _ in range(1000):
        await asyncio.sleep(0)
    assert pace.paused
    assert not waiting.done()
    pace.resume()
    await waiting
    assert clock.slept >= (0 if rate is None else 10 / rate - 1e-6)
