"""Reading as a bystander, against real brokers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from akasha_stream.embedded import Broker
from akasha_stream.settings import BrokerSettings
from akasha_stream.topics import reader as module
from akasha_stream.topics.reader import TopicReader, reading


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


async def test_a_caller_may_take_as_long_as_it_likes(
    broker: Broker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay that is paused, or has a low rate: the broker's silence begins when it is asked again."""
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        for number in range(3):
            await producer.send_and_wait(topic, str(number).encode(), partition=0)
    clock, asked = Clock(), [0]

    async def every_other_time_one(self: TopicReader) -> Mapping[Any, Any]:
        asked[0] += 1
        found = await self._consumer.getmany(timeout_ms=module.POLL_MS, max_records=1) if asked[0] % 2 else {}
        return dict(found)

    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(TopicReader, "_fetch", every_other_time_one)
    values = []
    async with reading(BrokerSettings(bootstrap_servers=broker.bootstrap_servers), topic) as reader:
        async for records in reader.between({0: 0}, {0: 3}):
            values += [record.value for record in records]
            clock.now += 3600
    assert values == [b"0", b"1", b"2"]
