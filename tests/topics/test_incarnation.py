"""Which log a topic is."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
import structlog
from aiokafka.client import AIOKafkaClient

from akasha_stream.embedded import Broker
from akasha_stream.errors import BrokerError
from akasha_stream.incarnation import Incarnation
from akasha_stream.settings import BrokerSettings
from akasha_stream.topics import incarnation
from akasha_stream.topics.broker import admin_client, describe_topics
from akasha_stream.topics.incarnation import MetadataResponseV10, incarnation_through, log_incarnation
from tests.servers.topics import create_topic, unique_name


async def test_it_stays_for_a_log_and_changes_with_a_new_one(broker: Broker) -> None:
    servers, name = broker.bootstrap_servers, unique_name("t")
    await create_topic(servers, name)
    first = await log_incarnation(BrokerSettings(bootstrap_servers=servers), name)
    assert first.known
    assert first.cluster_id
    assert await log_incarnation(BrokerSettings(bootstrap_servers=servers), name) == first

    async with admin_client(BrokerSettings(bootstrap_servers=servers)) as admin:
        await admin.delete_topics([name])
        async with asyncio.timeout(20):
            while name in await describe_topics(admin):
                await asyncio.sleep(0.05)
    await create_topic(servers, name)

    second = await log_incarnation(BrokerSettings(bootstrap_servers=servers), name)
    assert second.cluster_id == first.cluster_id
    assert second.topic_id != first.topic_id


@pytest.mark.kafka
async def test_it_is_the_id_that_kafka_shows(kafka: Broker, kafka_topic: str) -> None:
    """Two topics differ, and a client that is there already can ask."""
    client = AIOKafkaClient(bootstrap_servers=kafka.bootstrap_servers)
    await client.bootstrap()
    try:
        other = unique_name("other")
        await create_topic(kafka.bootstrap_servers, other)
        one = await incarnation_through(client, kafka_topic)
        two = await incarnation_through(client, other)
        assert one.cluster_id == two.cluster_id
        assert one.topic_id != two.topic_id
        assert UUID(str(one.topic_id)).version == 4
    finally:
        await client.close()


async def test_a_topic_that_is_not_there_is_not_made(broker: Broker) -> None:
    name = unique_name("absent")
    with structlog.testing.capture_logs() as logs:
        assert await log_incarnation(BrokerSettings(bootstrap_servers=broker.bootstrap_servers), name) == Incarnation()
    assert logs[0]["reason"] == "UnknownTopicOrPartitionError"
    async with admin_client(BrokerSettings(bootstrap_servers=broker.bootstrap_servers)) as admin:
        assert name not in await describe_topics(admin)


async def test_an_old_broker_gives_none(broker: Broker, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`prepare` looks at the broker's ApiVersions; here as if it ended at version 9."""
    prepare = incarnation.TopicIdRequest.prepare
    monkeypatch.setattr(
        incarnation.TopicIdRequest, "prepare", lambda self, versions: prepare(self, {**versions, 3: (0, 9)})
    )
    with structlog.testing.capture_logs() as logs:
        assert await log_incarnation(BrokerSettings(bootstrap_servers=broker.bootstrap_servers), topic) == Incarnation()
    assert logs[0]["reason"] == "the broker has no Metadata version 10"


@pytest.mark.parametrize(
    ("topic_id", "cluster", "reason"),
    [
        (UUID(int=0), "c", "the broker gives no topic ids"),
        (UUID(int=7), None, "the broker gives no cluster id"),
    ],
)
def test_an_answer_without_ids_gives_none(topic_id: UUID, cluster: str | None, reason: str) -> None:
    answer = MetadataResponseV10(0, [], cluster, 1, [(0, "t", topic_id, False, [], -1, {})], -1, {})
    decoded = MetadataResponseV10.decode(answer.encode())
    with structlog.testing.capture_logs() as logs:
        assert incarnation._read(decoded, "t") == Incarnation()
    assert logs[0]["reason"] == reason


async def test_no_broker_is_a_broker_error() -> None:
    with pytest.raises(BrokerError, match="can't be reached"):
        await log_incarnation(BrokerSettings(bootstrap_servers="127.0.0.1:1"), "t")
