from __future__ import annotations

import asyncio

import pytest

from akasha_stream.errors import PublisherClosed
from akasha_stream.publish.gate import Gate


async def test_it_lets_in_up_to_its_limit_in_the_order_of_asking() -> None:
    gate = Gate(10)
    await gate.enter(8)
    order: list[str] = []

    async def ask(name: str, count: int) -> None:
        await gate.enter(count)
        order.append(name)

    tasks = [asyncio.create_task(ask("large", 5)), asyncio.create_task(ask("small", 1))]
    await asyncio.sleep(0)
    assert order == []  # the small one fits, and does not overtake
    gate.leave(8)
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]
    assert gate.inside == 6


async def test_more_than_the_limit_gets_in_alone() -> None:
    gate = Gate(10)
    await gate.enter(25)
    assert not gate.try_enter(1)
    gate.leave(25)
    assert gate.try_enter(1)


async def test_who_is_cancelled_does_not_keep_others_out() -> None:
    gate = Gate(10)
    await gate.enter(9)
    large = asyncio.create_task(gate.enter(5))
    small = asyncio.create_task(gate.enter(1))
    await asyncio.sleep(0)
    large.cancel()
    await small
    assert gate.inside == 10


async def test_who_is_admitted_and_cancelled_at_once_gives_the_place_back() -> None:
    gate = Gate(1)
    await gate.enter()
    waiting = asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    gate.leave(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert gate.inside == 0


async def test_closing_refuses_those_who_wait_and_those_who_come() -> None:
    gate = Gate(1)
    await gate.enter()
    waiting = asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    gate.close()
    with pytest.raises(PublisherClosed):
        await waiting
    with pytest.raises(PublisherClosed):
        gate.try_enter()
