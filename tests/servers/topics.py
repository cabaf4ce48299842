"""Brokers and topics for tests that hold on more than one broker."""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import TYPE_CHECKING, Protocol

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from akasha_stream.embedded import Broker

PARTITIONS = 4


class MakeTopic(Protocol):
    async def __call__(
        self, broker: Broker, *, partitions: int = PARTITIONS, config: Mapping[str, str] | None = None
    ) -> str: ...


@pytest.fixture(params=["tansu", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Broker:
    """For behaviours that hold on the embedded broker and on Kafka: the test runs once on each."""
    server: Broker = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def make_topic(request: pytest.FixtureRequest) -> MakeTopic:
    """`await make_topic(broker, partitions=4, config={})` creates a topic with a name of its own."""

    async def make(broker: Broker, *, partitions: int = PARTITIONS, config: Mapping[str, str] | None = None) -> str:
        name = unique_name(request.node.name)
        await create_topic(broker.bootstrap_servers, name, partitions=partitions, config=config)
        return name

    return make


@pytest.fixture
async def topic(broker: Broker, make_topic: MakeTopic) -> str:
    """A new topic with four partitions on `broker`."""
    return await make_topic(broker)


@pytest.fixture
async def kafka_topic(kafka: Broker, make_topic: MakeTopic) -> str:
    return await make_topic(kafka)


@pytest.fixture
async def tansu_topic(tansu: Broker, make_topic: MakeTopic) -> str:
    return await make_topic(tansu)


def unique_name(stem: str) -> str:
    return f"{re.sub(r'[^a-zA-Z0-9._-]+', '-', stem)[:120].strip('-.')}-{uuid.uuid4().hex[:12]}"


async def create_topic(
    bootstrap_servers: str,
    name: str,
    *,
    partitions: int = PARTITIONS,
    config: Mapping[str, str] | None = None,
    copies: int = 1,
) -> None:
    """Create it and wait until every partition has a leader (on Kafka some 20 ms after the answer)."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(name, partitions, copies, topic_configs=dict(config or {}))])
        # aiokafka does not raise for a topic that was refused.
        for _, code, *message in answer.topic_errors:
            assert code == 0, f"topic {name} was not created: error {code} {message}"
        async with asyncio.timeout(20):
            while not await _led(admin, name, partitions):
                await asyncio.sleep(0.02)
    finally:
        await admin.close()


async def _led(admin: AIOKafkaAdminClient, name: str, partitions: int) -> bool:
    (described,) = await admin.describe_topics([name])
    return (
        described["error_code"] == 0
        and [part["leader"] >= 0 for part in described["partitions"] if part["error_code"] == 0] == [True] * partitions
    )
