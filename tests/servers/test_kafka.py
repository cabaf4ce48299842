"""Apache Kafka as it is started here: durable, idempotent, transactional, stable over a restart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from akasha_stream.embedded import KafkaServer
from akasha_stream.embedded.wire import kafka_brokers
from akasha_stream.errors import ServerStartError
from tests.servers.availability import unavailable
from tests.servers.test_brokers import read, send
from tests.servers.topics import create_topic

if TYPE_CHECKING:
    from pathlib import Path

    from akasha_stream.embedded import Broker
    from tests.servers.topics import MakeTopic

pytestmark = pytest.mark.kafka


@pytest.mark.slow
async def test_acknowledged_records_survive_kill_9(kafka_restartable: Broker, make_topic: MakeTopic) -> None:
    kafka = kafka_restartable
    topic = await make_topic(kafka)
    before = kafka.bootstrap_servers
    values = [b"%d" % n for n in range(200)]
    await send(kafka.bootstrap_servers, topic, values)
    await read(kafka.bootstrap_servers, topic, 150, group="group")
    kafka.kill()
    await asyncio.to_thread(kafka.restart)
    assert kafka.bootstrap_servers == before
    assert await read(kafka.bootstrap_servers, topic, 200) == values
    assert await read(kafka.bootstrap_servers, topic, 50, group="group") == values[150:]
    assert await send(kafka.bootstrap_servers, topic, [b"more"]) == [200]


@pytest.mark.slow
async def test_a_client_gets_over_a_restart(kafka_restartable: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(kafka_restartable)
    producer = AIOKafkaProducer(bootstrap_servers=kafka_restartable.bootstrap_servers, enable_idempotence=True)
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"before", partition=0)
        restarting = asyncio.create_task(asyncio.to_thread(kafka_restartable.restart))
        meanwhile = await producer.send(topic, b"meanwhile", partition=0)
        await restarting
        async with asyncio.timeout(60):
            await meanwhile
    finally:
        await producer.stop()
    assert await read(kafka_restartable.bootstrap_servers, topic, 2) == [b"before", b"meanwhile"]


async def test_transactions(kafka: Broker, kafka_topic: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=kafka_topic)
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send(kafka_topic, b"kept", partition=0)
        await producer.begin_transaction()
        await producer.send(kafka_topic, b"dropped", partition=0)
        await producer.abort_transaction()
        async with producer.transaction():
            last = await producer.send(kafka_topic, b"kept too", partition=0)
        # Markers take offsets: what counts records instead of following offsets is off by one per transaction.
        assert (await last).offset == 4
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer(
        kafka_topic,
        bootstrap_servers=kafka.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            assert [(await consumer.getone()).value for _ in range(2)] == [b"kept", b"kept too"]
    finally:
        await consumer.stop()


async def test_a_misspelt_topic_does_not_come_into_being(kafka: Broker) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers)
    await consumer.start()
    try:
        consumer.subscribe(["no-such-topic"])
        await consumer.getmany(timeout_ms=500)
        assert "no-such-topic" not in await consumer.topics()
    finally:
        await consumer.stop()


def own_kafka(folder: Path | None = None) -> KafkaServer:
    try:
        return KafkaServer.start(folder)
    except ServerStartError as error:  # Java or Maven is missing; the container has no folder of ours
        if "needed" in str(error) or "needs Java" in str(error):
            unavailable(str(error))
        raise


@pytest.mark.slow
async def test_data_and_cluster_survive_a_stop_and_a_new_start_elsewhere(tmp_path: Path) -> None:
    with own_kafka(tmp_path / "Kafka's data, ü") as kafka:
        first_port, folder = kafka.port, kafka.data_dir
        await create_topic(kafka.bootstrap_servers, "durable")
        await send(kafka.bootstrap_servers, "durable", [b"1"])
    assert kafka_brokers(first_port) == 0
    with own_kafka(folder) as kafka:
        assert await read(kafka.bootstrap_servers, "durable", 1) == [b"1"]


@pytest.mark.slow
def test_two_on_the_same_data(tmp_path: Path) -> None:
    with own_kafka(tmp_path) as kafka:
        with pytest.raises(ServerStartError, match="another one is running on"):
            KafkaServer.start(tmp_path)
        assert kafka_brokers(kafka.port) == 1


@pytest.mark.slow
def test_stopping_is_quick_and_leaves_nothing() -> None:
    kafka = own_kafka()
    pid, folder = kafka.pid, kafka.data_dir
    kafka.stop()
    kafka.stop()
    assert not psutil.pid_exists(pid)
    assert not folder.exists()
